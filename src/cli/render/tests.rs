//! What people see, with the colour taken away.

use super::*;
use serde_json::json;

/// Without colour.
fn bare(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// A name that was switched to its second region.
fn shop() -> Value {
    json!({
        "name": "shop.example.net.", "app": "shop", "active": "fra", "home": "iad", "version": 41,
        "roles": { "iad": { "role": "passive", "drained": true, "evacuated": false, "left": false }, "fra": { "role": "active" } },
        "health": {
            "iad": { "health": "unhealthy", "reason": "HTTP 503", "age_seconds": 3.2, "observed": "active" },
            "fra": { "health": "healthy", "reason": "", "age_seconds": 1.0, "observed": "active" },
        },
        "answer": { "region": "fra", "reason": "healthy", "ttl": 30, "records": ["192.0.2.1", "192.0.2.2", "2001:db8::1"] },
        "generation": 9, "seq": 57, "proposal": null,
    })
}

#[test]
fn the_overview_is_aligned_and_shows_role_mark_and_health_side_by_side() {
    let status = json!({ "node": "ns1", "version": "0.1.0", "generation": 9, "seq": 57, "hash": "0123456789abcdef", "serving": { "state": "current", "errors": [] } });
    let quiet = json!({ "name": "a.example.", "active": "iad", "home": "iad", "roles": { "iad": { "role": "active" } }, "health": {},
        "answer": { "records": [], "ttl": 5, "reason": "all-down-active" } });
    let expected = "\
ns1  version 0.1.0  generation 9  ledger 57:0123456789ab

NAME               ACTIVE          HEALTH      OTHERS                    ANSWER                  TTL  REASON
shop.example.net.  fra (home iad)  healthy 1s  iad unhealthy 3s drained  192.0.2.1 192.0.2.2 +1  30s  healthy
a.example.         iad             unknown                               nothing                 5s   all-down-active
";
    assert_eq!(bare(&overview(&status, &[shop(), quiet], &[])), expected);
}

#[test]
fn the_overview_says_what_is_wrong() {
    let status = json!({
        "node": "ns1", "evacuated": ["iad"],
        "serving": { "state": "last-good", "errors": ["pointsman.toml:3:1: no such key\n  hint"] },
        "alerts": [{ "alert": "no-target", "name": "shop.example.net.", "message": "nobody can take it", "since": "2024-01-01T00:00:00Z" }],
    });
    let proposal = json!({ "id": 4, "name": "shop.example.net.", "from": "iad", "to": "fra" });
    let text = bare(&overview(&status, &[], &[proposal]));
    for part in [
        "the last accepted one is\n  pointsman.toml:3:1: no such key\n    hint\n",
        "evacuated: iad\n",
        "no steered names\n",
        "1 open proposal (pointsman proposals)\n  4  shop.example.net.  iad to fra\n",
        "1 alert\n  no-target  shop.example.net.  nobody can take it (since 2024-01-01T00:00:00Z)\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn one_name_is_shown_with_all_its_regions() {
    let expected = "\
shop.example.net.  (shop)
  answers   192.0.2.1 192.0.2.2 2001:db8::1  TTL 30s
  because   healthy
  active    fra  (home iad, version 41)

  REGION  ROLE     HEALTH        SAYS IT IS  MARKS    REASON
  iad     passive  unhealthy 3s  active      drained  HTTP 503
  fra     active   healthy 1s    active
";
    assert_eq!(bare(&name(&shop())), expected);
}

#[test]
fn a_dry_run_shows_answers_before_and_after_and_every_gate() {
    let change = json!({ "kind": "switched", "name": "a.example.", "from": "iad", "to": "fra", "move": "failover", "overridden": ["cooldown"],
        "evidence": { "regions": [], "gates": [{ "gate": "target-healthy", "pass": true, "message": "healthy" }, { "gate": "cooldown", "pass": false, "message": "40s left" }] } });
    let answer =
        |region: &str, record: &str| json!({ "name": "a.example.", "region": region, "reason": "healthy", "ttl": 30, "records": [record] });
    let result =
        json!({ "dry_run": true, "would": [change], "before": [answer("iad", "192.0.2.1")], "after": [answer("fra", "192.0.2.2")] });
    let expected = "\
dry run, nothing was changed; it would record:
  failover of a.example. from iad to fra, overriding cooldown
    pass  target-healthy      healthy
    FAIL  cooldown            40s left
answers
  a.example.
    before  192.0.2.1 (iad, healthy), TTL 30s
    after   192.0.2.2 (fra, healthy), TTL 30s
";
    assert_eq!(bare(&dry_run(&result)), expected);
    assert!(dry_run(&json!({ "dry_run": true, "would": [] })).contains("nothing would change"));
}

#[test]
fn a_refusal_lists_every_gate_and_what_may_be_overridden() {
    let error = |gates: &[&str]| json!({ "detail": { "refusals": gates.iter().map(|gate| json!({ "gate": gate, "message": "no", "name": "a.example." })).collect::<Vec<_>>() } });
    let said = |gates: &[&str], overrides| bare(&refusal(&error(gates), overrides).unwrap());
    let all = said(&["target-healthy", "cooldown", "cooldown"], true);
    assert_eq!(all.matches("a.example.: no").count(), 3);
    assert!(
        all.ends_with("on the record: --override target-healthy --override cooldown\n"),
        "{all}"
    );
    assert!(said(&["target-writable"], false).contains("switch NAME --to REGION --reason TEXT --override target-writable"));
    assert!(said(&["expect", "cooldown"], true).contains("Of these only cooldown could be overridden"));
    assert!(said(&["one-active"], true).contains("None of these can be overridden"));
    assert!(refusal(&json!({ "code": "conflict", "message": "busy" }), true).is_none());
}

#[test]
fn a_receipt_is_shown_in_the_form_that_verify_takes() {
    let shown = receipt(&json!({ "changed": true, "seq": 57, "hash": "abcd", "generation": 9 }));
    assert_eq!(shown, "receipt   57:abcd  generation 9\n");
    assert!(receipt(&json!({ "changed": false, "seq": 57, "hash": "abcd" })).starts_with("nothing to change"));
    let now = "shop.example.net.  now answers 192.0.2.1 192.0.2.2 2001:db8::1 (fra, healthy), TTL 30s; resolvers may keep the old answer for up to 30s\n";
    assert_eq!(bare(&now_answered(&shop(), true)), now);
    let marked = "shop.example.net.  answers 192.0.2.1 192.0.2.2 2001:db8::1 (fra, healthy), TTL 30s\n";
    assert_eq!(bare(&now_answered(&shop(), false)), marked);
}

#[test]
fn proposals_stand_together_by_the_region_they_leave() {
    let proposal = |id: u64, from: &str| {
        json!({ "id": id, "name": format!("n{id}.example."), "version": 3, "from": from, "to": "fra", "opened": "2024-01-01T00:00:00Z",
            "evidence": { "regions": [{ "region": from, "health": "unhealthy", "reason": "refused", "age_ms": 2500, "observed": "none" }],
                "gates": [{ "gate": "target-writable", "pass": false, "message": "fra says passive" }] } })
    };
    let text = bare(&proposals(&[proposal(1, "iad"), proposal(2, "sin"), proposal(3, "iad")]));
    assert!(
        text.starts_with("away from iad: 2 proposals\n  1  n1.example.  iad to fra  (opened 2024-01-01T00:00:00Z, version 3)\n"),
        "{text}"
    );
    assert!(
        text.contains("      iad  unhealthy: refused; evidence 2s old\n      FAIL  target-writable     fra says passive\n"),
        "{text}"
    );
    assert!(
        text.contains("  pointsman approve 1 3 --reason TEXT\n\naway from sin: 1 proposal\n"),
        "{text}"
    );
    assert_eq!(proposals(&[]), "no open proposals\n");
}

#[test]
fn a_proposal_shows_what_the_gates_say_now() {
    let gate = |pass: bool, message: &str| json!([{ "gate": "target-writable", "pass": pass, "message": message }]);
    let proposal = json!({ "id": 1, "name": "a.example.", "from": "iad", "to": "fra",
        "evidence": { "regions": [], "gates": gate(false, "fra says passive") }, "gates": gate(true, "fra says active") });
    let text = bare(&proposals(&[proposal]));
    assert!(
        text.contains("pass  target-writable     fra says active\n") && !text.contains("FAIL"),
        "{text}"
    );
}

#[test]
fn every_kind_of_entry_is_a_sentence() {
    use crate::model::{Body, Evidence, Move, MoveKind, Name, ProposalEnd, RegionId, Seq};
    let (name, iad, fra) = (Name::parse("a.example.").unwrap(), RegionId::new("iad"), RegionId::new("fra"));
    let change = Move {
        name: name.clone(),
        from: iad.clone(),
        to: fra.clone(),
        kind: MoveKind::Failover,
    };
    let evidence = Evidence::default;
    let cases = [
        (
            Body::Started {
                node: "ns1".to_owned(),
                version: "1".to_owned(),
            },
            "ns1 started, version 1",
        ),
        (Body::Stopped { node: "ns1".to_owned() }, "ns1 stopped"),
        (
            Body::ConfigAccepted {
                sha256: "0123456789abcdef".to_owned(),
                forced: true,
            },
            "config 0123456789ab accepted, forced",
        ),
        (
            Body::NameAdded {
                name: name.clone(),
                active: iad.clone(),
                home: None,
            },
            "a.example. added, iad is active",
        ),
        (Body::NameRetired { name: name.clone() }, "a.example. retired"),
        (
            Body::RegionRemoved {
                name: name.clone(),
                region: fra.clone(),
            },
            "fra taken from a.example.",
        ),
        (
            Body::Switched {
                change: change.clone(),
                overridden: Vec::new(),
                proposal: Some(4),
                evidence: evidence(),
            },
            "failover of a.example. from iad to fra, proposal 4 approved",
        ),
        (
            Body::Moved {
                change: change.clone(),
                left: true,
                evidence: evidence(),
            },
            "failover of a.example. from iad to fra, iad is marked left",
        ),
        (
            Body::Evacuated {
                region: iad.clone(),
                moves: vec![change],
                stay: vec![name.clone()],
                overridden: Vec::new(),
                forced: Vec::new(),
                evidence: evidence(),
            },
            "iad evacuated, 1 name moved, 1 stayed",
        ),
        (Body::Restored { region: iad.clone() }, "iad restored"),
        (
            Body::Drained {
                name: name.clone(),
                region: fra.clone(),
            },
            "fra drained for a.example.",
        ),
        (
            Body::Undrained {
                name: name.clone(),
                region: fra.clone(),
            },
            "fra no longer drained for a.example.",
        ),
        (
            Body::ProposalOpened {
                id: 4,
                name: name.clone(),
                version: Seq(1),
                from: iad,
                to: fra,
                evidence: evidence(),
            },
            "proposal 4 opened: a.example. from iad to fra",
        ),
        (
            Body::ProposalEnded {
                id: 4,
                name,
                end: ProposalEnd::Recovered,
            },
            "proposal 4 for a.example. ended: recovered",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(sentence(&serde_json::to_value(&body).unwrap()), expected);
    }
    let mut evacuated = json!({ "kind": "evacuated", "region": "iad", "moves": [{}, {}, {}], "overridden": ["target-healthy"] });
    assert_eq!(sentence(&evacuated), "iad evacuated, 3 names moved, overriding target-healthy");
    evacuated["forced"] = json!(["a.example.", "b.example."]);
    assert_eq!(
        sentence(&evacuated),
        "iad evacuated, 3 names moved, overriding target-healthy for 2 of them"
    );
    assert_eq!(
        sentence(&json!({ "kind": "from-the-future", "x": 1 })),
        r#"{"kind":"from-the-future","x":1}"#
    );
}

#[test]
fn the_log_and_one_entry_say_who_and_why() {
    let body = json!({ "kind": "drained", "name": "a.example.", "region": "fra" });
    let shown = json!({ "seq": 5, "time": "2024-01-01T00:00:00Z", "actor": { "by": "local", "claimed": "ada" }, "reason": "disk", "request_id": "ff", "body": body, "prev": "aa", "hash": "bb" });
    let expected = "\
SEQ  TIME                  WHO                       WHAT                      WHY
5    2024-01-01T00:00:00Z  local, claims to be ada  fra drained for a.example.  disk
";
    // The widths follow from the texts; what matters is that every column begins below its head.
    let text = bare(&log(std::slice::from_ref(&shown)));
    let (head, row) = text.split_once('\n').unwrap();
    for (title, value) in [
        ("SEQ", "5"),
        ("TIME", "2024"),
        ("WHO", "local"),
        ("WHAT", "fra drained"),
        ("WHY", "disk"),
    ] {
        assert_eq!(head.find(title), row.find(value), "{title} in\n{text}");
    }
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        expected.split_whitespace().collect::<Vec<_>>()
    );
    let text = bare(&entry(&shown));
    assert!(
        text.starts_with("entry 5  fra drained for a.example.\n") && text.ends_with("  receipt   5:bb\n"),
        "{text}"
    );
    for (who, expected) in [
        (json!({ "by": "uid", "uid": 1000, "user": "ada" }), "ada (uid 1000)"),
        (json!({ "by": "uid", "uid": 1000 }), "uid 1000"),
        (json!({ "by": "token", "name": "ci" }), "ci (token)"),
        (json!({ "by": "local" }), "local"),
        (json!({ "by": "policy" }), "policy"),
    ] {
        assert_eq!(actor(&who), expected);
    }
}

#[test]
fn each_event_is_one_line() {
    let time = "2024-01-01T00:00:00Z";
    let decision = json!({ "name": "a.example.", "region": "fra", "answer": { "addresses": { "v4": ["192.0.2.1"], "v6": [] } }, "ttl": 30, "reason": "healthy" });
    let entry = json!({ "seq": 5, "actor": { "by": "node" }, "reason": "start", "body": { "kind": "stopped", "node": "ns1" } });
    let cases = [
        (
            json!({ "event": "entry", "time": time, "entry": entry }),
            "entry   5  ns1 stopped  by node: start",
        ),
        (
            json!({ "event": "answer", "time": time, "decision": decision }),
            "answer  a.example.  192.0.2.1 (fra, healthy), TTL 30s",
        ),
        (
            json!({ "event": "health", "time": time, "app": "shop", "region": "iad", "from": "healthy", "to": "unhealthy", "reason": "refused\u{1b}[2J" }),
            "health  shop iad  healthy to unhealthy: refused [2J",
        ),
        (
            json!({ "event": "alert", "time": time, "alert": "no-target", "name": "a.example.", "message": "m", "raised": true }),
            "alert   no-target a.example.  m",
        ),
        (
            json!({ "event": "alert", "time": time, "alert": "no-target", "name": null, "message": "m", "raised": false }),
            "alert   no-target  over: m",
        ),
        (
            json!({ "event": "missed", "time": time, "missed": 7 }),
            "missed  7 events passed while this client was busy; what was recorded stands in the ledger",
        ),
    ];
    for (data, expected) in cases {
        let kind = text(&data, "event");
        assert_eq!(bare(&event(&kind, &data)), format!("{time}  {expected}"));
        assert_eq!(bare(&event("message", &data)), format!("{time}  {expected}"));
    }
}

#[test]
fn nothing_of_others_can_write_to_the_terminal() {
    let hostile = "\u{1b}]0;owned\u{7}\r\n\u{9b}31m";
    let body = json!({ "kind": "stopped", "node": hostile });
    for shown in [
        sentence(&body),
        clean_lines(hostile),
        actor(&json!({ "by": "token", "name": hostile })),
        error(&json!({ "message": hostile })),
    ] {
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}

#[test]
fn whatever_comes_is_shown_without_a_panic() {
    for odd in [
        Value::Null,
        json!(1),
        json!([]),
        json!({}),
        json!({ "items": 3, "answer": [], "roles": [1], "health": "x", "evidence": 1, "hash": "é" }),
    ] {
        let one = std::slice::from_ref(&odd);
        for shown in [
            overview(&odd, one, one),
            name(&odd),
            dry_run(&odd),
            receipt(&odd),
            now_answered(&odd, true),
            proposals(one),
            log(one),
            entry(&odd),
            event("", &odd),
            error(&odd),
        ] {
            assert!(shown.len() < 10_000);
        }
    }
}

#[test]
fn findings_of_an_error_are_printed_whole() {
    let body = json!({ "message": "2 errors", "detail": { "findings": [{ "text": "a.toml:1:2: no\n  | x\n" }, { "message": "bare" }] } });
    assert_eq!(error(&body), "2 errors\na.toml:1:2: no\n  | x\n{\"message\":\"bare\"}\n");
}
