//! Taking a Unix socket.
//!
//! A socket file outlives its process, so one that is there may be stale or in use. A lock file in
//! the daemon's own run folder decides: whoever holds it may replace the socket, once a connection
//! to it has been refused. Nothing but the socket is put into the socket's own folder, since Docker
//! probes whatever it finds in its plugin folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Connections that wait to be accepted; the kernel's own limit is 4096.
const BACKLOG: i32 = 256;

/// Why a socket could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process of ours has it.
    #[error("{socket} is served by another process (it holds {lock}): stop that one first")]
    Locked {
        /// The socket.
        socket: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// A process that is not ours answers on it.
    #[error("{0} is in use by another program: stop it or choose another path")]
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{0} exists and is not a socket: move it away")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A listening socket that this process owns.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket; `None` for a socket that systemd made and keeps.
    lock: Option<Flock<File>>,
}

impl Socket {
    /// Takes the socket at `path`: the one systemd passed, or a new one of mode 0600.
    ///
    /// Both folders are made if they are missing. `lock` names the daemon's lock file.
    pub fn take(path: &Path, lock: &Path, inherited: &mut Inherited) -> Result<Self, SocketError> {
        if let Some(listener) = inherited.take(path) {
            return Ok(Self { listener, path: path.to_owned(), lock: None });
        }
        for folder in [path.parent(), lock.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        }
        let lock = take_lock(path, lock)?;
        remove_stale(path)?;
        let listener = listen_at(path)?;
        Ok(Self { listener, path: path.to_owned(), lock: Some(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A dead socket costs dockerd 15 s at every probe, so it is not left behind.
        if self.lock.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SocketError + 'a {
    move |source| SocketError::Io { doing, path: path.to_owned(), source }
}

fn take_lock(socket: &Path, lock: &Path) -> Result<Flock<File>, SocketError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock);
    let file = file.map_err(failed("open the lock file", lock))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => {
            SocketError::Locked { socket: socket.to_owned(), lock: lock.to_owned() }
        }
        other => failed("lock", lock)(other.into()),
    })
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let there = match std::fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("remove the stale socket", path))
        }
        Err(error) => Err(failed("probe", path)(error)),
    }
}

/// Makes a socket that was never open to anyone but its owner: the mode is set before it has a
/// name. (Linux gives a bound socket the mode of its inode less the umask.)
fn listen_at(path: &Path) -> Result<UnixListener, SocketError> {
    let refused = |errno: nix::errno::Errno| failed("listen on", path)(errno.into());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(refused)?;
    fchmod(fd.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR).map_err(refused)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path).map_err(refused)?).map_err(refused)?;
    listen(&fd, Backlog::new(BACKLOG).map_err(refused)?).map_err(refused)?;
    Ok(fd.into())
}

/// The sockets that systemd passed to this process.
#[derive(Debug, Default)]
pub struct Inherited(Vec<UnixListener>);

impl Inherited {
    /// Takes them from the environment; there are none without socket activation.
    pub fn from_env() -> Self {
        let mut passed = listenfd::ListenFd::from_env();
        let taken = (0..passed.len()).filter_map(|at| passed.take_unix_listener(at).ok().flatten());
        Self(taken.collect())
    }

    fn take(&mut self, path: &Path) -> Option<UnixListener> {
        let is_it = |listener: &UnixListener| {
            listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
        };
        let at = self.0.iter().position(is_it)?;
        let listener = self.0.swap_remove(at);
        listener.set_nonblocking(true).ok()?;
        Some(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn take(folder: &Path) -> Result<Socket, SocketError> {
        let path = folder.join("plugins/x.sock");
        Socket::take(&path, &folder.join("run/x.lock"), &mut Inherited::default())
    }

    #[test]
    fn only_its_owner_may_connect_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let socket = take(folder.path()).unwrap();
        let path = socket.path().to_owned();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins/x.sock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let alien = UnixListener::bind(&path).unwrap();
        assert!(matches!(take(folder.path()), Err(SocketError::InUse(_))));
        drop(alien);
        let socket = take(folder.path()).unwrap();
        assert!(matches!(take(folder.path()), Err(SocketError::Locked { .. })));
        assert!(UnixStream::connect(socket.path()).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins/x.sock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(take(folder.path()), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn an_inherited_socket_is_adopted_by_its_path_and_left_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let mut inherited = Inherited(vec![UnixListener::bind(&path).unwrap()]);
        let socket = Socket::take(&path, &folder.path().join("x.lock"), &mut inherited).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
