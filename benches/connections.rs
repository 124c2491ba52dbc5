//! Load generator for `benches/transports.sh`: a new TCP connection for every query, which dnsperf makes only hundreds of.
//!
//! `connections ADDRESS SECONDS` asks `app01.app.example. A` from eight threads, checks every answer, and prints answers
//! a second and the share of failures. Without arguments, as `cargo bench` calls it, it tries itself
//! against a listener of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Connections that are open at the same time.
const THREADS: usize = 8;
/// The query with its length.
const QUERY: &[u8] = b"\x00\x23\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05app01\x03app\x07example\x00\x00\x01\x00\x01";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match arguments.as_slice() {
        [address, seconds] => {
            let (address, seconds) = (address.parse().unwrap(), seconds.parse().unwrap());
            let (answers, failures) = load(address, Duration::from_secs(seconds));
            println!(
                "{} {:.2}",
                answers / seconds,
                100.0 * failures as f64 / (answers + failures).max(1) as f64
            );
        }
        _ => try_itself(),
    }
}

/// Asks for so long; answers and failures.
fn load(address: SocketAddr, time: Duration) -> (u64, u64) {
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            std::thread::spawn(move || {
                let (end, mut answers, mut failures) = (Instant::now() + time, 0, 0);
                while Instant::now() < end {
                    match ask(address) {
                        Ok(()) => answers += 1,
                        Err(_) => failures += 1,
                    }
                }
                (answers, failures)
            })
        })
        .collect();
    let sums = threads.into_iter().map(|thread| thread.join().unwrap());
    sums.fold((0, 0), |sum, (answers, failures)| (sum.0 + answers, sum.1 + failures))
}

/// One connection, one query, one answer, checked: the ID, that it is an answer, NOERROR, with a record.
fn ask(server: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(QUERY)?;
    let mut answer = [0; 512];
    let mut length = 0;
    while length < 14 || length < 2 + usize::from(u16::from_be_bytes([answer[0], answer[1]])) {
        match stream.read(&mut answer[length..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            octets => length += octets,
        }
    }
    let is_right = answer[2..4] == QUERY[2..4] && answer[4] & 0x80 != 0 && answer[5] & 0x0f == 0 && answer[9] == 1;
    if is_right {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

/// Asks a listener that answers right, then one that does not.
fn try_itself() {
    for (flags, expected) in [(0x80, true), (0x00, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut query = [0; QUERY.len()];
            stream.read_exact(&mut query).unwrap();
            query[4] |= flags;
            query[9] = 1;
            stream.write_all(&query).unwrap();
        });
        assert_eq!(ask(address).is_ok(), expected);
        answering.join().unwrap();
    }
    println!("connections: it tells right answers from wrong ones");
}
