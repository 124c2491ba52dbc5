//! Scenarios as text, run on the pure core in virtual time: one file a rule, `tests/scenarios/*.txt`.
//!
//! Each file is a story: config lines, then `start`, then what happens and what is expected. A line is words separated by spaces; `"…"`
//! is one word, `#` starts a comment. Everything is probed every 5 s from 0.5 s on, one outcome is a verdict unless `set` says otherwise.
//!
//! ```text
//! app ID NAME REGION…                     an application with one endpoint a region: 192.0.2.10, .20, .30 …
//! set ID key=value…                       its settings, as in the config; role=yes gives it a probe that reports its role
//! endpoints ID REGION ENDPOINT…           paired ID REGION NAME          order ID REGION…
//! region REGION                           a region that no application uses
//! drop ID | drop ID REGION | rename ID NEW-ID
//! start | reload | restart | restart cold (cold: without the health that was written down)
//! at TIME                                 lets time pass, up to TIME after the start
//! health ID REGION [ENDPOINT] healthy|unhealthy|silent [says active|passive] ["reason"]
//!   a reason that begins with `timeout`, `no` or `connection` is cut off, one with `cannot` is a probe that cannot run here
//! prober well | cut REGION…               the prober reaches nothing in these regions          stopped TIME | suspended TIME
//! suspected yes|no                        verdict ID REGION HEALTH ["text in the reason"]
//! appends fail|work
//! switch NAME REGION [expect REGION] [expect-seq N] [override GATE]…   drain|undrain NAME REGION
//! evacuate REGION [leave NAME]… [override GATE]…   restore REGION     approve|reject ID
//!   every command and reload may end in: [because REASON] [=> OUTCOME], where OUTCOME is: ok (the default) | unchanged |
//!   refused GATE… | invalid | not-found | rejected, each with "text" that must be in the message
//! answer NAME RECORD… (REASON)            active|home NAME REGION        version NAME N
//! drained|left NAME REGION…|none          proposal NAME none | ID FROM TO
//! alerts NAME none | KIND…                gate NAME REGION GATE pass|fail ["text"]
//! waiting NAME none | REGION TIME         last KIND ["text in the reason"]       entries N      explain NAME "text"
//! ```

mod world;

use pointsman::model::*;
use pointsman::role::{Command, Denied, Request};
use pointsman::steering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use world::{ProberFault, World};

/// One scenario while it runs.
struct Script {
    /// The config as edited so far; served after `start` and `reload`.
    apps: Vec<App>,
    /// Regions that no application uses.
    regions: Vec<RegionId>,
    /// The node, once started.
    world: Option<World>,
    /// Time passed since the start.
    passed: Duration,
}

/// A line's failure.
type Step = Result<(), String>;

#[test]
fn every_scenario_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 30, "scenarios are missing: {}", files.len());
    let mut failed = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let shown = format!("tests/scenarios/{}", file.file_name().unwrap().to_string_lossy());
        if let Err(error) = run(&shown, &text) {
            failed.push(error);
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn a_scenario_that_does_not_hold_fails_with_its_line() {
    let text = "app shop shop.example.net. iad fra\nstart\nactive shop.example.net. iad\n\nactive shop.example.net. fra\n";
    assert_eq!(run("it", text), Err("it:5: iad, expected fra".to_owned()));
    assert!(
        run(
            "it",
            "app shop shop.example.net. iad fra\nstart\nanswer shop.example.net. 192.0.2.20 (unknown)"
        )
        .is_err()
    );
    assert!(
        run(
            "it",
            "app shop shop.example.net. iad fra\nstart\nswitch shop.example.net. fra => ok"
        )
        .is_err()
    );
    assert!(run("it", "nonsense").is_err());
}

/// Runs one scenario; the first line that does not hold.
fn run(file: &str, text: &str) -> Result<(), String> {
    let mut script = Script {
        apps: Vec::new(),
        regions: Vec::new(),
        world: None,
        passed: Duration::ZERO,
    };
    for (index, line) in text.lines().enumerate() {
        let words = split(line);
        let Some((verb, rest)) = words.split_first() else { continue };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let place = |message: String| format!("{file}:{}: {message}", index + 1);
        script.step(verb, &rest).map_err(place)?;
        if let Some(world) = &script.world {
            world.check_replay();
        }
    }
    if script.world.is_none() {
        Err(format!("{file}: it never starts"))
    } else {
        Ok(())
    }
}

/// The words of a line.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&first) = chars.peek() {
        match first {
            '#' => break,
            '"' => {
                chars.next();
                words.push(chars.by_ref().take_while(|c| *c != '"').collect());
            }
            c if c.is_whitespace() => {
                chars.next();
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
    words
}

impl Script {
    /// One line.
    fn step(&mut self, verb: &str, words: &[&str]) -> Step {
        match verb {
            "app" | "set" | "endpoints" | "paired" | "order" | "region" | "drop" | "rename" => self.configure(verb, words),
            "start" => {
                self.world = Some(World::start(self.fleet()).map_err(|errors| errors.join("; "))?);
                Ok(())
            }
            "reload" => self.reload(words),
            "restart" => {
                let world = self.world()?;
                let saved = (words != ["cold"]).then(|| world.book.save(world.now));
                world.restart(saved);
                self.passed += Duration::from_secs(1);
                Ok(())
            }
            "at" => {
                let [time] = words else { return Err("at TIME".to_owned()) };
                let pause = duration(time)?.checked_sub(self.passed).ok_or(format!("{time} has passed"))?;
                self.passed += pause;
                self.world()?.pass(pause);
                Ok(())
            }
            "health" => self.health(words),
            "prober" => {
                self.world()?.prober = match words {
                    ["well"] => ProberFault::None,
                    ["cut", regions @ ..] => ProberFault::Cut(regions.iter().map(|region| RegionId::new(region)).collect()),
                    _ => return Err("prober well | cut REGION…".to_owned()),
                };
                Ok(())
            }
            "stopped" => {
                let [time] = words else { return Err("stopped TIME".to_owned()) };
                let pause = duration(time)?;
                self.passed += pause;
                self.world()?.stall(pause);
                Ok(())
            }
            "suspended" => {
                let [time] = words else { return Err("suspended TIME".to_owned()) };
                self.world()?.suspend(duration(time)?);
                Ok(())
            }
            "appends" => {
                let world = self.world()?;
                world.appends_fail = words == ["fail"];
                world.settle();
                Ok(())
            }
            "switch" | "evacuate" | "restore" | "drain" | "undrain" | "approve" | "reject" => self.command(verb, words),
            _ => self.expect(verb, words),
        }
    }

    /// The node.
    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or("not started yet".to_owned())
    }

    /// The config as edited.
    fn fleet(&self) -> Fleet {
        let used = self.apps.iter().flat_map(|app| &app.regions);
        let regions = used.chain(&self.regions).map(|region| (region.clone(), String::new())).collect();
        Fleet::new(regions, self.apps.iter().cloned().map(std::sync::Arc::new).collect())
    }

    /// An application of the config.
    fn app(&mut self, id: &str) -> Result<&mut App, String> {
        self.apps
            .iter_mut()
            .find(|app| app.id.as_str() == id)
            .ok_or(format!("no application {id}"))
    }

    /// A config line.
    fn configure(&mut self, verb: &str, words: &[&str]) -> Step {
        match (verb, words) {
            ("app", [id, name, regions @ ..]) => self.apps.push(world::app(id, name, regions, false)),
            ("region", [region]) => self.regions.push(RegionId::new(region)),
            ("drop", [id]) => self.apps.retain(|app| app.id.as_str() != *id),
            ("drop", [id, region]) => {
                let (app, region) = (self.app(id)?, RegionId::new(region));
                app.regions.retain(|one| *one != region);
                app.endpoints.remove(&region);
                app.paired.remove(&region);
            }
            ("rename", [id, new]) => self.app(id)?.id = AppId::new(new),
            ("order", [id, regions @ ..]) => self.app(id)?.regions = regions.iter().map(|region| RegionId::new(region)).collect(),
            ("paired", [id, region, paired]) => {
                let paired = name(paired)?;
                self.app(id)?.paired.insert(RegionId::new(region), paired);
            }
            ("endpoints", [id, region, endpoints @ ..]) => {
                let endpoints = endpoints.iter().map(|text| endpoint(text)).collect::<Result<_, _>>()?;
                self.app(id)?.endpoints.insert(RegionId::new(region), endpoints);
            }
            ("set", [id, settings @ ..]) => {
                for setting in settings {
                    let (key, value) = setting.split_once('=').ok_or(format!("{setting}: key=value"))?;
                    set(self.app(id)?, key, value)?;
                }
            }
            _ => return Err(format!("{verb}: {words:?}?")),
        }
        Ok(())
    }

    /// `reload`.
    fn reload(&mut self, words: &[&str]) -> Step {
        let fleet = self.fleet();
        let world = self.world()?;
        let before = (world.state.clone(), world.fleet.clone());
        let (_, expected) = outcome(words);
        match (world.reload(fleet), expected.as_slice()) {
            (Ok(()), [] | ["ok"]) => Ok(()),
            (Err(errors), ["rejected", texts @ ..]) => {
                let said = errors.join("\n");
                if before != (world.state.clone(), world.fleet.clone()) {
                    return Err("a reload that was rejected changed something".to_owned());
                }
                contains(&said, texts)
            }
            (result, expected) => Err(format!("{result:?}, expected {expected:?}")),
        }
    }

    /// `health`.
    fn health(&mut self, words: &[&str]) -> Step {
        let [id, region, rest @ ..] = words else {
            return Err("health ID REGION …".to_owned());
        };
        let (one, rest) = match rest.split_first() {
            Some((first, rest)) if !["healthy", "unhealthy", "silent"].contains(first) => (Some(endpoint(first)?), rest),
            _ => (None, rest),
        };
        let (verdict, rest) = rest.split_first().ok_or("health: which?")?;
        let (says, rest) = match rest {
            ["says", "active", rest @ ..] => (Some(Observed::Active), rest),
            ["says", "passive", rest @ ..] => (Some(Observed::Passive), rest),
            rest => (None, rest),
        };
        let message = rest.first().copied().unwrap_or("HTTP 503");
        let result = match *verdict {
            "healthy" => Some(Ok(())),
            "unhealthy" => Some(Err(message.to_owned())),
            "silent" => None,
            other => return Err(format!("health {other}?")),
        };
        self.world()?
            .behave(&AppId::new(id), &RegionId::new(region), one.as_ref(), |behaviour| {
                behaviour.result = result.clone();
                behaviour.says = says.or(behaviour.says);
            });
        Ok(())
    }

    /// An operator's command with its expected outcome.
    fn command(&mut self, verb: &str, words: &[&str]) -> Step {
        let (words, expected) = outcome(words);
        let (words, reason) = match words {
            [words @ .., "because", reason] => (words, *reason),
            words => (words, "scenario"),
        };
        let request = Request {
            actor: Actor::Local {
                claimed: Some("ann".to_owned()),
            },
            reason: reason.to_owned(),
            request_id: None,
            command: command(verb, words)?,
        };
        let world = self.world()?;
        let result = world.command(&request);
        match (&result, expected.as_slice()) {
            (Ok(1), [] | ["ok"]) | (Ok(0), ["unchanged"]) => Ok(()),
            (Err(Denied::Invalid(said)), ["invalid", texts @ ..]) | (Err(Denied::NotFound(said)), ["not-found", texts @ ..]) => {
                contains(said, texts)
            }
            (Err(Denied::Refused(refusals)), ["refused", rest @ ..]) => {
                let gates = |word: &&&str| Gate::parse(word).is_some();
                let expected: Vec<&str> = rest.iter().filter(gates).copied().collect();
                let failed: BTreeSet<&str> = refusals.iter().map(|refusal| refusal.gate.as_str()).collect();
                if failed != expected.iter().copied().collect() {
                    return Err(format!("refused by {failed:?}, expected {expected:?}: {refusals:?}"));
                }
                let texts: Vec<&str> = rest.iter().filter(|word| !gates(word)).copied().collect();
                contains(&result.unwrap_err().to_string(), &texts)
            }
            (result, expected) => Err(format!("{result:?}, expected {expected:?}")),
        }
    }

    /// An expectation.
    fn expect(&mut self, verb: &str, words: &[&str]) -> Step {
        let world = self.world()?;
        match (verb, words) {
            ("suspected", [wanted]) => {
                let found = world.book.suspicion().map_or("no".to_owned(), |why| format!("yes: {why}"));
                return equal(found.split(':').next().unwrap_or_default(), wanted).map_err(|error| format!("{error} ({found})"));
            }
            ("verdict", [id, region, wanted, texts @ ..]) => {
                let status = world.book.region(&AppId::new(id), &RegionId::new(region)).ok_or("no such region")?;
                equal(status.health.as_str(), wanted).map_err(|error| format!("{error}: {}", status.reason))?;
                return contains(&status.reason, texts);
            }
            ("entries", [count]) => return equal(&world.ledger.len().to_string(), count),
            ("last", [kind, texts @ ..]) => {
                let last = world.ledger.last().ok_or("the ledger is empty")?;
                equal(last.draft.body.kind(), kind)?;
                let kinds = last.draft.body.moves().iter().map(|change| change.kind.as_str());
                let said = format!("{}: {} {}", last.draft.actor, last.draft.reason, kinds.collect::<String>());
                return contains(&said, texts);
            }
            _ => {}
        }
        let (first, rest) = words.split_first().ok_or(format!("{verb}?"))?;
        let name = name(first)?;
        let steered = world.fleet.names.get(&name).ok_or(format!("no steered name {name}"))?;
        let known = world.state.name(&name).ok_or(format!("{name} is not in the ledger"))?;
        let set = |set: &BTreeSet<RegionId>| match set.is_empty() {
            true => "none".to_owned(),
            false => set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        };
        let found = match verb {
            "active" => known.active.to_string(),
            "home" => known.home.to_string(),
            "version" => known.version.to_string(),
            "left" => set(&known.left),
            "drained" => set(&steered
                .order
                .iter()
                .filter(|one| world.state.is_drained(&name, one))
                .cloned()
                .collect()),
            "proposal" => match known.proposal.and_then(|id| world.state.proposal(id)) {
                None => "none".to_owned(),
                Some(open) => format!("{} {} {}", open.id, open.from, open.to),
            },
            "answer" => {
                let decision = world.decide(&name);
                format!("{} ({})", decision.answer.records().join(" "), decision.reason.code())
            }
            "alerts" => {
                let alerts = steering::alerts(steered, &world.state, &world.book, world.now, &world.decide(&name));
                let kinds: Vec<&str> = alerts.iter().map(|alert| alert.kind.as_str()).collect();
                if kinds.is_empty() { "none".to_owned() } else { kinds.join(" ") }
            }
            "waiting" => match world.watch.waiting(&name) {
                None => "none".to_owned(),
                Some(waiting) => format!("{} {}", waiting.to, show_duration(waiting.until.since(world.now.mono))),
            },
            "gate" => return self.expect_gate(&name, rest),
            "explain" => {
                let said = steering::explain(steered, &world.state, &world.book, &world.watch, world.now);
                serde_json::to_string(&said).map_err(|error| error.to_string())?;
                return contains(&said.to_string(), rest);
            }
            other => return Err(format!("{other}?")),
        };
        equal(&found, &rest.join(" "))
    }

    /// `gate`.
    fn expect_gate(&mut self, name: &Name, words: &[&str]) -> Step {
        let [to, gate, verdict, texts @ ..] = words else {
            return Err("gate NAME REGION GATE pass|fail".to_owned());
        };
        let world = self.world()?;
        let words = pointsman::role::gates(&world.state, &world.fleet.names[name], &RegionId::new(to), &world.book, world.now);
        let word = words
            .iter()
            .find(|word| word.gate.as_str() == *gate)
            .ok_or(format!("no gate {gate}"))?;
        equal(if word.pass { "pass" } else { "fail" }, verdict).map_err(|error| format!("{error}: {}", word.message))?;
        contains(&word.message, texts)
    }
}

/// Splits the expected outcome off.
fn outcome<'a>(words: &'a [&'a str]) -> (&'a [&'a str], Vec<&'a str>) {
    match words.iter().position(|word| *word == "=>") {
        Some(at) => (&words[..at], words[at + 1..].to_vec()),
        None => (words, Vec::new()),
    }
}

/// Reads a command.
fn command(verb: &str, words: &[&str]) -> Result<Command, String> {
    let (mut plain, mut options) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "expect" | "expect-seq" | "override" | "leave" => options.entry(word).or_default().extend(words.next()),
            word => plain.push(word),
        }
    }
    let one = |option: &str| options.get(option).and_then(|all| all.first()).copied();
    let all = |option: &str| options.get(option).cloned().unwrap_or_default();
    let overrides = all("override")
        .iter()
        .map(|text| Gate::parse(text).ok_or(format!("{text} is no gate")))
        .collect::<Result<_, _>>()?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    Ok(match (verb, plain.as_slice()) {
        ("switch", [shop, to]) => Command::Switch {
            name: name(shop)?,
            to: RegionId::new(to),
            expect: one("expect").map(RegionId::new),
            expect_seq: one("expect-seq").map(number).transpose()?.map(Seq),
            overrides,
        },
        ("evacuate", [region]) => Command::Evacuate {
            region: RegionId::new(region),
            leave: all("leave").iter().map(|text| name(text)).collect::<Result<_, _>>()?,
            overrides,
        },
        ("restore", [region]) => Command::Restore {
            region: RegionId::new(region),
        },
        ("drain", [shop, region]) => Command::Drain {
            name: name(shop)?,
            region: RegionId::new(region),
        },
        ("undrain", [shop, region]) => Command::Undrain {
            name: name(shop)?,
            region: RegionId::new(region),
        },
        ("approve", [id]) => Command::Approve { id: number(id)? },
        ("reject", [id]) => Command::Reject { id: number(id)? },
        _ => return Err(format!("{verb} {plain:?}?")),
    })
}

/// Sets one setting of an application.
fn set(app: &mut App, key: &str, value: &str) -> Step {
    let count = || value.parse::<u32>().map_err(|error| format!("{value}: {error}"));
    let probe = app.probes.first_mut();
    match (key, probe) {
        ("failover", _) => {
            let all = [Failover::Manual, Failover::OneWay, Failover::Automatic, Failover::Follow];
            app.failover = all
                .into_iter()
                .find(|one| one.as_str() == value)
                .ok_or(format!("failover {value}?"))?;
        }
        ("failover-delay", _) => app.failover_delay = duration(value)?,
        ("failback-delay", _) => app.failback_delay = duration(value)?,
        ("cooldown", _) => app.cooldown = duration(value)?,
        ("ttl", _) => app.ttl = duration(value)?.as_secs() as u32,
        ("when-all-down", _) => {
            app.when_all_down = match value {
                "active" => WhenAllDown::Active,
                "all" => WhenAllDown::All,
                "servfail" => WhenAllDown::Servfail,
                text => match endpoint(text)? {
                    Endpoint::Address(address) => WhenAllDown::Addresses(vec![address]),
                    Endpoint::Host(host) => WhenAllDown::Host(host),
                },
            }
        }
        ("role", Some(probe)) => probe.kind = world::probe(value == "yes").kind,
        ("fall", Some(probe)) => probe.fall = count()?,
        ("rise", Some(probe)) => probe.rise = count()?,
        ("probes", _) if value == "none" => app.probes.clear(),
        _ => return Err(format!("{key}={value}?")),
    }
    Ok(())
}

/// Reads a name.
fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| format!("{text}: {error}"))
}

/// Reads an endpoint.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.parse() {
        Ok(address) => Ok(Endpoint::Address(address)),
        Err(_) => name(text).map(Endpoint::Host),
    }
}

/// Reads a duration: `500ms`, `90s`, `5m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|error| format!("{text}: {error}"))?;
    match text.get(digits.len()..) {
        Some("ms") => Ok(Duration::from_millis(number)),
        Some("s") => Ok(Duration::from_secs(number)),
        Some("m") => Ok(Duration::from_secs(number * 60)),
        Some("h") => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("{text}: a duration has a unit")),
    }
}

/// Whether two texts are the same.
fn equal(found: &str, expected: &str) -> Step {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found}, expected {expected}"))
    }
}

/// Whether a text contains others.
fn contains(said: &str, texts: &[&str]) -> Step {
    match texts.iter().find(|text| !said.contains(**text)) {
        Some(missing) => Err(format!("\"{missing}\" is not in: {said}")),
        None => Ok(()),
    }
}
