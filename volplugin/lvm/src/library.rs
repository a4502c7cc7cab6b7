//! liblvm2cmd, safely: one handle, on the thread that made it.

#![expect(unsafe_code, reason = "a C library")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;

use dockline_lvm2_sys as sys;

/// The most that is kept of a command's output, in bytes; a report on ten thousand volumes has
/// about ten million.
const MOST_KEPT: usize = 48 << 20;

/// What came of a command.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) printed: Vec<String>,
    pub(crate) errors: Vec<String>,
}

thread_local! {
    /// What the running command has said. The library has one callback for the whole process and
    /// passes it nothing of the caller's.
    static SAID: RefCell<(Ran, usize)> = RefCell::default();
}

/// The library. There must be one at most, and it stays on its thread.
#[derive(Debug)]
pub(crate) struct Library {
    handle: *mut c_void,
    here: PhantomData<*const ()>,
}

impl Library {
    pub(crate) fn open() -> anyhow::Result<Self> {
        // SAFETY: the callback has the type that the header asks for and lives for ever; the one
        // thread that uses the library calls both.
        let handle = unsafe {
            sys::lvm2_log_fn(Some(said));
            sys::lvm2_init_threaded()
        };
        anyhow::ensure!(!handle.is_null(), "liblvm2cmd cannot be started: {}", last_words());
        Ok(Self { handle, here: PhantomData })
    }

    /// Runs a command whose words need no quoting.
    pub(crate) fn run(&mut self, words: &[String]) -> Ran {
        SAID.take();
        let Ok(line) = CString::new(words.join(" ")) else {
            let errors = vec!["the command holds a NUL byte".to_owned()];
            return Ran { errors, ..Ran::default() };
        };
        // SAFETY: the handle is open, this is its thread, and the line lives for the call.
        let code = unsafe { sys::lvm2_run(self.handle, line.as_ptr()) };
        let (mut ran, _) = SAID.take();
        ran.success = code == sys::LVM2_COMMAND_SUCCEEDED;
        if !ran.success && ran.errors.is_empty() {
            // Option parsing complains on standard error only, past the callback.
            ran.errors.push(format!("it says {code} without a reason: see the daemon's log"));
        }
        ran
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again.
        unsafe { sys::lvm2_exit(self.handle) };
    }
}

fn last_words() -> String {
    SAID.take().0.errors.join("; ")
}

/// What the library calls for each line. Nothing in it can panic: unwinding into C is undefined.
extern "C" fn said(level: c_int, _: *const c_char, _: c_int, _: c_int, message: *const c_char) {
    if level > sys::LVM2_LOG_PRINT || message.is_null() {
        return;
    }
    // SAFETY: the library passes a NUL-terminated text that lives for the call.
    let line = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    let _ = SAID.try_with(|said| {
        let Ok(mut said) = said.try_borrow_mut() else { return };
        let (ran, kept) = &mut *said;
        *kept = kept.saturating_add(line.len());
        if *kept > MOST_KEPT {
            return;
        }
        let lines = if level == sys::LVM2_LOG_PRINT { &mut ran.printed } else { &mut ran.errors };
        lines.push(line);
    });
}
