//! Faults of a network between the prober and an endpoint, in two network namespaces that the test makes: reset, no
//! route, a partition in one direction, and loss and delay where the kernel has netem. Without the right to make
//! namespaces the test says so and ends.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The prober's end and the endpoint's end of the only link.
const PROBER: &str = "10.203.113.1";
const ENDPOINT: &str = "10.203.113.2";

/// Two namespaces with a link; gone with the test.
struct Net {
    prober: String,
    endpoint: String,
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.prober, &self.endpoint] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// A process that ends with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command; its errors when it fails.
fn try_run(words: &str) -> Result<(), String> {
    let mut words = words.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Net {
    /// Makes it, told from others by a number, or says why that cannot be done here.
    fn new(test: u8) -> Result<Net, String> {
        let id = format!("{}-{test}", std::process::id());
        let net = Net {
            prober: format!("pm-a-{id}"),
            endpoint: format!("pm-b-{id}"),
        };
        let Net { prober, endpoint } = &net;
        for words in [
            format!("ip netns add {prober}"),
            format!("ip netns add {endpoint}"),
            format!("ip -n {prober} link add link0 type veth peer name link0 netns {endpoint}"),
            format!("ip -n {prober} addr add {PROBER}/30 dev link0"),
            format!("ip -n {endpoint} addr add {ENDPOINT}/30 dev link0"),
            format!("ip -n {prober} link set lo up"),
            format!("ip -n {endpoint} link set lo up"),
            format!("ip -n {prober} link set link0 up"),
            format!("ip -n {endpoint} link set link0 up"),
        ] {
            try_run(&words)?;
        }
        Ok(net)
    }

    /// Changes the network at one end.
    fn at(&self, namespace: &str, words: &str) {
        try_run(&format!("ip -n {namespace} {words}")).unwrap();
    }

    /// A web server at an address of a namespace.
    fn web(&self, namespace: &str, address: &str, dir: &Path) -> Started {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            namespace,
            "python3",
            "-u",
            "-m",
            "http.server",
            "8080",
            "--bind",
            address,
        ]);
        let mut child = command
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("Serving HTTP"), "{line}");
        Started(child)
    }

    /// Runs the program at the prober's end.
    fn pointsman(&self, words: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.prober, env!("CARGO_BIN_EXE_pointsman")])
            .args(words);
        command
            .env_remove("POINTSMAN_SERVER")
            .env("POINTSMAN_SOCKET", "/nonexistent")
            .output()
            .unwrap()
    }

    /// One probe by hand: the class of its failure, none where it passed, and its message.
    fn probe(&self) -> (Option<String>, String) {
        let keys = ["--with", "timeout = \"600ms\"", "--with", "interval = \"1s\""];
        let mut words = vec!["probe", "--json", "--url", "http://shop.example:8080/", "--address", ENDPOINT];
        words.extend(keys);
        let output = self.pointsman(&words);
        let page: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let seen = &page["items"][0];
        (
            seen["reason"].as_str().map(str::to_owned),
            seen["message"].as_str().unwrap().to_owned(),
        )
    }
}

fn wait_for(what: &str, level: impl Fn() -> bool) {
    let began = Instant::now();
    while !level() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited 30 s for {what}");
        std::thread::yield_now();
    }
}

/// The network, or none where it cannot be made: said out loud.
fn net(test: u8) -> Option<Net> {
    match Net::new(test) {
        Ok(net) => Some(net),
        Err(why) => {
            eprintln!("SKIPPED: no network namespaces can be made here: {}", why.trim());
            None
        }
    }
}

#[test]
fn faults_of_the_network_have_their_verdicts_and_heal() {
    let Some(net) = net(1) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (prober, endpoint) = (net.prober.clone(), net.endpoint.clone());
    // Nothing listens: the endpoint resets.
    assert_eq!(net.probe(), (Some("connect".into()), "connection refused".into()));
    let web = net.web(&endpoint, ENDPOINT, dir.path());
    assert_eq!(net.probe(), (None, "HTTP 200".into()));
    // Nobody knows the way.
    net.at(&prober, &format!("route add unreachable {ENDPOINT}/32"));
    assert_eq!(net.probe(), (Some("connect".into()), "host unreachable".into()));
    net.at(&prober, &format!("route del unreachable {ENDPOINT}/32"));
    // A partition in one direction: what is sent arrives, no answer comes back.
    net.at(&endpoint, &format!("route add blackhole {PROBER}/32"));
    let (reason, message) = net.probe();
    assert_eq!(reason.as_deref(), Some("timeout"), "{message}");
    assert!(message.ends_with("within 600ms"), "{message}");
    net.at(&endpoint, &format!("route del blackhole {PROBER}/32"));
    assert_eq!(net.probe(), (None, "HTTP 200".into()));

    let netem = |how: &str| try_run(&format!("tc -n {endpoint} qdisc replace dev link0 root netem {how}"));
    match netem("delay 100ms") {
        Err(why) => eprintln!("SKIPPED: loss and delay, since this kernel has no netem: {}", why.trim()),
        Ok(()) => {
            assert_eq!(net.probe(), (None, "HTTP 200".into()), "a delay within the time limit passes");
            netem("delay 900ms").unwrap();
            assert_eq!(net.probe().0.as_deref(), Some("timeout"));
            netem("loss 100%").unwrap();
            assert_eq!(net.probe().0.as_deref(), Some("timeout"));
            netem("delay 0ms").unwrap();
            assert_eq!(net.probe(), (None, "HTTP 200".into()));
        }
    }
    drop(web);
    assert_eq!(net.probe().0.as_deref(), Some("connect"));
}

#[test]
fn a_server_sees_a_partition_and_its_end() {
    let Some(net) = net(2) else { return };
    let dir = tempfile::tempdir().unwrap();
    let _iad = net.web(&net.endpoint, ENDPOINT, dir.path());
    // The other region works: one of two that is lost is never the prober's fault.
    let _fra = net.web(&net.prober, "127.0.0.9", dir.path());
    let config = format!(
        r#"version = 1
[node]
name = "ns1"
data-dir = "data"
[dns]
listen = ["127.0.0.1:5300"]
[api]
listen = "127.0.0.1:8053"
[[zone]]
name = "example.net."
file = "zone"
[region.iad]
[region.fra]
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
[app.shop.endpoints]
iad = ["{ENDPOINT}"]
fra = ["127.0.0.9"]
[[app.shop.probe]]
kind = "http"
url = "http://shop.example.net:8080/"
interval = "400ms"
timeout = "200ms"
fall = 2
rise = 1
"#
    );
    std::fs::write(
        dir.path().join("zone"),
        "$TTL 1h\n@ SOA ns1 hostmaster 1 2h 15m 2w 1m\n@ NS ns1\nns1 A 192.0.2.1\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("pointsman.toml"), config).unwrap();
    let path = dir.path().join("pointsman.toml");
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &net.prober, env!("CARGO_BIN_EXE_pointsman"), "serve", "--config"])
        .arg(&path);
    let _server = Started(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let health = || {
        let output = net.pointsman(&["status", "shop.example.net", "--json"]);
        let item: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        item["health"]["iad"]["health"].as_str().unwrap_or_default().to_owned()
    };
    wait_for("iad healthy", || health() == "healthy");
    net.at(&net.endpoint, &format!("route add blackhole {PROBER}/32"));
    wait_for("iad unhealthy", || health() == "unhealthy");
    let explained = net.pointsman(&["explain", "shop.example.net"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("within 200ms"), "{explained}");
    net.at(&net.endpoint, &format!("route del blackhole {PROBER}/32"));
    wait_for("iad healthy again", || health() == "healthy");
}
