//! Who sits on the places of QUIC and HTTPS, and who has to get up when there are none left.
//!
//! As on the lanes of TCP and TLS (`stream`): a newcomer who finds every place taken gets that of whoever has asked for nothing
//! longest, if that is at least [`IDLE_TIME_MIN`]; a few are ended at once, so that a flood is not answered one by one. A
//! handshake that nobody goes on with is silence too. So whoever sits down first cannot keep everybody else out.
//!
//! The place of who is to leave is free at once; its connection ends as soon as its task hears of it.

use super::stream::{Full, Room, Seat};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Who was active less long ago keeps the place.
const IDLE_TIME_MIN: Duration = Duration::from_millis(500);
/// After nobody was found who has to leave, nobody is looked for so long.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Which part of all leaves at once.
const GO_SHARE: usize = 64;

/// The places of one transport.
#[derive(Debug)]
pub(super) struct Sitting {
    room: Arc<Room>,
    /// What times are counted from.
    begin: Instant,
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
    /// When it last asked for something, or came: milliseconds.
    last: AtomicU64,
    seat: Mutex<Option<Seat>>,
    leave: Notify,
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
        let begin = Instant::now();
        Arc::new(Sitting {
            room,
            begin,
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
        let sitter = Arc::new(Sitter {
            number: sitters.next,
            begin: self.begin,
            last: AtomicU64::new(0),
            seat: Mutex::new(Some(seat)),
            leave: Notify::new(),
        });
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
    fn make_room(&self) -> bool {
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
            if let Some(sitter) = sitters.by_number.remove(number) {
                drop(lock(&sitter.seat).take());
                sitter.leave.notify_one();
            }
        }
        if silent.is_empty() {
            sitters.none_idle_until = now + LOOK_PAUSE;
        }
        !silent.is_empty()
    }
}

impl Sitter {
    /// It asks for something.
    pub(super) fn note(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long it has asked for nothing.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(last)
    }

    /// Ends when its place was given to somebody else.
    pub(super) async fn is_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Place {
    /// Who sits on it, for tasks that only say that something was asked for.
    pub(super) fn sitter(&self) -> Arc<Sitter> {
        self.sitter.clone()
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
        drop(lock(&self.sitter.seat).take());
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
            lock(&sitting.sitters).by_number.insert(
                place.number,
                Arc::new(Sitter {
                    number: place.number,
                    begin: Instant::now() - Duration::from_secs(if n == 3 { 0 } else { 20 + n as u64 }),
                    last: AtomicU64::new(0),
                    seat: Mutex::new(lock(&place.seat).take()),
                    leave: Notify::new(),
                }),
            );
        }
        lock(&sitting.sitters).none_idle_until = Instant::now();
        let newcomer = sitting.take(client(9)).expect("the place of whoever was silent longest");
        assert!(!lock(&sitting.sitters).by_number.contains_key(&places[7].number));
        assert!(lock(&sitting.sitters).by_number.contains_key(&places[3].number));
        drop(newcomer);
        assert!(sitting.take(client(9)).is_ok(), "a place that is left is free");
    }
}
