//! `respond` allocates nothing, whatever is asked: counted by the allocator itself.

mod answer_support;

use answer_support::*;
use pointsman::answer::{Out, Snapshot, Transport, UDP_OCTETS_MAX, respond};
use pointsman::model::{Answer, Name};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what the current thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it is; counting touches a thread-local cell
// without a destructor and does not allocate.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn respond_allocates_nothing() {
    let text = "$TTL 300\nexample. SOA ns.example. h.example. 1 2 3 4 5\nexample. NS ns.example.\nns.example. A 192.0.2.1\nwww.example. CNAME app.example.\n\
        *.wild.example. A 192.0.2.2\nsub.example. NS ns.sub.example.\nns.sub.example. A 192.0.2.3\ndn.example. DNAME wild.example.\n";
    let inputs = [
        steered(
            "app.example.",
            30,
            &[],
            None,
            addresses(&["192.0.2.10", "192.0.2.11", "2001:db8::1"]),
        ),
        steered("host.example.", 30, &[], None, Answer::Host(Name::parse("www.example.").unwrap())),
        steered("down.example.", 30, &[], None, Answer::Servfail),
    ];
    let snapshot = Snapshot::build(&[zone("example.", text)], &inputs, 7);
    let names =
        "example. www.example. app.example. host.example. down.example. nx.example. x.wild.example. a.sub.example. b.dn.example. other. .";
    let mut packets = vec![vec![], vec![0; 12], vec![0xff; 100]];
    for name in names.split(' ') {
        for qtype in [1, 28, 5, 15, 255, 252] {
            packets.extend([None, Some((4096, true))].map(|edns| query(&Name::parse(name).unwrap(), qtype, edns)));
        }
    }
    let mut room = vec![0; UDP_OCTETS_MAX];
    let before = ALLOCATIONS.with(Cell::get);
    for packet in &packets {
        let _ = respond(&snapshot, packet, &ctx(Transport::Udp, 3), &mut Out::new(&mut room));
    }
    assert_eq!(
        ALLOCATIONS.with(Cell::get),
        before,
        "allocations while answering {} packets",
        packets.len()
    );
    let checked = Box::new(before); // the counter does count
    assert!(ALLOCATIONS.with(Cell::get) > *checked);
}
