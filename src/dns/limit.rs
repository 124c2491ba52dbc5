//! Response rate limiting (Vixie and Schryver, 2012; as in BIND and NSD): the same answer to the same network, at most so
//! many times a second. A flood of queries with a forged source is then no weapon against that source.
//!
//! What is limited together is told by `answer`: kind and subject of a reply (`Reply::kind`, `Reply::about`), so
//! that made-up names below one zone count as one. A query with a good cookie is not forged and not limited, nor are
//! answers over TCP. Of the answers beyond the limit every so-many-th is sent short: a sincere client learns from it to come
//! back with a cookie or over TCP, and a forged source is sent no more than came in.
//!
//! Each lane counts for itself, as NSD's processes do: without a lock, and up to as many times the limit can
//! leave as there are lanes, if a flood comes from many ports. The table has a fixed size. A bucket holds the time at which its
//! credit is whole again (the generic cell rate algorithm): credit is a second's answers, and grows back evenly.
//!
//! Invariants: an answer is only ever limited because of answers of the same kind, about the same thing, to the same network (but for
//! a collision of 63 bits of a seeded hash); where the table is too small, too much passes, never too little. Time is an argument.

use crate::answer::{Kind, Reply};
use crate::model::{RateLimit, mask};
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

/// Buckets that one answer may lie in: they share a cache line.
const WAYS: usize = 4;
/// Octets of a cache line.
const CACHE_LINE: usize = 64;
/// How much credit a bucket holds, microseconds: a second's answers.
const CREDIT_MICROS: u64 = 1_000_000;

/// What is to be done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Pass,
    /// Send a short one instead.
    Short,
    /// Send nothing.
    Drop,
}

/// What one lane remembers.
pub(super) struct Limiter {
    /// The rules.
    limit: RateLimit,
    /// Microseconds of credit that an answer costs.
    cost: u64,
    /// The table: sets of [`WAYS`] buckets, their number a power of two, and a few buckets before and behind them.
    buckets: Box<[Bucket]>,
    /// Where the first set begins: on a cache line.
    first: usize,
    /// Takes the number of a set out of a hash.
    set_mask: usize,
    /// Hashes what is limited, seeded so that nobody outside can aim for collisions.
    hasher: FixedState,
    /// Counts answers beyond the limit, for `slip`.
    beyond: u32,
}

/// One network and answer: the hash of both, 0 where there is none, and when its credit is whole again, microseconds. Plain
/// numbers: only of those does `vec!` ask for zeroed memory, and writes anything else item by item.
type Bucket = [u64; 2];

impl Limiter {
    /// An empty table.
    pub(super) fn new(limit: RateLimit, seed: u64) -> Limiter {
        let sets = limit.table_size.div_ceil(WAYS).next_power_of_two();
        // The system gives zeroed memory when it is first written to; asked for with an alignment, all would be written now.
        let buckets: Box<[Bucket]> = vec![[0; 2]; (sets + 1) * WAYS - 1].into();
        let first = buckets.as_ptr().align_offset(CACHE_LINE);
        Limiter {
            cost: CREDIT_MICROS / u64::from(limit.responses_per_second.max(1)),
            // Where octets are not given in steps of a bucket, a set lies on two lines.
            first: if first < WAYS { first } else { 0 },
            set_mask: sets - 1,
            buckets,
            hasher: FixedState::with_seed(seed),
            beyond: 0,
            limit,
        }
    }

    /// The rules it was made for.
    pub(super) fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// What is to be done with an answer to a client at a time, microseconds from any beginning; times do not fall.
    pub(super) fn judge(&mut self, client: IpAddr, reply: &Reply, now: u64) -> Verdict {
        if reply.is_known || self.limit.exempt.contains(client) {
            return Verdict::Pass;
        }
        let tag = self.tag(client, reply);
        let [owner, whole_at] = *self.bucket(tag);
        let whole_at = if owner == tag { whole_at.max(now) } else { now };
        // Credit left over: a second's less what is still to grow back.
        if whole_at - now + self.cost <= CREDIT_MICROS {
            *self.bucket(tag) = [tag, whole_at + self.cost];
            return Verdict::Pass;
        }
        self.beyond = self.beyond.wrapping_add(1);
        match self.limit.slip {
            0 => Verdict::Drop,
            slip if self.beyond.is_multiple_of(slip) => Verdict::Short,
            _ => Verdict::Drop,
        }
    }

    /// The hash of what is limited together.
    fn tag(&self, client: IpAddr, reply: &Reply) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match client {
            IpAddr::V4(_) => match mask(client, self.limit.ipv4_prefix) {
                IpAddr::V4(v4) => hasher.write_u32(v4.into()),
                IpAddr::V6(_) => {} // a mask keeps the family
            },
            IpAddr::V6(_) => match mask(client, self.limit.ipv6_prefix) {
                IpAddr::V6(v6) => hasher.write_u128(v6.into()),
                IpAddr::V4(_) => {}
            },
        }
        let kind: u8 = match reply.kind {
            Kind::Positive => 0,
            Kind::NoData => 1,
            Kind::NxDomain => 2,
            Kind::Referral => 3,
            Kind::Error => 4,
        };
        hasher.write_u64(u64::from(kind) << 32 | u64::from(reply.about));
        hasher.finish() | 1 // 0 means none; the lowest bit does not choose the set
    }

    /// The bucket of a tag, or the one that has the least to forget.
    fn bucket(&mut self, tag: u64) -> &mut Bucket {
        let set = (tag >> 1) as usize & self.set_mask;
        // There are set_mask + 1 sets of WAYS buckets from `first` on, so this one lies inside.
        let buckets = &mut self.buckets[self.first + set * WAYS..][..WAYS];
        let rated = buckets.iter().enumerate();
        let (way, _) = rated
            .min_by_key(|(_, [owner, whole_at])| if *owner == tag { 0 } else { 1 + whole_at })
            .unwrap_or((0, &[0, 0]));
        &mut buckets[way]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Reply;
    use crate::model::{Prefix, PrefixSet};
    use proptest::prelude::*;

    fn limit(responses_per_second: u32, slip: u32) -> RateLimit {
        RateLimit {
            responses_per_second,
            slip,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            exempt: PrefixSet::new(&[Prefix::parse("127.0.0.0/8").unwrap()]),
            table_size: 1_000,
        }
    }

    fn reply(kind: Kind, about: u32) -> Reply {
        Reply {
            len: 100,
            rcode: 0,
            steered: None,
            kind,
            about,
            is_known: false,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of `count` answers at one moment pass.
    fn passing(limiter: &mut Limiter, client: &str, reply: &Reply, count: usize, now: u64) -> usize {
        (0..count)
            .filter(|_| limiter.judge(ip(client), reply, now) == Verdict::Pass)
            .count()
    }

    #[test]
    fn a_second_s_answers_pass_at_once_and_then_so_many_a_second() {
        let mut limiter = Limiter::new(limit(10, 2), 1);
        let reply = reply(Kind::Positive, 7);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply, 50, 0), 10);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply, 50, 500_000), 5);
        assert_eq!(
            passing(&mut limiter, "192.0.2.1", &reply, 50, 10_000_000),
            10,
            "credit is a second's, no more"
        );
    }

    /// Pages of memory, here of 4 KiB, that a process has.
    #[cfg(target_os = "linux")]
    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_empty_table_takes_no_memory_and_its_sets_lie_on_cache_lines() {
        let before = resident();
        let mut limiter = Limiter::new(
            RateLimit {
                table_size: 1 << 24,
                ..limit(10, 2)
            },
            1,
        );
        // Of 256 MiB; the tests beside this one take some.
        assert!(resident() < before + (64 << 20) / 4096);
        for tag in 0..100_u64 {
            let bucket = limiter.bucket(tag) as *mut Bucket;
            assert_eq!(bucket as usize % CACHE_LINE, 0, "an empty set gives its first bucket");
        }
    }

    #[test]
    fn networks_kinds_and_subjects_are_limited_apart() {
        let mut limiter = Limiter::new(limit(10, 2), 1);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply(Kind::Positive, 7), 50, 0), 10);
        assert_eq!(
            passing(&mut limiter, "192.0.2.200", &reply(Kind::Positive, 7), 50, 0),
            0,
            "the same network"
        );
        assert_eq!(passing(&mut limiter, "192.0.3.1", &reply(Kind::Positive, 7), 50, 0), 10);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply(Kind::Positive, 8), 50, 0), 10);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply(Kind::NxDomain, 7), 50, 0), 10);
        assert_eq!(passing(&mut limiter, "2001:db8:0:100::1", &reply(Kind::Positive, 7), 50, 0), 10);
        assert_eq!(
            passing(&mut limiter, "2001:db8:0:1ff::1", &reply(Kind::Positive, 7), 50, 0),
            0,
            "the same /56"
        );
        assert_eq!(passing(&mut limiter, "2001:db8:0:200::1", &reply(Kind::Positive, 7), 50, 0), 10);
    }

    #[test]
    fn who_has_a_good_cookie_or_is_exempt_is_not_limited() {
        let mut limiter = Limiter::new(limit(1, 0), 1);
        let known = Reply {
            is_known: true,
            ..reply(Kind::Positive, 7)
        };
        assert_eq!(passing(&mut limiter, "192.0.2.1", &known, 50, 0), 50);
        assert_eq!(passing(&mut limiter, "127.0.0.1", &reply(Kind::Positive, 7), 50, 0), 50);
        assert_eq!(passing(&mut limiter, "192.0.2.1", &reply(Kind::Positive, 7), 50, 0), 1);
    }

    #[test]
    fn slip_says_how_many_of_the_rest_are_sent_short() {
        for (slip, short) in [(0, 0), (1, 90), (2, 45), (3, 30), (10, 9)] {
            let mut limiter = Limiter::new(limit(10, slip), 1);
            let verdicts: Vec<Verdict> = (0..100)
                .map(|_| limiter.judge(ip("192.0.2.1"), &reply(Kind::Error, 0), 5))
                .collect();
            let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
            assert_eq!((count(Verdict::Pass), count(Verdict::Short)), (10, short), "slip {slip}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Over any stretch of time no more passes than its length allows and a second's answers; and who keeps to
        /// the limit is never limited, whatever floods there are beside him.
        #[test]
        fn the_bound_holds_and_the_innocent_pass(
            rate in 1u32..300,
            steps in prop::collection::vec((0u64..400_000, 0u8..6, 1usize..400), 1..60),
        ) {
            let mut limiter = Limiter::new(limit(rate, 2), 9);
            let cost = CREDIT_MICROS / u64::from(rate);
            let mut now = 0;
            let mut passed: Vec<(u64, u8)> = Vec::new();
            let mut innocent_next = 0;
            for (pause, flooder, count) in steps {
                now += pause;
                for _ in 0..count {
                    let client = IpAddr::from([198, 51, flooder, 1]);
                    if limiter.judge(client, &reply(Kind::Positive, 1), now) == Verdict::Pass {
                        passed.push((now, flooder));
                    }
                }
                while innocent_next <= now {
                    prop_assert_eq!(limiter.judge(ip("203.0.113.9"), &reply(Kind::Positive, 1), now), Verdict::Pass);
                    innocent_next = innocent_next.max(now) + cost;
                }
            }
            for flooder in 0..6 {
                let times: Vec<u64> = passed.iter().filter(|(_, who)| *who == flooder).map(|(at, _)| *at).collect();
                for (first, start) in times.iter().enumerate() {
                    for (last, end) in times.iter().enumerate().skip(first) {
                        let allowed = (end - start) / cost + u64::from(rate) + 1;
                        prop_assert!((last - first + 1) as u64 <= allowed, "{} in {} µs", last - first + 1, end - start);
                    }
                }
            }
        }

        /// However many networks there are, the table neither grows nor blames one for another.
        #[test]
        fn an_overrun_table_lets_pass(seed in any::<u64>()) {
            let mut limiter = Limiter::new(limit(5, 0), seed);
            let buckets = limiter.buckets.len();
            for number in 0..20_000u32 {
                let [_, a, b, c] = number.to_be_bytes();
                prop_assert_eq!(limiter.judge(IpAddr::from([a, b, c, 1]), &reply(Kind::Positive, number), 3), Verdict::Pass);
            }
            prop_assert_eq!(limiter.buckets.len(), buckets);
        }
    }
}
