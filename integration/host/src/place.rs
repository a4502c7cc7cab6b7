//! Where things run: here, or in namespaces of their own that take everything with them.
//!
//! Docker's plugin folders are fixed paths, so two suites can only run side by side with mount
//! namespaces of their own. A stage also has pid and network namespaces of its own: its first
//! process waits for the end of its standard input, which is a pipe that only this process holds.
//! When this process ends, however it ends, so does that one, and the kernel kills everything on
//! the stage, unmounts what it mounted and removes its interfaces.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use dockline_exec::Program;

use crate::process::{Process, Service};
use crate::report::wait_until;

/// Folders at fixed paths that Docker, Open vSwitch and Dockline use, which a stage has for itself.
const OWN_FOLDERS: [&str; 5] =
    ["/run/docker", "/etc/docker", "/run/dockline", "/etc/dockline", "/run/openvswitch"];

/// Where programs run.
#[derive(Debug)]
pub struct Place {
    /// Where what runs there keeps its files.
    pub folder: PathBuf,
    stage: Option<Stage>,
}

#[derive(Debug)]
struct Stage {
    /// `unshare`, which holds the namespaces' first process.
    holder: Child,
    first: Process,
    /// Removed with the stage.
    _folder: tempfile::TempDir,
    /// The parent of its containers' control groups.
    cgroup: String,
}

impl Place {
    /// The machine's own namespaces, with this folder.
    pub fn here(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), stage: None })
    }

    /// Namespaces of its own, with a folder that is removed with them.
    pub async fn stage() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dockline-stage-").tempdir()?;
        let (holder, first) = hold(folder.path()).await?;
        let cgroup = format!("dockline-stage-{}", holder.id());
        let path = folder.path().to_owned();
        let stage = Stage { holder, first, _folder: folder, cgroup };
        let place = Self { folder: path, stage: Some(stage) };
        place.furnish().await.context("cannot set up a stage")?;
        place.program("ip").args(["link", "set", "lo", "up"]).run().await?;
        Ok(place)
    }

    /// Gives a stage its own folders.
    async fn furnish(&self) -> Result<()> {
        let mount = |args: &[&str]| self.program("mount").args(args);
        mount(&["-t", "tmpfs", "-o", "mode=755", "none", "/run"]).run().await?;
        let private = |path: &str, kind: &str| -> Result<String> {
            let folder = self.folder.join(format!("{}.{kind}", path[1..].replace('/', "-")));
            std::fs::create_dir_all(&folder)?;
            Ok(folder.display().to_string())
        };
        // Through an overlay, so that making folders in it leaves nothing on the machine.
        let (upper, work) = (private("/etc", "upper")?, private("/etc", "work")?);
        let layers = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
        mount(&["-t", "overlay", "-o", &layers, "overlay", "/etc"]).run().await?;
        for path in OWN_FOLDERS {
            self.program("mkdir").args(["-p", path]).run().await?;
            mount(&["--bind", &private(path, "own")?, path]).run().await?;
        }
        Ok(())
    }

    /// Whether everything on it vanishes with it.
    pub fn is_stage(&self) -> bool {
        self.stage.is_some()
    }

    /// The control group that containers belong under, where it is not the usual one.
    pub fn cgroup(&self) -> Option<&str> {
        self.stage.as_ref().map(|stage| stage.cgroup.as_str())
    }

    /// A program to run there to its end.
    pub fn program(&self, program: &str) -> Program {
        match self.enter(program).split_first() {
            Some((first, rest)) => Program::new(first).args(rest),
            None => Program::new(program),
        }
    }

    /// Starts a program that keeps running there; its log lies in the folder.
    pub async fn start(
        &self,
        name: &str,
        command: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Process> {
        let (program, args) = command.split_first().context("an empty command")?;
        let mut line = self.enter(program);
        line.extend(args.iter().map(|&arg| arg.to_owned()));
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let service = Service { command: line, env: env.collect(), log: self.log(name) };
        let process = service.start()?;
        if self.stage.is_none() {
            return Ok(process);
        }
        // What was started is nsenter, which waits; the program itself is its child.
        only_child(process).await.with_context(|| format!("{name} did not start"))
    }

    /// The log of what was started under this name.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn enter(&self, program: &str) -> Vec<String> {
        let Some(stage) = &self.stage else { return vec![program.to_owned()] };
        let target = stage.first.pid.to_string();
        let enter = ["nsenter", "--target", &target, "--mount", "--net", "--pid", "--", program];
        enter.map(str::to_owned).to_vec()
    }
}

async fn only_child(parent: Process) -> Result<Process> {
    let mut child = None;
    wait_until("a program is started", Duration::from_secs(10), async || {
        child = Process::children_of(parent.pid).into_iter().next();
        anyhow::ensure!(child.is_some() || parent.is_alive(), "it ended at once");
        Ok(child.is_some())
    })
    .await?;
    child.context("it ended at once")
}

/// Makes the namespaces. The shell also collects the processes that the stage's programs leave
/// behind, which falls to the first process of a pid namespace.
#[expect(clippy::disallowed_methods, reason = "the pipe to it must be held for its whole life")]
async fn hold(folder: &Path) -> Result<(Child, Process)> {
    let log = std::fs::File::create(folder.join("stage.log"))?;
    let holder = std::process::Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"])
        .args(["sh", "-c", "cat > /dev/null; exit 0"])
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run unshare: is util-linux installed, and are you root?")?;
    let pid = i32::try_from(holder.id())?;
    let parent = Process::of(pid).context("unshare ended at once")?;
    let first = only_child(parent).await?;
    // The child is there before it has mounted its own /proc; only then may programs enter.
    let ready = || std::fs::read_link(format!("/proc/{}/exe", first.pid));
    wait_until("the namespaces are ready", Duration::from_secs(10), async || {
        Ok(ready().is_ok_and(|exe| !exe.ends_with("unshare")))
    })
    .await?;
    Ok((holder, first))
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.first.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.holder.wait();
        remove_cgroups(&self.cgroup);
    }
}

/// Removes the control groups that dockerd made; they are empty now, but stay by themselves.
fn remove_cgroups(name: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let groups = hierarchies.map(|entry| entry.path().join(name));
    for group in groups.chain([Path::new("/sys/fs/cgroup").join(name)]) {
        for inner in std::fs::read_dir(&group).into_iter().flatten().flatten() {
            if inner.path().is_dir() {
                let _ = std::fs::remove_dir(inner.path());
            }
        }
        let _ = std::fs::remove_dir(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_on_a_stage_ends_with_it() {
        let stage = Place::stage().await.unwrap();
        let folder = stage.folder.clone();
        let process = stage.start("idle", &["tail", "-f", "/dev/null"], &[]).await.unwrap();
        stage.program("mount").args(["-t", "tmpfs", "none", "/run/dockline"]).run().await.unwrap();
        stage.program("ip").args(["link", "add", "v0", "type", "veth"]).run().await.unwrap();
        assert!(process.is_alive());
        drop(stage);
        wait_until("it is gone", Duration::from_secs(5), async || Ok(!process.is_alive()))
            .await
            .unwrap();
        assert!(!folder.exists());
        assert!(!Path::new("/sys/class/net/v0").exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*folder.to_string_lossy()));
    }

    #[tokio::test]
    async fn two_stages_do_not_see_each_other() {
        let (one, two) = (Place::stage().await.unwrap(), Place::stage().await.unwrap());
        one.program("touch").arg("/run/dockline/mine").run().await.unwrap();
        assert!(two.program("test").args(["-e", "/run/dockline/mine"]).run().await.is_err());
        assert!(!Path::new("/run/dockline/mine").exists());
    }
}
