//! `recvmmsg` and `sendmmsg`: the one place with `unsafe` code.
//!
//! A [`Batch`] owns, for each of its slots, a receive buffer, a send buffer, an address and room for one
//! control message, and the kernel's headers that point to them. The headers' pointers are written once;
//! per call only the lengths of slots that were used are set again, which is what makes a batch cheaper
//! than its packets one by one.
//!
//! Why it is sound:
//! - All that the kernel is given pointers to lies in allocations that `new` makes and only `drop` frees;
//!   they never move, for they are reached through raw pointers and not through the `Batch` itself.
//! - Rust references to that memory exist only inside one method call, and none is alive during a system call.
//! - Lengths given to the kernel are those of the arrays; lengths it gives back are cut to them before use.
//! - The raw pointers make `Batch` neither `Send` nor `Sync`; a lane makes its own.

#![allow(unsafe_code)]

use super::lane::QUERY_OCTETS_MAX;
use crate::answer::UDP_OCTETS_MAX;
use socket2::Socket;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// Packets a batch. Sixteen measured 4 % less CPU an answer than thirty-two: the first responses leave sooner, so the clients'
/// next queries are there before anybody falls asleep. More than that saves no system calls worth the name.
pub(super) const SLOTS: usize = 16;
/// Room for one control message, the larger `in6_pktinfo` (12 to 16 octets of header, 20 of data).
const CONTROL_OCTETS: usize = 64;

/// Memory of one slot. `repr(C)` and aligned so that the control message's header is aligned.
#[repr(C, align(64))]
struct Slot {
    /// Room for a control message; first, so that it is aligned as the slot is.
    control: [u8; CONTROL_OCTETS],
    /// Who sent the query, and gets the response.
    peer: libc::sockaddr_storage,
    /// Where the query is received to, and the response sent from.
    iovecs: [libc::iovec; 2],
    /// The query.
    query: [u8; QUERY_OCTETS_MAX],
    /// The response.
    response: [u8; UDP_OCTETS_MAX],
}

/// Packets received and answered together.
pub(super) struct Batch {
    /// [`SLOTS`] slots.
    slots: NonNull<Slot>,
    /// Headers for receiving, one a slot, always pointing to the same.
    receive: NonNull<libc::mmsghdr>,
    /// Headers for sending, filled from the front.
    send: NonNull<libc::mmsghdr>,
    /// Slots that the last call received into.
    received: usize,
    /// Slots that the next call may receive into.
    width: usize,
    /// Headers for sending that are filled.
    queued: usize,
    /// Whether the kernel says which address was asked.
    has_control: bool,
}

impl Batch {
    /// An empty batch; `has_control` where the socket was told to say the local address.
    pub(super) fn new(has_control: bool) -> Batch {
        // SAFETY: Slot and mmsghdr are plain data (integers, arrays of them, raw pointers) for which all
        // zeroes is a valid value. Box::leak gives memory that stays until `drop` takes it back.
        let batch = unsafe {
            Batch {
                slots: leak((0..SLOTS).map(|_| mem::zeroed()).collect()),
                receive: leak((0..SLOTS).map(|_| mem::zeroed()).collect()),
                send: leak((0..SLOTS).map(|_| mem::zeroed()).collect()),
                received: SLOTS,
                width: 1,
                queued: 0,
                has_control,
            }
        };
        for index in 0..SLOTS {
            // SAFETY: index < SLOTS, so both pointers are inside their allocations; addr_of_mut makes no
            // reference. No other pointer or reference to them is in use.
            unsafe {
                let slot = batch.slots.as_ptr().add(index);
                let iovec = &raw mut (*slot).iovecs;
                (*iovec)[0].iov_base = (&raw mut (*slot).query).cast();
                (*iovec)[0].iov_len = QUERY_OCTETS_MAX;
                (*iovec)[1].iov_base = (&raw mut (*slot).response).cast();
                let header = &raw mut (*batch.receive.as_ptr().add(index)).msg_hdr;
                (*header).msg_name = (&raw mut (*slot).peer).cast();
                (*header).msg_iov = iovec.cast();
                (*header).msg_iovlen = 1;
                if has_control {
                    (*header).msg_control = (&raw mut (*slot).control).cast();
                }
            }
        }
        batch
    }

    /// Waits for a packet and takes as many as there are; how many.
    ///
    /// It asks for twice as many as last time where those were all it asked for, else for as many: the call ends by looking once
    /// more for a packet that is not there, which a lane with little to do, one packet at a time, so is spared.
    ///
    /// # Errors
    /// Those of the system call, the socket's receive time-out (`WouldBlock`) included.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.queued = 0;
        for index in 0..self.received {
            // SAFETY: received <= SLOTS. What a receive call changes in a header is set again.
            unsafe {
                let header = &raw mut (*self.receive.as_ptr().add(index)).msg_hdr;
                (*header).msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                (*header).msg_controllen = if self.has_control { CONTROL_OCTETS as _ } else { 0 };
            }
        }
        self.received = 0;
        // SAFETY: the headers and all they point to are ours, valid and unaliased for the call; width is at most
        // SLOTS, their number. The descriptor is open: `socket` is borrowed. A null time-out is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.receive.as_ptr(),
                self.width as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.received = count.min(SLOTS);
        self.width = if self.received == self.width {
            SLOTS.min(2 * self.width)
        } else {
            self.received.max(1)
        };
        Ok(self.received)
    }

    /// Lets `respond` answer the packet received into slot `index` and queues what it wrote. `respond` gets the
    /// query, who sent it, which local address it was sent to, and room for the response; it gives the length.
    pub(super) fn answer(&mut self, index: usize, respond: impl FnOnce(&[u8], SocketAddr, Option<IpAddr>, &mut [u8]) -> Option<usize>) {
        if index >= self.received || self.queued >= SLOTS {
            return;
        }
        // SAFETY: index < received <= SLOTS. The header and the slot are not in use by the kernel now, and
        // these are the only references to them; they end with this method.
        let (slot, header) = unsafe { (&mut *self.slots.as_ptr().add(index), &*self.receive.as_ptr().add(index)) };
        let Some(peer) = peer_of(&slot.peer) else {
            return;
        };
        let octets = (header.msg_len as usize).min(QUERY_OCTETS_MAX);
        // Its type is usize with one C library and u32 with another.
        #[allow(clippy::unnecessary_cast)]
        let control_len = (header.msg_hdr.msg_controllen as usize).min(CONTROL_OCTETS);
        let control_len = if self.has_control { control_len } else { 0 };
        let local = turn_round(&mut slot.control, control_len);
        let query = slot.query.get(..octets).unwrap_or(&[]);
        let Some(len) = respond(query, peer, local, &mut slot.response) else {
            return;
        };
        let [_, send_iovec] = &mut slot.iovecs;
        send_iovec.iov_len = len.min(UDP_OCTETS_MAX);
        // SAFETY: queued < SLOTS. The header gets pointers into the slot, which stays where it is; nothing else
        // uses the header now. The address length is the one that the kernel gave for this very address.
        unsafe {
            let slot = self.slots.as_ptr().add(index);
            let send = &raw mut (*self.send.as_ptr().add(self.queued)).msg_hdr;
            (*send).msg_name = (&raw mut (*slot).peer).cast();
            (*send).msg_namelen = header.msg_hdr.msg_namelen;
            (*send).msg_iov = (&raw mut (*slot).iovecs[1]).cast();
            (*send).msg_iovlen = 1;
            (*send).msg_control = if local.is_some() {
                (&raw mut (*slot).control).cast()
            } else {
                ptr::null_mut()
            };
            (*send).msg_controllen = if local.is_some() { control_len as _ } else { 0 };
        }
        self.queued += 1;
    }

    /// Sends what is queued; how many the kernel did not take. Never waits: when the kernel's buffer is full,
    /// a dropped response costs a retry, a blocked lane costs everybody's.
    pub(super) fn send(&mut self, socket: &Socket) -> usize {
        let mut at = 0;
        let mut failed = 0;
        while at < self.queued {
            // SAFETY: at < queued <= SLOTS; the headers from there on are filled, and what they point to is valid
            // and not written to during the call.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.send.as_ptr().add(at),
                    (self.queued - at) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => at += sent,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // The error is about the first of them; the others may go to more willing peers.
                _ => {
                    failed += 1;
                    at += 1;
                }
            }
        }
        self.queued = 0;
        failed
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: these came from `leak` with SLOTS elements each, and nothing uses them any more.
        unsafe {
            reclaim(self.slots);
            reclaim(self.receive);
            reclaim(self.send);
        }
    }
}

/// Has the kernel say with each packet which address it was sent to, so that the response comes from there.
///
/// # Errors
/// Those of the socket option.
pub(super) fn want_local_address(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    let octets = mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open, and `on` is an int that lives through the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), octets) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes memory that only raw pointers reach.
fn leak<T>(items: Box<[T]>) -> NonNull<T> {
    debug_assert_eq!(items.len(), SLOTS);
    NonNull::from(Box::leak(items)).cast()
}

/// Frees what [`leak`] made.
///
/// # Safety
/// `first` came from `leak` and is not used afterwards.
unsafe fn reclaim<T>(first: NonNull<T>) {
    // SAFETY: the caller's promise; leak's boxes have SLOTS elements.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first.as_ptr(), SLOTS)) });
}

/// The address in a `sockaddr`.
fn peer_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is large enough and aligned for sockaddr_in, plain data; the family says it is one.
            let v4 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Reads the local address from the control message that came with a query, and makes of it the one that sends
/// the response from there. The interface is left to routing, except where an address means nothing without.
fn turn_round(control: &mut [u8; CONTROL_OCTETS], len: usize) -> Option<IpAddr> {
    let head_octets = mem::size_of::<libc::cmsghdr>();
    if len < head_octets {
        return None;
    }
    // SAFETY: the array is as long as a cmsghdr; read_unaligned asks for no alignment; plain data.
    let head = unsafe { ptr::read_unaligned(control.as_ptr().cast::<libc::cmsghdr>()) };
    // SAFETY: CMSG_LEN only computes.
    let (v4_len, v6_len) = unsafe {
        (
            libc::CMSG_LEN(mem::size_of::<libc::in_pktinfo>() as u32) as usize,
            libc::CMSG_LEN(mem::size_of::<libc::in6_pktinfo>() as u32) as usize,
        )
    };
    let said = (head.cmsg_len as usize).min(len);
    // The data begins behind the header, which has the data's alignment already on all our systems; CMSG_LEN(0) says where.
    // SAFETY: CMSG_LEN only computes.
    let data_at = unsafe { libc::CMSG_LEN(0) } as usize;
    let data = control.get_mut(data_at..)?;
    if head.cmsg_level == libc::IPPROTO_IP && head.cmsg_type == libc::IP_PKTINFO && said >= v4_len {
        // in_pktinfo: interface index, local address, address in the packet's header.
        let [_, _, _, _, a, b, c, d, ..] = *data else {
            return None;
        };
        data.get_mut(..4)?.fill(0);
        return Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    }
    if head.cmsg_level == libc::IPPROTO_IPV6 && head.cmsg_type == libc::IPV6_PKTINFO && said >= v6_len {
        // in6_pktinfo: address, interface index.
        let ip = Ipv6Addr::from(*data.first_chunk::<16>()?);
        if !ip.is_unicast_link_local() {
            data.get_mut(16..20)?.fill(0);
        }
        return Some(IpAddr::V6(ip));
    }
    None
}
