//! What goes wrong, and that nothing is lost by it. The first four are bugs that other volume
//! plugins have had.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use dockline_mounts::LoopDevice;
use dockline_plugin_specs::volume::VolumeDriver;
use dockline_vol::driver::{Counts, DriverError};

use crate::support::{Docker, Place, SMALL, text, until};

/// A program in place of `mkfs`.
fn program(place: &Place, script: &str) -> PathBuf {
    let path = place.folder.path().join("mkfs");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("a program");
    path
}

/// docker-lvm-plugin deleted the files below the mount point before it looked whether the volume
/// was mounted.
#[tokio::test]
async fn a_volume_that_a_container_has_is_not_removed_and_loses_nothing() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    std::fs::write(at.join("file"), "precious").unwrap();
    let container = place.container().await;

    let refused = text(docker.remove("data1").await);
    assert!(refused.starts_with("volume data1 is in use by sleep (pid "), "{refused}");
    assert!(refused.contains(at.parent().unwrap().to_str().unwrap()), "{refused}");
    let again = docker.mount("data1", "b").await.unwrap();
    assert_eq!(std::fs::read_to_string(again.join("file")).unwrap(), "precious");
    docker.unmount("data1", "b").await.unwrap();
    docker.unmount("data1", "a").await.unwrap();
    assert!(matches!(docker.remove("data1").await, Err(DriverError::InUse { .. })));

    drop(container);
    until(|| !place.attached("data1")).await;
    docker.remove("data1").await.unwrap();
    place.assert_clean().await;
}

/// docker-lvm-plugin left the logical volume when `mkfs` failed, and a second try found it there.
#[tokio::test]
async fn when_mkfs_fails_nothing_is_left_and_the_next_try_succeeds() {
    let mut place = Place::new();
    place.mkfs.ext4 = program(&place, "echo 'no such luck' >&2; exit 1");
    let driver = place.start().await;
    let refused = text(Docker(&driver).create("data1", SMALL).await);
    assert!(refused.starts_with("the file system was not made: "), "{refused}");
    assert!(refused.ends_with("no such luck"), "{refused}");
    assert_eq!(place.names("volumes"), Vec::<String>::new());
    place.assert_clean().await;
    assert_eq!(Docker(&driver).get("data1").await, None);
    drop(driver);

    place.mkfs = dockline_vol::mkfs::Mkfs::default();
    let driver = place.start().await;
    Docker(&driver).create("data1", SMALL).await.unwrap();
    Docker(&driver).mount("data1", "a").await.unwrap();
}

/// docker-lvm-plugin kept its count over a crash of the host, did not mount, and containers wrote
/// to the host's own disk.
#[tokio::test]
async fn whatever_was_recorded_a_volume_is_mounted_when_docker_is_told_so() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    std::fs::write(at.join("file"), "kept").unwrap();
    // Behind its back, as a crash of the host would.
    dockline_mounts::unmount(at.parent().unwrap()).unwrap();
    assert!(!at.exists(), "there is nothing to write to by mistake");
    let at = docker.mount("data1", "a").await.unwrap();
    assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "kept");
}

/// docker-lvm-plugin's count went below zero.
#[tokio::test]
async fn more_unmounts_than_mounts_do_no_harm() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    for _ in 0..3 {
        docker.unmount("data1", "a").await.unwrap();
    }
    let at = docker.mount("data1", "a").await.unwrap();
    assert!(at.exists());
    for _ in 0..3 {
        docker.unmount("data1", "a").await.unwrap();
        assert!(!at.exists());
    }
}

/// docker-lvm-plugin took sizes for decimal and made them binary, and made xfs volumes smaller
/// than `mkfs.xfs` takes.
#[tokio::test]
async fn every_size_that_is_accepted_can_be_made_and_is_as_large_as_said() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    for (name, fs, size, mib) in [
        ("a", "xfs", "300MB", 300),
        ("b", "xfs", "0.3g", 308),
        ("c", "ext4", "8m", 8),
        ("d", "ext4", "8388609", 9),
    ] {
        docker.create(name, &[("fs", fs), ("size", size)]).await.unwrap();
        assert_eq!(place.image(name).metadata().unwrap().len(), mib << 20, "{size}");
        docker.mount(name, "a").await.unwrap();
    }
    let refused = text(docker.create("e", &[("fs", "xfs"), ("size", "299MiB")]).await);
    assert_eq!(refused, "a volume of 299MiB is too small for xfs: at least 300MiB are needed");
}

#[tokio::test]
async fn a_damaged_file_system_is_left_as_it_is() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let image = place.image("data1");
    let mut content = std::fs::read(&image).unwrap();
    content[..4096].fill(0xaa);
    std::fs::write(&image, &content).unwrap();
    let refused = text(docker.mount("data1", "a").await);
    assert!(
        refused.starts_with("volume data1 is not mounted: the ext4 file system on"),
        "{refused}"
    );
    assert!(std::fs::read(&image).unwrap() == content, "not one byte was changed");
    assert!(docker.get("data1").await.is_some(), "it is damaged and not gone");
    until(|| !place.attached("data1")).await;
    place.assert_clean().await;
}

#[tokio::test]
async fn a_volume_whose_record_is_damaged_is_shown_and_left_alone() {
    let place = Place::new();
    let driver = place.start().await;
    Docker(&driver).create("data1", SMALL).await.unwrap();
    Docker(&driver).create("data2", SMALL).await.unwrap();
    drop(driver);
    let record = place.root().join("volumes/data1/volume.json");
    std::fs::write(&record, "{}").unwrap();
    std::fs::OpenOptions::new().write(true).open(place.image("data2")).unwrap().set_len(1).unwrap();

    let driver = place.start().await;
    let docker = Docker(&driver);
    assert_eq!(driver.counts(), Counts { volumes: 2, mounted: 0, damaged: 2 });
    for (name, why) in [("data1", "its record "), ("data2", "its disk ")] {
        let volume = docker.get(name).await.unwrap();
        assert!(volume.status["damaged"].as_str().unwrap().starts_with(why));
        assert_eq!(volume.created_at, None);
        for refused in [
            text(docker.mount(name, "a").await),
            text(docker.create(name, SMALL).await),
            text(docker.remove(name).await),
        ] {
            let expected = format!("volume {name} is damaged and was left as it is: {why}");
            assert!(refused.starts_with(&expected), "{refused}");
        }
    }
    assert!(record.exists());
}

#[tokio::test]
async fn something_else_in_a_volumes_place_is_not_given_out() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    docker.create("data2", SMALL).await.unwrap();
    let point = place.root().join("mounts/data1");
    std::fs::create_dir(&point).unwrap();
    let other = LoopDevice::attach(&place.image("data2")).unwrap();
    dockline_mounts::mount_disk(other.path(), &point, "ext4", "").unwrap();
    let refused = text(docker.mount("data1", "a").await);
    assert!(refused.contains(&format!("{} is mounted at", other.path().display())), "{refused}");
}

#[tokio::test]
async fn a_volume_whose_files_somebody_deleted_can_be_removed() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    docker.create("data2", SMALL).await.unwrap();
    std::fs::remove_file(place.image("data1")).unwrap();
    std::fs::remove_dir_all(place.root().join("volumes/data2")).unwrap();
    let refused = text(docker.mount("data1", "a").await);
    assert!(refused.contains("cannot open the image"), "{refused}");
    docker.remove("data1").await.unwrap();
    docker.remove("data2").await.unwrap();
    assert_eq!(driver.counts(), Counts::default());
    place.assert_clean().await;
}

#[tokio::test]
async fn a_program_that_has_the_disk_open_is_named() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let disk = LoopDevice::attach(&place.image("data1")).unwrap();
    let script = "exec 3<\"$0\"; touch ready; exec sleep 60";
    let program = dockline_exec::Program::new("sh").args(["-c", script]).arg(disk.path());
    let program = program.folder(place.folder.path());
    let opener = tokio::spawn(async move {
        let _ = program.output().await;
    });
    until(|| place.folder.path().join("ready").exists()).await;
    drop(disk);
    let refused = text(docker.remove("data1").await);
    assert!(refused.starts_with("volume data1 is in use by sleep (pid "), "{refused}");
    opener.abort();
    until(|| !place.attached("data1")).await;
    docker.remove("data1").await.unwrap();
}

#[tokio::test]
async fn a_mount_whose_use_cannot_be_recorded_is_undone() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    std::fs::remove_dir_all(place.folder.path().join("run")).unwrap();
    let refused = text(docker.mount("data1", "a").await);
    assert!(refused.starts_with("cannot keep the record of mounts"), "{refused}");
    place.assert_clean().await;
}

#[tokio::test]
async fn what_a_crash_left_is_put_right_at_the_next_start() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    docker.create("data2", SMALL).await.unwrap();
    // Mounted, and killed before the use was recorded.
    docker.mount("data1", "a").await.unwrap();
    drop(driver);
    std::fs::write(place.folder.path().join("run/uses.json"), "torn").unwrap();
    // Removed, and killed before the content was deleted. Begun, and killed.
    std::fs::rename(place.root().join("volumes/data2"), place.root().join("trash/x")).unwrap();
    std::fs::create_dir_all(place.root().join("creating/y/z")).unwrap();

    let driver = place.start().await;
    assert_eq!(driver.counts(), Counts { volumes: 1, mounted: 0, damaged: 0 });
    place.assert_clean().await;
}

#[tokio::test]
async fn a_new_volume_does_not_inherit_the_uses_of_a_removed_one() {
    let place = Place::new();
    let driver = place.start().await;
    Docker(&driver).create("data1", SMALL).await.unwrap();
    let at = Docker(&driver).mount("data1", "a").await.unwrap();
    drop(driver);
    // Removed, and killed before its uses were forgotten.
    dockline_mounts::unmount(at.parent().unwrap()).unwrap();
    std::fs::rename(place.root().join("volumes/data1"), place.root().join("trash/x")).unwrap();

    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    docker.mount("data1", "b").await.unwrap();
    docker.unmount("data1", "b").await.unwrap();
    assert!(!at.exists());
    place.assert_clean().await;
}

#[tokio::test]
async fn uses_of_a_dockerd_that_died_end_unless_a_container_lives_on() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("dead", SMALL).await.unwrap();
    docker.create("alive", SMALL).await.unwrap();
    let alive = docker.mount("alive", "a").await.unwrap();
    let container = place.container().await;
    let dead = docker.mount("dead", "d").await.unwrap();

    driver.activated().await;
    until(|| !dead.exists()).await;
    assert!(alive.exists());
    // `docker cp` into the container that lives on, and then its end.
    docker.mount("alive", "a").await.unwrap();
    docker.unmount("alive", "a").await.unwrap();
    assert!(alive.exists());
    drop(container);
    // dockerd 20.10 takes the copy for all there was, and says no more.
    until(|| place.seen_by_others("alive").is_empty()).await;
    driver.reconcile().await;
    assert!(!alive.exists());
    until(|| !place.attached("alive")).await;
    place.assert_clean().await;
}

#[tokio::test]
async fn a_container_that_dies_with_its_dockerd_and_starts_again_ends_its_use_once() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    docker.mount("data1", "a").await.unwrap();
    driver.activated().await;
    let at = docker.mount("data1", "a").await.unwrap();
    let container = place.container().await;
    driver.reconcile().await;
    assert!(at.exists());
    drop(container);
    until(|| place.seen_by_others("data1").is_empty()).await;
    docker.unmount("data1", "a").await.unwrap();
    assert!(!at.exists());
    place.assert_clean().await;
}

#[tokio::test]
async fn a_running_create_keeps_nobody_else_waiting() {
    let mut place = Place::new();
    place.mkfs.xfs = program(&place, "until test -e go; do sleep 0.01; done; exec mkfs.xfs \"$@\"");
    let go = PathBuf::from("go");
    let driver = place.start().await;
    // The script waits in the folder of this process, which is nobody else's.
    std::env::set_current_dir(place.folder.path()).unwrap();
    let slow = driver.clone();
    let slow = tokio::spawn(async move { Docker(&slow).create("slow", &[]).await });
    until(|| !place.names("creating").is_empty()).await;

    let docker = Docker(&driver);
    docker.create("quick", SMALL).await.unwrap();
    docker.mount("quick", "a").await.unwrap();
    assert_eq!(docker.get("slow").await, None, "what is being made is not there yet");
    assert_eq!(driver.list().await.unwrap().len(), 1);
    docker.unmount("quick", "a").await.unwrap();
    docker.remove("quick").await.unwrap();
    assert!(!slow.is_finished());
    std::fs::write(go, "").unwrap();
    slow.await.unwrap().unwrap();
    assert!(docker.get("slow").await.is_some());
    std::env::set_current_dir("/").unwrap();
}
