//! A network namespace of the test's own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use dockline_exec::Program;
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that lives as long as this value, or a process in it.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes one, with its loopback device up. Needs root.
    pub async fn new() -> anyhow::Result<Self> {
        // A thread of its own leaves the machine's namespace; this one stays in it.
        let made = std::thread::spawn(|| -> anyhow::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace: run the tests as root")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let namespace = Self(made.join().map_err(|_| anyhow!("the thread panicked"))??);
        namespace.program("ip").args(["link", "set", "lo", "up"]).run().await?;
        Ok(namespace)
    }

    /// The namespace as a path, for `nsenter --net=` and the like, while this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// A program that will run in the namespace.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.path());
        Program::new("nsenter").arg(net).arg("--").arg(program)
    }

    /// Runs a closure on a thread in the namespace and gives its result.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> anyhow::Result<T> {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter")?;
                Ok(run())
            });
            thread.join().map_err(|panic| std::panic::resume_unwind(panic)).and_then(|done| done)
        })
    }

    /// Runs asynchronous code to its end in the namespace: sockets it opens belong there.
    pub fn block_on<T: Send>(&self, run: impl AsyncFnOnce() -> T + Send) -> anyhow::Result<T> {
        self.inside(|| -> anyhow::Result<T> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(run()))
        })?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
