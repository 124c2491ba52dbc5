//! What runs in this process and not at a server: `serve`, `check`, `demo`.

use super::outcome::{Failure, Outcome, complain, say};
use crate::node::{self, CheckOptions, DemoOptions, ServeOptions};
use crate::telemetry::init_logging;
use std::path::PathBuf;

/// `serve`.
pub(super) async fn serve(config: PathBuf, answer_only: bool) -> Outcome {
    init_logging();
    Ok(node::serve(ServeOptions { config, answer_only }).await?)
}

/// `check`: done when the config may be served.
pub(super) fn check(config: PathBuf, json: bool) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let checked = node::check(&CheckOptions { config, json }, &mut out, &mut err);
    let fine = checked.map_err(|error| Failure::failed(format!("writing the findings: {error}")))?;
    complain(&String::from_utf8_lossy(&err));
    let said = say(&String::from_utf8_lossy(&out));
    // The verdict stands, whether or not anybody reads the findings.
    if fine { said } else { Err(Failure::Told) }
}

/// `demo`.
pub(super) async fn demo(options: DemoOptions) -> Outcome {
    init_logging();
    Ok(node::demo(options).await?)
}
