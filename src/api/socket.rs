//! The Unix socket: its file, and who is at its other end.
//!
//! The file has mode 0660, so the owner and the group come in. A file that a dead server left is replaced; one on which
//! somebody answers is not. At the stop it is removed, unless another server has put its own there.

use super::StartError;
use super::caller::Peer;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use std::ffi::CString;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A bound socket's file.
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode: ours.
    identity: (u64, u64),
    group: u32,
}

impl Bound {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its group: whose members may change things.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Removes the file if it is still ours.
    pub fn remove(self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|data| (data.dev(), data.ino()) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

/// Binds the socket.
pub(super) async fn bind(path: &Path) -> Result<(Bound, UnixListener), StartError> {
    let fault = |what: String| StartError::Socket {
        path: path.to_owned(),
        what,
    };
    clear(path).await.map_err(fault)?;
    let listener = UnixListener::bind(path).map_err(|error| {
        let folder = path.parent().unwrap_or(Path::new("")).display();
        fault(format!(
            "{error}; the folder {folder} must exist and be writable, and the path have at most 107 octets"
        ))
    })?;
    let made = std::fs::set_permissions(path, Permissions::from_mode(MODE)).and_then(|()| std::fs::symlink_metadata(path));
    let data = made.map_err(|error| fault(error.to_string()))?;
    let bound = Bound {
        path: path.to_owned(),
        identity: (data.dev(), data.ino()),
        group: data.gid(),
    };
    Ok((bound, listener))
}

/// Removes what a dead server left.
async fn clear(path: &Path) -> Result<(), String> {
    let data = match std::fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !data.file_type().is_socket() {
        return Err("there is something that is no socket; move it away, or set another `socket` in [api]".to_owned());
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
            let holder = pid.map_or_else(|| "another server".to_owned(), crate::holder::process_named);
            Err(format!("{holder} answers there; stop it, or set another `socket` in [api]"))
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(|error| error.to_string()),
        Err(error) => Err(format!("whether another server answers there is unclear: {error}")),
    }
}

/// Who is at the other end. Looks into the user database, which may take long: not for the runtime's threads.
pub(super) fn peer(uid: u32, gid: u32, group: u32) -> Peer {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let is_member = || {
        let Some(user) = &user else { return false };
        let Ok(name) = CString::new(user.name.as_bytes()) else {
            return false;
        };
        getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(group)))
    };
    let may_change = uid == 0 || uid == geteuid().as_raw() || gid == group || is_member();
    Peer::Unix {
        uid,
        may_change,
        user: user.map(|user| user.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_the_servers_user_and_the_group_change_things() {
        let may = |uid, gid| match peer(uid, gid, 4_000_000) {
            Peer::Unix { may_change, .. } => may_change,
            Peer::Tcp { .. } => panic!("a peer of the socket is one of the socket"),
        };
        // Users and groups that no machine has.
        assert!(!may(4_000_001, 4_000_001));
        assert!(may(4_000_001, 4_000_000));
        assert!(may(0, 4_000_001));
        assert!(may(geteuid().as_raw(), 4_000_001));
    }
}
