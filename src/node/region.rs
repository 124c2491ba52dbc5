//! A little region for the demo: a web server that says how it is and which role its database has, and that can be
//! broken, mended, promoted and demoted from outside.
//!
//! ```text
//! GET  /healthz   200 {"status":"ok","database":{"role":"primary"}}, 503 while broken
//! POST /break  /mend  /promote  /demote
//! GET  /          a line of text that names the region
//! ```
//! One request a connection, bodies of requests are not read. Deliberately absent: everything a web server would need
//! elsewhere; the probes and `curl` are its only clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Most octets of a request's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest time one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What the region is at the moment.
#[derive(Debug)]
pub struct Region {
    name: String,
    broken: AtomicBool,
    primary: AtomicBool,
}

impl Region {
    /// A region that works.
    pub fn new(name: &str, primary: bool) -> Arc<Region> {
        Arc::new(Region {
            name: name.to_owned(),
            broken: AtomicBool::new(false),
            primary: AtomicBool::new(primary),
        })
    }

    /// Serves until the task is dropped.
    pub async fn serve(self: Arc<Region>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let region = self.clone();
                    tokio::spawn(async move {
                        // A client that goes away or dawdles is its own problem.
                        let _ = tokio::time::timeout(REQUEST_TIMEOUT, region.answer(stream, peer)).await;
                    });
                }
                // Out of file descriptors: let some go first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Answers one request.
    async fn answer(&self, mut stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut chunk = [0; 1024];
        while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
            match stream.read(&mut chunk).await? {
                0 => return Ok(()),
                count => head.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            }
        }
        let head = String::from_utf8_lossy(&head);
        let mut words = head.split_ascii_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, kind, body) = self.respond(method, path);
        if method == "POST" && status == "200 OK" {
            tracing::info!(region = %self.name, %peer, "demo region: {}", path.trim_start_matches('/'));
        }
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// Status line, content type and body for a request.
    fn respond(&self, method: &str, path: &str) -> (&'static str, &'static str, String) {
        match (method, path) {
            ("GET" | "HEAD", "/healthz") => self.health(),
            ("GET" | "HEAD", "/") => ("200 OK", "text/plain", format!("hello from {}\n", self.name)),
            ("POST", "/break") => self.change(&self.broken, true),
            ("POST", "/mend") => self.change(&self.broken, false),
            ("POST", "/promote") => self.change(&self.primary, true),
            ("POST", "/demote") => self.change(&self.primary, false),
            (_, "/break" | "/mend" | "/promote" | "/demote") => ("405 Method Not Allowed", "text/plain", "use POST\n".to_owned()),
            _ => (
                "404 Not Found",
                "text/plain",
                "GET /healthz, POST /break /mend /promote /demote\n".to_owned(),
            ),
        }
    }

    /// Sets one of the two facts and says what the region is now.
    fn change(&self, fact: &AtomicBool, value: bool) -> (&'static str, &'static str, String) {
        fact.store(value, Ordering::Relaxed);
        let (broken, primary) = (self.broken.load(Ordering::Relaxed), self.primary.load(Ordering::Relaxed));
        let state = if broken { "broken" } else { "works" };
        let role = if primary { "primary" } else { "standby" };
        ("200 OK", "text/plain", format!("{} {state}, its database is {role}\n", self.name))
    }

    /// The answer that the probes read.
    fn health(&self) -> (&'static str, &'static str, String) {
        let role = if self.primary.load(Ordering::Relaxed) {
            "primary"
        } else {
            "standby"
        };
        let (status, word) = if self.broken.load(Ordering::Relaxed) {
            ("503 Service Unavailable", "broken")
        } else {
            ("200 OK", "ok")
        };
        let body = serde_json::json!({ "region": self.name, "status": word, "database": { "role": role } });
        (status, "application/json", format!("{body}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_breaks_mends_and_changes_its_database_role() {
        let region = Region::new("iad", true);
        assert!(region.respond("GET", "/healthz").2.contains(r#""role":"primary""#));
        assert_eq!(region.respond("POST", "/break").0, "200 OK");
        assert_eq!(region.respond("GET", "/healthz").0, "503 Service Unavailable");
        assert_eq!(region.respond("POST", "/mend").0, "200 OK");
        assert_eq!(region.respond("POST", "/demote").0, "200 OK");
        let (status, _, body) = region.respond("GET", "/healthz");
        assert_eq!(status, "200 OK");
        assert!(body.contains(r#""role":"standby""#));
        assert_eq!(region.respond("GET", "/break").0, "405 Method Not Allowed");
    }
}
