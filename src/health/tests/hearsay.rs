//! What is heard of a region without reaching it: a feed, and what was saved before a restart.

use super::*;
use crate::model::{FeedProbe, FeedSource};

/// A probe that only hears.
fn feed() -> ProbeSpec {
    let source = FeedSource::Posted("shop-{region}".to_owned());
    let max_age = Duration::from_secs(60);
    ProbeSpec {
        kind: ProbeKind::Feed(FeedProbe { source, max_age }),
        ..probe(80)
    }
}

#[test]
fn a_feed_does_not_show_that_a_region_is_reached_unless_feeds_are_all_there_is() {
    let mut mixed = Bench::new(shop(&[A], vec![probe(80), feed()]));
    mixed.outcome(A, 1, None);
    assert_eq!(mixed.iad().passed_at, None, "somebody else reached it");
    mixed.outcome(A, 0, None);
    assert_eq!(mixed.iad().passed_at, Some(mixed.now.mono));
    let mut fed = Bench::new(shop(&[A], vec![feed()]));
    fed.outcome(A, 0, None);
    assert_eq!(fed.iad().passed_at, Some(fed.now.mono));
}

#[test]
fn a_feed_that_fails_cuts_nobody_off() {
    let mut bench = Bench::new(shop(&[A], vec![feed()]));
    for _ in 0..10 {
        bench.outcome(A, 0, REFUSED);
    }
    assert_eq!(bench.iad().cut_since, None);
    assert!(bench.book.poll.suspicion().is_none(), "a dead feeder is no dead uplink");
}

#[test]
fn a_restart_makes_a_policy_wait_for_a_word_of_the_other_region() {
    let app = shop(&[A], vec![probe(80)]);
    let mut bench = Bench::new(app.clone());
    for _ in 0..10 {
        bench.outcome(A, 0, REFUSED);
    }
    assert_eq!(bench.iad().health, RegionHealth::Unhealthy);
    let mut anew = Book::new();
    anew.reconfigure(&fleet(app), start());
    let later = bench.now.plus(Duration::from_secs(5));
    anew.restore(&bench.book.save(bench.now), later);
    let iad = anew.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap();
    assert_eq!((iad.health, iad.cut_since), (RegionHealth::Unhealthy, Some(later.mono)));
    let fed = shop(&[A], vec![feed()]);
    let mut bench = Bench::new(fed.clone());
    for _ in 0..10 {
        bench.outcome(A, 0, REFUSED);
    }
    let mut anew = Book::new();
    anew.reconfigure(&fleet(fed), start());
    anew.restore(&bench.book.save(bench.now), later);
    let iad = anew.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap();
    assert_eq!(iad.cut_since, None, "of feeds there is nothing to wait for");
}
