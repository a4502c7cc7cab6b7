//! The lab's own network namespace: made without a name in `/run/netns`, entered by threads that
//! end there.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::gettid;

use crate::error::{LabError, errno, io};

/// A network namespace with a handle on the file system. It lives until the handle is unmounted
/// and its last process has ended.
#[derive(Debug)]
pub(crate) struct Namespace {
    handle: PathBuf,
}

impl Namespace {
    /// Makes an empty one.
    pub(crate) fn create(handle: PathBuf) -> Result<Self, LabError> {
        File::create(&handle).map_err(io("make the namespace's handle"))?;
        let at = handle.clone();
        in_own_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(errno("make a network namespace"))?;
            let here = format!("/proc/self/task/{}/ns/net", gettid());
            mount(Some(here.as_str()), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(errno("keep the network namespace"))
        })?;
        Ok(Self { handle })
    }

    /// Its handle.
    pub(crate) fn handle(&self) -> &Path {
        &self.handle
    }

    /// A program that is to run inside.
    pub(crate) fn program(&self, name: &str) -> Program {
        Program::new("nsenter").arg(format!("--net={}", self.handle.display())).arg(name)
    }

    /// Listens on an address inside.
    pub(crate) fn listen(&self, at: SocketAddr) -> Result<tokio::net::TcpListener, LabError> {
        let listener = self.inside(move || {
            let listener = TcpListener::bind(at)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        tokio::net::TcpListener::from_std(listener).map_err(io("listen for a node"))
    }

    /// Connects to an address inside.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        patience: Duration,
    ) -> std::io::Result<tokio::net::TcpStream> {
        let handle = self.handle.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let connect = || {
                setns(File::open(handle)?, CloneFlags::CLONE_NEWNET)?;
                let connection = TcpStream::connect_timeout(&to, patience)?;
                connection.set_nonblocking(true)?;
                connection.set_nodelay(true)?;
                // Closing must reach the agent at once, also past input that a hung command does
                // not take: a plain end of the connection would queue behind it for ever.
                let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&connection, sockopt::Linger, &at_once)?;
                Ok(connection)
            };
            // Nobody waits any more if the caller's deadline has passed.
            let _ = tell.send(connect());
        });
        let connection: std::io::Result<TcpStream> =
            told.await.map_err(|_| std::io::Error::other("the connecting thread died"))?;
        tokio::net::TcpStream::from_std(connection?)
    }

    /// Does something quick in a thread inside; sockets stay in the namespace they were made in.
    fn inside<T: Send>(
        &self,
        act: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> Result<T, LabError> {
        in_own_thread(|| {
            let handle = File::open(&self.handle).map_err(io("open the lab's namespace"))?;
            setns(handle, CloneFlags::CLONE_NEWNET).map_err(errno("enter the lab's namespace"))?;
            act().map_err(io("use the lab's network"))
        })
    }
}

/// Threads that have changed their namespace must not be used for anything else.
fn in_own_thread<T: Send>(act: impl FnOnce() -> Result<T, LabError> + Send) -> Result<T, LabError> {
    std::thread::scope(|scope| scope.spawn(act).join()).unwrap_or_else(|_| {
        Err(io("run a thread of its own")(std::io::Error::other("the thread panicked")))
    })
}
