//! Self-suspicion: a sick prober must not look like sick regions.
//!
//! One failing probe says something about an endpoint; most of all probes failing at once says something about the one who
//! probes. The laws:
//!
//! 1. **Words.** Every counting probe at every address has a word after each run: *reached* (it passed, or failed in a way that
//!    only somebody who answers can: status, content, protocol, TLS, login) or *cut off* (no connection, no answer, or the probe
//!    could not run). Monitoring-only probes and feeds have no word, nor has a run that this process itself was late for.
//! 2. **Turns.** Being cut off is said once: when it follows *reached*, or is the first word of a probe that is not known to be
//!    sick. What goes on being cut off has nothing new to say and is not heard again before it was reached. So what was sick for
//!    long weighs nothing, on either side, and one outage is suspected at most once.
//! 3. **At once.** Words are heard for a window of time. A probe speaks once in its *cycle* (interval with jitter, and timeout),
//!    so there is one window for every pace: from the shortest cycle to the longest, each twice as long as the one before. In a
//!    short window the fast probes speak, and the slow ones that happen to; in a long one all do.
//! 4. **Most of everything.** The prober is suspected when in any window more than `suspect-self-above` of the probes heard are
//!    cut off, **and** more than that share of the regions are (a region is when more than that share of its own are), **and**
//!    at least two regions were heard, **and** at least a quarter of the probes that ought to have spoken by then.
//!    "Above", not "from": with two regions, one of them gone is half, and never the prober's fault. However many of the
//!    endpoints one region holds, its loss is the loss of one region.
//! 5. **Frozen.** When it begins, every verdict becomes `unknown` with the last one kept; what was `unhealthy` before that window
//!    stays so, and what fell within it is taken back. While it lasts nothing that is cut off is counted (the first run that is
//!    reached counts as ever, so verdicts come back one by one), no policy moves, and no proposal opens or ends. `unknown` is
//!    answered and known sick endpoints stay left out, so the answers stay as they are.
//! 6. **The end.** Not before the window has passed once more, and then as soon as law 4 does not hold for the last words of all
//!    that were heard since the beginning: for a sick prober when it is well; for regions that died at the same moment when
//!    enough others are reached. Or when for a minute without a break some region has been reached, by the last words of those who
//!    spoke of late (within twice that window): then the prober works, and what it cannot reach is counted as sick from then on,
//!    `fall` runs anew. The words of slow probes are not waited for: after an outage they say for an hour what was an hour ago.
//!    What was said until the end begins no other suspicion.
//! 7. **Danger, weighed.** With two regions suspicion needs both cut off, and then there is nowhere to move to: it cannot keep a
//!    failover from happening. With more, it delays one by that minute, if more than the share of all regions die at once. An
//!    application whose endpoints are all in one region cannot be moved by anybody.
//! 8. **No hearsay.** A policy moves away from a region that is cut off only to one that was reached since then (`role::Watch` sees
//!    to it). So a verdict that falls before the others were heard (`fall = 1`, a rapid re-check) moves nothing yet: either the
//!    target is reached and the prober works, or it is not, and law 4 speaks.
//!
//! Limits, admitted: from one vantage point a dead world and a dead uplink look the same, so as long as *nothing* is reached,
//! nothing is concluded, `when-all-down` does not set in for what was not sick before, and a person must decide (a switch with
//! `--override target-healthy` works). With a single region nothing is ever suspected: it is everything there is, and its
//! `when-all-down` shall work. A proposal may open on a verdict that falls before the others were heard, and ends when that is taken back.
//!
//! Time is cut into slots, eight to a window, so a word costs the same for any number of probes, and nothing is kept per word.

use crate::model::{App, Figures, Fleet, JITTER, Mono, ProbeSpec, RegionId, Suspicion, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// Slots in a window.
const SLOTS: u64 = 8;
/// Most windows: doubling from 100 ms to over a day.
const WINDOWS_MAX: usize = 24;
/// For how long some region must be reached without a break until the rest is believed to be sick.
const STANDS_FOR: Duration = Duration::from_secs(60);
/// A probe's expected words in a window, in this unit.
const WORD: u64 = 1_000;

/// What one probe at one address said; kept with its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Voice {
    /// The last word that was heard.
    word: Option<Word>,
    /// What was heard last in a suspicion.
    heard: Option<Heard>,
}

/// What a probe said in a suspicion, new or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    /// In which.
    number: u32,
    /// What.
    word: Word,
}

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// When.
    at: Mono,
    /// Whether it was cut off.
    cut: bool,
    /// The verdict before.
    before: Verdict,
}

impl Voice {
    /// Since when it is cut off, while it is.
    pub fn cut_since(&self) -> Option<Mono> {
        self.word.filter(|word| word.cut).map(|word| word.at)
    }

    /// The verdict from before it was cut off, if that was after `since`.
    pub fn turned_since(&self, since: Mono) -> Option<Verdict> {
        self.word.filter(|word| word.cut && word.at > since).map(|word| word.before)
    }
}

/// All words, added up.
#[derive(Debug, Clone)]
pub(super) struct Poll {
    /// The share above which the prober is suspected, percent.
    above: u8,
    /// Place of each region in the counts.
    places: BTreeMap<RegionId, usize>,
    /// Shortest first.
    windows: Vec<Window>,
    /// The present suspicion.
    present: Option<Present>,
    /// Number of suspicions so far.
    number: u32,
    /// When the last one ended: what was said until then begins no other.
    ended_at: Option<Mono>,
}

impl Default for Poll {
    /// Nothing is suspected before somebody says above which share.
    fn default() -> Poll {
        Poll {
            above: 100,
            places: BTreeMap::new(),
            windows: Vec::new(),
            present: None,
            number: 0,
            ended_at: None,
        }
    }
}

/// Words within a time.
#[derive(Debug, Clone)]
struct Window {
    /// The time.
    length: Duration,
    /// The length of a slot, ns.
    slot_length: u64,
    /// The slot that words fall into now.
    slot: u64,
    /// Words expected in the whole window, in units of [`WORD`].
    expected: u64,
    /// Words by region and slot.
    slots: Vec<[Count; SLOTS as usize]>,
    /// Words by region.
    regions: Vec<Count>,
    /// All words.
    all: Count,
}

/// Words by what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    /// All.
    heard: u32,
    /// Cut off.
    cut: u32,
}

/// A suspicion that lasts.
#[derive(Debug, Clone)]
struct Present {
    /// What began it.
    began: Suspicion,
    /// The last words since, by region.
    regions: Vec<Count>,
    /// Those of late.
    recent: Window,
    /// Since when some region is reached without a break.
    reached_since: Option<Mono>,
}

/// What a word brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The prober is suspected; what was cut off since then falls with it.
    Begins(Mono),
    /// It is not suspected any more.
    Ends,
}

impl Poll {
    /// Why the prober is suspected, while it is.
    pub fn suspicion(&self) -> Option<&Suspicion> {
        self.present.as_ref().map(|present| &present.began)
    }

    /// Sets the share; 100 ends a suspicion with the next word or config.
    pub fn suspect_above(&mut self, percent: u8) {
        self.above = percent.min(100);
    }

    /// Ends a suspicion that nobody would end any more, since nobody speaks or nothing may be suspected; whether there was one.
    pub fn end_orphaned(&mut self, now: Mono) -> bool {
        let is_orphaned = self.present.is_some() && (self.windows.is_empty() || self.above >= 100);
        if is_orphaned {
            self.end(now);
        }
        is_orphaned
    }

    /// Starts anew with the paces and regions of a config, and with what its probes said before. A suspicion goes on.
    pub fn reconfigure<'v>(&mut self, fleet: &Fleet, voices: impl Iterator<Item = (&'v RegionId, Voice)>) {
        self.places.clear();
        for region in fleet.apps.values().flat_map(|app| &app.regions) {
            let next = self.places.len();
            self.places.entry(region.clone()).or_insert(next);
        }
        let count = self.places.len();
        let cycles = || fleet.apps.values().flat_map(|app| counting(app)).map(cycle);
        self.windows.clear();
        if let (Some(shortest), Some(longest)) = (cycles().min(), cycles().max()) {
            let mut length = shortest.max(Duration::from_millis(1));
            while length < longest && self.windows.len() + 1 < WINDOWS_MAX {
                self.windows.push(Window::new(length, count));
                length = length.saturating_mul(2);
            }
            self.windows.push(Window::new(longest, count));
        }
        if let Some(present) = &mut self.present {
            present.regions = vec![Count::default(); count];
            present.recent = Window::new(present.recent.length, count);
        }
        for (region, voice) in voices {
            let Some(&place) = self.places.get(region) else { continue };
            if let Some(word) = voice.word {
                self.count(place, word, true);
            }
            self.tell_present(place, None, voice.heard);
        }
    }

    /// Takes in how many addresses of an application's endpoint came or went.
    pub fn expect(&mut self, app: &App, before: usize, after: usize) {
        for window in &mut self.windows {
            let each: u64 = counting(app).map(|spec| window.expects(spec)).sum();
            let (before, after) = (before as u64, after as u64);
            let grown = window.expected.saturating_add(each.saturating_mul(after));
            window.expected = grown.saturating_sub(each.saturating_mul(before));
        }
    }

    /// Takes back what a probe said that is gone.
    pub fn forget(&mut self, region: &RegionId, voice: Voice) {
        let Some(&place) = self.places.get(region) else { return };
        if let Some(word) = voice.word {
            self.count(place, word, false);
        }
        self.tell_present(place, voice.heard, None);
    }

    /// Counts a word in or out, if it is later than the last suspicion.
    fn count(&mut self, place: usize, word: Word, comes: bool) {
        if self.ended_at.is_some_and(|ended| word.at <= ended) {
            return;
        }
        for window in &mut self.windows {
            window.add(place, word, comes);
        }
    }

    /// Hears the next word of a probe with a verdict; gives its voice afterwards.
    pub fn hear(&mut self, region: &RegionId, voice: Voice, verdict: Verdict, cut: bool, at: Mono) -> Voice {
        let Some(&place) = self.places.get(region) else { return voice };
        let turns = match voice.word {
            Some(word) => !word.cut,
            None => verdict != Verdict::Unhealthy,
        };
        let word = (!cut || turns).then_some(Word { at, cut, before: verdict });
        for window in &mut self.windows {
            window.advance(at);
        }
        if let Some(word) = word {
            if let Some(old) = voice.word {
                self.count(place, old, false);
            }
            self.count(place, word, true);
        }
        let heard = self.present.is_some().then_some(Heard {
            number: self.number,
            word: Word { at, cut, before: verdict },
        });
        self.tell_present(place, voice.heard, heard);
        Voice {
            word: word.or(voice.word),
            heard: heard.or(voice.heard),
        }
    }

    /// Draws the conclusion from the words heard up to now.
    pub fn weigh(&mut self, now: Mono) -> Option<Turn> {
        if let Some(present) = &mut self.present {
            return present.is_over(self.above, now).then(|| {
                self.end(now);
                Turn::Ends
            });
        }
        let above = self.above;
        let found = self.windows.iter().find(|window| window.is_struck(above))?;
        let within = found.length;
        self.number = self.number.wrapping_add(1);
        self.present = Some(Present {
            began: Suspicion {
                since: now,
                within,
                above,
                figures: figures(&found.regions, above),
            },
            regions: vec![Count::default(); self.places.len()],
            recent: Window::new(within.saturating_mul(2), self.places.len()),
            reached_since: None,
        });
        // What began in the slot that the window's start lies in belongs to it.
        let since = now.minus(within + within / SLOTS as u32);
        Some(Turn::Begins(self.ended_at.map_or(since, |ended| ended.max(since))))
    }

    /// The present suspicion is over.
    fn end(&mut self, now: Mono) {
        (self.present, self.ended_at) = (None, Some(now));
        self.windows.iter_mut().for_each(Window::clear);
    }

    /// Replaces what a probe said since the suspicion began.
    fn tell_present(&mut self, place: usize, old: Option<Heard>, new: Option<Heard>) {
        let number = self.number;
        let Some(Present { regions, recent, .. }) = &mut self.present else {
            return;
        };
        let Some(count) = regions.get_mut(place) else { return };
        let of_now = |heard: &Heard| heard.number == number;
        if let Some(Heard { word, .. }) = old.filter(of_now) {
            count.take(word.cut);
            recent.add(place, word, false);
        }
        if let Some(Heard { word, .. }) = new.filter(of_now) {
            count.add(word.cut);
            recent.add(place, word, true);
        }
    }
}

impl Window {
    /// An empty one.
    fn new(length: Duration, regions: usize) -> Window {
        Window {
            length,
            slot_length: (nanoseconds(length) / SLOTS).max(1),
            slot: 0,
            expected: 0,
            slots: vec![[Count::default(); SLOTS as usize]; regions],
            regions: vec![Count::default(); regions],
            all: Count::default(),
        }
    }

    /// Lets go of all words.
    fn clear(&mut self) {
        self.slots.fill([Count::default(); SLOTS as usize]);
        self.regions.fill(Count::default());
        self.all = Count::default();
    }

    /// Words that a probe is expected to say in it.
    fn expects(&self, spec: &ProbeSpec) -> u64 {
        let share = self.length.as_secs_f64() / cycle(spec).as_secs_f64();
        // At most 1 word, and finite: a cycle is never shorter than the window's floor.
        (share.min(1.0) * WORD as f64) as u64
    }

    /// The slot of a time.
    fn slot_of(&self, at: Mono) -> u64 {
        let zero = Mono::ORIGIN.minus(Duration::MAX);
        nanoseconds(at.since(zero)) / self.slot_length
    }

    /// Lets words go that are too old at `now`.
    fn advance(&mut self, now: Mono) {
        let slot = self.slot_of(now);
        if slot <= self.slot {
            return;
        }
        for gone in (self.slot + 1..=slot).take(SLOTS as usize) {
            for (slots, region) in self.slots.iter_mut().zip(&mut self.regions) {
                if let Some(count) = slots.get_mut((gone % SLOTS) as usize) {
                    region.heard = region.heard.saturating_sub(count.heard);
                    region.cut = region.cut.saturating_sub(count.cut);
                    self.all.heard = self.all.heard.saturating_sub(count.heard);
                    self.all.cut = self.all.cut.saturating_sub(count.cut);
                    *count = Count::default();
                }
            }
        }
        self.slot = slot;
    }

    /// Counts a word in or out, if it is of this window.
    fn add(&mut self, place: usize, word: Word, comes: bool) {
        let slot = self.slot_of(word.at);
        if comes && slot > self.slot {
            self.advance(word.at);
        }
        if slot > self.slot || self.slot - slot >= SLOTS {
            return;
        }
        let counts = self.slots.get_mut(place).and_then(|slots| slots.get_mut((slot % SLOTS) as usize));
        for count in counts.into_iter().chain(self.regions.get_mut(place)).chain([&mut self.all]) {
            if comes {
                count.add(word.cut);
            } else {
                count.take(word.cut);
            }
        }
    }

    /// Law 4.
    fn is_struck(&self, above: u8) -> bool {
        // The share alone is false in peace; the regions need not be looked at then.
        self.all.is_cut(above) && u64::from(self.all.heard) * 4 * WORD >= self.expected && exceeds(figures(&self.regions, above), above)
    }
}

impl Present {
    /// Law 6.
    fn is_over(&mut self, above: u8, now: Mono) -> bool {
        self.recent.advance(now);
        let recent = figures(&self.recent.regions, above);
        let figures = figures(&self.regions, above);
        self.reached_since = match recent.regions_cut < recent.regions {
            true => self.reached_since.or(Some(now)),
            false => None,
        };
        if now.since(self.began.since) < self.began.within || figures.heard == 0 {
            return above >= 100;
        }
        let stands = self.reached_since.is_some_and(|since| now.since(since) >= STANDS_FOR);
        stands || !exceeds(figures, above)
    }
}

impl Count {
    /// One word more.
    fn add(&mut self, cut: bool) {
        self.heard = self.heard.saturating_add(1);
        self.cut = self.cut.saturating_add(u32::from(cut));
    }

    /// One word less.
    fn take(&mut self, cut: bool) {
        self.heard = self.heard.saturating_sub(1);
        self.cut = self.cut.saturating_sub(u32::from(cut));
    }

    /// Whether more than a share of it is cut off.
    fn is_cut(self, above: u8) -> bool {
        is_above(self.cut, self.heard, above)
    }
}

/// Whether `part` of `all` is more than a share; nothing of nothing is not.
fn is_above(part: u32, all: u32, percent: u8) -> bool {
    u64::from(part) * 100 > u64::from(all) * u64::from(percent)
}

/// Adds up.
fn figures(regions: &[Count], above: u8) -> Figures {
    let mut figures = Figures::default();
    for count in regions.iter().filter(|count| count.heard > 0) {
        figures.heard = figures.heard.saturating_add(count.heard);
        figures.cut = figures.cut.saturating_add(count.cut);
        figures.regions += 1;
        figures.regions_cut += u32::from(count.is_cut(above));
    }
    figures
}

/// Law 4, but for the quarter.
fn exceeds(found: Figures, above: u8) -> bool {
    found.regions >= 2 && is_above(found.cut, found.heard, above) && is_above(found.regions_cut, found.regions, above)
}

/// The probes of an application that have a word: those that count and look for themselves.
fn counting(app: &App) -> impl Iterator<Item = &ProbeSpec> {
    app.probes.iter().filter(|spec| !spec.monitoring_only && !spec.is_hearsay())
}

/// The longest time from one outcome of a probe to the next.
fn cycle(spec: &ProbeSpec) -> Duration {
    spec.interval.mul_f64(1.0 + JITTER).saturating_add(spec.timeout)
}

/// In nanoseconds; five centuries at most.
fn nanoseconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(time.subsec_nanos()))
}

#[cfg(test)]
mod tests;
