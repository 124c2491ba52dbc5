//! Two pieces of work at once, where they are large: a change of a hundred thousand names is tens of milliseconds of each.
//!
//! The writer waits for both, so nothing that it owns changes meanwhile; on a machine of one core nothing is lost by it.

/// From so many names on, what is one after the other otherwise is worth a thread of its own.
pub(super) const MANY_NAMES: usize = 10_000;

/// Does both, the first on a thread of its own when they concern so many names.
pub(super) fn both<A: Send, B>(names: usize, first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    if names < MANY_NAMES {
        return (first(), second());
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        // A panic there is one here.
        let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (first, second)
    })
}
