//! Volumes that grow while they are in use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::FileExt;

use dockline_mounts::LoopDevice;
use dockline_types::ByteSize;

use crate::support::{Docker, Place};

/// The bytes that a file system has for files.
fn room(at: &std::path::Path) -> u64 {
    dockline_mounts::usage(at).expect("a file system").total
}

/// ext4 asks for CAP_SYS_RESOURCE, which not every container has: it grows on lab nodes.
const KINDS: [(&str, u64); 2] = [("xfs", 320), ("btrfs", 160)];

#[tokio::test]
async fn each_file_system_grows_while_it_is_written_to() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    for (fs, mib) in KINDS {
        docker.create(fs, &[("fs", fs), ("size", &format!("{mib}MiB"))]).await.unwrap();
        let at = docker.mount(fs, "a").await.unwrap();
        let file = std::fs::File::create(at.join("file")).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        let before = room(&at);
        let grown = driver.resize(fs, ByteSize::from_mib(mib * 2)).await.unwrap();
        assert_eq!(grown.size, Some(ByteSize::from_mib(mib * 2)));
        file.write_all_at(b"after", 6).unwrap();
        assert!(room(&at) > before / 10 * 17, "{fs}: {before} became {}", room(&at));
        assert_eq!(std::fs::read(at.join("file")).unwrap(), b"beforeafter");

        // The same again is no error; less is one, and changes nothing.
        driver.resize(fs, ByteSize::from_mib(mib * 2)).await.unwrap();
        let refused = driver.resize(fs, ByteSize::from_mib(mib)).await.unwrap_err().to_string();
        assert!(refused.contains("is not made smaller"), "{refused}");
        drop(file);
        docker.unmount(fs, "a").await.unwrap();

        // It grows without being in use, too, and is not left mounted.
        driver.resize(fs, ByteSize::from_mib(mib * 3)).await.unwrap();
        assert_eq!(place.mounts(), Vec::<std::path::PathBuf>::new());
        let at = docker.mount(fs, "a").await.unwrap();
        assert!(room(&at) > before / 10 * 26, "{fs}: {before} became {}", room(&at));
        docker.unmount(fs, "a").await.unwrap();
    }
    drop(driver);
    let driver = place.start().await;
    for (fs, mib) in KINDS {
        let volume = driver.volumes().into_iter().find(|volume| volume.name == fs).unwrap();
        assert_eq!(volume.size, Some(ByteSize::from_mib(mib * 3)), "it is kept");
        Docker(&driver).remove(fs).await.unwrap();
    }
    place.assert_clean().await;
}

#[tokio::test]
async fn a_growth_that_was_cut_short_is_finished_at_the_next_mount() {
    cut_short(false).await;
}

#[tokio::test]
async fn a_growth_that_was_cut_short_while_mounted_is_finished_at_the_next_start() {
    cut_short(true).await;
}

/// The image is longer and nothing else knows: what a crash at the worst moment leaves.
async fn cut_short(mounted: bool) {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", &[("fs", "xfs"), ("size", "300MiB")]).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    let before = room(&at);
    if !mounted {
        docker.unmount("data1", "a").await.unwrap();
    }
    drop(driver);
    let image = std::fs::File::options().write(true).open(place.image("data1")).unwrap();
    image.set_len(600 << 20).unwrap();
    if let Some(device) = LoopDevice::find(&place.image("data1")).unwrap() {
        device.refresh_size().unwrap();
    }

    let driver = place.start().await;
    let docker = Docker(&driver);
    if !mounted {
        docker.mount("data1", "a").await.unwrap();
    }
    assert!(room(&at) > before / 10 * 17, "{before} became {}", room(&at));
    let volumes = driver.volumes();
    assert_eq!(volumes[0].size, Some(ByteSize::from_mib(600)));
    docker.unmount("data1", "a").await.unwrap();
    docker.remove("data1").await.unwrap();
    place.assert_clean().await;
}

#[tokio::test]
async fn what_cannot_grow_says_why_and_stays() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", &[("fs", "ext4"), ("size", "32MiB")]).await.unwrap();
    for (name, mib, words) in [
        ("data1", u64::from(u32::MAX), "is more than the whole disk"),
        ("data2", 64, "there is no volume data2"),
        ("../x", 64, "'/' is not allowed"),
    ] {
        let refused = driver.resize(name, ByteSize::from_mib(mib)).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let found = docker.get("data1").await.unwrap();
    assert_eq!(found.status["size"], "32MiB");
    docker.remove("data1").await.unwrap();
    place.assert_clean().await;
}

#[tokio::test]
async fn whoever_has_a_volume_is_named() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", &[("fs", "ext4"), ("size", "32MiB")]).await.unwrap();
    assert_eq!(driver.users("data1").await.unwrap(), []);
    let at = docker.mount("data1", "a").await.unwrap();
    let container = place.container().await;
    let users = driver.users("data1").await.unwrap();
    assert_eq!(users.len(), 1, "{users:?}");
    assert_eq!(users[0].command, "sleep");
    assert_eq!(users[0].path, at.parent().unwrap().to_str().unwrap());
    drop(container);
    docker.unmount("data1", "a").await.unwrap();
}
