//! The http and tls kinds against servers that want to be a burden: what they could send is counted.

use super::http::{containing, get};
use super::tls::Authority;
use super::*;
use pointsman::model::{HttpProbe, HttpVersion};
use std::sync::atomic::{AtomicU64, Ordering};

/// What each of these servers sends when it is let: 1 GiB.
const ALL: u64 = 1 << 30;
/// Most that may get lost in the buffers of both sockets.
const BUFFERED: u64 = 16 << 20;

/// A server that reads a little, sends `first`, and then `again` until it was let send 1 GiB; with how much it sent.
async fn sending(first: &'static [u8], again: Vec<u8>) -> (SocketAddr, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let again = Arc::new(again);
    let there = server(move |mut stream| {
        let (counted, again) = (Arc::clone(&counted), Arc::clone(&again));
        async move {
            let mut hello = [0; 16];
            let _ = stream.read(&mut hello).await;
            if stream.write_all(first).await.is_err() {
                return;
            }
            while counted.load(Ordering::SeqCst) < ALL {
                match stream.write(&again).await {
                    // A part of `again` would be another message.
                    Ok(count) if stream.write_all(&again[count..]).await.is_ok() => {
                        counted.fetch_add(again.len() as u64, Ordering::SeqCst);
                    }
                    _ => return,
                }
            }
        }
    })
    .await;
    (there, sent)
}

fn at(there: SocketAddr) -> HttpProbe {
    get(&format!("http://shop.invalid:{}/", there.port()))
}

async fn probe(probe: HttpProbe) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", LIMIT).await
}

/// Asserts that the server could not get rid of more than the buffers hold.
#[track_caller]
fn bounded(sent: &AtomicU64) {
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < BUFFERED, "{sent} octets");
}

#[tokio::test]
async fn a_gibibyte_of_header_fields_is_not_read() {
    let long = "the header fields of the answer are too large";
    for again in [
        vec![b'x'; 8192],
        b"A: b\r\n".repeat(1000),
        b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(200),
    ] {
        let (there, sent) = sending(b"HTTP/1.1 200 OK\r\nX: ", again).await;
        fails(&probe(at(there)).await, FailReason::Protocol, long);
        bounded(&sent);
    }
    let (there, sent) = sending(b"HTTP/1.1 200 ", vec![b'O'; 8192]).await;
    fails(&probe(at(there)).await, FailReason::Protocol, long);
    bounded(&sent);
    let (there, sent) = sending(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)).await;
    fails(
        &probe(at(there)).await,
        FailReason::Protocol,
        "the server sends more octets than an answer may have",
    );
    bounded(&sent);
}

#[tokio::test]
async fn a_gibibyte_of_body_is_not_read() {
    let endless: &[(&[u8], Vec<u8>)] = &[
        (b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 8192]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", vec![b'x'; 8192]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n".repeat(1000)),
    ];
    for (first, again) in endless {
        let (there, sent) = sending(first, again.clone()).await;
        passes(&probe(at(there)).await);
        bounded(&sent);
        let (there, sent) = sending(first, again.clone()).await;
        let seen = run_spec(&containing(&at(there), "never"), "127.0.0.1").await;
        fails(&seen, FailReason::Content, "body is longer than 65536 octets");
        bounded(&sent);
    }
    let (there, sent) = sending(b"HTTP/1.1 503 No\r\n\r\n", vec![b'x'; 8192]).await;
    let says = format!("HTTP 503, expected 200; body says \"{}…\"", "x".repeat(120));
    fails(&probe(at(there)).await, FailReason::Status, &says);
    bounded(&sent);
    let (there, sent) = sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", vec![b'1'; 8192]).await;
    fails(&probe(at(there)).await, FailReason::Protocol, "the answer is no valid HTTP");
    bounded(&sent);
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn floods_of_http_2_are_bounded() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// SETTINGS, and HEADERS of stream 1 that go on: `:status 200`.
    const HEADERS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0x88];
    let field = |octets: usize| {
        // A literal field, not indexed (RFC 7541 section 6.2.2): name `x`, a value of so many octets below 127.
        let mut field = vec![0, 1, b'x', u8::try_from(octets).unwrap()];
        field.extend(vec![b'y'; octets]);
        field
    };
    // A field of 2000 octets that is put into the table (RFC 7541 section 6.2.1), and then taken from it a hundred times.
    let bomb = [&[0x88, 0x40, 1, b'x', 0x7f, 0xd1, 0x0e][..], &[b'y'; 2000], &[0xbe; 100]].concat();
    let cases = [
        ("bomb", SETTINGS, frame(1, 4, 1, &bomb)),
        ("CONTINUATION", HEADERS, frame(9, 0, 1, &field(100).repeat(100))),
        ("empty CONTINUATION", HEADERS, frame(9, 0, 1, &[])),
        ("SETTINGS", SETTINGS, frame(4, 0, 0, &[])),
        ("PING", SETTINGS, frame(6, 0, 0, &[0; 8])),
        ("unknown", SETTINGS, frame(0xee, 0, 0, &[0; 1000])),
    ];
    for (name, first, again) in cases {
        let (there, sent) = sending(first, again.repeat(if name == "bomb" { 1 } else { 10 })).await;
        let mut asked = at(there);
        asked.version = HttpVersion::Two;
        let seen = run(ProbeKind::Http(Box::new(asked)), "127.0.0.1", Duration::from_secs(1)).await;
        assert_eq!(seen.reason, Some(FailReason::Protocol), "{name}: {seen:?}");
        match name {
            // Whichever of both is found first: the list of fields, or what follows it.
            "bomb" => {
                assert!(seen.message == "the header fields of the answer are too large" || seen.message == "the answer is no valid HTTP/2")
            }
            "CONTINUATION" | "empty CONTINUATION" => assert_eq!(seen.message, "the answer is no valid HTTP/2"),
            // Allowed, but not so many.
            _ => assert_eq!(seen.message, "the server sends more octets than an answer may have", "{name}"),
        }
        bounded(&sent);
    }
}

#[tokio::test]
async fn floods_in_the_handshake_are_bounded() {
    let authority = Authority::new("ours");
    let cases: [(&'static [u8], Vec<u8>); 3] = [
        (b"", vec![0; 8192]),
        // Records of type handshake, of the largest length, of a message of 16 MiB (RFC 8446 sections 4 and 5.1).
        (
            &[22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff],
            [&[22, 3, 3, 0x40, 0][..], &[0; 0x4000]].concat(),
        ),
        // Alerts of level warning.
        (b"", [21, 3, 3, 0, 2, 1, 90].repeat(1000)),
    ];
    for (first, again) in cases {
        let (there, sent) = sending(first, again).await;
        let seen = probe(authority.get(there)).await;
        assert_eq!(seen.reason, Some(FailReason::Tls), "{seen:?}");
        bounded(&sent);
    }
}
