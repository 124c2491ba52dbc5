//! `reload-on-change`: reloads when every watched file has been quiet for [`QUIET`].
//!
//! Folders are watched rather than files, because editors and config management replace files by renaming. A change in
//! the same folder that concerns none of our files is ignored. Which files are ours changes with each reload, whoever asked for it: what a
//! config newly names is followed from then on, also where the reload was refused because of it.

use crate::control::{Handle, ReloadRequest};
use crate::model::Actor;
use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long nothing may change before a reload.
pub const QUIET: Duration = Duration::from_secs(2);

/// What is watched.
struct Watched {
    watcher: RecommendedWatcher,
    /// Our files, absolute; the watcher's thread reads them.
    files: Arc<ArcSwap<BTreeSet<PathBuf>>>,
    /// The folders that are watched for them.
    folders: BTreeSet<PathBuf>,
}

/// Follows the files of the config until the task is dropped.
///
/// # Errors
/// When the system's watch cannot be set up at all; a folder that cannot be watched is told in the log.
pub async fn run(handle: Handle) -> Result<(), notify::Error> {
    let (sender, mut changed) = mpsc::channel::<()>(1);
    let mut files = handle.files();
    let mut watched = Watched::new(sender.clone())?;
    watched.follow(&files.borrow_and_update());
    loop {
        tokio::select! {
            Some(()) = changed.recv() => {}
            Ok(()) = files.changed() => {
                if watched.follow(&files.borrow_and_update()) {
                    // It may have changed after it was read and before it was watched.
                    let _ = sender.try_send(());
                }
                continue;
            }
            else => return Ok(()),
        }
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
}

impl Watched {
    /// Nothing yet; changes will be told to `sender`.
    fn new(sender: mpsc::Sender<()>) -> Result<Watched, notify::Error> {
        let files: Arc<ArcSwap<BTreeSet<PathBuf>>> = Arc::default();
        let ours = files.clone();
        let watcher = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
            let ours = ours.load();
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| ours.contains(path))) {
                // Full means that a change is known already.
                let _ = sender.try_send(());
            }
        })?;
        Ok(Watched {
            watcher,
            files,
            folders: BTreeSet::new(),
        })
    }

    /// Follows these files, absolute or relative to the working folder, and no others; whether there are new ones among them.
    fn follow(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let files: BTreeSet<PathBuf> = files.iter().filter_map(|file| std::path::absolute(file).ok()).collect();
        let has_new = !files.is_subset(&self.files.load());
        let folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        self.files.store(Arc::new(files));
        for folder in self.folders.difference(&folders) {
            // Fails where the folder is gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        self.folders.retain(|folder| folders.contains(folder));
        for folder in folders {
            if self.folders.contains(&folder) {
                continue;
            }
            // One folder that is gone must not keep the others from being followed.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder)),
                Err(error) => {
                    tracing::error!(folder = %folder.display(), "changes of files there are not noticed, reload by hand: {error}");
                }
            }
        }
        has_new
    }
}
