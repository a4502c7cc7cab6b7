//! One command of one connection: started, fed, its output sent, killed when the lab hangs up.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{program, terminal};
use crate::wire::{CHUNK, Kind, Mode, Request, read, write};

/// How long the outputs may stay open, and silent, after the command itself has ended: a program
/// that it left in the background may hold them for ever.
const SILENCE: Duration = Duration::from_millis(300);

/// The sending half, shared by the threads of one command.
type Sender = Arc<Mutex<TcpStream>>;

/// How far the outputs have got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Chunks read so far.
    chunks: AtomicU64,
    /// Chunks about to be read, or read and not yet taken by the lab.
    sending: AtomicU64,
}

/// Serves one connection to its end.
pub(crate) fn serve(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let Some((Kind::Request, request)) = read(&mut connection)? else { return Ok(()) };
    let request: Request = serde_json::from_slice(&request)?;
    let Some((name, args)) = request.argv.split_first() else { return Ok(()) };
    let mut command = program(name);
    command.args(args).envs(request.env).current_dir(&request.folder).process_group(0);
    match request.mode {
        Mode::Attached => attached(connection, command),
        Mode::Background { log } => background(&mut connection, command, &log),
        Mode::Terminal(wanted) => terminal::serve(connection, command, wanted),
    }
}

/// What a shell would report.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn send(to: &Sender, kind: Kind, payload: &[u8]) -> io::Result<()> {
    write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner), kind, payload)
}

fn background(connection: &mut TcpStream, mut command: Command, log: &str) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let started = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    match started {
        Ok(mut child) => {
            write(connection, Kind::Started, &child.id().to_be_bytes())?;
            // Somebody must take its exit code, or it stays in the process table.
            child.wait().map(drop)
        }
        Err(error) => write(connection, Kind::Failed, error.to_string().as_bytes()),
    }
}

fn attached(mut connection: TcpStream, mut command: Command) -> io::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return write(&mut connection, Kind::Failed, error.to_string().as_bytes()),
    };
    let sender: Sender = Arc::new(Mutex::new(connection.try_clone()?));
    let progress = Arc::new(Progress::default());
    let (done, outputs) = mpsc::channel();
    let mut pipes = Vec::new();
    for (kind, pipe) in [
        (Kind::Stdout, child.stdout.take().map(OwnedFd::from)),
        (Kind::Stderr, child.stderr.take().map(OwnedFd::from)),
    ] {
        let Some(pipe) = pipe else { continue };
        pipes.push(pipe.try_clone()?);
        let pipe = File::from(pipe);
        let (sender, progress, done) = (Arc::clone(&sender), Arc::clone(&progress), done.clone());
        std::thread::spawn(move || {
            relay(pipe, kind, &sender, &progress);
            drop(done);
        });
    }
    drop(done);
    if let Some(stdin) = child.stdin.take() {
        let from = connection.try_clone()?;
        std::thread::spawn(move || feed(from, stdin));
    }
    let ended = Arc::new(AtomicBool::new(false));
    watch(connection.try_clone()?, &child, Arc::clone(&ended));
    let status = child.wait()?;
    ended.store(true, Ordering::SeqCst);
    drain(&outputs, &pipes, &progress);
    send(&sender, Kind::Exit, &code(status).to_be_bytes())?;
    // Only this half: closing with input unread would reset the connection and lose the exit code.
    connection.shutdown(Shutdown::Write)
}

/// Sends a pipe's bytes as they come, until its end or the connection's.
pub(crate) fn relay(mut from: File, kind: Kind, to: &Sender, progress: &Progress) {
    let mut chunk = vec![0; CHUNK];
    loop {
        wait_for(from.as_fd(), PollFlags::POLLIN);
        // Counted before it leaves the pipe, so that `drain` sees it in one place or the other.
        progress.sending.fetch_add(1, Ordering::SeqCst);
        // A terminal ends with an error instead of an end of file: both mean that nothing more
        // comes.
        let Ok(len @ 1..) = from.read(&mut chunk) else {
            progress.sending.fetch_sub(1, Ordering::SeqCst);
            return;
        };
        let sent = send(to, kind, &chunk[..len]);
        progress.chunks.fetch_add(1, Ordering::SeqCst);
        progress.sending.fetch_sub(1, Ordering::SeqCst);
        if sent.is_err() {
            return;
        }
    }
}

/// Waits until something of this kind can be told of a file.
fn wait_for(file: BorrowedFd<'_>, what: PollFlags) {
    // An error is an interruption: the file is open and there is but one.
    while poll(&mut [PollFd::new(file, what)], PollTimeout::NONE).is_err() {}
}

/// Waits until both outputs have ended, or are silent although the command has ended. Silent is an
/// output whose pipe is empty: on a busy node its thread may not have had its turn for a long time.
fn drain(outputs: &mpsc::Receiver<()>, pipes: &[OwnedFd], progress: &Progress) {
    let readable = |pipe: &OwnedFd| {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) != Ok(0)
    };

    let mut seen = progress.chunks.load(Ordering::SeqCst);
    while outputs.recv_timeout(SILENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let waiting = pipes.iter().any(readable);
        // A lab that reads slowly is not silence.
        let sending = progress.sending.load(Ordering::SeqCst) > 0;
        let now = progress.chunks.load(Ordering::SeqCst);
        if now == seen && !waiting && !sending {
            return;
        }
        seen = now;
    }
}

/// Writes what the lab sends to the command's standard input.
fn feed(mut from: TcpStream, mut stdin: ChildStdin) {
    while let Ok(Some((Kind::Stdin, bytes))) = read(&mut from) {
        if stdin.write_all(&bytes).is_err() {
            // The command closed its input; what more comes is read and dropped by nobody, and
            // the lab's end copes with that.
            return;
        }
    }
}

/// Kills the command when the lab hangs up before its end.
pub(crate) fn watch(connection: TcpStream, child: &Child, ended: Arc<AtomicBool>) {
    let Ok(group) = i32::try_from(child.id()) else { return };
    std::thread::spawn(move || {
        let hung_up = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
        wait_for(connection.as_fd(), hung_up);
        if !ended.load(Ordering::SeqCst) {
            // It may end in this very moment; then there is nothing left to kill.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    });
}
