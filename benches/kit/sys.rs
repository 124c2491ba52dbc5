//! System calls that the standard library has no words for: batches of packets, segmented sends, a thread's CPU. The one
//! place of the benches with `unsafe`.
//!
//! Why it is sound: what the kernel is given pointers to lies in allocations that `new` leaks and nobody frees, so that they
//! never move; references to that memory exist only inside one method call and none during a system call; lengths given are
//! those of the arrays, lengths given back are cut to them. The raw pointers make [`Packets`] neither `Send` nor `Sync`.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// Packets that one call takes.
pub const SLOTS: usize = 64;
/// Room for a packet.
const OCTETS: usize = 2048;
/// Words of room for a control message: a header and a time.
const CONTROL_WORDS: usize = 8;

/// One packet's memory.
struct Slot {
    /// What the kernel says of it, where it was asked to; words, so that the message is aligned.
    control: [u64; CONTROL_WORDS],
    /// Who sent it.
    peer: libc::sockaddr_storage,
    /// Where it is.
    iovec: libc::iovec,
    /// The packet.
    octets: [u8; OCTETS],
}

/// Packets received with one system call.
pub struct Packets {
    /// [`SLOTS`] of them.
    slots: *mut Slot,
    /// Their headers, which point to them.
    headers: *mut libc::mmsghdr,
    /// How many the last call filled.
    received: usize,
}

impl Packets {
    /// Room for a batch; with `peers` where it is to be known who sent each.
    pub fn new(peers: bool) -> Packets {
        // SAFETY: both are plain data (integers, arrays of them, raw pointers) for which all zeroes is a valid value.
        let (slots, headers): (Vec<Slot>, Vec<libc::mmsghdr>) = unsafe {
            (
                (0..SLOTS).map(|_| mem::zeroed()).collect(),
                (0..SLOTS).map(|_| mem::zeroed()).collect(),
            )
        };
        let (slots, headers) = (slots.leak().as_mut_ptr(), headers.leak().as_mut_ptr());
        for index in 0..SLOTS {
            // SAFETY: index < SLOTS, the length of both; no reference to them exists.
            unsafe {
                let slot = slots.add(index);
                (*slot).iovec = libc::iovec {
                    iov_base: (&raw mut (*slot).octets).cast(),
                    iov_len: OCTETS,
                };
                let header = &raw mut (*headers.add(index)).msg_hdr;
                (*header).msg_iov = &raw mut (*slot).iovec;
                (*header).msg_iovlen = 1;
                if peers {
                    (*header).msg_name = (&raw mut (*slot).peer).cast();
                    (*header).msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                } else {
                    (*header).msg_control = (&raw mut (*slot).control).cast();
                    (*header).msg_controllen = mem::size_of::<[u64; CONTROL_WORDS]>() as _;
                }
            }
        }
        Packets {
            slots,
            headers,
            received: 0,
        }
    }

    /// Takes what is there; with `wait` at least one packet, without it perhaps none.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        for index in 0..self.received {
            // SAFETY: received <= SLOTS. What an earlier call changed is set again.
            unsafe {
                (*self.slots.add(index)).iovec.iov_len = OCTETS;
                let header = &raw mut (*self.headers.add(index)).msg_hdr;
                if !(*header).msg_name.is_null() {
                    (*header).msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                } else {
                    (*header).msg_controllen = mem::size_of::<[u64; CONTROL_WORDS]>() as _;
                }
            }
        }
        self.received = 0;
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: the headers and all they point to are ours, valid and unaliased for the call; SLOTS is their number; the
        // descriptor is open, for `socket` is borrowed; a null time-out is allowed.
        let count = unsafe { libc::recvmmsg(socket.as_raw_fd(), self.headers, SLOTS as libc::c_uint, flags as _, ptr::null_mut()) };
        match usize::try_from(count) {
            Ok(count) => self.received = count.min(SLOTS),
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {}
                error => return Err(error),
            },
        }
        Ok(self.received)
    }

    /// A packet of the last batch.
    pub fn get(&self, index: usize) -> &[u8] {
        if index >= self.received {
            return &[];
        }
        // SAFETY: index < received <= SLOTS; the kernel does not use the memory now, and the reference ends with the borrow.
        let (slot, header) = unsafe { (&*self.slots.add(index), &*self.headers.add(index)) };
        slot.octets.get(..header.msg_len as usize).unwrap_or(&slot.octets)
    }

    /// When a packet of the last batch reached its socket, by the wall clock since 1970, where [`stamp`] is on: before whoever
    /// reads it was running again.
    pub fn arrived(&self, index: usize) -> Option<Duration> {
        if index >= self.received {
            return None;
        }
        // SAFETY: as in `get`; `msg_control` is null or points to this slot's words, of which the kernel says how many it filled.
        let (words, header) = unsafe { ((*self.slots.add(index)).control, &(*self.headers.add(index)).msg_hdr) };
        let is_stamp = header.msg_controllen >= mem::size_of::<libc::cmsghdr>() + mem::size_of::<libc::timespec>();
        // SAFETY: copies of plain data out of an array that is longer than both together and aligned for them.
        let (head, time) = unsafe {
            let head = words.as_ptr().cast::<libc::cmsghdr>().read();
            (
                head,
                libc::CMSG_DATA(words.as_ptr().cast()).cast::<libc::timespec>().read_unaligned(),
            )
        };
        let is_stamp = is_stamp && head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_TIMESTAMPNS;
        is_stamp.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// Sends every packet of the last batch back to whence it came, as a response (RFC 1035 §4.1.1: QR).
    pub fn send_back(&mut self, socket: &UdpSocket) {
        for index in 0..self.received {
            // SAFETY: index < received <= SLOTS; nothing else uses the memory now.
            unsafe {
                let slot = self.slots.add(index);
                (*slot).iovec.iov_len = ((*self.headers.add(index)).msg_len as usize).min(OCTETS);
                (*slot).octets[2] |= 0x80;
            }
        }
        // SAFETY: `received` headers are filled, and what they point to is valid for the call.
        unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers, self.received as libc::c_uint, 0) };
    }
}

/// Has the kernel cut what is sent into packets of so many octets (UDP_SEGMENT): one way down the stack for many queries.
///
/// # Errors
/// Those of the socket option; kernels before 4.18 have none.
pub fn segment(socket: &UdpSocket, octets: usize) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, octets as libc::c_int)
}

/// Has the kernel note when a packet reaches the socket, or no longer.
///
/// # Errors
/// Those of the socket option.
pub fn stamp(socket: &UdpSocket, is_on: bool) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, libc::c_int::from(is_on))
}

/// Leaves the choice of the port to `connect` when the socket is bound to an address: ports of other connections of that address
/// are free again sooner, since only the pair of addresses counts.
///
/// # Errors
/// Those of the socket option.
pub fn bind_late(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Sets an option that is a number.
fn set_option(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let octets = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option's value is an int that lives through the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), octets) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps this thread, and those it starts, on one CPU; nothing happens where there is none of that number.
pub fn pin(cpu: usize) {
    // SAFETY: cpu_set_t is plain data for which zeroes are valid; CPU_SET writes inside it, as cpu is below its size.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if cpu < libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set);
        }
    }
}

/// Lets this thread wait for the others on its CPU: what only makes noise must not hold up what measures.
pub fn step_back() {
    // SAFETY: plain numbers; 0 is this thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 5);
    }
}
