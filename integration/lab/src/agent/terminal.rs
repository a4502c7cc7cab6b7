//! A command on a terminal of its own, for people.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::command::{Progress, code, relay, watch};
use super::program;
use crate::wire::{Kind, Terminal, read, write};

/// Runs the command on a new terminal until it ends or the lab hangs up.
pub(crate) fn serve(
    mut connection: TcpStream,
    command: Command,
    wanted: Terminal,
) -> io::Result<()> {
    let size = Winsize { ws_row: wanted.rows, ws_col: wanted.columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None)?;
    // The shell gets copies; LVM warns of every further descriptor that it finds open.
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    if !wanted.echo {
        let mut settings = tcgetattr(&pty.slave)?;
        settings.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings)?;
    }
    // Only a session's leader may take a terminal, and setsid(1) makes it so without unsafe code.
    let mut on_terminal = program("setsid");
    on_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            on_terminal.env(name, value);
        }
    }
    on_terminal.current_dir(command.get_current_dir().unwrap_or(std::path::Path::new("/")));
    on_terminal.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
    let mut child = match on_terminal.spawn() {
        Ok(child) => child,
        Err(error) => return write(&mut connection, Kind::Failed, error.to_string().as_bytes()),
    };
    // It holds the terminal's other end open.
    drop(on_terminal);
    let sender = Arc::new(Mutex::new(connection.try_clone()?));
    let master = File::from(pty.master);
    let (mut keys, mut from) = (master.try_clone()?, connection.try_clone()?);
    std::thread::spawn(move || {
        while let Ok(Some((Kind::Stdin, bytes))) = read(&mut from) {
            if keys.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let ended = Arc::new(AtomicBool::new(false));
    watch(connection.try_clone()?, &child, Arc::clone(&ended));
    let screen = std::thread::spawn(move || {
        relay(master, Kind::Stdout, &sender, &Progress::default());
    });
    let status = child.wait()?;
    ended.store(true, Ordering::SeqCst);
    // The screen ends with the last process that has the terminal open.
    if screen.join().is_err() {
        return Err(io::Error::other("the screen's thread died"));
    }
    write(&mut connection, Kind::Exit, &code(status).to_be_bytes())?;
    connection.shutdown(Shutdown::Write)
}
