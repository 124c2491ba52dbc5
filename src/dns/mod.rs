//! Sockets: UDP lanes and TCP.
