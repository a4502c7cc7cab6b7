//! The one doorway to other programs: run one, with a deadline, and get its output or an error
//! that names the command.
//!
//! Every program gets a clean environment (`PATH` of the system folders, `LC_ALL=C`), no standard
//! input unless some is given, and its own process group, which is killed whole when the deadline
//! passes or the caller goes away. Arguments are passed as they are; no shell is involved.
//! It does not interpret output.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long a program may take unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(20);

/// The most that is kept of each of a program's two outputs, in bytes; the rest is read and dropped.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// How much of a failed program's standard error its error message repeats, in bytes.
const STDERR_SHOWN: usize = 1024;

/// The folders programs are looked for in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("cannot run `{command}`: is the program installed?")]
    NotStarted {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was killed at its deadline; what it had done by then is unknown.
    #[error("`{command}` did not end within {} s and was killed", deadline.as_secs_f32())]
    TimedOut {
        /// The command line.
        command: String,
        /// The time it was given.
        deadline: Duration,
    },
    /// It said that it failed.
    #[error("`{command}` failed ({status}){}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code, or the signal that ended it.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// Its input or output broke.
    #[error("lost the output of `{command}`")]
    Io {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a program that ended left behind.
#[derive(Debug)]
pub struct Output {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// What it wrote to standard output, at most 16 MiB of it.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most 16 MiB of it.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// A program to run.
#[derive(Debug, Clone)]
#[must_use = "a program does nothing until it is run"]
pub struct Program {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Program {
    /// The program of this name in the system's folders, or at this path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stdin: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment, which is otherwise `PATH` and `LC_ALL=C` only.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in this folder.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Gives it this on standard input.
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Sets how long it may take; 20 seconds unless told otherwise.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end and fails unless it exits with 0.
    pub async fn run(&self) -> Result<Output, ExecError> {
        let output = self.output().await?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stderr = stderr.trim();
        let from = (stderr.len().saturating_sub(STDERR_SHOWN)..=stderr.len())
            .find(|&at| stderr.is_char_boundary(at))
            .unwrap_or(0);
        Err(ExecError::Failed {
            command: self.to_string(),
            status: output.status,
            stderr: stderr[from..].to_owned(),
        })
    }

    /// Runs it to its end, whatever its exit code.
    pub async fn output(&self) -> Result<Output, ExecError> {
        let started = std::time::Instant::now();
        let result = tokio::time::timeout(self.deadline, self.to_end()).await;
        let result = result.unwrap_or_else(|_| {
            Err(ExecError::TimedOut { command: self.to_string(), deadline: self.deadline })
        });
        let exit = result.as_ref().ok().map(|output| output.status.to_string());
        tracing::debug!(command = %self, elapsed_ms = started.elapsed().as_millis(), exit, "ran");
        result
    }

    /// Starts it as a companion that is spoken to over a socket: its standard input is the other
    /// end of the one that is returned. What it writes elsewhere goes where this process's goes.
    ///
    /// It has no deadline and is never killed: it ends by itself when the socket is closed. For
    /// programs that must not die at any odd moment.
    pub fn start_with_socket(&self) -> Result<Companion, ExecError> {
        let not_started = |source| ExecError::NotStarted { command: self.to_string(), source };
        let (own, its) = std::os::unix::net::UnixStream::pair().map_err(not_started)?;
        own.set_nonblocking(true).map_err(not_started)?;
        let child = self
            .command()
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .map_err(not_started)?;
        let pid = child.id();
        let socket = UnixStream::from_std(own).map_err(not_started)?;
        Ok(Companion { pid, socket, child })
    }

    /// Runs it to its end however long that takes, and never kills it: if the caller goes away, it
    /// goes on. For programs that must not die between two steps; its deadline does not count.
    pub async fn output_unkilled(&self) -> Result<Output, ExecError> {
        let lost = |source| ExecError::Io { command: self.to_string(), source };
        // Files and not pipes: with nobody left to read them, a pipe would kill it.
        let (stdout, stderr) = (unnamed_file().map_err(lost)?, unnamed_file().map_err(lost)?);
        let into = |file: &File| file.try_clone().map(Stdio::from).map_err(lost);
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(into(&stdout)?)
            .stderr(into(&stderr)?)
            .process_group(0)
            .spawn()
            .map_err(|source| ExecError::NotStarted { command: self.to_string(), source })?;
        let status = child.wait().await.map_err(lost)?;
        let read = |mut file: File| {
            let mut kept = Vec::new();
            file.rewind()?;
            file.take(OUTPUT_LIMIT).read_to_end(&mut kept)?;
            Ok(kept)
        };
        let (stdout, stderr) = (read(stdout).map_err(lost)?, read(stderr).map_err(lost)?);
        Ok(Output { status, stdout, stderr })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the doorway the rule leads to")]
    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).env_clear().env("PATH", PATH).env("LC_ALL", "C");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    async fn to_end(&self) -> Result<Output, ExecError> {
        let lost = |source| ExecError::Io { command: self.to_string(), source };
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = self
            .command()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| ExecError::NotStarted { command: self.to_string(), source })?;
        let mut group = ProcessGroup::of(&child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let fed = async {
            if let Some(mut pipe) = stdin {
                // A program that does not read all of its input says so by its exit code.
                let _ = pipe.write_all(&self.stdin).await;
            }
            Ok(())
        };
        let ((), stdout, stderr) =
            tokio::try_join!(fed, collect(stdout), collect(stderr)).map_err(lost)?;
        let status = child.wait().await.map_err(lost)?;
        group.ended();
        Ok(Output { status, stdout, stderr })
    }
}

/// A file in memory that goes with its last user.
fn unnamed_file() -> std::io::Result<File> {
    Ok(memfd_create("output", MFdFlags::MFD_CLOEXEC)?.into())
}

/// A program that runs beside this one.
#[derive(Debug)]
pub struct Companion {
    /// Its process id, unless it has ended at once.
    pub pid: Option<u32>,
    /// This side of the socket that is its standard input.
    pub socket: UnixStream,
    child: tokio::process::Child,
}

impl Companion {
    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and says how it ended.
    pub async fn ended(mut self) -> std::io::Result<ExitStatus> {
        drop(self.socket);
        self.child.wait().await
    }
}

/// Reads a pipe to its end and keeps its first [`OUTPUT_LIMIT`] bytes.
async fn collect(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// Kills the program and what it started when dropped before its end.
#[derive(Debug)]
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended in this moment; then there is nothing left to kill.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl fmt::Display for Program {
    /// The command line as a shell would take it, for messages only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
            if !arg.is_empty() && arg.chars().all(plain) {
                write!(f, " {arg}")?;
            } else {
                write!(f, " '{}'", arg.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

/// The exit code a shell would report: the program's own, or 128 and the signal that ended it.
pub fn shell_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn large_output_on_both_pipes_does_not_deadlock() {
        let output = sh("head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero").run().await;
        let output = output.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (1_000_000, 1_000_000));
    }

    #[tokio::test]
    async fn a_failure_names_the_command_the_code_and_the_reason() {
        let error = sh("echo 'no room' >&2; exit 5").run().await.unwrap_err().to_string();
        assert_eq!(
            error,
            "`sh -c 'echo '\\''no room'\\'' >&2; exit 5'` failed (exit status: 5): no room"
        );
        let missing = Program::new("no-such-program").run().await.unwrap_err().to_string();
        assert_eq!(missing, "cannot run `no-such-program`: is the program installed?");
    }

    #[tokio::test]
    async fn the_deadline_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let script = "(sleep 30; touch late) & echo $! > child; wait";
        let program = sh(script).folder(folder.path()).deadline(Duration::from_millis(300));
        assert!(matches!(program.run().await, Err(ExecError::TimedOut { .. })));
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let patience = std::time::Instant::now();
        while !gone() && patience.elapsed() < Duration::from_secs(5) {
            tokio::task::yield_now().await;
        }
        assert!(gone(), "the background child outlived its group");
    }

    #[tokio::test]
    async fn a_signal_and_odd_bytes_are_reported() {
        let killed = sh("kill -9 $$").output().await.unwrap();
        assert_eq!(shell_code(killed.status), 137);
        let odd = sh("printf '\\377'").run().await.unwrap();
        assert_eq!(odd.stdout, [0xff]);
    }

    #[tokio::test]
    async fn the_environment_is_clean_and_input_arrives() {
        let output = sh("echo $HOME $LC_ALL $ADDED; cat").env("ADDED", "yes").stdin("fed");
        assert_eq!(output.run().await.unwrap().text(), "C yes\nfed");
    }

    #[tokio::test]
    async fn what_must_not_be_killed_goes_on_without_its_caller() {
        let ended = sh("echo out; echo err >&2; exit 3").output_unkilled().await.unwrap();
        assert_eq!((ended.text().as_str(), ended.stderr.as_slice()), ("out", &b"err\n"[..]));
        assert_eq!(shell_code(ended.status), 3);

        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = "echo $$ >started; read line <go; echo noise; echo done >done";
        let program = sh(script).folder(folder.path());
        let (done, started) = (folder.path().join("done"), folder.path().join("started"));
        let run = tokio::spawn(async move { program.output_unkilled().await });
        until(|| started.exists()).await;
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        std::fs::write(folder.path().join("go"), "go\n").unwrap();
        until(|| done.exists()).await;
    }

    async fn until(condition: impl Fn() -> bool) {
        let patience = std::time::Instant::now();
        while !condition() {
            assert!(patience.elapsed() < Duration::from_secs(5), "it does not come true");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_companion_is_spoken_to_and_ends_with_its_socket() {
        // It answers on the socket, which is its standard input, and waits there for the end.
        let mut companion =
            sh("read line; echo \"$line back\" >&0; read line").start_with_socket().unwrap();
        companion.socket.write_all(b"there and\n").await.unwrap();
        let mut answer = [0; 15];
        companion.socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"there and back\n");
        let ended = companion.ended().await.unwrap();
        assert_eq!(shell_code(ended), 1, "`read` fails at the end of its input");
    }
}
