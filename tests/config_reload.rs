//! What a reload may change: keys that need a restart, the guard on mass removal, forgotten serials.

use pointsman::config::{self, Loaded, Outline, Removal, Served};
use std::path::Path;

/// A config with one application whose probe watches a port, and further text.
fn config_text(node: &str, app: &str) -> String {
    format!(
        "version = 1\n[node]\nname = \"ns1\"\ndata-dir = \"data\"\n{node}\n[[zone]]\nname = \"example.net\"\nfile = \"zone\"\n\
         [region.iad]\n[region.fra]\n{app}"
    )
}

/// An application in two regions.
fn app(id: &str, iad: &str, fra: &str) -> String {
    format!("[app.{id}]\nname = \"{id}.example.net\"\nregions = [\"iad\", \"fra\"]\nendpoints = {{ iad = {iad}, fra = {fra} }}\n")
}

/// A zone with `hosts` names of one address each.
fn zone_text(serial: u32, hosts: usize) -> String {
    let hosts: String = (0..hosts).map(|host| format!("h{host} A 192.0.2.{host}\n")).collect();
    format!("$TTL 1h\n@ SOA ns1 hostmaster {serial} 2h 15m 2w 1m\n@ NS ns1\nns1 A 192.0.2.254\n{hosts}")
}

/// Loads a set from texts.
fn load(config: &str, zone: &str) -> Loaded {
    let mut read = |path: &Path, _: Option<&Path>| Ok(if path == Path::new("c.toml") { config.into() } else { zone.into() });
    config::load("c.toml", &mut read).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

/// What the guard says to a reload from one to the other.
fn removal(old: &Loaded, new: &Loaded) -> Removal {
    let (before, after) = (Outline::of(&old.zones), Outline::of(&new.zones));
    let served = |outline, fleet| Served { outline, fleet };
    config::removal(served(&before, &old.config.fleet), &new.zones, served(&after, &new.config.fleet))
}

#[test]
fn keys_made_at_start_need_a_restart() {
    let old = load(&config_text("", ""), &zone_text(1, 0));
    let same = load(
        &config_text(
            "reload-max-removed = \"5%\"\nreload-on-change = true",
            &app("shop", "\"192.0.2.1\"", "\"192.0.2.2\""),
        ),
        &zone_text(1, 0),
    );
    assert_eq!(
        config::restart_keys(&old.config, &same.config),
        Vec::<String>::new(),
        "what is served may change"
    );
    for (text, key) in [
        ("[dns]\nlisten = [\"127.0.0.1:5300\"]", "dns.listen"),
        ("[dns]\nworkers = 3", "dns.workers"),
        ("[api]\nlisten = \"127.0.0.1:8054\"", "api.listen"),
        ("[api]\nsocket = \"api.sock\"", "api.socket"),
        ("[api]\ntoken-file = \"tokens.toml\"", "api.token-file"),
        ("[api]\ntls = { cert = \"c\", key = \"k\" }", "api.tls"),
        ("[api]\nallow-plaintext = true", "api.allow-plaintext"),
        ("[api]\nmetrics-names-max = 5", "api.metrics-names-max"),
    ] {
        let new = load(&config_text(text, ""), &zone_text(1, 0));
        assert_eq!(config::restart_keys(&old.config, &new.config), [key]);
    }
    let moved = config_text("", "").replace("ns1", "ns2").replace("\"data\"", "\"other\"");
    assert_eq!(
        config::restart_keys(&old.config, &load(&moved, &zone_text(1, 0)).config),
        ["node.name", "node.data-dir"]
    );
}

#[test]
fn removing_more_than_the_share_is_noticed() {
    let old = load(&config_text("", &app("shop", "\"192.0.2.1\"", "\"192.0.2.2\"")), &zone_text(1, 16));
    let removal_to = |hosts: usize| {
        let new = load(
            &config_text("", &app("shop", "\"192.0.2.1\"", "\"192.0.2.2\"")),
            &zone_text(2, hosts),
        );
        removal(&old, &new)
    };
    // SOA, NS, ns1's A, 16 hosts, and the steered A: 20.
    assert_eq!((removal_to(16).before, removal_to(16).removed.len()), (20, 0));
    assert_eq!(removal_to(12).removed.len(), 4);
    assert!(!removal_to(12).exceeds(20), "exactly the share is allowed");
    assert!(removal_to(11).exceeds(20));
    assert!(removal_to(15).exceeds(0), "0% allows no removal");
    assert_eq!(removal_to(15).to_string(), "1 of 20 RRsets would go: h15.example.net. A");
    assert!(removal_to(0).to_string().ends_with(", …"), "{}", removal_to(0));
}

#[test]
fn steered_names_count_and_an_emptied_family_is_a_removal() {
    let both = "[\"192.0.2.1\", \"2001:db8::1\"]";
    let old = load(
        &config_text(
            "",
            &(app("shop", both, both).replace(":1\"] }", ":2\"] }") + &app("www", "\"192.0.2.3\"", "\"192.0.2.4\"")),
        ),
        &zone_text(1, 0),
    );
    let new = load(&config_text("", &app("shop", "\"192.0.2.1\"", "\"192.0.2.2\"")), &zone_text(1, 0));
    let removal = removal(&old, &new);
    let gone: Vec<String> = removal.removed.iter().map(|(name, rtype)| format!("{name} {rtype}")).collect();
    assert_eq!(gone, ["shop.example.net. AAAA", "www.example.net. A"]);
    assert_eq!(removal.before, 6);
    assert!(!removal.exceeds(0), "below ten RRsets it never triggers");
}

#[test]
fn a_name_that_becomes_steered_is_kept() {
    let old = load(&config_text("", ""), &(zone_text(1, 10) + "shop A 192.0.2.1\n"));
    let new = load(&config_text("", &app("shop", "\"192.0.2.1\"", "\"192.0.2.2\"")), &zone_text(2, 10));
    assert_eq!(removal(&old, &new).removed, []);
    assert_eq!(removal(&new, &old).removed, [], "and back");
}

#[test]
fn a_name_that_moves_to_a_zone_of_its_own_is_kept() {
    let old = load(&config_text("", ""), &(zone_text(1, 10) + "a.sub A 192.0.2.1\nb.sub A 192.0.2.2\n"));
    let config = config_text("", "") + "[[zone]]\nname = \"sub.example.net\"\nfile = \"sub\"\n";
    let parent = zone_text(2, 10) + "sub NS ns1\n";
    let child = "$TTL 1h\n@ SOA ns hostmaster 1 2h 15m 2w 1m\n@ NS ns\nns A 192.0.2.3\na A 192.0.2.1\n";
    let mut read = |path: &Path, _: Option<&Path>| {
        Ok(match path.to_str() {
            Some("c.toml") => config.clone().into_bytes(),
            Some("sub") => child.into(),
            _ => parent.clone().into_bytes(),
        })
    };
    let new = config::load("c.toml", &mut read).unwrap();
    let removal = removal(&old, &new);
    let gone: Vec<String> = removal.removed.iter().map(|(name, rtype)| format!("{name} {rtype}")).collect();
    assert_eq!(gone, ["b.sub.example.net. A"]);
}

#[test]
fn a_change_under_the_same_serial_is_told() {
    let old = load(&config_text("", ""), &zone_text(5, 3));
    let told = |serial: u32, hosts: usize, more: &str| {
        let new = load(&config_text("", ""), &(zone_text(serial, hosts) + more));
        config::forgotten_serials(&Outline::of(&old.zones), &new.zones, &Outline::of(&new.zones))
    };
    assert_eq!(told(5, 3, ""), []);
    assert_eq!(told(5, 3, "; only a comment\n"), []);
    assert_eq!(told(6, 4, ""), []);
    for (serial, hosts) in [(5, 4), (4, 4), (4, 3)] {
        let told = told(serial, hosts, "");
        assert_eq!(told.len(), 1, "serial {serial}, {hosts} hosts");
        assert!(!told[0].is_error());
        assert_eq!(told[0].at.as_ref().map(|at| at.line), Some(2));
    }
}
