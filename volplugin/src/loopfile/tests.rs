//! Failure and death at every step. A test starts itself again as a process that does the work, and
//! that fails or is killed (really, by SIGKILL) when it reaches a step; then it looks what is left.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use dockline_exec::Program;
use dockline_types::ByteSize;
use dockline_vol_core::{FsKind, RootOwner, VolumeName, VolumeRecord};
use nix::sys::signal::{Signal, raise};

use super::{LoopFiles, Step};
use crate::backend::{Backend, BackendError, Found};
use crate::mkfs::Mkfs;

const DIE_AT: &str = "DOCKLINE_TEST_DIE_AT";
const FAIL_AT: &str = "DOCKLINE_TEST_FAIL_AT";
const ROOT: &str = "DOCKLINE_TEST_ROOT";

/// The backend has reached a step.
pub(super) fn reached(step: Step) -> Result<(), BackendError> {
    let is = |variable| std::env::var(variable).is_ok_and(|at| at == format!("{step:?}"));
    if is(DIE_AT) {
        raise(Signal::SIGKILL).unwrap();
    }
    if is(FAIL_AT) {
        return Err(BackendError::storage("reach", Path::new("x"))(std::io::Error::other("test")));
    }
    Ok(())
}

/// This test again, as a process of its own.
fn again(test: &str, root: &Path, variable: &str, step: Step) -> Program {
    let test = format!("loopfile::tests::{test}");
    let program = Program::new(std::env::current_exe().unwrap()).args(["--exact", &test]);
    program.env(ROOT, root).env(variable, format!("{step:?}"))
}

fn record() -> VolumeRecord {
    VolumeRecord {
        name: "data1".parse().unwrap(),
        id: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
        size: ByteSize::from_mib(16),
        fs: FsKind::Ext4,
        owner: RootOwner::default(),
        created_at: std::time::SystemTime::now().into(),
        layout: None,
        class: None,
        limits: Default::default(),
    }
}

async fn open(root: &Path) -> LoopFiles {
    LoopFiles::open(root, Mkfs::default()).await.unwrap()
}

fn names(root: &Path, folder: &str) -> Vec<VolumeName> {
    let entries = std::fs::read_dir(root.join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// What the process that is to die does.
async fn work(root: &Path) {
    let backend = open(root).await;
    backend.recover().await.unwrap();
    backend.create(&record()).await.unwrap();
    backend.remove(&record()).await.unwrap();
    backend.empty_trash().await.unwrap();
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_a_volume_whole_or_not_at_all() {
    if let Some(root) = std::env::var_os(ROOT) {
        return work(Path::new(&root)).await;
    }
    let steps = [
        (Step::Folder, false),
        (Step::Image, false),
        (Step::Formatted, false),
        (Step::Written, false),
        (Step::Named, true),
        (Step::Trashed, false),
        (Step::ImageDeleted, false),
    ];
    let this = "a_kill_at_any_step_leaves_a_volume_whole_or_not_at_all";
    for (step, there) in steps {
        let root = tempfile::tempdir().unwrap();
        let died = again(this, root.path(), DIE_AT, step).output().await.unwrap();
        assert_eq!(died.status.signal(), Some(9), "{step:?}: {}", died.text());

        let backend = open(root.path()).await;
        let found = backend.recover().await.unwrap();
        assert_eq!(found.len(), usize::from(there), "{step:?}");
        assert!(
            found.values().all(|found| matches!(found, Found::Whole(_))),
            "{step:?}: {found:?}"
        );
        backend.empty_trash().await.unwrap();
        assert_eq!(names(root.path(), "creating"), [], "{step:?}");
        assert_eq!(names(root.path(), "trash"), [], "{step:?}");
        if there {
            backend.remove(&record()).await.unwrap();
        }
        backend.create(&record()).await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_at_any_step_of_a_create_is_told_and_leaves_nothing() {
    if let Some(root) = std::env::var_os(ROOT) {
        let root = Path::new(&root);
        let backend = open(root).await;
        assert!(backend.create(&record()).await.is_err());
        assert_eq!(names(root, "creating"), []);
        assert_eq!(backend.recover().await.unwrap().len(), 0);
        return;
    }
    let this = "a_failure_at_any_step_of_a_create_is_told_and_leaves_nothing";
    for step in [Step::Folder, Step::Image, Step::Formatted, Step::Written, Step::Named] {
        let root = tempfile::tempdir().unwrap();
        let failed = again(this, root.path(), FAIL_AT, step).output().await.unwrap();
        assert!(failed.status.success(), "{step:?}: {}", failed.text());
    }
}

#[tokio::test]
async fn what_appeared_meanwhile_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let backend = open(root.path()).await;
    let other = root.path().join("volumes/data1");
    std::fs::create_dir(&other).unwrap();
    let refused = backend.create(&record()).await;
    assert!(matches!(refused, Err(BackendError::Taken { .. })), "{refused:?}");
    assert!(other.is_dir());
    assert_eq!(names(root.path(), "creating"), []);
}

#[tokio::test]
async fn what_is_not_a_volume_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let backend = open(root.path()).await;
    std::fs::write(root.path().join("volumes/.hidden"), "").unwrap();
    std::fs::create_dir(root.path().join("volumes/empty")).unwrap();
    let found = backend.recover().await.unwrap();
    assert_eq!(found.len(), 1);
    let Some(Found::Damaged(why)) = found.values().next() else { panic!("{found:?}") };
    assert!(why.starts_with("its record ") && why.contains("empty/volume.json"), "{why}");
    assert!(root.path().join("volumes/.hidden").exists());
}

#[tokio::test]
async fn the_trash_is_emptied_of_all_that_can_be_deleted() {
    let root = tempfile::tempdir().unwrap();
    let backend = open(root.path()).await;
    // A folder in the place of an image cannot be deleted as a file.
    std::fs::create_dir_all(root.path().join("trash/a/disk.img/x")).unwrap();
    backend.create(&record()).await.unwrap();
    backend.remove(&record()).await.unwrap();
    let failed = backend.empty_trash().await;
    assert!(matches!(failed, Err(BackendError::Storage { what: "delete", .. })), "{failed:?}");
    assert_eq!(names(root.path(), "trash"), ["a".parse().unwrap()]);
}
