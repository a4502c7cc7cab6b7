//! Roots of other distributions, made once and cached outside the tree.
//!
//! An image is a folder named by a hash of its recipe: another recipe is another image, and an
//! existing folder is always whole because it is made aside and renamed. The packages come from the
//! mirror that the machine's own apt is configured for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dockline_exec::{ExecError, Program};

use crate::error::{LabError, io};

/// Where images are kept unless `DOCKLINE_LAB_CACHE` says otherwise.
const CACHE: &str = "/var/cache/dockline-lab";

/// The release of the image.
const SUITE: &str = "trixie";

/// What is on top of the smallest Debian: what the plugins work with, and what tests look with.
const PACKAGES: &[&str] = &[
    "btrfs-progs",
    "busybox-static",
    "docker-cli",
    "docker.io",
    "e2fsprogs",
    "etcd-client",
    "etcd-server",
    "fio",
    "iperf3",
    "iproute2",
    "iptables",
    "kmod",
    "lvm2",
    "openvswitch-switch",
    "procps",
    "tcpdump",
    "thin-provisioning-tools",
    "udev",
    "xfsprogs",
];

/// How long the making may take; about a minute is usual.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// How often progress is shown.
const TICK: Duration = Duration::from_secs(5);

/// The root of Debian 13; made now if it is not there. Two that ask at once make it once.
pub async fn debian13() -> Result<PathBuf, LabError> {
    let cache = std::env::var_os("DOCKLINE_LAB_CACHE").map_or_else(|| CACHE.into(), PathBuf::from);
    let name = format!("debian13-{:016x}", recipe());
    once(&cache, &name, async |aside| debootstrap(aside).await).await
}

/// The folder of this name in the cache, made if it is not there: whole, or not at all, and by one
/// of all that ask.
async fn once(
    cache: &Path,
    name: &str,
    make: impl AsyncFnOnce(&Path) -> Result<(), ExecError>,
) -> Result<PathBuf, LabError> {
    let image = cache.join(name);
    if image.exists() {
        return Ok(image);
    }
    std::fs::create_dir_all(cache).map_err(io(format!("make {}", cache.display())))?;
    let lock = File::create(cache.join("lock")).map_err(io("open the image lock"))?;
    // The one who waits here finds the image made. The lock ends with this process at the latest.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.map_err(std::io::Error::other).flatten().map_err(io("take the image lock"))?;
    if !image.exists() {
        let aside = cache.join("making");
        remove(&aside)?;
        make(&aside).await.map_err(|source| LabError::Image { path: image.clone(), source })?;
        std::fs::rename(&aside, &image).map_err(io(format!("name {}", image.display())))?;
    }
    Ok(image)
}

/// A number that changes with the recipe (FNV-1a; nobody attacks it).
fn recipe() -> u64 {
    let words = std::iter::once(&SUITE).chain(PACKAGES);
    words.flat_map(|word| word.bytes().chain([0])).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Removes what a killed making left; its mounts went with its mount namespace.
fn remove(folder: &Path) -> Result<(), LabError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io(format!("remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

async fn debootstrap(folder: &Path) -> Result<(), ExecError> {
    let mirror = mirror().await?;
    println!("lab: making {} from {mirror}", folder.display());
    // Its mounts and whatever its packages start stay in namespaces of its own and end with it.
    let mut program = Program::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(folder)
        .arg(mirror)
        .deadline(DEADLINE);
    if let Some(proxy) = proxy().await? {
        program = program.env("http_proxy", proxy);
    }
    let started = Instant::now();
    let making = program.run();
    tokio::pin!(making);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            made = &mut making => {
                println!("lab: made in {:.0} s", started.elapsed().as_secs_f32());
                return made.map(drop);
            }
            _ = tick.tick() => {
                let log = folder.join("debootstrap/debootstrap.log");
                let log = std::fs::read(log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let last = log.lines().last().unwrap_or("fetching packages");
                println!("lab: {:3.0} s: {last}", started.elapsed().as_secs_f32());
            }
        }
    }
}

/// The Debian mirror of the machine's own apt.
async fn mirror() -> Result<String, ExecError> {
    let listed = Program::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(LABEL) $(REPO_URI)",
            "Created-By: Packages",
        ])
        .run()
        .await?
        .text();
    let found = choose_mirror(&listed);
    found.map(str::to_owned).ok_or_else(|| ExecError::NotStarted {
        command: "debootstrap".to_owned(),
        source: std::io::Error::other(
            "apt knows no Debian archive on this machine: run `apt-get update` and try again",
        ),
    })
}

/// The first Debian archive of apt's list; the security archive has no whole release in it.
fn choose_mirror(listed: &str) -> Option<&str> {
    let named = listed.lines().find_map(|line| line.strip_prefix("Debian Debian "));
    // Before its first update apt knows the places but not what is there.
    let guessed = || {
        let uris = listed.lines().filter_map(|line| line.split_whitespace().last());
        uris.into_iter().find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
    };
    named.or_else(guessed).map(str::trim)
}

/// The proxy that apt is configured to use, if any.
async fn proxy() -> Result<Option<String>, ExecError> {
    let shown = Program::new("apt-config").args(["shell", "PROXY", "Acquire::http::Proxy"]);
    let shown = shown.run().await?.text();
    let proxy = shown.strip_prefix("PROXY='").and_then(|proxy| proxy.strip_suffix('\''));
    Ok(proxy.filter(|proxy| !proxy.is_empty() && *proxy != "DIRECT").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn two_that_ask_at_once_make_it_once() {
        let cache = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let make = async |aside: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            std::fs::create_dir(aside).unwrap();
            // The other one has its turn while this is half made.
            Program::new("sleep").arg("0.2").run().await.map(drop)
        };
        let (one, other) =
            tokio::join!(once(cache.path(), "image", make), once(cache.path(), "image", make));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_making_that_fails_leaves_no_image_and_the_next_begins_anew() {
        let cache = tempfile::tempdir().unwrap();
        let failing = async |aside: &Path| {
            std::fs::create_dir(aside).unwrap();
            std::fs::write(aside.join("half"), "").unwrap();
            Program::new("false").run().await.map(drop)
        };
        let error = once(cache.path(), "image", failing).await.unwrap_err();
        assert!(matches!(error, LabError::Image { .. }));
        assert!(!cache.path().join("image").exists());
        let making = async |aside: &Path| {
            std::fs::create_dir(aside).unwrap();
            Ok(())
        };
        let image = once(cache.path(), "image", making).await.unwrap();
        assert!(!image.join("half").exists(), "the half-made one was taken over");
    }

    #[test]
    fn the_main_archive_is_chosen() {
        let listed = "Other Other http://other.example/debian/\n\
            Debian Debian-Security http://mirror.example/debian-security/\n\
            Debian Debian http://mirror.example/debian/\n";
        assert_eq!(choose_mirror(listed), Some("http://mirror.example/debian/"));
        let fresh = "  http://a.example/security\n  http://a.example/debian\n";
        assert_eq!(choose_mirror(fresh), Some("http://a.example/debian"));
        assert_eq!(choose_mirror(""), None);
    }
}
