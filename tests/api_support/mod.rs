//! What the API's tests share: requests made by hand, over any stream.

#![allow(dead_code, reason = "each test binary uses its own part")]

use crate::support::{PATIENCE, Site};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An application in two regions whose probes say what the database is.
pub const SHOP: &str = r#"
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
cooldown = "0s"
[app.shop.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
[[app.shop.probe]]
kind = "http"
url = "http://shop.example.net:{web}/healthz"
interval = "300ms"
timeout = "200ms"
fall = 1
rise = 1
[app.cart]
name = "cart.example.net."
regions = ["iad", "fra"]
[app.cart.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
"#;

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands a status; gives the body.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Demands an error; gives its body.
    pub fn expect_error(self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert!(body["message"].as_str().is_some_and(|text| text.len() > 10), "{body}");
        assert!(body["detail"].is_object(), "{body}");
        body
    }
}

/// A request's text; `headers` may name another `Host`.
pub fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text
}

/// Sends octets and reads to the end; none when no response came.
pub fn exchange(mut stream: impl Read + Write, octets: &[u8]) -> Option<Reply> {
    // A server that has heard enough may close while we still write; its response is what counts.
    let _ = stream.write_all(octets);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// A TCP connection that does not wait for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A request to a site over TCP.
pub fn ask(site: &Site, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Reply {
    let text = request(method, path, &site.api.to_string(), headers, body);
    exchange(connect(site.api), text.as_bytes()).unwrap_or_else(|| panic!("no response to {text}; log: {}", site.log()))
}

/// A GET.
pub fn get(site: &Site, path: &str) -> Reply {
    ask(site, "GET", path, &[], None)
}

/// A POST of JSON.
pub fn post(site: &Site, path: &str, body: &Value) -> Reply {
    ask(site, "POST", path, &[("Content-Type", "application/json")], Some(&body.to_string()))
}

/// Writes the site's config with more keys in `[api]`.
pub fn write_config(site: &Site, app: &str, api: &str) {
    site.write_config(app);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let more = text.replacen("socket = \"api.sock\"\n", &format!("socket = \"api.sock\"\n{api}\n"), 1);
    assert_ne!(text, more);
    std::fs::write(site.config(), more).unwrap();
}
