//! Memory that a load needed for a while and the allocator keeps.
//!
//! Reading a zone of a million names takes three million pieces that are given back once it is compiled; glibc keeps them for
//! later, as it cannot know that there is none until the next reload. Told so, it gives them back to the system: half of what
//! such a server would otherwise occupy.

#![allow(unsafe_code)]

/// Gives back to the system what the allocator holds free. Takes milliseconds: for after a load, not for the writer's task.
/// Does nothing where the allocator is not glibc's.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number, touches free memory only and may be called at any time from any thread (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}
