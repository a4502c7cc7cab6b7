//! Limits on cgroup v1, which ordinary test machines have; v2 is tested on lab nodes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dockline_exec::Program;
use dockline_types::ByteSize;
use dockline_vol_core::Limits;
use nix::sys::stat::Mode;

use crate::support::{Docker, Place, until};

/// A control group of this test's own, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let path = format!("/sys/fs/cgroup/blkio/dockline-test-{}", std::process::id());
        std::fs::create_dir(&path).expect("cgroup v1 with blkio, as root");
        Self(path.into())
    }

    fn limits(&self) -> String {
        std::fs::read_to_string(self.0.join("blkio.throttle.write_bps_device")).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = self.0.join("cgroup.procs");
        let gone = || std::fs::read_to_string(&procs).is_ok_and(|procs| procs.is_empty());
        let bound = Instant::now();
        while !gone() && bound.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A process like a container's: in a mount namespace and a control group of its own. For each line
/// that it is sent it writes 4 MiB.
fn container(group: &Path, folder: &Path, at: &Path) -> tokio::task::JoinHandle<()> {
    nix::unistd::mkfifo(&folder.join("go"), Mode::S_IRWXU).unwrap();
    let script = format!(
        "echo $$ >{group}/cgroup.procs; cd {folder}; touch ready; while read line <go; do \
         dd if=/dev/zero of={at}/file bs=256K count=16 oflag=direct status=none; echo >>done; done",
        group = group.display(),
        folder = folder.display(),
        at = at.display()
    );
    let program = Program::new("unshare").args(["--mount", "--propagation", "private"]);
    let program = program.args(["sh", "-c", &script]).deadline(Duration::from_secs(60));
    tokio::spawn(async move {
        let _ = program.output().await;
    })
}

/// How long the container takes for its 4 MiB.
async fn write(folder: &Path) -> Duration {
    let done = folder.join("done");
    let _ = std::fs::remove_file(&done);
    let started = Instant::now();
    std::fs::write(folder.join("go"), "go\n").unwrap();
    until(|| done.exists()).await;
    started.elapsed()
}

#[tokio::test]
async fn a_limit_holds_changes_live_comes_back_and_is_lifted() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    let opts = [("fs", "ext4"), ("size", "64MiB"), ("write-bps", "1MiB")];
    docker.create("data1", &opts).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    let group = Group::new();
    let folder = place.folder.path();
    let container = container(&group.0, folder, &at);
    until(|| folder.join("ready").exists()).await;
    until(|| group.limits().ends_with(" 1048576\n")).await;
    let limited = write(folder).await;
    assert!(limited > Duration::from_secs(3), "{limited:?} for 4 MiB at 1 MiB/s");

    let faster = Limits { write_bps: Some(ByteSize::from_mib(4)), ..Limits::default() };
    driver.limit("data1", |_| faster).await.unwrap();
    assert!(group.limits().ends_with(" 4194304\n"), "at once: {}", group.limits());
    let less_limited = write(folder).await;
    println!("4 MiB: {limited:?} at 1 MiB/s, {less_limited:?} at 4 MiB/s");
    assert!(less_limited > Duration::from_millis(700), "{less_limited:?} for 4 MiB at 4 MiB/s");

    // Another daemon finds the limit kept, and puts back what was lost.
    drop(driver);
    let rule = group.limits().replace(" 4194304", " 0");
    std::fs::write(group.0.join("blkio.throttle.write_bps_device"), rule).unwrap();
    assert_eq!(group.limits(), "");
    // What the first one was just doing ends first.
    let lock = place.root().join("lock");
    until(|| {
        let file = std::fs::File::open(&lock).unwrap();
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
    })
    .await;
    let driver = place.start().await;
    until(|| group.limits().ends_with(" 4194304\n")).await;

    driver.limit("data1", |_| Limits::default()).await.unwrap();
    assert_eq!(group.limits(), "", "lifted at once");
    container.abort();
    let docker = Docker(&driver);
    docker.unmount("data1", "a").await.unwrap();
}
