//! `pointsman demo`: two little regions on loopback and a real server over them, with the walk printed beside it.
//!
//! Everything runs in this one process, but over real sockets: probes reach the regions, `dig` reaches the server, and the
//! CLI reaches its API. The demo's config and zone are the shipped ones, copied into a folder of its own.

use super::region::Region;
use super::serve::{ServeOptions, serve_until};
use anyhow::Context;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// The config, as shipped.
const CONFIG: &str = include_str!("../../config/demo.toml");
/// The zone, as shipped.
const ZONE: &str = include_str!("../../zones/example.net.zone");
/// Where the regions stand: loopback addresses of their own.
const REGIONS: [(&str, Ipv4Addr, bool); 2] = [
    ("iad", Ipv4Addr::new(127, 0, 1, 1), true),
    ("fra", Ipv4Addr::new(127, 0, 2, 1), false),
];
/// The ports that the shipped config names.
const PORTS: Ports = Ports {
    dns: 5300,
    api: 8053,
    web: 8080,
};

/// How to run the demo.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// Folder for config, zone and data; made when missing. Default: a new one in the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// Port of the DNS server; default 5300, or a free one when that is taken.
    pub dns_port: Option<u16>,
    /// Port of the API; default 8053, or a free one when that is taken.
    pub api_port: Option<u16>,
    /// Port of the regions' web servers; default 8080, or a free one when that is taken.
    pub web_port: Option<u16>,
}

/// The ports in use.
#[derive(Debug, Clone, Copy)]
struct Ports {
    dns: u16,
    api: u16,
    web: u16,
}

/// Runs the demo until Ctrl-C or SIGTERM.
///
/// # Errors
/// When a port that was asked for is taken, the folder cannot be written, or the server does not start.
pub async fn demo(options: DemoOptions) -> anyhow::Result<()> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ports = Ports {
        dns: pick(options.dns_port, PORTS.dns, |port| free_for_dns(SocketAddr::new(loopback, port)))?,
        api: pick(options.api_port, PORTS.api, |port| {
            std::net::TcpListener::bind(SocketAddr::new(loopback, port)).is_ok()
        })?,
        web: pick(options.web_port, PORTS.web, |port| {
            REGIONS
                .iter()
                .all(|(_, address, _)| std::net::TcpListener::bind(SocketAddr::from((*address, port))).is_ok())
        })?,
    };
    let dir = match options.dir {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("pointsman-demo-{}", std::process::id())),
    };
    let config = prepare(&dir, ports).with_context(|| format!("preparing the demo's folder {}", dir.display()))?;
    let mut regions = tokio::task::JoinSet::new();
    for (name, address, primary) in REGIONS {
        let listener = TcpListener::bind(SocketAddr::from((address, ports.web)))
            .await
            .with_context(|| format!("listening on {address}:{}", ports.web))?;
        regions.spawn(Region::new(name, primary).serve(listener));
    }
    let walk = walk(&config, ports);
    let ready = move || {
        // A closed standard output must not end the demo.
        let _ = std::io::stdout().write_all(walk.as_bytes());
    };
    serve_until(
        ServeOptions {
            config,
            answer_only: false,
        },
        ready,
    )
    .await
}

/// The port asked for, else the usual one when it is free, else any free one.
fn pick(asked: Option<u16>, usual: u16, is_free: impl Fn(u16) -> bool) -> anyhow::Result<u16> {
    if let Some(port) = asked {
        anyhow::ensure!(
            is_free(port),
            "port {port} is taken; choose another one, or leave the choice to the demo"
        );
        return Ok(port);
    }
    let others = (0..1000).map(|step| 20_000 + (std::process::id() as u16).wrapping_mul(7) % 20_000 + step);
    std::iter::once(usual)
        .chain(others)
        .find(|port| is_free(*port))
        .context("no free port found")
}

/// Whether both UDP and TCP are free.
fn free_for_dns(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
}

/// Writes config and zone into the demo's folder; an existing folder is used again, with its data.
fn prepare(dir: &Path, ports: Ports) -> std::io::Result<PathBuf> {
    let (config_dir, zone_dir) = (dir.join("config"), dir.join("zones"));
    std::fs::create_dir_all(&config_dir)?;
    std::fs::create_dir_all(&zone_dir)?;
    std::fs::create_dir_all(dir.join("data"))?;
    let config = CONFIG
        .replace(&format!("127.0.0.1:{}", PORTS.dns), &format!("127.0.0.1:{}", ports.dns))
        .replace(&format!("127.0.0.1:{}", PORTS.api), &format!("127.0.0.1:{}", ports.api))
        .replace(
            &format!("shop.example.net:{}", PORTS.web),
            &format!("shop.example.net:{}", ports.web),
        );
    let path = config_dir.join("pointsman.toml");
    std::fs::write(&path, config)?;
    std::fs::write(zone_dir.join("example.net.zone"), ZONE)?;
    Ok(path)
}

/// What to type next.
fn walk(config: &Path, ports: Ports) -> String {
    let Ports { dns, api, web } = ports;
    let server = if api == PORTS.api {
        String::new()
    } else {
        format!(" --server http://127.0.0.1:{api}")
    };
    let me = std::env::current_exe().map_or_else(|_| "pointsman".to_owned(), |path| path.display().to_string());
    format!(
        "
Two regions run: iad (active) at http://127.0.1.1:{web}, fra (standby) at http://127.0.2.1:{web}.
The server answers DNS at 127.0.0.1 port {dns} and its API at http://127.0.0.1:{api}.
Its config is {config}. In another terminal:

  alias pm='{me}{server}'

  1. Ask.            dig +short @127.0.0.1 -p {dns} shop.example.net
                     pm status
  2. Break iad.      curl -X POST http://127.0.1.1:{web}/break
                     pm status                  # unhealthy after 3 failures; nothing moves: failover = \"manual\"
                     pm proposals               # a change that waits for you, with each gate's word
  3. Try.            pm approve 1 --reason \"iad is down\"
                                                # refused: the database of fra is a standby
  4. Promote fra.    curl -X POST http://127.0.1.1:{web}/demote
                     curl -X POST http://127.0.2.1:{web}/promote
  5. Approve.        pm approve 1 --reason \"iad is down, database promoted in fra\"
                     dig +short @127.0.0.1 -p {dns} shop.example.net
  6. Look back.      pm explain shop.example.net
                     pm ledger log
                     pm ledger verify
  7. Go home.        curl -X POST http://127.0.1.1:{web}/mend; curl -X POST http://127.0.1.1:{web}/promote
                     curl -X POST http://127.0.2.1:{web}/demote
                     pm switch shop.example.net --to iad --reason \"iad is back\" --dry-run
                     pm switch shop.example.net --to iad --reason \"iad is back\"

Ctrl-C ends the demo.

",
        config = config.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_demo_config_names_the_ports_that_are_replaced() {
        for needle in [
            format!("127.0.0.1:{}", PORTS.dns),
            format!("127.0.0.1:{}", PORTS.api),
            format!("shop.example.net:{}", PORTS.web),
        ] {
            assert_eq!(CONFIG.matches(&needle).count(), 1, "{needle}");
        }
    }

    #[test]
    fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
        assert!(pick(Some(1), 2, |_| false).is_err());
        assert_eq!(pick(None, 2, |port| port == 2).unwrap(), 2);
        assert!(pick(None, 2, |port| port != 2).unwrap() >= 20_000);
    }
}
