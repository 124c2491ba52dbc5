//! How many files and sockets this process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More are of no use, and programs that close every descriptor they might have take long with more.
const DESCRIPTORS_MAX: u64 = 131_072;

/// Raises the soft limit to the hard one. The soft one is 1024 at many places for the sake of programs that use select(2),
/// which cannot count further; nothing here does, and connections that probes keep need more.
pub(super) fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(DESCRIPTORS_MAX);
    if soft >= wanted {
        return;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => tracing::debug!(before = soft, now = wanted, "the limit of open files was raised"),
        Err(error) => tracing::warn!(limit = soft, %error, "the limit of open files cannot be raised and stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // Lower than it is, so that there is something to raise; never lower than the tests beside this one need.
        setrlimit(Resource::RLIMIT_NOFILE, before.min(hard - 1).max(512), hard).unwrap();
        raise();
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard.min(DESCRIPTORS_MAX).max(before.min(hard - 1)));
    }
}
