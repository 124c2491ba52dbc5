//! Host names that give other addresses at each look-up.

use super::*;

const HOST: &str = "lb.example.com.";

/// A region behind one name, and how many addresses it gave so far.
struct Pool {
    bench: Bench,
    given: u8,
}

impl Pool {
    fn new(probes: Vec<ProbeSpec>) -> Pool {
        Pool {
            bench: Bench::new(shop(&[HOST], probes)),
            given: 0,
        }
    }

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    /// A look-up that gives two addresses that nobody has seen.
    fn rotate(&mut self) -> Vec<Change> {
        self.given += 2;
        self.resolve(&[self.given - 1, self.given])
    }

    fn resolve(&mut self, numbers: &[u8]) -> Vec<Change> {
        let addresses: Vec<IpAddr> = numbers.iter().map(|number| Pool::address(*number)).collect();
        let (app, iad, endpoint) = (AppId::new("shop"), RegionId::new("iad"), Endpoint::Host(Name::parse(HOST).unwrap()));
        self.bench.book.resolved(&app, &iad, &endpoint, &addresses, self.bench.now)
    }

    /// A second later, an outcome of each probe at an address.
    fn run(&mut self, number: u8, message: Option<&str>) {
        self.bench.after(1);
        for probe in 0..self.bench.book.apps.get(&AppId::new("shop")).unwrap().app.probes.len() {
            let mut run = outcome("192.0.2.1", probe, self.bench.now.mono, message);
            (run.target.endpoint, run.target.address) = (Endpoint::Host(Name::parse(HOST).unwrap()), Pool::address(number));
            self.bench.book.observe(&run, self.bench.now);
        }
    }

    /// The same at both addresses of the last look-up.
    fn run_all(&mut self, message: Option<&str>) {
        self.run(self.given - 1, message);
        self.run(self.given, message);
    }

    fn health(&self) -> RegionHealth {
        self.bench.iad().health
    }
}

#[test]
fn addresses_that_live_for_fewer_runs_than_fall_add_up() {
    for lives in 1..=2 {
        let mut pool = Pool::new(vec![probe(80), probe(81)]);
        let mut runs = 0;
        while pool.health() != RegionHealth::Unhealthy {
            pool.rotate();
            for _ in 0..lives {
                pool.run_all(REFUSED);
                runs += 1;
            }
            assert!(runs < 5, "never unhealthy with {lives} runs an address");
        }
        assert!(runs >= 3, "`fall` runs all the same: {runs}");
        // And it stays so without a break: a delay that runs is over some day.
        let since = pool.bench.iad().since;
        for _ in 0..10 {
            assert_eq!(pool.rotate(), []);
            assert_eq!(pool.health(), RegionHealth::Unhealthy);
            assert!(pool.bench.iad().reason.contains("not probed yet"), "{}", pool.bench.iad().reason);
            pool.run_all(REFUSED);
        }
        assert_eq!(pool.bench.iad().since, since);
        assert!(pool.bench.iad().evidence_at.is_some());
    }
}

#[test]
fn successes_add_up_as_well() {
    let mut pool = Pool::new(vec![probe(80)]);
    pool.rotate();
    for _ in 0..3 {
        pool.run_all(REFUSED);
    }
    for expected in [RegionHealth::Unhealthy, RegionHealth::Healthy] {
        pool.rotate();
        pool.run_all(None);
        assert_eq!(pool.health(), expected, "`rise` is 2");
    }
}

#[test]
fn a_new_address_shows_itself_that_it_is_healthy() {
    let mut pool = Pool::new(vec![probe(80)]);
    pool.rotate();
    pool.run_all(None);
    assert_eq!(pool.health(), RegionHealth::Healthy);
    pool.rotate();
    assert_eq!(pool.health(), RegionHealth::Unknown, "nobody was there yet");
    pool.run(pool.given, None);
    assert_eq!(pool.health(), RegionHealth::Healthy);
}

#[test]
fn one_that_comes_beside_a_healthy_one_is_not_held_to_the_failures_of_the_sick() {
    let mut pool = Pool::new(vec![probe(80)]);
    pool.resolve(&[1, 2]);
    for _ in 0..3 {
        pool.run(1, REFUSED);
        pool.run(2, None);
    }
    pool.resolve(&[2, 3]);
    for failures in 1..=2 {
        pool.run(3, REFUSED);
        let targets = pool.bench.book.targets(&AppId::new("shop"));
        let third = targets.iter().find(|one| one.target.address == Pool::address(3)).unwrap();
        assert_eq!((third.verdict, third.failures), (Verdict::Unknown, failures));
    }
}

#[test]
fn what_was_inherited_ages_like_any_evidence() {
    let mut pool = Pool::new(vec![probe(80)]);
    pool.rotate();
    for _ in 0..3 {
        pool.run_all(REFUSED);
    }
    let heard = pool.bench.now.mono;
    pool.bench.after(20);
    pool.rotate();
    assert_eq!(pool.bench.iad().evidence_at, Some(heard));
    assert_eq!(pool.health(), RegionHealth::Unhealthy);
    pool.bench.after(10);
    assert_eq!(
        pool.health(),
        RegionHealth::Unknown,
        "nobody was ever there, and it was 30 s ago elsewhere"
    );
    assert_eq!(pool.bench.book.next_due(), None);
    // From stale evidence nothing is inherited.
    pool.rotate();
    pool.run_all(REFUSED);
    pool.run_all(REFUSED);
    assert_eq!(pool.health(), RegionHealth::Unknown, "two of three");
}

#[test]
fn a_suspension_is_inherited_too() {
    let mut pool = Pool::new(vec![probe(80)]);
    pool.rotate();
    for _ in 0..3 {
        pool.run_all(REFUSED);
    }
    pool.bench.book.wake(Duration::from_secs(3600), pool.bench.now);
    pool.rotate();
    assert_eq!(pool.health(), RegionHealth::Unhealthy);
    assert!(pool.bench.iad().unconfirmed.is_some(), "other addresses confirm nothing");
}
