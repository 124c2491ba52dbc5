//! Failover bugs that bit other people's users, as tests of the spawned binary: each is named after what must not happen here.
//!
//! A row of the field study's table, and the test that would fail if it happened here. Those marked `scenarios` are the text files
//! `tests/scenarios/field-*.txt`, those with a file's name stand there, the others stand in this file.
//!
//! | what bit | test |
//! |---|---|
//! | A child pool that is all down is not propagated | scenarios `fallback-respects-priority` (every endpoint down makes the region unhealthy, which moves the name); nested policies wait for nesting |
//! | A floor returns dead addresses | `a_dead_endpoint_is_left_out_and_the_last_one_says_why`: there is no floor |
//! | A start takes minutes; nothing is served until everything was probed | `start_with_many_names_is_quick_and_serves_at_once` |
//! | The first answer after a start is the fallback | `first_answer_after_start_is_not_the_fallback` |
//! | The health source stops, answers are frozen without an age limit | scenarios `evidence-without-refresh-goes-unknown`; `evidence_has_the_age_of_the_last_outcome`, `evidence_that_stops_is_unknown_and_moves_nothing` |
//! | A third cluster answers differently | waits for several nodes; one node: `decide` is a function of its inputs (`tests/world/promises.rs`) |
//! | A secondary that loses its peers serves itself; primary isolated and sick: an empty answer | waits for several nodes; one node: scenarios `all-sick-keeps-serving` |
//! | Objects rewrite shared NS and glue | `a_switch_never_touches_apex_and_delegations` |
//! | Time-outs of a resolver give partial target lists | `lookup_failure_is_not_an_empty_set`; `src/probe/tests.rs` `a_failed_lookup_is_not_an_empty_set` |
//! | Two nodes: after a while only the SOA | waits for several nodes |
//! | Checks outlive deleted or edited records | `checks_do_not_outlive_deleted_records`; scenarios `checks-follow-the-config` |
//! | The state says UP while the service is DOWN | `service_down_is_reported_down_end_to_end` |
//! | Parameters with which down is never reported | `parameters_that_can_never_report_down_are_refused` |
//! | The fallback is chosen among all groups | scenarios `fallback-respects-priority` |
//! | Dynamic text is mangled in a transfer; signing on the primary stops it | waits for transfers and DNSSEC; until then AXFR and IXFR are REFUSED (`tests/answer_protocol.rs`) |
//! | Mixed TTLs in one RRset | `mixed_ttls_become_one` |
//! | A feed file that the service cannot see | `an_input_that_cannot_be_read_is_named_with_path_and_error`; feeds themselves wait |
//! | A host is down for ever because the default check is unsupported | `unsupported_probe_kind_is_an_error_not_down_for_ever`, `without_probes_nothing_is_checked_and_nothing_is_down` |
//! | Persistence hides a dead local pool | `an_open_port_does_not_hide_a_dead_service` |
//! | A forced-down target is still served; keys that match nothing | `forced_down_target_is_not_served_end_to_end`, `unmatched_names_are_rejected`; scenarios `drained-target-is-never-served` |
//! | A delayed worker applies an old plan; automation is stuck | `a_delayed_old_plan_is_refused`, `probes_that_never_answer_move_nothing_and_block_no_operator`; scenarios `an-old-plan-is-refused` |
//! | An NSEC bitmap is wrong | waits for DNSSEC |
//! | Every site withdraws itself at once | scenarios `all-sick-keeps-serving`, `a_dead_endpoint_is_left_out_and_the_last_one_says_why` |

mod support;

use hickory_proto::rr::RecordType;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Site, free_port, http, wait_for};

const SHOP: &str = "shop.example.net.";

/// `shop` in two regions: settings of the application, then whatever follows (probes, other applications).
fn shop(settings: &str, rest: &str) -> String {
    format!(
        "[app.shop]\nname = \"shop.example.net.\"\nregions = [\"iad\", \"fra\"]\nttl = \"5s\"\ncooldown = \"0s\"\n{settings}\n\
         [app.shop.endpoints]\niad = [\"127.0.1.1\"]\nfra = [\"127.0.2.1\"]\n{rest}\n"
    )
}

/// An http probe at the regions' port that gives its verdict within a second.
const PROBE: &str = "[[app.shop.probe]]\nkind = \"http\"\nurl = \"http://shop.example.net:{web}/healthz\"\ninterval = \"200ms\"\n\
                     timeout = \"150ms\"\nfall = 2\nrise = 1\nstale-after = \"20s\"\n";

/// A port that takes connections and never says anything, and counts them. With `keep` they stay open.
struct Mute {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    kept: Arc<Mutex<Vec<TcpStream>>>,
    gone: Arc<AtomicBool>,
}

impl Mute {
    fn start(n: u8, port: u16, keep: bool) -> Mute {
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, n, 1), port));
        let listener = TcpListener::bind(address).unwrap();
        let mute = Mute {
            address,
            taken: Arc::default(),
            kept: Arc::default(),
            gone: Arc::default(),
        };
        let (taken, kept, gone) = (mute.taken.clone(), mute.kept.clone(), mute.gone.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if gone.load(Ordering::SeqCst) {
                    return;
                }
                taken.fetch_add(1, Ordering::SeqCst);
                if keep {
                    kept.lock().unwrap().push(stream);
                }
            }
        });
        mute
    }

    /// Connections taken so far.
    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits for that many more connections.
    fn wait_more(&self, count: usize) {
        let until = self.taken() + count;
        wait_for(&format!("{count} more probes at {}", self.address), || {
            (self.taken() >= until).then_some(())
        });
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.kept.lock().unwrap().clear();
    }
}

/// What a region of `shop` is said to be in `/v1/names`.
fn health(site: &Site, region: &str) -> Value {
    site.name(SHOP)["health"][region].clone()
}

fn wait_health(site: &Site, region: &str, word: &str) {
    wait_for(&format!("{region} {word}"), || {
        (health(site, region)["health"] == word).then_some(())
    });
}

fn wait_reason(site: &Site, reason: &str) {
    wait_for(reason, || (site.name(SHOP)["answer"]["reason"] == reason).then_some(()));
}

/// The value of a series, its labels in alphabetical order; none when it is not there.
fn metric(site: &Site, series: &str) -> Option<f64> {
    let (_, text) = site.get("/metrics").unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Demands that the config is refused with exit 1, and that what is said contains the texts.
fn check_refuses(site: &Site, app: &str, texts: &[&str]) {
    site.write_config(app);
    let said = site.cli_code(1, &["check", "--config", site.config().to_str().unwrap()]);
    for text in texts {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[test]
fn first_answer_after_start_is_not_the_fallback() {
    let probe = PROBE
        .replace("150ms", "1900ms")
        .replace("200ms", "2s")
        .replace("fall = 2", "fall = 100");
    let site = Site::new(&shop("when-all-down = \"192.0.2.99\"", &probe));
    let regions = [Mute::start(1, site.web, true), Mute::start(2, site.web, true)];
    for _ in ["with an empty folder", "again"] {
        let mut server = site.spawn(&[]);
        server.wait_answering();
        assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
        server.kill();
    }
    // Probes begin with the config, not with the first question; nothing is known while they hang, and nothing falls back.
    let before: Vec<usize> = regions.iter().map(Mute::taken).collect();
    let _server = site.spawn(&[]);
    for (region, before) in regions.iter().zip(before) {
        wait_for("a probe that no question caused", || (region.taken() > before).then_some(()));
    }
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
    wait_reason(&site, "unknown");
}

#[test]
fn start_with_many_names_is_quick_and_serves_at_once() {
    const NAMES: usize = 5_000;
    let mut config = String::new();
    for n in 0..NAMES {
        config.push_str(&format!(
            "[app.a{n}]\nname = \"a{n}.example.net.\"\nregions = [\"iad\", \"fra\"]\ncooldown = \"0s\"\nwhen-all-down = \"192.0.2.99\"\n\
             endpoints = {{ iad = \"127.0.1.1\", fra = \"127.0.2.1\" }}\n[[app.a{n}.probe]]\nkind = \"tcp\"\nport = {{web}}\n\
             expect = \"never\"\ninterval = \"60s\"\ntimeout = \"50s\"\n"
        ));
    }
    let site = Site::new(&config);
    let _regions = [Mute::start(1, site.web, true), Mute::start(2, site.web, true)];
    let server = site.serve();
    let last = format!("a{}.example.net.", NAMES - 1);
    let mut switch = vec!["switch", &last, "--to", "fra", "--reason", "test"];
    switch.extend(["--override", "target-healthy"]);
    site.cli_code(0, &switch);
    server.kill();

    let began = Instant::now();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    let took = began.elapsed();
    // No probe has brought anything yet: what was decided is served, and unknown is not down.
    assert_eq!(site.a(&last), addresses(&["127.0.2.1"]));
    for n in (0..NAMES - 1).step_by(100) {
        assert_eq!(site.a(&format!("a{n}.example.net.")), addresses(&["127.0.1.1"]), "a{n}");
    }
    server.wait_ready();
    // Without optimisation and beside other tests; far less in earnest.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn checks_do_not_outlive_deleted_records() {
    let probe = |app: &str, port: u16| {
        format!(
            "[[app.{app}.probe]]\nkind = \"tcp\"\nport = {port}\ninterval = \"100ms\"\ntimeout = \"90ms\"\nrise = 1\nstale-after = \"20s\"\n"
        )
    };
    let (port, mail_port, other_port) = (free_port(), free_port(), free_port());
    let (kept, mail_probed, moved_to) = (
        Mute::start(1, port, false),
        Mute::start(1, mail_port, false),
        Mute::start(1, other_port, false),
    );
    let mail = format!(
        "[app.mail]\nname = \"mail.example.net.\"\nregions = [\"iad\"]\n[app.mail.endpoints]\niad = [\"127.0.1.1\"]\n{}",
        probe("mail", mail_port)
    );
    let site = Site::new(&(shop("", &probe("shop", port)) + &mail));
    let _server = site.serve();
    mail_probed.wait_more(3);
    assert!(site.get("/metrics").unwrap().1.contains("app=\"mail\""));

    site.write_config(&shop("", &probe("shop", port)));
    site.cli_code(0, &["reload", "--force", "--reason", "mail is gone"]);
    let before = mail_probed.taken();
    kept.wait_more(20);
    assert!(mail_probed.taken() <= before + 1, "at most the probe that was under way");
    let metrics = site.get("/metrics").unwrap().1;
    assert!(!metrics.contains("mail"), "{metrics}");

    // An edited check replaces the old one.
    site.write_config(&shop("", &probe("shop", other_port)));
    site.cli_code(0, &["reload", "--reason", "another port"]);
    let before = kept.taken();
    moved_to.wait_more(20);
    assert!(kept.taken() <= before + 1, "at most the probe that was under way");
}

#[test]
fn service_down_is_reported_down_end_to_end() {
    let paired = "[app.shop.paired]\niad = \"iad.shop.example.net.\"\nfra = \"fra.shop.example.net.\"\n";
    let site = Site::new(&shop("", &format!("{paired}{PROBE}")));
    let (iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    for (broken, word) in [(false, "healthy"), (true, "unhealthy"), (false, "healthy"), (true, "unhealthy")] {
        iad.set_broken(broken);
        wait_health(&site, "iad", word);
        // Every place that shows it shows the same.
        for name in [SHOP, "iad.shop.example.net.", "fra.shop.example.net."] {
            assert_eq!(site.name(name)["health"]["iad"]["health"], word, "{name}");
        }
        let explained = site.json(&["explain", "shop.example.net", "--json"]);
        let region = |explained: &Value, id: &str| -> Value {
            let regions = explained["regions"].as_array().unwrap();
            regions.iter().find(|one| one["region"] == id).unwrap().clone()
        };
        let (iad, fra) = (region(&explained, "iad"), region(&explained, "fra"));
        assert_eq!(
            (&iad["health"], &iad["probes"][0]["verdict"]),
            (&word.into(), &word.into()),
            "{iad}"
        );
        assert_eq!(fra["health"], "healthy", "{fra}");
        let series = |state: &str| {
            metric(
                &site,
                &format!("pointsman_region_health{{app=\"shop\",region=\"iad\",state=\"{state}\"}}"),
            )
        };
        let shown = (series("healthy"), series("unhealthy"));
        let expected = if broken { (Some(0.0), Some(1.0)) } else { (Some(1.0), Some(0.0)) };
        assert_eq!(shown, expected, "{:?}", site.get("/metrics"));
        let up = metric(&site, "pointsman_endpoint_up{app=\"shop\",endpoint=\"127.0.1.1\",region=\"iad\"}");
        assert_eq!(up, Some(if broken { 0.0 } else { 1.0 }));
        let age = metric(&site, "pointsman_health_age_seconds{app=\"shop\",region=\"iad\"}").unwrap();
        assert!((0.0..20.0).contains(&age), "{age}");
    }
    let status = site.cli_code(0, &["status"]);
    assert!(status.contains("unhealthy"), "{status}");
}

#[test]
fn evidence_has_the_age_of_the_last_outcome() {
    let site = Site::new(&shop("", PROBE));
    let (_iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    let evidence = || {
        let explained = site.json(&["explain", "shop.example.net", "--json"]);
        let region = explained["regions"][0].clone();
        let seconds = |value: &Value| value.as_f64().unwrap();
        let (since, age, last) = (
            seconds(&region["since_seconds"]),
            seconds(&region["age_seconds"]),
            seconds(&region["probes"][0]["age_seconds"]),
        );
        let (listed, counted) = (
            seconds(&health(&site, "iad")["age_seconds"]),
            metric(&site, "pointsman_health_age_seconds{app=\"shop\",region=\"iad\"}").unwrap(),
        );
        (since, [age, last, listed, counted])
    };
    let generation = || site.json(&["status", "--json"])["generation"].clone();
    wait_for("both verdicts", || (health(&site, "fra")["health"] == "healthy").then_some(()));
    let before = generation();
    // The verdict has stood for long, and every outcome since has made it young again, wherever an age is shown.
    wait_for("old verdicts with young evidence", || {
        let (since, ages) = evidence();
        (since > 5.0 && ages.iter().all(|age| *age < 2.5)).then_some(())
    });
    assert_eq!(generation(), before, "an outcome that changes no verdict is no publish");
}

#[test]
fn evidence_that_stops_is_unknown_and_moves_nothing() {
    let probe = |app: &str, command: &str, times: &str| format!("[[app.{app}.probe]]\nkind = \"exec\"\ncommand = [{command}]\n{times}\n");
    let checked = shop(
        "failover = \"automatic\"\nfailover-delay = \"0s\"\nwhen-all-down = \"192.0.2.99\"",
        &probe(
            "shop",
            "\"/bin/true\"",
            "interval = \"1s\"\ntimeout = \"900ms\"\nfall = 100\nrise = 1\nstale-after = \"2100ms\"",
        ),
    );
    let site = Site::new(&checked);
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    wait_health(&site, "fra", "healthy");
    wait_reason(&site, "healthy");

    // Programs of somebody else that never end take that application's share and no more: these probes go on.
    let hogs: Vec<String> = (1..=80).map(|n| format!("\"127.9.0.{n}\"")).collect();
    let times = "interval = \"120s\"\ntimeout = \"119s\"";
    let hog = format!(
        "[app.hog]\nname = \"hog.example.net.\"\nregions = [\"iad\"]\n[app.hog.endpoints]\niad = [{}]\n{}",
        hogs.join(", "),
        probe("hog", "\"/bin/sleep\", \"120\"", times)
    );
    let runs = || {
        let series = |region, n| {
            format!("pointsman_probe_duration_seconds_count{{app=\"shop\",endpoint=\"127.0.{n}.1\",kind=\"exec\",region=\"{region}\"}}")
        };
        let of = |region, n| metric(&site, &series(region, n)).unwrap_or_default();
        of("iad", 1).min(of("fra", 2))
    };
    site.write_config(&format!("{checked}{hog}"));
    site.cli_code(0, &["reload", "--reason", "a greedy neighbour"]);
    let before = runs();
    wait_for("probes beside a greedy neighbour", || (runs() >= before + 5.0).then_some(()));
    wait_reason(&site, "healthy");

    // Its own programs that never end take the whole of its share, so its probes run no more.
    let times = format!("{times}\nmonitoring-only = true");
    let own: String = (0..40)
        .map(|n| probe("shop", &format!("\"/bin/sleep\", \"120\", \"{n}\""), &times))
        .collect();
    site.write_config(&format!("{checked}{own}"));
    site.cli_code(0, &["reload", "--force", "--reason", "greedy itself"]);
    let seq = site.json(&["status", "--json"])["seq"].clone();
    for region in ["iad", "fra"] {
        wait_health(&site, region, "unknown");
    }
    wait_reason(&site, "unknown");
    wait_for("the alert and the age in the metrics", || {
        let age = metric(&site, "pointsman_health_age_seconds{app=\"shop\",region=\"iad\"}")?;
        let alert = metric(&site, "pointsman_alert{alert=\"health-stale\",name=\"shop.example.net.\"}")?;
        (alert == 1.0 && age > 4.0).then_some(())
    });
    let explained = site.cli_code(0, &["explain", "shop.example.net"]);
    assert!(explained.contains("the last evidence on iad is"), "{explained}");
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
    assert_eq!(site.json(&["status", "--json"])["seq"], seq, "nothing moved");

    // With the places free again the evidence comes back by itself.
    site.write_config(&checked);
    site.cli_code(0, &["reload", "--force", "--reason", "the neighbour is gone"]);
    wait_health(&site, "iad", "healthy");
    wait_reason(&site, "healthy");
}

#[test]
fn a_dead_endpoint_is_left_out_and_the_last_one_says_why() {
    let site = Site::new(&shop("", PROBE).replace("\"127.0.1.1\"", "\"127.0.1.1\", \"127.0.3.1\", \"127.0.4.1\""));
    let all = ["127.0.1.1", "127.0.3.1", "127.0.4.1"];
    let iad = [site.region(1, true), site.region(3, true), site.region(4, true)];
    let fra = site.region(2, true);
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    wait_health(&site, "fra", "healthy");
    let fail_open = || metric(&site, "pointsman_fail_open{name=\"shop.example.net.\"}");
    assert_eq!(site.a(SHOP), addresses(&all));

    // One of three left is still enough: no floor brings the dead ones back.
    iad[0].set_broken(true);
    site.wait_a(SHOP, &all[1..]);
    iad[1].set_broken(true);
    site.wait_a(SHOP, &all[2..]);
    assert_ne!(fail_open(), Some(1.0));
    iad[2].set_broken(true);
    fra.set_broken(true);
    site.wait_a(SHOP, &all);
    wait_reason(&site, "all-down-active");
    assert_eq!(fail_open(), Some(1.0));
    let alerts = site.json(&["status", "--json"])["alerts"].to_string();
    assert!(alerts.contains("fail-open"), "{alerts}");
    iad[1].set_broken(false);
    site.wait_a(SHOP, &all[1..2]);
    wait_reason(&site, "degraded");
    assert_ne!(fail_open(), Some(1.0));
}

#[test]
fn a_switch_never_touches_apex_and_delegations() {
    let site = Site::new(&shop("", ""));
    let _server = site.serve();
    let ask = || -> Vec<String> {
        let questions = [
            ("example.net.", RecordType::NS),
            ("example.net.", RecordType::SOA),
            ("sub.example.net.", RecordType::NS),
            ("x.sub.example.net.", RecordType::A),
            ("ns1.example.net.", RecordType::A),
        ];
        let parts = |(name, kind): &(&str, RecordType)| {
            let message = site.ask(name, *kind);
            assert!(!message.answers.is_empty() || !message.authorities.is_empty(), "{name} {kind}");
            format!("{:?} {:?} {:?}", message.answers, message.authorities, message.additionals)
        };
        questions.iter().map(parts).collect()
    };
    let before = ask();
    for to in ["fra", "iad"] {
        site.cli_code(0, &["switch", SHOP, "--to", to, "--override", "target-healthy", "--reason", "test"]);
        assert_eq!(ask(), before);
    }
}

#[test]
fn lookup_failure_is_not_an_empty_set() {
    // Nothing below `invalid.` resolves (RFC 6761 section 6.4), so both regions are host names that nobody can look up.
    let app = shop("failover = \"automatic\"", PROBE)
        .replace("\"127.0.1.1\"", "\"iad.shop.invalid.\"")
        .replace("\"127.0.2.1\"", "\"fra.shop.invalid.\"");
    let site = Site::new(&app);
    site.write_zone(&support::ZONE.replace("shop IN TXT \"a shop\"\n", ""));
    let _server = site.serve();
    wait_for("the failed look-ups", || {
        let log = site.log();
        (log.contains("iad.shop.invalid.") && log.contains("fra.shop.invalid.") && log.contains("look-up failed")).then_some(())
    });
    wait_for("the alert and the count", || {
        let failed = "pointsman_probe_lookups_failed_total{app=\"shop\",region=\"iad\"}";
        let alert = "pointsman_alert{alert=\"lookup-failing\",name=\"\"}";
        (metric(&site, alert)? == 1.0 && metric(&site, failed)? >= 1.0).then_some(())
    });
    for region in ["iad", "fra"] {
        assert_eq!(health(&site, region)["health"], "unknown");
    }
    let shown = site.name(SHOP);
    assert_eq!(
        (&shown["answer"]["region"], &shown["answer"]["reason"]),
        (&"iad".into(), &"unknown".into())
    );
    let records = shown["answer"]["records"].to_string();
    assert!(records.contains("iad.shop.invalid."), "{records}");
    let answer = site.ask(SHOP, RecordType::A);
    assert_eq!(answer.answers.len(), 1, "{answer:?}");
    assert!(answer.answers[0].data.to_string().contains("iad.shop.invalid."), "{answer:?}");
}

#[test]
fn parameters_that_can_never_report_down_are_refused() {
    let site = Site::new("");
    let counted = |change: (&str, &str)| shop("", &PROBE.replace(change.0, change.1));
    check_refuses(&site, &counted(("20s", "300ms")), &["stale-after", "interval + timeout"]);
    check_refuses(&site, &counted(("150ms", "200ms")), &["timeout", "shorter than the interval"]);
    check_refuses(&site, &counted(("fall = 2", "fall = 0")), &["fall"]);
    check_refuses(&site, &shop("require = 2", PROBE), &["require = 2", "can never be met"]);
    check_refuses(
        &site,
        &shop("failover = \"automatic\"", &format!("{PROBE}monitoring-only = true\n")),
        &["failover"],
    );
    // The same without the mistakes is taken.
    site.write_config(&shop("", PROBE));
    site.cli_code(0, &["check", "--config", site.config().to_str().unwrap()]);
}

#[test]
fn mixed_ttls_become_one() {
    let site = Site::new(&shop("", "").replace("\"127.0.1.1\"", "\"127.0.1.1\", \"127.0.3.1\", \"127.0.4.1\""));
    site.write_zone(&format!(
        "{}multi 300 IN A 192.0.2.1\nmulti 60 IN A 192.0.2.2\nmulti 600 IN A 192.0.2.3\n",
        support::ZONE
    ));
    let config = site.config();
    let output = site.cli(&["check", "--config", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("multi.example.net.") && said.contains("different TTLs"), "{said}");
    let _server = site.serve();
    wait_for("the warning in the log", || {
        let log = site.log();
        let told = log.lines().find(|line| line.contains("different TTLs"))?;
        assert!(told.contains("\"WARN\""), "{told}");
        Some(())
    });
    for (name, count, ttl) in [("multi.example.net.", 3, 60), (SHOP, 3, 5)] {
        let answers = site.ask(name, RecordType::A).answers;
        let ttls: Vec<u32> = answers.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, vec![ttl; count], "{name}");
    }
}

#[test]
fn an_input_that_cannot_be_read_is_named_with_path_and_error() {
    let probe = "[[app.shop.probe]]\nkind = \"postgres\"\nport = {web}\nuser = \"probe\"\npassword-file = \"nowhere.secret\"\ndatabase = \"shop\"\n\
                 interval = \"200ms\"\ntimeout = \"150ms\"\nfall = 2\nstale-after = \"20s\"\n";
    let site = Site::new(&shop("", probe));
    let _server = site.serve();
    let probe = wait_for("a run that is not counted", || {
        let explained = site.json(&["explain", "shop.example.net", "--json"]);
        let probe = explained["regions"][0]["probes"][0]["not_counted"].clone();
        probe.is_object().then_some(probe)
    });
    let probe = &probe;
    let message = probe["message"].as_str().unwrap();
    assert!(message.contains("nowhere.secret") && message.contains("No such file"), "{probe}");
    assert_eq!(probe["reason"], "internal", "{probe}");
    assert!(probe["age_seconds"].as_f64().is_some_and(|age| age < 20.0), "{probe}");
    let failures = "pointsman_probe_failures_total{app=\"shop\",endpoint=\"127.0.1.1\",reason=\"internal\",region=\"iad\"}";
    wait_for("two runs that could not", || metric(&site, failures).filter(|count| *count >= 2.0));
    // Our own failure says nothing of the region: it is not known, nothing moves, and the answer is never empty.
    assert_eq!(probe["why"], "cannot-run", "{probe}");
    assert_eq!(health(&site, "iad")["health"], "unknown");
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
}

#[test]
fn unsupported_probe_kind_is_an_error_not_down_for_ever() {
    let site = Site::new(&shop("", PROBE));
    let (_iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    let wrong = shop("", &PROBE.replace("\"http\"", "\"ldap\""));
    check_refuses(&site, &wrong, &["pointsman.toml:", "`ldap`", "http, tls, tcp, dns"]);
    let said = site.cli_code(1, &["reload", "--reason", "look them up"]);
    assert!(said.contains("ldap"), "{said}");
    assert_eq!(health(&site, "iad")["health"], "healthy");
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
}

#[test]
fn without_probes_nothing_is_checked_and_nothing_is_down() {
    let site = Site::new(&shop("when-all-down = \"192.0.2.99\"", ""));
    let listeners = [Mute::start(1, site.web, false), Mute::start(2, site.web, false)];
    let _server = site.serve();
    for region in ["iad", "fra"] {
        let shown = health(&site, region);
        assert_eq!((&shown["health"], &shown["reason"]), (&"unknown".into(), &"not probed".into()));
    }
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
    assert_eq!(site.json(&["status", "--json"])["alerts_total"], 0);
    assert!(listeners.iter().all(|one| one.taken() == 0));
}

#[test]
fn an_open_port_does_not_hide_a_dead_service() {
    // The port takes connections (a balancer with nothing behind it), but nobody answers: what users use is what is probed.
    let site = Site::new(&shop("", PROBE));
    let _hollow = Mute::start(1, site.web, true);
    let _fra = site.region(2, true);
    let _server = site.serve();
    wait_health(&site, "iad", "unhealthy");
    wait_health(&site, "fra", "healthy");
    let explained = site.json(&["explain", "shop.example.net", "--json"]);
    assert_eq!(explained["regions"][0]["probes"][0]["reason"], "timeout", "{explained}");
    wait_for("a proposal", || {
        let items = site.json(&["proposals", "--json"])["items"].clone();
        (items[0]["to"] == "fra").then_some(())
    });
}

#[test]
fn forced_down_target_is_not_served_end_to_end() {
    let site = Site::new(&shop("failover = \"automatic\"\nwhen-all-down = \"all\"", PROBE));
    let (iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    wait_health(&site, "fra", "healthy");
    site.cli_code(0, &["drain", SHOP, "fra", "--reason", "no load there"]);
    iad.set_broken(true);
    wait_reason(&site, "all-down-all");
    // However often it is asked, in either family and through the alias.
    for name in [SHOP, "www.example.net.", "a.w.example.net."] {
        for _ in 0..50 {
            assert_eq!(site.a(name), addresses(&["127.0.1.1"]), "{name}");
        }
    }
    let roles = site.name(SHOP)["roles"].clone();
    assert_eq!((&roles["fra"]["drained"], &roles["iad"]["role"]), (&true.into(), &"active".into()));
    // Neither may an operator send anybody there, whatever he overrides.
    let switch = ["switch", SHOP, "--to", "fra", "--override", "target-healthy", "--reason", "x"];
    assert!(site.cli_code(3, &switch).contains("target-not-drained"));
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
    site.cli_code(0, &["undrain", SHOP, "fra", "--reason", "it may serve again"]);
    site.wait_a(SHOP, &["127.0.2.1"]);
}

#[test]
fn unmatched_names_are_rejected() {
    let site = Site::new(&shop("", ""));
    let _server = site.serve();
    let before = site.json(&["status", "--json"])["seq"].clone();
    let unmatched: [(&[&str], &str); 9] = [
        (&["switch", "shup.example.net", "--to", "fra"], "shop.example.net."),
        (&["switch", "www.example.net", "--to", "fra"], "www.example.net."),
        (&["switch", SHOP, "--to", "fr"], "fra"),
        (&["drain", "shup.example.net", "fra"], "shop.example.net."),
        (&["drain", SHOP, "lhr"], "lhr"),
        (&["undrain", SHOP, "lhr"], "lhr"),
        (&["evacuate", "lhr"], "lhr"),
        (&["evacuate", "iad", "--leave", "shup.example.net"], "shup.example.net."),
        (&["restore", "lhr"], "lhr"),
    ];
    for (arguments, text) in unmatched {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--reason", "x"]).collect();
        let said = site.cli_code(1, &arguments);
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    site.cli_code(2, &["switch", SHOP, "--to", "fra", "--override", "target-helthy", "--reason", "x"]);
    assert_eq!(site.json(&["status", "--json"])["seq"], before, "nothing was recorded");
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
}

#[test]
fn a_delayed_old_plan_is_refused() {
    let site = Site::new(&shop("", ""));
    let server = site.serve();
    let version = || site.name(SHOP)["version"].as_u64().unwrap();
    let plan = |seq: u64| {
        let body = format!(r#"{{"to":"fra","reason":"the plan","expect":"iad","expect_seq":{seq},"override":["target-healthy"]}}"#);
        let length = body.len();
        let head = format!(
            "POST /v1/names/{SHOP}/switch HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json",
            site.api
        );
        let request = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        http(site.api, &request).unwrap()
    };
    let first = version();
    assert_eq!(plan(first).0, 200);
    for to in ["iad", "fra", "iad"] {
        site.cli_code(0, &["switch", SHOP, "--to", to, "--override", "target-healthy", "--reason", "x"]);
    }
    // The worker wakes up; iad is active as it was when the plan was made, but it is another time, also after a restart.
    let late = |place: &str| {
        let (status, said) = plan(first);
        assert_eq!(status, 409, "{place}: {said}");
        assert!(said.contains("\"expect\"") && said.contains("version"), "{place}: {said}");
        assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]), "{place}");
    };
    late("the same process");
    server.kill();
    let _server = site.serve();
    late("the next process");
    // A plan for what is now is taken.
    assert_eq!(plan(version()).0, 200);
    assert_eq!(site.a(SHOP), addresses(&["127.0.2.1"]));
}

#[test]
fn probes_that_never_answer_move_nothing_and_block_no_operator() {
    let site = Site::new(&shop("failover = \"automatic\"\nfailover-delay = \"0s\"", PROBE));
    let regions = [Mute::start(1, site.web, true), Mute::start(2, site.web, true)];
    let _server = site.serve();
    // Both regions at once: that is the prober's own network as likely as theirs, and nothing is concluded.
    wait_for("the prober to be suspected", || {
        let (_, metrics) = site.get("/metrics")?;
        metrics
            .contains("pointsman_alert{alert=\"prober-suspected\",name=\"\"} 1")
            .then_some(())
    });
    assert_eq!(health(&site, "iad")["health"], "unknown");
    let seq = site.json(&["status", "--json"])["seq"].clone();
    for region in &regions {
        region.wait_more(5);
    }
    assert_eq!(site.a(SHOP), addresses(&["127.0.1.1"]));
    assert_eq!(site.json(&["status", "--json"])["seq"], seq, "automation recorded nothing");
    let began = Instant::now();
    site.cli_code(
        0,
        &["switch", SHOP, "--to", "fra", "--override", "target-healthy", "--reason", "by hand"],
    );
    assert_eq!(site.a(SHOP), addresses(&["127.0.2.1"]));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // And it stays where the operator put it.
    for region in &regions {
        region.wait_more(5);
    }
    assert_eq!(site.a(SHOP), addresses(&["127.0.2.1"]));
}
