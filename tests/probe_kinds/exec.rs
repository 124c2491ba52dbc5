//! The exec kind, against the shell of the system as the operator's program.

use super::*;
use pointsman::model::{ExecProbe, Expect, RoleRule, Source, Test, ValueRule};

fn exec(command: &[&str]) -> ProbeKind {
    ProbeKind::Exec(ExecProbe {
        command: command.iter().map(|one| (*one).to_owned()).collect(),
        exit_codes: vec![0],
    })
}

fn shell(script: &str) -> ProbeKind {
    exec(&["/bin/sh", "-c", script])
}

/// Whether a process that is not a zombie has this number.
fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} did not come true");
        tick.tick().await;
    }
}

#[tokio::test]
async fn the_exit_code_decides_and_the_last_line_says_why() {
    passes(&run(shell("echo fine"), "127.0.0.1", LIMIT).await);
    let cases = [
        ("exit 2", "exit code 2"),
        (
            "echo one; echo 'replica lags by 30s'; echo; exit 1",
            "exit code 1: replica lags by 30s",
        ),
        ("echo oops >&2; exit 3", "exit code 3: oops"),
        ("echo out; echo err >&2; exit 3", "exit code 3: out"),
        ("printf 'bell\\007 and \\033[31mred'; exit 1", "exit code 1: bell  and  [31mred"),
        ("kill -9 $$", "killed by SIGKILL"),
    ];
    for (script, message) in cases {
        fails(&run(shell(script), "127.0.0.1", LIMIT).await, FailReason::Status, message);
    }
    let long = run(shell("head -c 100000 /dev/zero | tr '\\0' x; exit 1"), "127.0.0.1", LIMIT).await;
    fails(&long, FailReason::Status, &format!("exit code 1: {}…", "x".repeat(200)));
}

#[tokio::test]
async fn arguments_are_passed_as_they_are_with_placeholders_filled_in() {
    let script = "printf '%s|' \"$@\"; exit 1";
    let kind = exec(&["/bin/sh", "-c", script, "sh", "{address}:{region}", "$(id); {endpoint}", "*"]);
    let seen = run(kind, "127.0.0.7", LIMIT).await;
    fails(&seen, FailReason::Status, "exit code 1: 127.0.0.7:iad|$(id); 127.0.0.7|*|");
}

#[tokio::test]
async fn a_program_that_cannot_run_is_our_own_failure() {
    let seen = run(exec(&["/no/such/program"]), "127.0.0.1", LIMIT).await;
    fails(
        &seen,
        FailReason::Internal,
        "cannot run /no/such/program: No such file or directory (os error 2)",
    );
    let seen = run(exec(&["/etc/passwd"]), "127.0.0.1", LIMIT).await;
    fails(
        &seen,
        FailReason::Internal,
        "cannot run /etc/passwd: Permission denied (os error 13)",
    );
}

#[tokio::test]
async fn at_the_limit_the_program_dies_with_its_children_even_when_they_ignore_signals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pids");
    let file = path.display();
    // Parent and child ignore what can be ignored and write their numbers.
    let child = format!("trap '' TERM INT HUP; echo $$ >> {file}; while :; do sleep 1; done");
    let script = format!("trap '' TERM INT HUP; echo $$ >> {file}; sh -c \"$CHILD\" & wait; wait");
    let script = format!("CHILD='{}'; export CHILD; {script}", child.replace('\'', "'\\''"));
    let limit = Duration::from_millis(700);
    let seen = run(shell(&script), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "program has not ended within 700ms");
    let pids = std::fs::read_to_string(&path).unwrap();
    let pids: Vec<&str> = pids.lines().collect();
    assert_eq!(pids.len(), 2, "both ran");
    until("their end", || !pids.iter().any(|pid| is_alive(pid))).await;
    // Nor is the program left as a zombie: tokio reaps it in the background.
    until("the reaping", || !std::path::Path::new(&format!("/proc/{}", pids[0])).exists()).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_delays_nothing() {
    let began = Instant::now();
    let seen = run(shell("sleep 300 & echo $!; exit 4"), "127.0.0.1", LIMIT).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    let pid = seen.message.strip_prefix("exit code 4: ").unwrap().to_owned();
    until("its end", || !is_alive(&pid)).await;
    // One that escapes into a session of its own holds the pipe, and yet the outcome comes.
    let began = Instant::now();
    let seen = run(shell("setsid sleep 4 & exit 5"), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Status, "exit code 5");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn endless_output_is_bounded() {
    let seen = run(shell("exec yes"), "127.0.0.1", Duration::from_millis(300)).await;
    fails(&seen, FailReason::Timeout, "program has not ended within 300ms");
}

#[tokio::test]
async fn the_output_is_a_body_with_role_and_values() {
    let said = r#"{"role": "standby", "load": 0.5, "queue": {"depth": "12"}}"#;
    let is = |word: &str| vec![Test::Is(word.into())];
    let json = |pointer: &str| Source::Json(pointer.to_owned());
    let asked = |script: &str| {
        let mut spec = spec(shell(script), LIMIT);
        spec.expect = vec![Expect {
            source: json("/queue/depth"),
            tests: vec![Test::Below(20.0)],
        }];
        spec.role = Some(RoleRule {
            source: json("/role"),
            active: is("primary"),
            passive: is("standby"),
        });
        let (name, source) = ("load".to_owned(), json("/load"));
        spec.values = vec![ValueRule { name, source }];
        spec
    };
    let seen = run_spec(&asked(&format!("echo '{said}'")), "127.0.0.1").await;
    passes(&seen);
    assert_eq!(seen.observed, Some(Observed::Passive));
    assert_eq!(seen.values, [("exit-code".to_owned(), 0.0), ("load".to_owned(), 0.5)]);
    // Also from one that fails.
    let seen = run_spec(&asked(&format!("echo '{said}'; exit 2")), "127.0.0.1").await;
    fails(&seen, FailReason::Status, &format!("exit code 2: {said}"));
    assert_eq!(seen.observed, Some(Observed::Passive));
    let deep = said.replace("12", "20");
    let seen = run_spec(&asked(&format!("echo '{deep}'")), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "/queue/depth is \"20\", expected less than 20");
    // Errors are no body, and neither is what is too long.
    let seen = run_spec(&asked(&format!("echo '{said}' >&2")), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "body is no JSON (line 1, column 0)");
    let seen = run_spec(&asked("head -c 70000 /dev/zero"), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "output is longer than 65536 octets");
}

#[tokio::test]
async fn other_exit_codes_pass_where_the_config_says_so() {
    let codes = |script: &str| match shell(script) {
        ProbeKind::Exec(probe) => ProbeKind::Exec(ExecProbe {
            exit_codes: vec![0, 1],
            ..probe
        }),
        other => other,
    };
    let seen = run(codes("echo 'WARNING: disk at 91 %'; exit 1"), "127.0.0.1", LIMIT).await;
    passes(&seen);
    assert_eq!(seen.note, "WARNING: disk at 91 %");
    let seen = run(codes("echo 'CRITICAL: disk full'; exit 2"), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Status, "exit code 2, expected 0 or 1: CRITICAL: disk full");
    assert_eq!(seen.values, [("exit-code".to_owned(), 2.0)]);
    let seen = run(codes("kill -9 $$"), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Status, "killed by SIGKILL, expected 0 or 1");
    assert!(seen.values.is_empty());
}
