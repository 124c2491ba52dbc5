//! The tcp kind.

use super::*;
use pointsman::model::TcpProbe;

fn tcp(port: u16, send: Option<&[u8]>, expect: Option<&[u8]>) -> ProbeKind {
    ProbeKind::Tcp(TcpProbe {
        port,
        send: send.map(<[u8]>::to_vec),
        expect: expect.map(<[u8]>::to_vec),
    })
}

#[tokio::test]
async fn a_connection_passes_and_a_refused_one_does_not() {
    let open = server(|mut stream| async move { hold(&mut stream).await }).await;
    passes(&run(tcp(open.port(), None, None), "127.0.0.1", LIMIT).await);
    passes(&run(tcp(open.port(), Some(b"hello"), None), "127.0.0.1", LIMIT).await);
    let refused = run(tcp(closed_port().await, None, None), "127.0.0.1", LIMIT).await;
    fails(&refused, FailReason::Connect, "connection refused");
}

#[tokio::test]
async fn ipv6_is_probed_too() {
    let open = server_on("[::1]:0", |mut stream| async move { hold(&mut stream).await }).await;
    passes(&run(tcp(open.port(), None, None), "::1", LIMIT).await);
}

#[tokio::test]
async fn what_is_expected_must_come_in_however_many_pieces() {
    let echo = server(|mut stream| async move {
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        for byte in [b"junk +", &word[..], b"!"].concat() {
            stream.write_all(&[byte]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        hold(&mut stream).await;
    })
    .await;
    passes(&run(tcp(echo.port(), Some(b"PING"), Some(b"+PING!")), "127.0.0.1", LIMIT).await);
    let limit = Duration::from_millis(300);
    let other = run(tcp(echo.port(), Some(b"PING"), Some(b"+PONG")), "127.0.0.1", limit).await;
    fails(&other, FailReason::Timeout, "no expected data within 300ms");
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    let seen = run(tcp(silent.port(), None, Some(b"x")), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no answer within 300ms");
    let slow = server(|mut stream| async move { trickle(&mut stream, b"a").await }).await;
    let seen = run(tcp(slow.port(), None, Some(b"x")), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no expected data within 300ms");
    let endless = server(|mut stream| async move { flood(&mut stream, &[b'a'; 8192]).await }).await;
    let seen = run(tcp(endless.port(), None, Some(b"x")), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Content, "expected data is not in the first 65536 octets");
    let closing = server(|mut stream| async move { stream.write_all(b"bye").await.unwrap() }).await;
    let seen = run(tcp(closing.port(), None, Some(b"x")), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Content, "connection closed before the expected data came");
    let reset = server(|stream| async move { socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap() }).await;
    let seen = run(tcp(reset.port(), None, Some(b"x")), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Connect, "connection reset by the peer");
}
