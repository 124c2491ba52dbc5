//! What a node keeps beside the ledger: the last accepted config, roles, verdicts, and the log of their changes.
//!
//! Each is replaced whole by renaming, so that a reader finds the old one or the new one. The last accepted config
//! and the roles are made durable with fsync: they are what a start falls back to.

use super::StoreError;
use super::file::sync_dir;
use crate::health::Saved;
use crate::ledger::Hash;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Size at which the health log is rotated; one older one is kept.
const LOG_OCTETS_MAX: u64 = 8 << 20;

/// The last accepted config with its zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// Every file under the path it was read from, the config first.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Over all of them.
    pub sha256: String,
}

/// The table of contents of the copy.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Over all files, as [`sha256_of_files`] gives it.
    sha256: String,
    /// The paths the files were read from; file n is kept under the name n.
    files: Vec<PathBuf>,
}

/// SHA-256 over files with their names, hex: each part preceded by its length, so that no two sets read alike.
pub fn sha256_of_files(files: &[(PathBuf, Vec<u8>)]) -> String {
    let mut all = Vec::new();
    for (path, octets) in files {
        for part in [path.as_os_str().as_encoded_bytes(), octets] {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
    }
    Hash::of(&all).to_string()
}

/// Replaces the copy of the last accepted set.
pub(super) fn write_last_good(data_dir: &Path, files: &[(PathBuf, Vec<u8>)], sha256: &str) -> Result<(), StoreError> {
    let [current, old, new] = ["last-good", "last-good.old", "last-good.new"].map(|name| data_dir.join(name));
    if read_copy(&current).is_ok_and(|copy| copy.sha256 == sha256) {
        return Ok(());
    }
    remove_dir(&new)?;
    // Configs may hold secrets, such as a probe's `Authorization`: their copies are for the server's own user.
    let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(&new);
    make.map_err(StoreError::io("create", &new))?;
    for (number, (_, octets)) in files.iter().enumerate() {
        write_durable(&new.join(number.to_string()), octets)?;
    }
    let manifest = Manifest {
        sha256: sha256.to_owned(),
        files: files.iter().map(|(path, _)| path.clone()).collect(),
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(|error| StoreError::Content {
        path: new.clone(),
        what: error.to_string(),
    })?;
    write_durable(&new.join("manifest.json"), &json)?;
    sync_dir(&new)?;
    // A crash between the two renames leaves the old copy under its other name, where `read_last_good` looks too; it
    // must stay there until the new one has its place.
    if current.exists() {
        remove_dir(&old)?;
        fs::rename(&current, &old).map_err(StoreError::io("rename", &current))?;
    }
    fs::rename(&new, &current).map_err(StoreError::io("rename", &new))?;
    sync_dir(data_dir)?;
    remove_dir(&old)
}

/// Reads the last accepted set.
///
/// # Errors
/// When there is none, or it is not what was written.
pub fn read_last_good(data_dir: &Path) -> Result<LastGood, StoreError> {
    read_copy(&data_dir.join("last-good")).or_else(|error| read_copy(&data_dir.join("last-good.old")).map_err(|_| error))
}

/// Reads one copy and checks it against its own hash.
fn read_copy(dir: &Path) -> Result<LastGood, StoreError> {
    let path = dir.join("manifest.json");
    let json = fs::read(&path).map_err(StoreError::io("read", &path))?;
    let content = |what: String| StoreError::Content { path: path.clone(), what };
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|error| content(error.to_string()))?;
    let mut files = Vec::new();
    for (number, original) in manifest.files.into_iter().enumerate() {
        let copy = dir.join(number.to_string());
        files.push((original, fs::read(&copy).map_err(StoreError::io("read", &copy))?));
    }
    if sha256_of_files(&files) != manifest.sha256 {
        return Err(content("its files are not those that were accepted".to_owned()));
    }
    Ok(LastGood {
        files,
        sha256: manifest.sha256,
    })
}

/// Saves the verdicts.
pub(super) fn write_health(data_dir: &Path, saved: &Saved) -> Result<(), StoreError> {
    let path = data_dir.join("health.json");
    let json = serde_json::to_vec(saved).map_err(|error| StoreError::Content {
        path: path.clone(),
        what: error.to_string(),
    })?;
    replace(&path, &json)
}

/// Reads the saved verdicts; none when there are none.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn read_health(data_dir: &Path) -> Result<Option<Saved>, StoreError> {
    let path = data_dir.join("health.json");
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| StoreError::Content {
            path,
            what: error.to_string(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io {
            what: "read",
            path,
            source,
        }),
    }
}

/// Saves the published roles, durably: they are what answers when the ledger is corrupt.
pub(super) fn write_roles(data_dir: &Path, json: &[u8]) -> Result<(), StoreError> {
    let path = data_dir.join("roles.json");
    let new = path.with_extension("new");
    write_durable(&new, json)?;
    fs::rename(&new, &path).map_err(StoreError::io("rename", &new))?;
    sync_dir(data_dir)
}

/// Reads the last published roles.
///
/// # Errors
/// When the file cannot be read.
pub fn read_roles(data_dir: &Path) -> Result<Vec<u8>, StoreError> {
    let path = data_dir.join("roles.json");
    fs::read(&path).map_err(StoreError::io("read", &path))
}

/// Writes a file for the server's own user and makes it durable.
fn write_durable(path: &Path, octets: &[u8]) -> Result<(), StoreError> {
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    write().map_err(StoreError::io("write", path))
}

/// Replaces a file by renaming, without fsync.
fn replace(path: &Path, octets: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    fs::write(&new, octets).map_err(StoreError::io("write", &new))?;
    fs::rename(&new, path).map_err(StoreError::io("rename", &new))
}

/// Removes a folder with what is in it; one that is not there is fine.
fn remove_dir(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::Io {
            what: "remove",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// The log of changes of verdicts: rotated, not synced.
pub(super) struct HealthLog {
    /// The file written to.
    path: PathBuf,
}

impl HealthLog {
    /// The log of a data dir.
    pub fn new(data_dir: &Path) -> HealthLog {
        HealthLog {
            path: data_dir.join("health.log"),
        }
    }

    /// Adds lines.
    pub fn write(&self, lines: &str) -> Result<(), StoreError> {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.len() > LOG_OCTETS_MAX) {
            fs::rename(&self.path, self.path.with_extension("log.1")).map_err(StoreError::io("rotate", &self.path))?;
        }
        let write = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?
                .write_all(lines.as_bytes())
        };
        write().map_err(StoreError::io("write to", &self.path))
    }
}
