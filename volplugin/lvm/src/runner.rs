//! Runs commands one after another, and kills none.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dockline_exec::{Companion, ExecError, Program};
use tokio::sync::{mpsc, oneshot};

use crate::wire::{Answer, Request, receive, send};
use crate::{Command, LvmError, Picture};

/// How many commands may wait.
const MOST_WAITING: usize = 256;

/// How long a helper that broke off may take to end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How commands are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the helper process at this path, which has liblvm2cmd.
    Library(PathBuf),
    /// By the program `lvm` at this path or of this name, one process for each command.
    Program(PathBuf),
}

/// LVM. Cheap to clone: clones share the one queue of commands.
#[derive(Debug, Clone)]
pub struct Lvm {
    jobs: mpsc::Sender<Job>,
    /// The fallback for reports that the library cannot give whole.
    program: Option<Box<Lvm>>,
    at_work: Arc<Mutex<String>>,
    helper: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Job {
    command: Command,
    words: Vec<String>,
    begun: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Answer, LvmError>>,
}

impl Lvm {
    /// LVM run this way. Nothing is started before the first command.
    ///
    /// `system_dir` is the folder of an `lvm.conf` other than the system's.
    pub fn new(way: &Way, system_dir: Option<&Path>) -> Self {
        let prepared = |program: &Path| {
            // With `TZ` given the library does not set it; without a warning for each descriptor
            // that it inherits, errors are what is said about errors.
            let program =
                Program::new(program).env("TZ", "UTC0").env("LVM_SUPPRESS_FD_WARNINGS", "1");
            system_dir.iter().fold(program, |program, dir| program.env("LVM_SYSTEM_DIR", dir))
        };
        let helper = Arc::new(AtomicU32::new(0));
        let (runner, program) = match way {
            Way::Library(path) => {
                let program = Self::new(&Way::Program("lvm".into()), system_dir);
                let helper = Helper { program: prepared(path), running: None, requests: 0 };
                (Runner::Helper(Box::new(helper)), Some(Box::new(program)))
            }
            Way::Program(path) => (Runner::Program(prepared(path)), None),
        };
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        let at_work = Arc::<Mutex<String>>::default();
        tokio::spawn(work(runner, waiting, Arc::clone(&at_work), Arc::clone(&helper)));
        Self { jobs, program, at_work, helper }
    }

    /// The process that has the library, if there is one.
    pub fn helper_pid(&self) -> Option<u32> {
        Some(self.helper.load(Ordering::Relaxed)).filter(|&pid| pid != 0)
    }

    /// Runs a command and waits this long for its end. A command that was begun goes on even if
    /// nobody waits for it any more; one that was not begun by then never is.
    pub async fn run(&self, command: Command, patience: Duration) -> Result<Answer, LvmError> {
        let answer = self.ask(&command, patience).await?;
        if answer.success {
            return Ok(answer);
        }
        let lines = answer.errors.iter().map(|line| line.trim());
        let said = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Err(LvmError::Refused { command: command.to_string(), said })
    }

    async fn ask(&self, command: &Command, patience: Duration) -> Result<Answer, LvmError> {
        let words = command.words()?.to_vec();
        let begun = Arc::new(AtomicBool::new(false));
        let (answer, answered) = oneshot::channel();
        let job = Job { command: command.clone(), words, begun: Arc::clone(&begun), answer };
        let died = || LvmError::Died {
            command: command.to_string(),
            how: "this daemon is stopping".to_owned(),
        };
        let waited = tokio::time::timeout(patience, async {
            self.jobs.send(job).await.map_err(|_| died())?;
            answered.await.unwrap_or_else(|_| Err(died()))
        });
        waited.await.unwrap_or_else(|_| {
            let (command, waited) = (command.to_string(), patience);
            // A job that is skipped in this moment counts as begun, which is only careful.
            if begun.load(Ordering::SeqCst) {
                return Err(LvmError::TimedOut { command, waited });
            }
            let with = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Err(LvmError::Busy { command, with, waited })
        })
    }

    /// What there is in these groups. One that is missing is not in it.
    pub async fn picture(
        &self,
        groups: &[String],
        patience: Duration,
    ) -> Result<Picture, LvmError> {
        let report = async |lvm: &Self| {
            // Its code says nothing: a missing or exported group makes it a failure.
            let answer = lvm.ask(&Picture::command(groups), patience).await?;
            Picture::parse(&answer.printed).map_err(|error| match answer.errors.is_empty() {
                true => error.into(),
                false => LvmError::Refused {
                    command: "fullreport".to_owned(),
                    said: answer.errors.join("; "),
                },
            })
        };
        match (report(self).await, &self.program) {
            (Err(LvmError::Report(error)), Some(program)) => {
                // The library cuts lines at 4095 bytes; somebody's tags are that long.
                tracing::debug!(error = ?error, "asking the program instead of the library");
                report(program).await
            }
            (picture, _) => picture,
        }
    }
}

/// Runs jobs until nobody can send any more.
async fn work(
    mut runner: Runner,
    mut jobs: mpsc::Receiver<Job>,
    at_work: Arc<Mutex<String>>,
    helper: Arc<AtomicU32>,
) {
    while let Some(Job { command, words, begun, answer }) = jobs.recv().await {
        begun.store(true, Ordering::SeqCst);
        if answer.is_closed() {
            continue;
        }
        *at_work.lock().unwrap_or_else(PoisonError::into_inner) = command.to_string();
        let started = std::time::Instant::now();
        let done = runner.run(&command, words).await;
        helper.store(runner.pid().unwrap_or_default(), Ordering::Relaxed);
        let success = done.as_ref().is_ok_and(|answer| answer.success);
        let elapsed_ms = started.elapsed().as_millis();
        tracing::debug!(%command, success, elapsed_ms, "LVM ran");
        // Whoever asked may have stopped waiting.
        let _ = answer.send(done);
    }
}

enum Runner {
    Helper(Box<Helper>),
    Program(Program),
}

impl Runner {
    async fn run(&mut self, command: &Command, words: Vec<String>) -> Result<Answer, LvmError> {
        match self {
            Self::Helper(helper) => helper.run(command, words).await,
            Self::Program(program) => run_program(program, command, &words).await,
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Helper(helper) => helper.running.as_ref()?.pid,
            Self::Program(_) => None,
        }
    }
}

async fn run_program(
    program: &Program,
    command: &Command,
    words: &[String],
) -> Result<Answer, LvmError> {
    let output = program.clone().args(words).output_unkilled().await;
    let output = output.map_err(|error| match error {
        ExecError::NotStarted { .. } => LvmError::NotThere(error),
        error => LvmError::Died { command: command.to_string(), how: error.to_string() },
    })?;
    if let Some(signal) = output.status.signal() {
        let how = format!("signal {signal}");
        return Err(LvmError::Died { command: command.to_string(), how });
    }
    let lines = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (printed, errors) = (lines(&output.stdout), lines(&output.stderr));
    Ok(Answer { number: 0, success: output.status.success(), printed, errors })
}

/// The helper process: started when it is needed, and again after it died.
struct Helper {
    program: Program,
    running: Option<Companion>,
    requests: u64,
}

impl Helper {
    async fn run(&mut self, command: &Command, words: Vec<String>) -> Result<Answer, LvmError> {
        self.requests += 1;
        let number = self.requests;
        // One that died while it had nothing to do leaves nothing unknown.
        let idle = self.running.take().and_then(|mut idle| (!idle.has_ended()).then_some(idle));
        let mut companion = match idle {
            Some(companion) => companion,
            None => self.program.start_with_socket().map_err(LvmError::NotThere)?,
        };
        let request = Request { number, words };
        let answered = async {
            send(&mut companion.socket, &request).await?;
            receive::<Answer>(&mut companion.socket).await
        };
        match answered.await {
            Ok(answer) if answer.number == number => {
                self.running = Some(companion);
                Ok(answer)
            }
            broken => {
                let how = match tokio::time::timeout(LAST_WAIT, companion.ended()).await {
                    Ok(Ok(status)) => status.to_string(),
                    _ => format!("{:?}", broken.map(|answer| answer.number)),
                };
                tracing::warn!(%command, how, "the LVM helper has ended: the next command starts another");
                Err(LvmError::Died { command: command.to_string(), how })
            }
        }
    }
}
