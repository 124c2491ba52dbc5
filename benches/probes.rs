//! What probing costs: a prober with many endpoints for some intervals, and its own share of processor and memory.
//!
//! ```text
//! cargo bench --bench probes -- [--count 10000] [--interval 10s] [--kind http|http-new|https|https-new|tcp] [--apps 100]
//!     [--addresses N] [--intervals 3]
//! ```
//! The endpoints are addresses of 127.0.0.0/8 behind one listener of another process (this program again), so that what is
//! measured is the prober alone, with the health book that takes its outcomes in. Kinds with `-new` are answered with
//! `Connection: close`. With fewer addresses than endpoints several applications share them. Raise the limit of open files first (`ulimit -n 65536`) where it is less than the count.

use pointsman::health::Book;
use pointsman::model::{Fleet, Now, Wall};
use pointsman::probe::{ProbeEvent, Prober};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What is asked for.
struct Options {
    count: usize,
    apps: usize,
    addresses: usize,
    interval: Duration,
    intervals: u32,
    kind: String,
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    if let Ok(kind) = std::env::var("POINTSMAN_BENCH_SERVE") {
        return serve(&kind);
    }
    let mut options = Options {
        count: 10_000,
        apps: 100,
        addresses: usize::MAX,
        interval: Duration::from_secs(10),
        intervals: 3,
        kind: "http".to_owned(),
    };
    while let (Some(key), Some(value)) = (arguments.next(), arguments.next()) {
        match key.as_str() {
            "--count" => options.count = value.parse().expect("a number"),
            "--apps" => options.apps = value.parse().expect("a number"),
            "--addresses" => options.addresses = value.parse().expect("a number"),
            "--intervals" => options.intervals = value.parse().expect("a number"),
            "--interval" => options.interval = Duration::from_secs_f64(value.trim_end_matches('s').parse().expect("seconds")),
            "--kind" => options.kind = value,
            other => panic!("unknown option {other}: --count --apps --addresses --interval --intervals --kind"),
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&options.kind, folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&options, &server, folder.path()));
}

/// The endpoints, in a process of their own.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(kind: &str, folder: &Path) -> Server {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env("POINTSMAN_BENCH_SERVE", kind)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the endpoints");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its port");
        Server {
            child,
            port: line.trim().parse().expect("its port"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Probes, and prints what it took.
async fn measure(options: &Options, server: &Server, folder: &Path) {
    let fleet = fleet(options, server.port, folder);
    let (tx, mut events) = tokio::sync::mpsc::channel(4096);
    let prober = Prober::start(tx, Instant::now());
    let mut book = Book::new();
    let asked = Instant::now();
    prober.configure(&fleet);
    let configured = asked.elapsed();
    let asked = Instant::now();
    prober.configure(&fleet);
    let again = asked.elapsed();
    let now = |prober: &Prober| Now {
        mono: prober.now(),
        wall: Wall(0),
    };
    book.reconfigure(&fleet, now(&prober));
    let begin = tokio::time::Instant::now();
    // First runs and first connections do not count: they are of every start, not of every interval.
    let warm = begin + options.interval.mul_f64(2.0);
    let end = warm + options.interval * options.intervals;
    let (mut lates, mut overruns, mut failures, mut sample) = (Vec::new(), 0, 0, None);
    let (mut first, mut message) = (Duration::ZERO, String::new());
    let mut seen = 0;
    while let Ok(Some(event)) = tokio::time::timeout_at(end, events.recv()).await {
        let ProbeEvent::Outcome(outcome) = event else { continue };
        book.observe(&outcome, now(&prober));
        seen += 1;
        if seen == options.count {
            first = begin.elapsed();
        }
        if tokio::time::Instant::now() < warm {
            continue;
        }
        sample.get_or_insert_with(|| (Instant::now(), cpu("self"), cpu(&server.child.id().to_string())));
        lates.push(outcome.late);
        overruns += outcome.overruns;
        if let Err(failure) = outcome.result {
            failures += 1;
            message = failure.message;
        }
    }
    let Some((since, own, theirs)) = sample else {
        println!("no outcome in {} intervals", options.intervals + 2);
        return;
    };
    let share = |ticks: u64| 100.0 * ticks as f64 / 100.0 / since.elapsed().as_secs_f64();
    lates.sort_unstable();
    let at = |part: f64| {
        lates
            .get((lates.len() as f64 * part) as usize)
            .or(lates.last())
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{} × {} every {:?}, {} applications, {} runs in {:.1} s ({:.0} a second)",
        options.count,
        options.kind,
        options.interval,
        options.apps,
        lates.len(),
        since.elapsed().as_secs_f64(),
        lates.len() as f64 / since.elapsed().as_secs_f64()
    );
    println!(
        "prober     {:>6.1} % of a core, {:.0} MiB",
        share(cpu("self") - own),
        resident("self")
    );
    let server = server.child.id().to_string();
    println!(
        "endpoints  {:>6.1} % of a core, {:.0} MiB (not the prober's)",
        share(cpu(&server) - theirs),
        resident(&server)
    );
    println!("configured in {configured:?}, the same again in {again:?}");
    println!("all known  after {:.1} s", first.as_secs_f64());
    println!("late       p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
    println!("overruns   {overruns}");
    println!("failures   {failures} {message}");
}

/// Applications that share the endpoints evenly, by way of a config as an operator writes it.
fn fleet(options: &Options, port: u16, folder: &Path) -> Fleet {
    let each = options.count.div_ceil(options.apps.max(1));
    let (seconds, timeout) = (options.interval.as_secs_f64(), options.interval.as_millis() / 5);
    let what = match options.kind.as_str() {
        "http" | "http-new" => format!("kind = \"http\"\nurl = \"http://shop.example.net:{port}/healthz\"\n"),
        "https" | "https-new" => format!("kind = \"http\"\nurl = \"https://shop.example.net:{port}/healthz\"\nca = \"ca.pem\"\n"),
        "tcp" => format!("kind = \"tcp\"\nport = {port}\n"),
        other => panic!("unknown kind {other}: http http-new https https-new tcp"),
    };
    let mut text =
        "version = 1\n[node]\nname = \"ns1\"\ndata-dir = \"data\"\n[[zone]]\nname = \"example.net.\"\nfile = \"zone\"\n[region.iad]\n"
            .to_owned();
    for n in 0..options.apps {
        let addresses = (n * each..((n + 1) * each).min(options.count)).map(|n| u32::try_from(n % options.addresses).expect("few"));
        let endpoints: Vec<String> = addresses.map(|n| format!("\"{}\"", Ipv4Addr::from(0x7f01_0001 + n))).collect();
        text += &format!(
            "[app.a{n}]\nname = \"a{n}.example.net.\"\nregions = [\"iad\"]\nendpoints = {{ iad = [{}] }}\n[[app.a{n}.probe]]\n{what}\
             interval = \"{}ms\"\ntimeout = \"{timeout}ms\"\n",
            endpoints.join(", "),
            (seconds * 1000.0).round()
        );
    }
    let zone = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 60\n@ NS ns1\nns1 A 127.0.0.1\n";
    std::fs::write(folder.join("zone"), zone).expect("the folder");
    let path = folder.join("pointsman.toml");
    std::fs::write(&path, text).expect("the folder");
    let mut read = |path: &Path, _: Option<&Path>| std::fs::read(path).map_err(|error| error.to_string());
    match pointsman::config::load(&path.display().to_string(), &mut read) {
        Ok(loaded) => loaded.config.fleet,
        Err(findings) => panic!("{}", findings.first().map_or_else(String::new, ToString::to_string)),
    }
}

/// Ticks of a hundredth of a second that a process used.
fn cpu(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, user and system time are the 12th and 13th word.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}

/// MiB of memory that a process has.
fn resident(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

/// The endpoints: every address of loopback at one port.
fn serve(kind: &str) {
    let tls = kind.starts_with("https").then(|| acceptor(Path::new("ca.pem")));
    let close = kind.ends_with("-new");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    // Ends with the one who started it, also when that is killed.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    runtime.block_on(async move {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 0)).into()).expect("a port");
        socket.listen(4096).expect("a port");
        let listener = TcpListener::from_std(socket.into()).expect("a listener");
        println!("{}", listener.local_addr().expect("its address").port());
        std::io::stdout().flush().expect("its output");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, close).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, close).await;
                        }
                    }
                }
            });
        }
    });
}

/// Answers every request of a connection with 200.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, close: bool) {
    let (mut buffer, mut filled) = ([0; 1024], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]).await {
        filled += count;
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        filled = 0;
        let end: &[u8] = if close {
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
        };
        if stream.write_all(end).await.is_err() || close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// TLS with a certificate of its own, which is written to `ca` for the probes to trust.
fn acceptor(ca: &Path) -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example.net".to_owned()]).expect("a certificate");
    std::fs::write(ca, made.cert.pem()).expect("the folder");
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("a server")))
}
