//! A lab leaves nothing behind, however it ends.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use dockline_exec::{Program, shell_code};
use dockline_lab::{Lab, LabError, LabId, NodeSpec, lab_program, sweep, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

/// A `dockline-lab run` whose labs lie in a folder of the test's own.
struct Killed {
    _folder: tempfile::TempDir,
    labs: PathBuf,
    program: PathBuf,
}

impl Killed {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        Ok(Self { program: lab_program()?, labs: folder.path().join("labs"), _folder: folder })
    }

    fn program(&self) -> Program {
        Program::new(&self.program).env("DOCKLINE_LAB_DIR", &self.labs)
    }

    /// Runs a command on a node and does something to the lab while it runs.
    async fn while_running(
        &self,
        act: impl AsyncFnOnce(&Id) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Id, i32)> {
        let script = "echo the command runs >/dev/console; sleep 1000";
        let program = self.program().args(["run", "--", "sh", "-c", script]).deadline(PATIENCE * 2);
        let running = program.output();
        tokio::pin!(running);
        let ready = wait::until("a command on the node", PATIENCE, || {
            std::future::ready(self.ready().ok_or("no node yet"))
        });
        let id = tokio::select! {
            id = ready => id?,
            ended = &mut running => bail!("it ended early: {ended:?}"),
        };
        act(&id).await?;
        Ok((id, shell_code(running.await?.status)))
    }

    fn ready(&self) -> Option<Id> {
        let entry = std::fs::read_dir(&self.labs).ok()?.next()?.ok()?;
        let console = std::fs::read_to_string(entry.path().join("n1/console.log")).ok()?;
        if !console.contains("the command runs") {
            return None;
        }
        let namespace = std::fs::metadata(entry.path().join("netns")).ok()?;
        let name = entry.file_name().to_str()?.strip_prefix("lab-")?.to_owned();
        Some(Id { name, namespace: (namespace.dev(), namespace.ino()) })
    }

    /// What is left of the lab on the machine, in words.
    fn left(&self, id: &Id) -> anyhow::Result<Vec<String>> {
        let mut left: Vec<String> =
            id.processes()?.iter().map(|pid| format!("process {pid}")).collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let labs = self.labs.to_str().context("a plain path")?;
        left.extend(mounts.lines().filter(|line| line.contains(labs)).map(str::to_owned));
        left.extend(self.labs.exists().then(|| labs.to_owned()));
        Ok(left)
    }
}

impl Drop for Killed {
    /// A test that failed half-way leaves nothing either.
    fn drop(&mut self) {
        let sweep = self.program().arg("sweep");
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        std::thread::scope(|scope| {
            scope.spawn(|| runtime().map(|runtime| runtime.block_on(sweep.run()).map(drop)));
        });
    }
}

/// A lab seen from outside.
struct Id {
    name: String,
    namespace: (u64, u64),
}

impl Id {
    fn owner(&self) -> anyhow::Result<Pid> {
        let owner = self.name.split('.').next().context("an id has parts")?;
        Ok(Pid::from_raw(owner.parse()?))
    }

    /// The processes in the lab's namespace.
    fn processes(&self) -> anyhow::Result<Vec<i32>> {
        let inside = |pid: i32| {
            let namespace = std::fs::metadata(format!("/proc/{pid}/ns/net"));
            namespace.is_ok_and(|is| (is.dev(), is.ino()) == self.namespace)
        };
        Ok(pids()?.filter(|&pid| inside(pid)).collect())
    }

    /// The lab's reaper.
    fn reaper(&self) -> anyhow::Result<Pid> {
        let wanted = format!("\0reap\0{}\0", self.name);
        let is_it = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.ends_with(&wanted))
        };
        Ok(Pid::from_raw(pids()?.find(is_it).context("the lab has a reaper")?))
    }
}

fn pids() -> anyhow::Result<impl Iterator<Item = i32>> {
    let processes = std::fs::read_dir("/proc")?;
    Ok(processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

async fn nothing_is_left(killed: &Killed, id: &Id) -> anyhow::Result<()> {
    let gone = wait::until("nothing left of the lab", PATIENCE, || {
        let left = killed.left(id).map_err(|error| error.to_string());
        let none = |left: Vec<String>| {
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        };
        std::future::ready(left.and_then(none))
    });
    Ok(gone.await?)
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() -> anyhow::Result<()> {
    let killed = Killed::new()?;
    let (id, code) = killed
        .while_running(async |id| {
            assert!(!id.processes()?.is_empty(), "the node runs in the lab's namespace");
            Ok(kill(id.owner()?, Signal::SIGKILL)?)
        })
        .await?;
    assert_eq!(code, 137);
    nothing_is_left(&killed, &id).await
}

#[tokio::test]
async fn a_sweep_removes_what_a_killed_owner_and_reaper_left_and_nothing_else() -> anyhow::Result<()>
{
    let bystander = Lab::builder("bystander").node(NodeSpec::new("a")).boot().await?;
    let killed = Killed::new()?;
    let (id, _) = killed
        .while_running(async |id| {
            kill(id.reaper()?, Signal::SIGKILL)?;
            // As long as the owner lives, the lab is not swept.
            let swept = killed.program().arg("sweep").run().await?;
            assert_eq!(swept.text(), "nothing to sweep");
            Ok(kill(id.owner()?, Signal::SIGKILL)?)
        })
        .await?;
    assert!(!id.processes()?.is_empty(), "there is something to sweep");
    let swept = killed.program().arg("sweep").run().await?;
    assert_eq!(swept.text(), format!("swept lab {}", id.name));
    assert_eq!(killed.left(&id)?, Vec::<String>::new());
    sweep()?;
    bystander.node("a")?.run("true").await?;
    Ok(bystander.down().await?)
}

#[tokio::test]
async fn ctrl_c_ends_a_command_and_its_lab() -> anyhow::Result<()> {
    for (signal, expected) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let killed = Killed::new()?;
        let (id, code) = killed.while_running(async |id| Ok(kill(id.owner()?, signal)?)).await?;
        assert_eq!(code, expected);
        assert_eq!(killed.left(&id)?, Vec::<String>::new(), "it ended before its lab was gone");
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_leaves_nothing_but_the_logs() -> anyhow::Result<()> {
    let (tell, told) = tokio::sync::oneshot::channel::<LabId>();
    let failing = tokio::spawn(async {
        let node = NodeSpec::new("a").keep_log("/etc/hostname");
        let lab = Lab::builder("it panics").node(node).boot().await?;
        lab.node("a")?.start("noise", "echo noise").await?;
        let told = tell.send(lab.id());
        assert!(told.is_err(), "as the test wants");
        Ok::<_, LabError>(())
    });
    let id = told.await?;
    assert!(failing.await.unwrap_err().is_panic());
    assert!(!id.folder().exists());
    let logs = lab_program()?.with_file_name("lab-logs").join(format!("it-panics-{id}"));
    let read = |name: &str| std::fs::read_to_string(logs.join("a").join(name));
    assert!(read("dmesg")?.contains("Linux version"));
    assert!(!read("console.log")?.is_empty());
    let tar = Program::new("tar").arg("-tf").arg(logs.join("a/logs.tar")).run().await?;
    let names = tar.text();
    assert!(names.contains("var/log/lab/noise.log") && names.contains("etc/hostname"), "{names}");
    Ok(std::fs::remove_dir_all(&logs)?)
}

#[tokio::test]
async fn a_command_line_run_passes_the_code_and_both_outputs() -> anyhow::Result<()> {
    let killed = Killed::new()?;
    let script = "echo out; echo err >&2; exit 7";
    let run = killed.program().args(["run", "--", script]).deadline(PATIENCE);
    let output = run.output().await?;
    assert_eq!((shell_code(output.status), output.text().as_str()), (7, "out"));
    let errors = String::from_utf8(output.stderr)?;
    assert!(errors.contains("booted n1") && errors.ends_with("err\n"), "{errors}");
    assert!(!killed.labs.exists());
    Ok(())
}

#[tokio::test]
async fn a_shell_without_a_terminal_takes_lines() -> anyhow::Result<()> {
    let killed = Killed::new()?;
    let shell = killed.program().args(["shell", "--nodes", "2"]).deadline(PATIENCE);
    let output = shell.stdin("echo $((6 * 7)) on $(hostname)\nexit 5\n");
    let output = output.output().await?;
    assert_eq!(shell_code(output.status), 5, "{}", String::from_utf8_lossy(&output.stderr));
    let text = output.text();
    assert!(text.contains("42 on n1") && !text.contains("hostname"), "not echoed: {text}");
    assert!(!killed.labs.exists());
    Ok(())
}
