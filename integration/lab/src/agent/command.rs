//! One command of one connection: started, fed, its output sent, killed when the lab hangs up.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
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
    /// Chunks read and not yet taken by the lab.
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
        Mode::Terminal { rows, columns } => terminal::serve(connection, command, rows, columns),
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
    let pipes: [(Kind, Option<Box<dyn Read + Send>>); 2] = [
        (Kind::Stdout, child.stdout.take().map(|pipe| Box::new(pipe) as _)),
        (Kind::Stderr, child.stderr.take().map(|pipe| Box::new(pipe) as _)),
    ];
    for (kind, pipe) in pipes {
        let Some(pipe) = pipe else { continue };
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
    drain(&outputs, &progress);
    send(&sender, Kind::Exit, &code(status).to_be_bytes())?;
    // Only this half: closing with input unread would reset the connection and lose the exit code.
    connection.shutdown(Shutdown::Write)
}

/// Sends a pipe's bytes as they come, until its end or the connection's.
pub(crate) fn relay(mut from: impl Read, kind: Kind, to: &Sender, progress: &Progress) {
    let mut chunk = vec![0; CHUNK];
    // A terminal ends with an error instead of an end of file: both mean that nothing more comes.
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        progress.sending.fetch_add(1, Ordering::SeqCst);
        progress.chunks.fetch_add(1, Ordering::SeqCst);
        let sent = send(to, kind, &chunk[..len]);
        progress.sending.fetch_sub(1, Ordering::SeqCst);
        if sent.is_err() {
            return;
        }
    }
}

/// Waits until both outputs have ended, or are silent although the command has ended.
fn drain(outputs: &mpsc::Receiver<()>, progress: &Progress) {
    let mut seen = progress.chunks.load(Ordering::SeqCst);
    while outputs.recv_timeout(SILENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let now = progress.chunks.load(Ordering::SeqCst);
        // A lab that reads slowly is not silence.
        if now == seen && progress.sending.load(Ordering::SeqCst) == 0 {
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
        let mut fds = [PollFd::new(connection.as_fd(), hung_up)];
        while poll(&mut fds, PollTimeout::NONE).is_err() {}
        if !ended.load(Ordering::SeqCst) {
            // It may end in this very moment; then there is nothing left to kill.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    });
}
