//! `kind = "feed"`: health and role that others measure, from a file that is watched or posted to the API.
//!
//! ```text
//!  file ──mtime──┐
//!                ├─▶ latest, with its age ─▶ older than `max-age`: no evidence
//!  POST ──Feeds──┘
//! ```
//!
//! The content is a JSON object. Without `expect` its member `healthy` decides and `message` says why; without `role`
//! its member `role` may be `active` or `passive`. A feed that is missing, cannot be read or is too old says nothing of
//! the endpoint: the probe could not run (reason `internal`), so the verdict goes to `unknown` and not to `unhealthy`.
//! What comes is looked at at once, not only at the next interval. Deliberately absent: who may post (`api`).

use super::files::Files;
use super::words::{clip, failure};
use super::{Found, Kind, LostFuture, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, FeedProbe, FeedSource, Observed, ProbeTarget, fact_number, show_duration};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// Most octets of a feed.
pub const FEED_OCTETS_MAX: usize = 64 * 1024;
/// How often a file is looked at between runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Most characters of a message in a feed.
const MESSAGE_CHARS_MAX: usize = 200;

/// What was posted last to each feed. Bounded by the feeds of the config: the API takes no others.
#[derive(Debug, Default)]
pub struct Feeds {
    posted: Mutex<HashMap<String, watch::Sender<Option<Posted>>>>,
}

/// One content with its time.
#[derive(Debug, Clone)]
struct Posted {
    /// When it came.
    at: Instant,
    /// When it came by the wall clock, which goes on while this machine is suspended.
    wall: SystemTime,
    /// What it says.
    content: Arc<Vec<u8>>,
}

impl Feeds {
    /// Takes a content in; probes that wait for it run at once.
    pub fn post(&self, id: &str, content: Vec<u8>) {
        let posted = Posted {
            at: Instant::now(),
            wall: SystemTime::now(),
            content: Arc::new(content),
        };
        self.sender(id).send_replace(Some(posted));
    }

    /// Follows one feed.
    fn follow(&self, id: &str) -> watch::Receiver<Option<Posted>> {
        self.sender(id).subscribe()
    }

    /// The place of a feed.
    fn sender(&self, id: &str) -> watch::Sender<Option<Posted>> {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.entry(id.to_owned()).or_insert_with(|| watch::channel(None).0).clone()
    }

    /// Forgets feeds that no config names any more.
    pub fn keep(&self, known: impl Fn(&str) -> bool) {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.retain(|id, _| known(id));
    }
}

impl Posted {
    /// How old it is, by the clock that says more: the one stands still while this machine is suspended, the other may be set back.
    fn age(&self) -> Duration {
        self.at.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

/// One probe at one endpoint.
pub(super) struct Feed {
    /// Where the content comes from.
    from: From,
    /// How old it may be.
    max_age: Duration,
    /// Whether the config says what is expected, so that `healthy` is not asked for.
    judged: bool,
    /// Reads the file.
    files: Arc<Files>,
}

/// Where the content comes from.
enum From {
    /// A file, its stamp when it was read last, and since when that stamp has been seen.
    File(PathBuf, Option<(SystemTime, Instant)>),
    /// What was posted under an id.
    Posted(String, watch::Receiver<Option<Posted>>),
}

impl Feed {
    /// The probe at its target; `judged` says that the config has an `expect` of its own.
    pub fn new(probe: &FeedProbe, judged: bool, target: &ProbeTarget, feeds: &Feeds, files: &Arc<Files>) -> Feed {
        let place = |text: &str| FeedProbe::at(text, &target.region, &target.endpoint);
        let from = match &probe.source {
            FeedSource::File(path) => From::File(PathBuf::from(place(&path.to_string_lossy())), None),
            FeedSource::Posted(id) => {
                let id = place(id);
                let follow = feeds.follow(&id);
                From::Posted(id, follow)
            }
        };
        Feed {
            from,
            max_age: probe.max_age,
            judged,
            files: Arc::clone(files),
        }
    }

    /// One run.
    async fn check(&mut self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        let mut observed = None;
        let result = self.look(stage, &mut exposed, &mut observed).await;
        Found { result, observed, exposed }
    }

    /// The latest content against its own words.
    async fn look(&mut self, stage: &Stage, exposed: &mut Exposed, observed: &mut Option<Observed>) -> Result<String, Failure> {
        let shown = self.shown();
        let (content, age) = self.latest(stage).await?;
        exposed.fact("age-seconds", fact_number(age.as_secs_f64()));
        if age > self.max_age {
            let (age, most) = (Duration::from_secs(age.as_secs()), self.max_age);
            let message = format!("{shown} is {} old, at most {} is fresh", show_duration(age), show_duration(most));
            return Err(failure(FailReason::Internal, message));
        }
        let parsed: Value = serde_json::from_slice(&content).map_err(|error| {
            let place = (error.line(), error.column());
            failure(
                FailReason::Internal,
                format!("{shown} is no JSON (line {}, column {})", place.0, place.1),
            )
        })?;
        exposed.set_body(Ok(content));
        *observed = match parsed.get("role").and_then(Value::as_str) {
            Some("active") => Some(Observed::Active),
            Some("passive") => Some(Observed::Passive),
            Some(_) => Some(Observed::None),
            None => None,
        };
        let message = parsed.get("message").and_then(Value::as_str).unwrap_or_default();
        let message = clip(message, MESSAGE_CHARS_MAX);
        match parsed.get("healthy").and_then(Value::as_bool) {
            _ if self.judged => Ok(message),
            Some(true) => Ok(message),
            Some(false) if message.is_empty() => Err(failure(FailReason::Status, format!("{shown} says that it is not healthy"))),
            Some(false) => Err(failure(FailReason::Status, message)),
            None => Err(failure(
                FailReason::Internal,
                format!("{shown} does not say `healthy`: true or false"),
            )),
        }
    }

    /// The latest content and its age.
    async fn latest(&mut self, stage: &Stage) -> Result<(Vec<u8>, Duration), Failure> {
        match &mut self.from {
            From::File(path, seen) => {
                let shown = path.display().to_string();
                let lost = |error: std::io::Error| failure(FailReason::Internal, format!("{shown} cannot be read: {error}"));
                let (content, modified) = self.files.read(path, FEED_OCTETS_MAX + 1, stage).await.map_err(lost)?;
                let since = match seen {
                    Some((stamp, since)) if *stamp == modified => *since,
                    _ => Instant::now(),
                };
                *seen = Some((modified, since));
                if content.len() > FEED_OCTETS_MAX {
                    let message = format!("{shown} is larger than {FEED_OCTETS_MAX} octets");
                    return Err(failure(FailReason::Internal, message));
                }
                // A time ahead of the clock is a clock that was set. The stamp is then no measure; how long it has been seen here is.
                let ahead = modified.duration_since(SystemTime::now()).unwrap_or_default();
                if ahead > self.max_age {
                    let message = format!(
                        "{shown} is dated {} ahead of this node's clock",
                        show_duration(Duration::from_secs(ahead.as_secs()))
                    );
                    return Err(failure(FailReason::Internal, message));
                }
                Ok((content, modified.elapsed().unwrap_or_default().max(since.elapsed())))
            }
            From::Posted(id, follow) => match &*follow.borrow_and_update() {
                Some(posted) => Ok((posted.content.to_vec(), posted.age())),
                None => Err(failure(FailReason::Internal, format!("nothing was posted to the feed {id} yet"))),
            },
        }
    }

    /// What it is called in messages.
    fn shown(&self) -> String {
        match &self.from {
            From::File(path, _) => path.display().to_string(),
            From::Posted(id, _) => format!("the feed {id}"),
        }
    }

    /// Waits until there is something new.
    async fn wait_for_news(&mut self) {
        match &mut self.from {
            From::File(path, seen) => loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let now = self.files.modified(path).await.ok();
                if now.is_some() && now != seen.map(|(stamp, _)| stamp) {
                    return;
                }
            },
            From::Posted(_, follow) => {
                if follow.changed().await.is_err() {
                    // The feed is gone with its config, and so will this probe be.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Kind for Feed {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }

    /// News is a reason to run as good as a lost connection.
    fn lost(&mut self) -> LostFuture<'_> {
        Box::pin(self.wait_for_news())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppId, Endpoint, RegionId};

    #[tokio::test(start_paused = true)]
    async fn a_time_stamp_ahead_of_the_clock_keeps_nothing_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("iad.json");
        std::fs::write(&path, r#"{"healthy": true}"#).unwrap();
        let dated = |ahead: Duration| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() + ahead).unwrap();
        };
        let max_age = Duration::from_secs(60);
        let source = FeedSource::File(path.clone());
        let mut feed = Feed::new(&FeedProbe { source, max_age }, false, &target(), &Feeds::default(), &Arc::default());
        let stage = Stage::new();
        dated(Duration::from_secs(3600));
        let failure = feed.latest(&stage).await.unwrap_err();
        assert!(
            failure.reason == FailReason::Internal && failure.message.contains("ahead of"),
            "{failure:?}"
        );
        // A little ahead is a clock that differs a little: fresh, and older from then on.
        dated(Duration::from_secs(50));
        assert!(feed.latest(&stage).await.unwrap().1 < max_age);
        tokio::time::advance(max_age * 2).await;
        assert!(
            feed.latest(&stage).await.unwrap().1 >= max_age * 2,
            "the same stamp has been seen for two minutes"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_posted_ages_by_the_clock_that_says_more() {
        let feeds = Feeds::default();
        let probe = FeedProbe {
            source: FeedSource::Posted("shop".to_owned()),
            max_age: Duration::from_secs(60),
        };
        let mut feed = Feed::new(&probe, false, &target(), &feeds, &Arc::default());
        feeds.post("shop", br#"{"healthy": true}"#.to_vec());
        assert_eq!(feed.check(&Stage::new()).await.result, Ok(String::new()));
        // Suspended: the wall clock went on, the monotonic one did not.
        let posted = |wall: SystemTime| {
            let content = Arc::new(br#"{"healthy": true}"#.to_vec());
            let at = Instant::now();
            feeds.sender("shop").send_replace(Some(Posted { at, wall, content }));
        };
        posted(SystemTime::now() - Duration::from_secs(3600));
        let failure = feed.check(&Stage::new()).await.result.unwrap_err();
        assert!(
            failure.reason == FailReason::Internal && failure.message.contains("old"),
            "{failure:?}"
        );
        // The wall clock was set back: the monotonic one goes on.
        posted(SystemTime::now() + Duration::from_secs(3600));
        assert_eq!(feed.check(&Stage::new()).await.result, Ok(String::new()));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(feed.check(&Stage::new()).await.result.unwrap_err().reason, FailReason::Internal);
    }

    fn target() -> ProbeTarget {
        ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint: Endpoint::Address([192, 0, 2, 1].into()),
            address: [192, 0, 2, 1].into(),
            probe: 0,
        }
    }
}
