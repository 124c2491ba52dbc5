//! `GET /v1/events`: what happens from now on, as server-sent events.
//!
//! Each event carries its number as `id`. The number of clients is bounded, and so is what waits for one: a client that
//! falls behind gets an event `missed` with the count and goes on from there; it reads the rest from `/v1/ledger`. Events
//! before the connection are not repeated: numbers begin anew with each start of the node.

use super::Api;
use super::caller::Caller;
use super::error::ApiError;
use super::listen::stopped;
use super::tokens::Tokens;
use crate::control::Event;
use crate::ledger::Hash;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Interval;

/// Most clients at a time.
pub(super) const CLIENTS_MAX: usize = 64;
/// A comment goes out after so long without an event, so that both ends see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One client's place in the stream of events.
struct Follower {
    events: Receiver<Arc<Event>>,
    stopping: watch::Receiver<bool>,
    /// Whether the first comment is out.
    greeted: bool,
    /// The token that the client came with: whoever loses it hears no more.
    token: Option<(Arc<Tokens>, Hash)>,
    /// When the token is looked at again.
    look: Interval,
    /// Given back when the client goes.
    _permit: OwnedSemaphorePermit,
}

/// `GET /v1/events`.
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let permit = api.event_clients.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{CLIENTS_MAX} clients follow the events already; end one, or read /v1/ledger");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-clients", message)
    })?;
    let follower = Follower {
        events: api.handle.events(),
        stopping: api.stopping.subscribe(),
        greeted: false,
        token: api.tokens.clone().zip(caller.token()),
        look: tokio::time::interval(HEARTBEAT),
        _permit: permit,
    };
    let stream = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

impl Follower {
    /// The next event; none when the server stops, or the client may not read any more.
    async fn next(&mut self) -> Option<sse::Event> {
        if !self.greeted {
            // Something at once: proxies and clients see that the stream is open, and nothing after this is lost.
            self.greeted = true;
            return Some(sse::Event::default().comment("events from now on"));
        }
        let received = loop {
            tokio::select! {
                received = self.events.recv() => break received,
                () = stopped(&mut self.stopping) => return None,
                _ = self.look.tick() => {
                    if let Some((tokens, hash)) = &self.token && !tokens.may_read(*hash).await {
                        return None;
                    }
                }
            }
        };
        match received {
            Ok(event) => Some(show(&event)),
            Err(RecvError::Lagged(count)) => Some(missed(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// An event as it goes out.
fn show(event: &Event) -> sse::Event {
    // JSON has no bare line breaks, so the data is one line.
    sse::Event::default()
        .id(event.id.to_string())
        .event(event.what.kind())
        .data(json!(event).to_string())
}

/// What a client that fell behind gets.
fn missed(count: u64) -> sse::Event {
    let data = json!({ "event": "missed", "missed": count });
    sse::Event::default().event("missed").data(data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Happening;
    use crate::model::{AppId, RegionHealth, RegionId, Wall};
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use tokio::sync::{Semaphore, broadcast};

    /// An event.
    fn event(id: u64) -> Arc<Event> {
        let what = Happening::Health {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            from: RegionHealth::Healthy,
            to: RegionHealth::Unhealthy,
            reason: "two\nlines".to_owned(),
        };
        Arc::new(Event { id, time: Wall(0), what })
    }

    #[tokio::test]
    async fn a_client_that_falls_behind_is_told_how_much_it_missed() {
        let (sender, events) = broadcast::channel(2);
        let (stop, stopping) = watch::channel(false);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        for id in 1..=5 {
            sender.send(event(id)).unwrap();
        }
        let mut follower = Follower {
            events,
            stopping,
            greeted: true,
            token: None,
            look: tokio::time::interval(HEARTBEAT),
            _permit: permit,
        };
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(follower.next().await.unwrap());
        }
        stop.send_replace(true);
        assert!(follower.next().await.is_none());
        let stream = stream::iter(seen.into_iter().map(Ok::<_, Infallible>));
        let body = Sse::new(stream).into_response().into_body().collect().await.unwrap();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        let begins: Vec<&str> = text.split("\n\n").map(|one| one.split("data:").next().unwrap()).collect();
        assert_eq!(
            begins,
            ["event: missed\n", "id: 4\nevent: health\n", "id: 5\nevent: health\n", ""],
            "{text}"
        );
        assert!(text.contains(r#""missed":3"#), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_loses_the_token_hears_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let entry = |name: &str, token: &str| {
            let hash = Hash::of(token.as_bytes());
            format!("[[token]]\nname = {name:?}\nrole = \"viewer\"\nsha256 = \"{hash}\"\n")
        };
        std::fs::write(&path, entry("ada", "one") + &entry("bob", "two")).unwrap();
        let tokens = Arc::new(Tokens::open(&path).await.unwrap());
        let (sender, events) = broadcast::channel(2);
        let (_stop, stopping) = watch::channel(false);
        let mut follower = Follower {
            events,
            stopping,
            greeted: true,
            token: Some((tokens, Hash::of(b"one"))),
            look: tokio::time::interval(HEARTBEAT),
            _permit: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
        };
        sender.send(event(1)).unwrap();
        assert!(follower.next().await.is_some());
        let silent = tokio::time::timeout(HEARTBEAT * 3, follower.next()).await;
        assert!(silent.is_err(), "the token is good, and nothing happens");
        std::fs::write(&path, entry("bob", "two")).unwrap();
        let ended = tokio::time::timeout(HEARTBEAT * 2, follower.next()).await;
        assert!(ended.is_ok_and(|event| event.is_none()));
    }
}
