//! Every shipped config with its zones, loaded as `pointsman check` does.

use pointsman::config::{self, Loaded};
use pointsman::model::{Expect, Failover, Name, ProbeKind, Source, Test, WhenAllDown};
use std::path::Path;

/// Reads a file of this repository.
fn read_file(path: &Path, _inside: Option<&Path>) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}

/// Loads a shipped config, which must be clean.
fn load(path: &str) -> Loaded {
    let loaded = config::load(path, &mut read_file).unwrap_or_else(|findings| {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        panic!("{path}:\n{}", findings.join("\n"))
    });
    assert_eq!(loaded.warnings, [], "{path}");
    loaded
}

/// A name that is known to be one.
fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn every_shipped_config_is_clean() {
    let mut shipped: Vec<_> = std::fs::read_dir("config").unwrap().map(|entry| entry.unwrap().path()).collect();
    shipped.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
    assert!(shipped.len() >= 3, "{shipped:?}");
    for path in shipped {
        load(path.to_str().unwrap());
    }
}

#[test]
fn every_shipped_zone_is_served_by_a_shipped_config() {
    let files = |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let configs = files("config").filter(|path| path.extension().is_some_and(|ext| ext == "toml"));
    let served: Vec<_> = configs.flat_map(|path| load(path.to_str().unwrap()).files).collect();
    for zone in files("zones") {
        let whole = zone.canonicalize().unwrap();
        assert!(
            served.iter().any(|(path, _)| path.canonicalize().unwrap() == whole),
            "{} is in no shipped config",
            zone.display()
        );
    }
}

#[test]
fn the_walk_is_what_the_readme_says() {
    let loaded = load("config/pointsman.toml");
    let fleet = &loaded.config.fleet;
    let names: Vec<String> = fleet.names.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop.example.net.", "fra.shop.example.net.", "iad.shop.example.net."]);
    let paired = &fleet.names[&name("fra.shop.example.net.")];
    let order: Vec<&str> = paired.order.iter().map(|region| region.as_str()).collect();
    assert_eq!(order, ["fra", "iad"]);
    let app = &paired.app;
    assert_eq!((app.failover, app.ttl, app.has_role_probe()), (Failover::Manual, 30, true));
    assert_eq!(loaded.config.node.reload_max_removed, 20);
    assert_eq!(loaded.zones[0].apex(), &name("example.net."));
    let files: Vec<&Path> = loaded.files.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(
        files,
        [Path::new("config/pointsman.toml"), Path::new("config/../zones/example.net.zone")]
    );
}

#[test]
fn defaults_are_those_of_the_reference() {
    let minimal = load("config/minimal.toml").config;
    let app = minimal.fleet.apps.values().next().unwrap();
    let seconds = |duration: std::time::Duration| duration.as_secs();
    assert_eq!((app.ttl, app.failover), (30, Failover::Manual));
    assert_eq!(
        (seconds(app.failover_delay), seconds(app.failback_delay), seconds(app.cooldown)),
        (0, 300, 60)
    );
    assert_eq!(app.when_all_down, WhenAllDown::Active);
    let probe = &app.probes[0];
    assert_eq!(
        (seconds(probe.interval), seconds(probe.timeout), probe.fall, probe.rise),
        (5, 2, 3, 2)
    );
    assert_eq!(seconds(probe.stale_after), 21, "3 × (interval + timeout)");
    assert_eq!(minimal.api.listen, "127.0.0.1:8053".parse().unwrap());
    assert_eq!(minimal.dns.listen, ["0.0.0.0:53".parse().unwrap(), "[::]:53".parse().unwrap()]);
    assert_eq!(
        minimal.fleet.regions.values().collect::<Vec<_>>(),
        ["fra", "iad"],
        "a region without a title is called by its id"
    );
}

#[test]
fn paths_are_relative_to_the_config() {
    let policies = load("config/policies.toml").config;
    assert_eq!(policies.node.data_dir, Path::new("/var/lib/pointsman"), "absolute paths stay");
    assert_eq!(policies.zones[0].file, Path::new("config/../zones/example.net.zone"));
    let kinds: Vec<&str> = policies
        .fleet
        .apps
        .values()
        .flat_map(|app| &app.probes)
        .map(|probe| probe.kind.as_str())
        .collect();
    for kind in ["http", "tcp", "dns", "exec", "postgres"] {
        assert!(kinds.contains(&kind), "the examples show {kind}");
    }
}

#[test]
fn a_set_loads_from_a_copy_of_its_files() {
    let loaded = load("config/policies.toml");
    let copy: std::collections::HashMap<_, _> = loaded.files.iter().cloned().collect();
    let mut from_copy = |path: &Path, _: Option<&Path>| copy.get(path).cloned().ok_or_else(|| "not in the copy".to_owned());
    let again = config::load("config/policies.toml", &mut from_copy).unwrap();
    assert_eq!(again.config, loaded.config);
    assert_eq!(again.files, loaded.files);
}

#[test]
fn probes_are_read_whole() {
    let policies = load("config/policies.toml").config;
    let probes: Vec<_> = policies.fleet.apps.values().flat_map(|app| &app.probes).collect();
    let http = probes.iter().find_map(|probe| match &probe.kind {
        ProbeKind::Http(http) if http.ca.is_some() => Some((http, &probe.expect)),
        _ => None,
    });
    let (http, expect) = http.unwrap();
    let ready = Expect {
        source: Source::Body,
        tests: vec![Test::Contains("ready".to_owned())],
    };
    assert_eq!((http.method.as_str(), &http.status[..]), ("GET", &[(200, 299)][..]));
    assert!(expect.contains(&ready), "{expect:?}");
    assert_eq!(http.headers.len(), 2);
    let dns = probes.iter().find_map(|probe| match &probe.kind {
        ProbeKind::Dns(dns) => Some(dns),
        _ => None,
    });
    assert_eq!(dns.unwrap().data.len(), 2);
}

#[test]
fn many_names_load_in_one_go() {
    // Ten thousand applications and a thousand zones: whatever looked at each pair would take minutes here.
    let mut config = String::from("version = 1\n[node]\nname = \"n\"\ndata-dir = \"d\"\n[region.iad]\n[region.fra]\n");
    for zone in 0..1_000 {
        config.push_str(&format!("[[zone]]\nname = \"z{zone}.example\"\nfile = \"zone\"\n"));
    }
    for app in 0..10_000 {
        config.push_str(&format!(
            "[app.a{app}]\nname = \"a{app}.z{}.example\"\nregions = [\"iad\", \"fra\"]\nendpoints = {{ iad = \"a{app}.lb.example.com\", fra = \"192.0.2.1\" }}\n",
            app % 1_000
        ));
    }
    let zone = "$TTL 1h\n@ SOA ns hostmaster 1 2h 15m 2w 1m\n@ NS ns\nns A 192.0.2.1\n";
    let mut reads = 0;
    let mut read = |path: &Path, _: Option<&Path>| {
        reads += 1;
        Ok(if path == Path::new("c.toml") {
            config.clone().into()
        } else {
            zone.into()
        })
    };
    let loaded = config::load("c.toml", &mut read).unwrap();
    assert_eq!((loaded.config.fleet.names.len(), loaded.zones.len()), (10_000, 1_000));
    assert_eq!(reads, 2, "a file that many zones share is read once");
}
