//! The socket over which a person's own programs speak to a running node.
//!
//! Invariant: it is a file of this machine, and whoever connects is the same user, or the one who may do everything anyway.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// One connection: a stream of bytes both ways.
pub type ControlStream = UnixStream;

/// The node's end.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlListener {
    /// Listens at `path`. What a node that was killed has left there is replaced.
    ///
    /// # Errors
    /// `AddrInUse` where a node answers there; `AlreadyExists` where something else is there; and what the system says, for one
    /// that the path is too long (108 bytes).
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            match UnixStream::connect(path).await {
                Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(_) => fs::remove_file(path)?,
            }
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let path = path.to_path_buf();
        Ok(ControlListener { listener, path })
    }

    /// The next connection of the same user. Those of others are closed at once: they may have come before the permissions were set.
    ///
    /// # Errors
    /// What the system says.
    pub async fn accept(&self) -> io::Result<ControlStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let theirs = stream.peer_cred()?.uid();
            if theirs == 0 || theirs == rustix::process::getuid().as_raw() {
                return Ok(stream);
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // A node that starts later replaces it where this fails.
        drop(fs::remove_file(&self.path));
    }
}

/// Connects to the node that listens at `path`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` where no node runs, and what the system says.
pub async fn connect_control(path: &Path) -> io::Result<ControlStream> {
    UnixStream::connect(path).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn one_node_listens_and_what_a_killed_one_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sock");
        let absent = connect_control(&path).await.unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        // A socket without anybody behind it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let gone = connect_control(&path).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);

        let listener = ControlListener::bind(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = ControlListener::bind(&path).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        // The visit of the second one is the first that is accepted.
        drop(listener.accept().await.unwrap());
        let mut ours = connect_control(&path).await.unwrap();
        let mut theirs = listener.accept().await.unwrap();
        ours.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sock");
        fs::write(&path, "letters").unwrap();
        let refused = ControlListener::bind(&path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"letters");
    }
}
