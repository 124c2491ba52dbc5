//! What the black-box tests share: a spawned server in a folder of its own, regions that can be broken, a DNS client, and
//! waiting for a level with a deadline.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod secure;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `level` gives something; panics with `what` when it does not in time.
pub fn wait_for<T>(what: &str, mut level: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let (_keep, never) = mpsc::channel::<()>();
    loop {
        if let Some(value) = level() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
}

/// A port that is free for UDP and TCP on 127.0.0.1. Tests in one process never get the same one twice.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 21_000 + (std::process::id() as u16 % 500) * 20 + step;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return port;
        }
    }
}

/// A region: a web server on a loopback address of its own.
pub struct Region {
    pub address: SocketAddr,
    broken: Arc<AtomicBool>,
    primary: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Region {
    /// Starts one on `127.0.x.y:port`.
    pub fn start(address: SocketAddr, primary: bool) -> Region {
        let listener = TcpListener::bind(address).unwrap();
        let region = Region {
            address,
            broken: Arc::default(),
            primary: Arc::new(AtomicBool::new(primary)),
            gone: Arc::default(),
        };
        let (broken, primary, gone) = (region.broken.clone(), region.primary.clone(), region.gone.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if gone.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let (broken, primary) = (broken.clone(), primary.clone());
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut line = String::new();
                    // Kept connections: one answer for each head.
                    loop {
                        line.clear();
                        match reader.read_line(&mut line) {
                            Ok(0) | Err(_) => return,
                            Ok(_) if line != "\r\n" => continue,
                            Ok(_) => {}
                        }
                        let role = if primary.load(Ordering::SeqCst) { "primary" } else { "standby" };
                        let (status, word) = if broken.load(Ordering::SeqCst) {
                            ("503 Service Unavailable", "broken")
                        } else {
                            ("200 OK", "ok")
                        };
                        let body = format!(r#"{{"status":"{word}","database":{{"role":"{role}"}}}}"#);
                        let answer = format!(
                            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        region
    }

    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub fn set_primary(&self, primary: bool) {
        self.primary.store(primary, Ordering::SeqCst);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// The zone of the tests.
pub const ZONE: &str = "$TTL 300
@ IN SOA ns1 hostmaster 1 7200 900 1209600 60
@ IN NS ns1
ns1 IN A 192.0.2.53
www IN CNAME shop
*.w IN CNAME shop
shop IN TXT \"a shop\"
sub IN NS ns.sub
ns.sub IN A 192.0.2.54
";

/// Two regions without probes: only roles matter.
pub const PLAIN: &str = r#"
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
ttl = "5s"
cooldown = "0s"
[app.shop.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
"#;

/// A folder with config and zone, and the ports that the server in it uses.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub dns: SocketAddr,
    pub api: SocketAddr,
    pub web: u16,
    log: Arc<Mutex<String>>,
}

impl Site {
    /// A site with the usual zone; `app` is what follows the regions in the config.
    pub fn new(app: &str) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let site = Site {
            dir,
            dns: local(free_port()),
            api: local(free_port()),
            web: free_port(),
            log: Arc::default(),
        };
        site.write_zone(ZONE);
        site.write_config(app);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn config(&self) -> PathBuf {
        self.path("pointsman.toml")
    }

    pub fn write_zone(&self, text: &str) {
        std::fs::write(self.path("example.net.zone"), text).unwrap();
    }

    /// Writes the config; `{web}` in `app` is the regions' port.
    pub fn write_config(&self, app: &str) {
        let head = format!(
            "version = 1\n[node]\nname = \"test\"\ndata-dir = \"data\"\n[dns]\nlisten = [\"{}\"]\nworkers = 1\n[api]\nlisten = \"{}\"\nsocket = \"api.sock\"\n\
             [[zone]]\nname = \"example.net.\"\nfile = \"example.net.zone\"\n[region.iad]\ntitle = \"iad\"\n[region.fra]\ntitle = \"fra\"\n",
            self.dns, self.api
        );
        std::fs::write(self.config(), head + &app.replace("{web}", &self.web.to_string())).unwrap();
    }

    /// Starts a region at `127.0.n.1`.
    pub fn region(&self, n: u8, primary: bool) -> Region {
        Region::start(SocketAddr::from((Ipv4Addr::new(127, 0, n, 1), self.web)), primary)
    }

    /// Starts the server without waiting for it.
    pub fn spawn(&self, arguments: &[&str]) -> Server<'_> {
        self.spawn_config(&self.config(), arguments)
    }

    /// The same, with the config named in another way; relative to the site's folder.
    pub fn spawn_config(&self, config: &Path, arguments: &[&str]) -> Server<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.arg("serve").arg("--config").arg(config).args(arguments);
        self.start(command)
    }

    /// The same, where the server may open so many files only.
    pub fn spawn_limited(&self, descriptors: u32) -> Server<'_> {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -n $0; exec \"$@\"",
            &descriptors.to_string(),
            env!("CARGO_BIN_EXE_pointsman"),
        ]);
        command.arg("serve").arg("--config").arg(self.config());
        self.start(command)
    }

    /// Starts a server and reads its log.
    fn start(&self, mut command: Command) -> Server<'_> {
        let mut child = command
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = self.log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Server { site: self, child }
    }

    /// Starts the server and waits until it answers and is ready.
    pub fn serve(&self) -> Server<'_> {
        let mut server = self.spawn(&[]);
        server.wait_ready();
        server
    }

    /// Everything that servers of this site have logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Runs the CLI against this site.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pointsman"))
            .args(arguments)
            .env("POINTSMAN_SERVER", format!("http://{}", self.api))
            .env_remove("POINTSMAN_SOCKET")
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// Runs the CLI and demands an exit code; gives its standard output.
    pub fn cli_code(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\nstdout: {out}\nstderr: {err}\nlog: {}",
            self.log()
        );
        if code == 0 { out.into_owned() } else { format!("{out}{err}") }
    }

    /// Runs the CLI, demands success, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let out = self.cli_code(0, arguments);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{out}"))
    }

    /// A GET on the API: status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http(
            self.api,
            &format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.api),
        )
    }

    /// What the API says of a name.
    pub fn name(&self, name: &str) -> serde_json::Value {
        let (status, body) = self.get(&format!("/v1/names/{name}")).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Addresses of an A query over UDP, sorted.
    pub fn a(&self, name: &str) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = self
            .ask(name, RecordType::A)
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr())
            .collect();
        found.sort();
        found
    }

    /// One query over UDP.
    pub fn ask(&self, name: &str, kind: RecordType) -> Message {
        try_ask(self.dns, name, kind).unwrap_or_else(|| panic!("no answer for {name} {kind}; log: {}", self.log()))
    }

    /// A drop counter of DNS, as a scrape gives it.
    pub fn dropped(&self, reason: &str) -> u64 {
        let (_, text) = self.get("/metrics").unwrap();
        let label = format!("reason=\"{reason}\"");
        let is_it = |line: &&str| line.starts_with("pointsman_dns_drops_total") && line.contains(&label);
        let line = text.lines().find(is_it);
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until an A query gives exactly these addresses.
    pub fn wait_a(&self, name: &str, expected: &[&str]) {
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        wait_for(&format!("{name} A {expected:?}; log: {}", self.log()), || {
            (self.a(name) == expected).then_some(())
        });
    }
}

/// A running server; killed when dropped.
pub struct Server<'s> {
    site: &'s Site,
    pub child: Child,
}

impl Server<'_> {
    /// Waits until it is ready.
    pub fn wait_ready(&mut self) {
        wait_for("the server to be ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.site.log());
            }
            self.site.get("/readyz").filter(|(status, _)| *status == 200)
        });
    }

    /// Waits until it answers DNS, ready or not.
    pub fn wait_answering(&mut self) {
        wait_for("the server to answer", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.site.log());
            }
            try_ask(self.site.dns, "example.net.", RecordType::SOA)
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; gives the exit code.
    pub fn wait_end(mut self) -> Option<i32> {
        wait_for("the server to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One query over UDP; none without an answer in a second.
pub fn try_ask(server: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(server).unwrap();
    socket.send(&query(name, kind)).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

/// A query's bytes, with EDNS.
pub fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    let mut query = Query::query(Name::from_ascii(name).unwrap(), kind);
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message.to_vec().unwrap()
}

/// Sends a request as it is; gives status and body of the answer, none when there is none.
pub fn http(server: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Some((status, body))
}

/// Whether a file exists and contains the text.
pub fn file_contains(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|content| content.contains(text))
}

/// Resident memory of a process, octets.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
