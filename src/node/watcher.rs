//! `reload-on-change`: reloads when every watched file has been quiet for [`QUIET`].
//!
//! Folders are watched rather than files, because editors and config management replace files by renaming. A change in
//! the same folder that concerns none of our files is ignored.

use crate::control::{Handle, ReloadRequest};
use crate::model::Actor;
use notify::{RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long nothing may change before a reload.
pub const QUIET: Duration = Duration::from_secs(2);

/// Watches the files until the task is dropped. `files` are absolute or relative to the working folder.
///
/// # Errors
/// When the system's watch cannot be set up at all; a folder that cannot be watched is told in the log.
pub async fn run(files: Vec<PathBuf>, handle: Handle) -> Result<(), notify::Error> {
    let (sender, mut changed) = mpsc::channel::<()>(1);
    let names: BTreeSet<PathBuf> = files.iter().filter_map(|file| std::path::absolute(file).ok()).collect();
    let watched = names.clone();
    let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
        let concerns_us = event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| watched.contains(path)));
        if concerns_us {
            // Full means that a change is known already.
            let _ = sender.try_send(());
        }
    })?;
    let folders: BTreeSet<&Path> = names.iter().filter_map(|file| file.parent()).collect();
    for folder in folders {
        // One folder that is gone must not keep the others from being followed.
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::error!(folder = %folder.display(), "changes of files there are not noticed, reload by hand: {error}");
        }
    }
    while changed.recv().await.is_some() {
        // Further changes start the wait anew.
        while let Ok(Some(())) = tokio::time::timeout(QUIET, changed.recv()).await {}
        let request = ReloadRequest {
            force: false,
            reason: "files changed".to_owned(),
            actor: Actor::Node,
            request_id: None,
        };
        match handle.reload(request).await {
            Ok(receipt) => tracing::info!(seq = receipt.seq.0, "reloaded after files changed"),
            Err(error) => super::serve::log_refusal("files changed", &error),
        }
    }
    Ok(())
}
