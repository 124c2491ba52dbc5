//! Who sits on the places of QUIC and HTTPS, and who has to get up when there are none left.
//!
//! As on the lanes of TCP and TLS (`stream`): a newcomer who finds every place taken gets that of whoever has asked for nothing
//! longest, if that is at least [`IDLE_TIME_MIN`]; a few are ended at once, so that a flood is not answered one by one. A
//! handshake that nobody goes on with is silence too. So whoever sits down first cannot keep everybody else out.
//!
//! The place of who is to leave is free at once; its connection ends as soon as its task hears of it.
//!
//! What is kept for clients is counted here too: answers until the client has them, or the kernel takes them, and queries that are
//! not whole. One connection has room for [`ANSWERS_OCTETS_MAX`] of answers; the next answer is not even made before there is room for it. Where all
//! together keep more than [`KEPT_OCTETS_MAX`], those who keep most leave. What is kept for one who has no place any more is on its way out
//! and counts no longer: else everybody would be looked at again with each query until the last of those who leave has heard of it.

use super::stats::Counted;
use super::stream::{Full, Room, Seat};
use crate::answer::STREAM_OCTETS_MAX;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Who was active less long ago keeps the place.
const IDLE_TIME_MIN: Duration = Duration::from_millis(500);
/// After nobody was found who has to leave, nobody is looked for so long.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Which part of all leaves at once.
const GO_SHARE: usize = 64;
/// Octets of answers that may be kept for one connection: four of the longest.
const ANSWERS_OCTETS_MAX: usize = 256 * 1024;
/// Octets that may be kept for all connections of a transport together.
pub(super) const KEPT_OCTETS_MAX: usize = 64 << 20;
/// Beside the octets of a connection: it has no place any more, and they do not count among those of all.
const GONE: usize = 1 << (usize::BITS - 1);

/// The places of one transport.
#[derive(Debug)]
pub(super) struct Sitting {
    room: Arc<Room>,
    /// What times are counted from.
    begin: Instant,
    /// Octets kept for everybody on a place, and the most that there may be.
    kept: AtomicUsize,
    kept_max: usize,
    sitters: Mutex<Sitters>,
}

/// Everybody on a place.
#[derive(Debug)]
struct Sitters {
    by_number: HashMap<u64, Arc<Sitter>>,
    next: u64,
    none_idle_until: Instant,
}

/// A connection on a place.
#[derive(Debug)]
pub(super) struct Sitter {
    number: u64,
    begin: Instant,
    /// When it was last answered, or came: milliseconds.
    last: AtomicU64,
    /// Octets kept for it, with [`GONE`] once it has no place any more.
    kept: AtomicUsize,
    /// Room for its answers.
    answers: Arc<Semaphore>,
    seat: Mutex<Option<Seat>>,
    leave: Notify,
    /// Why it is to leave.
    why: OnceLock<Counted>,
}

/// What the tasks of a connection have of its place: they say what was answered, and keep octets on its account.
#[derive(Debug, Clone)]
pub(super) struct Share {
    sitting: Arc<Sitting>,
    sitter: Arc<Sitter>,
}

/// Octets kept on the account of a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    share: Share,
    octets: usize,
}

/// An answer on the account of a connection.
struct KeptAnswer {
    answer: Bytes,
    _kept: Kept,
    _room: Option<OwnedSemaphorePermit>,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    sitting: Arc<Sitting>,
    sitter: Arc<Sitter>,
}

impl Sitting {
    /// The places of a room.
    pub(super) fn new(room: Arc<Room>) -> Arc<Sitting> {
        Sitting::with_memory(room, KEPT_OCTETS_MAX)
    }

    /// The places of a room, and so many octets for all of them.
    fn with_memory(room: Arc<Room>, kept_max: usize) -> Arc<Sitting> {
        let begin = Instant::now();
        Arc::new(Sitting {
            room,
            begin,
            kept: AtomicUsize::new(0),
            kept_max,
            sitters: Mutex::new(Sitters {
                by_number: HashMap::new(),
                next: 0,
                none_idle_until: begin,
            }),
        })
    }

    /// Takes a place, somebody else's where there is no other.
    ///
    /// # Errors
    /// When there is none for this client.
    pub(super) fn take(self: &Arc<Sitting>, client: IpAddr) -> Result<Place, Full> {
        let seat = match self.room.take(client) {
            Err(Full::All) if self.make_room() => self.room.take(client),
            taken => taken,
        }?;
        let mut sitters = lock(&self.sitters);
        let sitter = Arc::new(Sitter::new(sitters.next, self.begin, seat));
        sitter.note();
        sitters.next += 1;
        sitters.by_number.insert(sitter.number, sitter.clone());
        Ok(Place {
            sitting: self.clone(),
            sitter,
        })
    }

    /// Whether a client has to prove its address before it gets a place: they run short, or many of its network's are taken.
    pub(super) fn must_prove(&self, client: IpAddr) -> bool {
        self.room.is_crowded() || self.room.is_busy(client)
    }

    /// Has those leave that have been silent longest; whether there were any.
    pub(super) fn make_room(&self) -> bool {
        let mut sitters = lock(&self.sitters);
        let now = Instant::now();
        if now < sitters.none_idle_until {
            return false;
        }
        let silent = sitters.by_number.values().map(|sitter| (sitter.silence(), sitter.number));
        let mut silent: Vec<(Duration, u64)> = silent.filter(|(silence, _)| *silence >= IDLE_TIME_MIN).collect();
        silent.sort_unstable_by(|one, other| other.cmp(one));
        silent.truncate(sitters.by_number.len() / GO_SHARE + 1);
        for (_, number) in &silent {
            sitters.dismiss(*number, Counted::TcpFull, &self.kept);
        }
        if silent.is_empty() {
            sitters.none_idle_until = now + LOOK_PAUSE;
        }
        !silent.is_empty()
    }

    /// Has those leave for whom most is kept, until the others keep no more than they may. Nothing is taken from those who keep little: a
    /// query in two pieces is no abuse.
    fn shed(&self) {
        let mut sitters = lock(&self.sitters);
        let kept = sitters
            .by_number
            .values()
            .map(|sitter| (sitter.kept.load(Ordering::Relaxed), sitter.number));
        let mut kept: Vec<(usize, u64)> = kept.collect();
        let mut all: usize = kept.iter().map(|(octets, _)| octets).sum();
        kept.sort_unstable_by(|one, other| other.cmp(one));
        for (octets, number) in kept {
            if all <= self.kept_max {
                break;
            }
            all -= octets;
            sitters.dismiss(number, Counted::TcpMemory, &self.kept);
        }
    }
}

impl Sitters {
    /// Takes a place from whoever sits there, and its octets from those of all.
    fn dismiss(&mut self, number: u64, why: Counted, all: &AtomicUsize) {
        if let Some(sitter) = self.by_number.remove(&number) {
            sitter.get_up(all);
            let _ = sitter.why.set(why);
            sitter.leave.notify_one();
        }
    }
}

impl Share {
    /// Makes an answer once there is room for it beside those that the client has not taken, and notes that it asked. It is counted until its
    /// octets are dropped, by whoever has them last.
    pub(super) async fn answer<E>(&self, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        let room = self.sitter.answers.clone().acquire_many_owned(STREAM_OCTETS_MAX as u32).await;
        let answer = make()?;
        self.note();
        // Nobody closes the semaphore; what the answer does not need is given back at once.
        let room = room.ok().and_then(|mut room| room.split(answer.len()));
        let mut kept = self.keep();
        kept.set(answer.len());
        Ok(Bytes::from_owner(KeptAnswer {
            answer,
            _kept: kept,
            _room: room,
        }))
    }

    /// An account of octets, nothing on it yet.
    pub(super) fn keep(&self) -> Kept {
        Kept {
            share: self.clone(),
            octets: 0,
        }
    }

    /// So many octets more are kept; how many for all, if this one still has its place. First among those of all, so that who gets up in
    /// between takes away no more than is there.
    fn add(&self, octets: usize) -> Option<usize> {
        let all = self.sitting.kept.fetch_add(octets, Ordering::AcqRel) + octets;
        if self.sitter.kept.fetch_add(octets, Ordering::AcqRel) & GONE == 0 {
            return Some(all);
        }
        self.sitting.kept.fetch_sub(octets, Ordering::AcqRel);
        None
    }

    /// So many octets less are kept.
    fn take_away(&self, octets: usize) {
        if self.sitter.kept.fetch_sub(octets, Ordering::AcqRel) & GONE == 0 {
            self.sitting.kept.fetch_sub(octets, Ordering::AcqRel);
        }
    }
}

impl Deref for Share {
    type Target = Sitter;

    fn deref(&self) -> &Sitter {
        &self.sitter
    }
}

impl Kept {
    /// Now so many octets are kept.
    pub(super) fn set(&mut self, octets: usize) {
        // Added before the old ones are taken away, so that a count never falls below zero.
        let all = self.share.add(octets);
        self.share.take_away(self.octets);
        let is_more = octets > self.octets;
        self.octets = octets;
        let sitting = &self.share.sitting;
        if is_more && all.is_some_and(|all| all > sitting.kept_max) {
            sitting.shed();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.share.take_away(self.octets);
    }
}

impl AsRef<[u8]> for KeptAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Sitter {
    /// One that has just come.
    fn new(number: u64, begin: Instant, seat: Seat) -> Sitter {
        Sitter {
            number,
            begin,
            last: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
            answers: Arc::new(Semaphore::new(ANSWERS_OCTETS_MAX)),
            seat: Mutex::new(Some(seat)),
            leave: Notify::new(),
            why: OnceLock::new(),
        }
    }

    /// It was answered.
    pub(super) fn note(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Gives the place back; what is still kept for it counts no longer.
    fn get_up(&self, all: &AtomicUsize) {
        drop(lock(&self.seat).take());
        let kept = self.kept.fetch_or(GONE, Ordering::AcqRel);
        if kept & GONE == 0 {
            all.fetch_sub(kept, Ordering::AcqRel);
        }
    }

    /// How long it has had no answer.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(last)
    }

    /// Ends when its place was taken from it; tells why.
    pub(super) async fn is_to_leave(&self) -> Counted {
        self.leave.notified().await;
        self.why.get().copied().unwrap_or(Counted::TcpFull)
    }
}

impl Place {
    /// What the tasks of the connection need of it.
    pub(super) fn share(&self) -> Share {
        Share {
            sitting: self.sitting.clone(),
            sitter: self.sitter.clone(),
        }
    }
}

impl Deref for Place {
    type Target = Sitter;

    fn deref(&self) -> &Sitter {
        &self.sitter
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.sitting.sitters).by_number.remove(&self.sitter.number);
        self.sitter.get_up(&self.sitting.kept);
    }
}

/// The lock; what it guards is right also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_places_proves_the_address_and_nobody_else_until_they_run_short() {
        let sitting = Sitting::new(Room::new(640));
        let (many, other) = (IpAddr::from([127, 1, 1, 1]), IpAddr::from([127, 2, 2, 2]));
        let mut places: Vec<Place> = (0..9).map(|_| sitting.take(many).unwrap()).collect();
        assert!(!sitting.must_prove(many));
        places.push(sitting.take(many).unwrap()); // an eighth of its eighth
        assert!(sitting.must_prove(many) && !sitting.must_prove(other));
        for n in 0..470_u16 {
            let [high, low] = n.to_be_bytes();
            places.push(sitting.take(IpAddr::from([10, low, high, 1])).unwrap());
        }
        assert!(sitting.must_prove(other), "three quarters are taken");
        drop(places);
        assert!(!sitting.must_prove(many));
    }

    #[test]
    fn who_has_been_silent_longest_leaves_and_who_asks_stays() {
        let sitting = Sitting::new(Room::new(8));
        let client = |n: u8| IpAddr::from([127, n, n, n]);
        let places: Vec<Place> = (0..8).map(|n| sitting.take(client(n)).unwrap()).collect();
        assert_eq!(sitting.take(client(9)).unwrap_err(), Full::All, "all have just come");
        // As if it were later: the times are counted from `begin`.
        for (n, place) in places.iter().enumerate() {
            place.last.store(0, Ordering::Relaxed);
            let begin = Instant::now() - Duration::from_secs(if n == 3 { 0 } else { 20 + n as u64 });
            let seat = lock(&place.seat).take().unwrap();
            let sitter = Sitter::new(place.number, begin, seat);
            lock(&sitting.sitters).by_number.insert(place.number, Arc::new(sitter));
        }
        lock(&sitting.sitters).none_idle_until = Instant::now();
        let newcomer = sitting.take(client(9)).expect("the place of whoever was silent longest");
        assert!(!lock(&sitting.sitters).by_number.contains_key(&places[7].number));
        assert!(lock(&sitting.sitters).by_number.contains_key(&places[3].number));
        drop(newcomer);
        assert!(sitting.take(client(9)).is_ok(), "a place that is left is free");
    }

    /// Runs a future that has nothing to wait for.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        futures_util::FutureExt::now_or_never(future)
    }

    /// An answer of so many octets.
    fn answer(octets: usize) -> Result<Bytes, ()> {
        Ok(Bytes::from(vec![0; octets]))
    }

    #[test]
    fn one_connection_has_room_for_a_few_long_answers_and_many_short_ones() {
        let sitting = Sitting::new(Room::new(8));
        let place = sitting.take(IpAddr::from([127, 1, 1, 1])).unwrap();
        let share = place.share();
        let mut long: Vec<Bytes> = (0..4).map(|_| now(share.answer(|| answer(60_000))).unwrap().unwrap()).collect();
        assert!(now(share.answer(|| answer(10))).is_none(), "it might be a long one");
        assert_eq!(sitting.kept.load(Ordering::Relaxed), 240_000);
        let part = long.pop().unwrap().slice(7..9);
        assert!(now(share.answer(|| answer(10))).is_none(), "two octets of it are still there");
        drop(part);
        let short: Vec<Option<_>> = (0..1_000).map(|_| now(share.answer(|| answer(10)))).collect();
        assert!(short.iter().all(Option::is_some));
        drop((short, long));
        assert_eq!((share.kept.load(Ordering::Relaxed), sitting.kept.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(share.answers.available_permits(), ANSWERS_OCTETS_MAX);
    }

    #[test]
    fn who_keeps_most_leaves_when_all_keep_too_much() {
        let sitting = Sitting::with_memory(Room::new(640), 1_000_000);
        let client = |n: u8| IpAddr::from([127, n, n, n]);
        let places: Vec<Place> = (0..9).map(|n| sitting.take(client(n)).unwrap()).collect();
        let mut kept = Vec::new();
        // The first three keep 200,000 each, the others little; the last one has half a query.
        for (place, octets) in places.iter().zip([50_000, 50_000, 50_000, 10_000, 10_000, 10_000, 10_000, 10_000]) {
            kept.extend((0..4).map(|_| now(place.share().answer(|| answer(octets))).unwrap().unwrap()));
        }
        let mut half = places[8].share().keep();
        half.set(2);
        assert!(places.iter().all(|place| now(place.is_to_leave()).is_none()));
        let mut more = places[7].share().keep();
        more.set(250_000);
        let left: Vec<usize> = (0..9)
            .filter(|n| now(places[*n].is_to_leave()) == Some(Counted::TcpMemory))
            .collect();
        assert_eq!(left, [7], "the one that keeps most");
        half.set(2_000_000);
        half.set(3);
        drop((kept, half, more));
        assert_eq!(sitting.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_kept_for_those_who_leave_counts_no_longer() {
        let sitting = Sitting::with_memory(Room::new(640), 1_000_000);
        let client = |n: u8| IpAddr::from([127, n, n, n]);
        let places: Vec<Place> = (0..3).map(|n| sitting.take(client(n)).unwrap()).collect();
        let mut kept: Vec<Kept> = places.iter().map(|place| place.share().keep()).collect();
        let all = || sitting.kept.load(Ordering::Relaxed);
        for (kept, octets) in kept.iter_mut().zip([500_000, 300_000, 300_000]) {
            kept.set(octets);
        }
        // Its task has not heard of it, and more comes in; nobody is looked for on account of that.
        assert_eq!(now(places[0].is_to_leave()), Some(Counted::TcpMemory));
        assert_eq!(all(), 600_000);
        kept[0].set(2_000_000);
        kept[0].set(400_000);
        assert_eq!(all(), 600_000);
        kept[1].set(400_000);
        assert!(places[1..].iter().all(|place| now(place.is_to_leave()).is_none()));
        // Nor does what outlasts its connection.
        let mut places = places.into_iter();
        drop(places.next());
        drop(places.next());
        assert_eq!(all(), 300_000);
        kept.truncate(1);
        assert_eq!(all(), 0);
        drop(kept);
        assert_eq!(all(), 0);
    }

    #[test]
    fn octets_are_counted_exactly_while_some_leave() {
        let sitting = Sitting::with_memory(Room::new(640), 100_000);
        let threads = (1..=4).map(|n| {
            let sitting = sitting.clone();
            std::thread::spawn(move || {
                for round in 0..2_000 {
                    let place = sitting.take(IpAddr::from([127, n, n, n])).unwrap();
                    let mut kept = [place.share().keep(), place.share().keep()];
                    for step in 1..=8 {
                        kept[step % 2].set(step * 7_919 * (round % 5));
                    }
                    drop(place);
                    kept[0].set(round);
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(sitting.kept.load(Ordering::Relaxed), 0);
    }
}
