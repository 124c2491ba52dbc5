//! Probes: timers and sockets.
