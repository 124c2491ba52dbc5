//! The icmp kind against the kernel's own answers, where this process may send echo requests and where it may not.

use super::*;
use pointsman::model::{Expect, IcmpProbe, Source, Test};
use std::process::Command;

fn icmp(payload_octets: u16) -> ProbeKind {
    ProbeKind::Icmp(IcmpProbe { payload_octets })
}

/// Runs a program in the network of this thread.
fn call(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, of the Debian package `iproute2`: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Does something in a network of its own, in which these groups may send echo requests. Says so and does nothing where
/// this process may not make networks.
fn in_network(groups: &str, work: impl AsyncFnOnce() + Send + 'static) {
    let groups = groups.to_owned();
    let thread = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: this process cannot make a network: {error}");
            return;
        }
        // `/proc/sys/net` is that of the thread that opens it.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups).unwrap();
        call("ip", &["link", "set", "lo", "up"]);
        call("ip", &["route", "add", "unreachable", "203.0.113.0/24"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    });
    thread.join().unwrap();
}

#[test]
fn a_host_answers_and_says_after_how_long() {
    in_network("0 2147483647", async || {
        for address in ["127.0.0.1", "::1"] {
            for octets in [16, 32, 8_952] {
                let seen = run(icmp(octets), address, LIMIT).await;
                passes(&seen);
                let [(name, rtt)] = &seen.values[..] else {
                    panic!("{seen:?}");
                };
                assert_eq!(name, "rtt-ms");
                assert!(*rtt > 0.0 && *rtt < 1000.0, "{seen:?}");
                assert_eq!(seen.note, format!("answer in {rtt} ms"));
            }
        }
        let mut limited = spec(icmp(32), LIMIT);
        limited.expect = vec![Expect {
            source: Source::Fact("rtt-ms"),
            tests: vec![Test::Below(0.001)],
        }];
        let seen = run_spec(&limited, "127.0.0.1").await;
        assert_eq!(seen.reason, Some(FailReason::Content));
        assert!(seen.message.ends_with(", expected less than 0.001"), "{seen:?}");
    });
}

#[test]
fn hosts_that_cannot_be_reached_are_told_from_silent_ones() {
    in_network("0 2147483647", async || {
        let limit = Duration::from_millis(300);
        for (family, address) in [("ipv4/icmp_echo_ignore_all", "127.0.0.1"), ("ipv6/icmp/echo_ignore_all", "::1")] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
            let seen = run(icmp(32), address, limit).await;
            fails(&seen, FailReason::Timeout, "no answer within 300ms");
        }
        let seen = run(icmp(32), "203.0.113.5", limit).await;
        fails(&seen, FailReason::Connect, "host unreachable");
        let seen = run(icmp(32), "198.51.100.5", limit).await;
        fails(&seen, FailReason::Connect, "network unreachable");
    });
}

#[test]
fn a_process_that_may_not_says_what_would_let_it() {
    // Nobody may: the range is empty.
    in_network("1 0", async || {
        let group = nix::unistd::getegid();
        let message = format!(
            "this process may not send ICMP: let net.ipv4.ping_group_range cover its group, \
             for example sysctl -w net.ipv4.ping_group_range=\"{group} {group}\""
        );
        for address in ["127.0.0.1", "::1"] {
            fails(&run(icmp(32), address, LIMIT).await, FailReason::Internal, &message);
        }
        assert_eq!(pointsman::probe::icmp_refusal(), Some(message));
    });
}
