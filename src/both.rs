//! Two pieces of work at once, where they are large: a change of a hundred thousand names is tens of milliseconds of each.
//!
//! Whoever asks waits for both, so nothing changes meanwhile, and what comes of it is the same as one after the other; on a machine
//! of one core nothing is lost by it.

/// From so many names on, what is one after the other otherwise is worth a thread of its own.
pub const MANY_NAMES: usize = 10_000;

/// Does both, the first on a thread of its own when they concern so many names.
pub fn both<A: Send, B>(names: usize, first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    if names < MANY_NAMES {
        return (first(), second());
    }
    let mut waiting = Some(first);
    let (first, second) = std::thread::scope(|scope| {
        let work = || waiting.take().map(|first| first());
        let begun = std::thread::Builder::new().name("writer-2".to_owned()).spawn_scoped(scope, work);
        let second = second();
        // A panic there is one here.
        let first = begun.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (first, second)
    });
    match (first, waiting) {
        (Ok(Some(first)), _) => (first, second),
        // The system gave no thread: one after the other.
        (_, Some(first)) => (first(), second),
        (_, None) => unreachable!("what is gone was begun, and its thread gave a result or the panic went on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done_and_many_names_have_a_thread_of_their_own() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(both(MANY_NAMES - 1, thread, thread), (here, here));
        let (first, second) = both(MANY_NAMES, thread, thread);
        assert!(first != here && second == here);
    }

    #[test]
    #[should_panic(expected = "in the first")]
    fn a_panic_of_the_first_goes_on() {
        both(MANY_NAMES, || panic!("in the first"), || ());
    }
}
