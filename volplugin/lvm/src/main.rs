//! `dockline-lvm`: the helper process that has liblvm2cmd.
//!
//! It reads commands from the socket that is its standard input, runs them one after another on
//! one thread, and ends when the socket is closed, though never within a command. It is started by
//! `dockline-vol` and decides nothing.

mod library;

use std::io::Write;
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use dockline_lvm::wire::{self, Answer, Request};
use nix::sys::stat::{Mode, umask};

/// The library's call stacks are deep; this is what a main thread has.
const STACK: usize = 8 << 20;

fn main() -> anyhow::Result<()> {
    let socket =
        take_socket().context("standard input must be a socket: dockline-vol starts it")?;
    // Not the main thread: there the library would replace the buffers of standard input and output.
    let thread = std::thread::Builder::new().name("lvm".to_owned()).stack_size(STACK);
    match thread.spawn(move || serve(socket))?.join() {
        Ok(served) => served,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Takes the socket away from standard input, where the library would read and what it starts
/// would inherit it.
fn take_socket() -> std::io::Result<UnixStream> {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin();
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null)?;
    Ok(socket)
}

fn serve(mut socket: UnixStream) -> anyhow::Result<()> {
    let mask = umask(Mode::from_bits_truncate(0o077));
    let mut library = library::Library::open()?;
    umask(mask);
    while let Some(Request { number, words }) = wire::read(&mut socket)? {
        let ran = library.run(&words);
        umask(mask);
        let library::Ran { success, printed, errors } = ran;
        wire::write(&mut socket, &Answer { number, success, printed, errors })?;
        socket.flush()?;
    }
    Ok(())
}
