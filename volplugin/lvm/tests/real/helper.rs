//! What is true of the helper process only.

use std::time::Duration;

use dockline_exec::Program;
use dockline_lvm::{LvmError, Way};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use crate::support::{LONG, Place, Tested, helper};

fn of_process(pid: u32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("it runs");
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

fn umask_of(pid: u32) -> String {
    let status = of_process(pid, "status");
    status.lines().find(|line| line.starts_with("Umask")).expect("a umask").to_owned()
}

/// Whether the kernel's table of locks shows it waiting: `1: -> FLOCK ADVISORY WRITE PID …`.
fn waits_for_a_lock(pid: u32) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").expect("/proc");
    let pid = pid.to_string();
    locks.lines().any(|line| line.contains("->") && line.split(' ').any(|word| word == pid))
}

#[tokio::test]
async fn what_the_library_does_to_its_process_stays_there() {
    let mask = umask(Mode::empty());
    umask(mask);
    let zone = std::env::var_os("TZ");
    let own = umask_of(std::process::id());
    let place = Place::new().await;
    let lvm = Tested { place: &place, lvm: place.lvm(&helper()) };
    lvm.run(place.create("x")).await.unwrap();
    let helper = lvm.lvm.helper_pid().expect("a helper");
    assert_ne!(helper, std::process::id());
    assert_eq!(umask_of(std::process::id()), own);
    assert_eq!(umask_of(helper), own, "its umask is put back after each command");
    assert_eq!(std::env::var_os("TZ"), zone);
    assert!(of_process(helper, "environ").contains("TZ=UTC0"), "so the library does not set it");
    assert!(!of_process(std::process::id(), "maps").contains("liblvm2cmd"));
    assert!(of_process(helper, "maps").contains("liblvm2cmd"));
}

#[tokio::test]
async fn a_helper_that_is_killed_leaves_an_unknown_and_is_followed_by_another() {
    let place = Place::new().await;
    let lvm = Tested { place: &place, lvm: place.lvm(&helper()) };
    lvm.picture().await;
    let first = lvm.lvm.helper_pid().expect("a helper");
    let lock = place.hold_lock();
    let running = tokio::spawn({
        let (lvm, create) = (lvm.lvm.clone(), place.create("x"));
        async move { lvm.run(create, LONG).await }
    });
    // Only once it waits for the lock is it in the midst of the command.
    let bound = std::time::Instant::now();
    while !waits_for_a_lock(first) {
        assert!(bound.elapsed() < Duration::from_secs(5), "it does not come to the lock");
        tokio::task::yield_now().await;
    }
    kill(Pid::from_raw(first.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, LvmError::Died { .. }) && error.is_unknown(), "{error:?}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    drop(lock);
    assert_eq!(lvm.volume("x").await, None, "what became of it is read");
    assert_ne!(lvm.lvm.helper_pid(), Some(first));
    lvm.run(place.create("x")).await.unwrap();
}

#[tokio::test]
async fn a_helper_that_dies_idle_leaves_nothing_unknown() {
    let place = Place::new().await;
    let lvm = Tested { place: &place, lvm: place.lvm(&helper()) };
    lvm.picture().await;
    let first = lvm.lvm.helper_pid().expect("a helper");
    kill(Pid::from_raw(first.try_into().unwrap()), Signal::SIGKILL).unwrap();
    // A process can be waited for once the last of its threads has ended.
    let threads = format!("/proc/{first}/task");
    let stat = format!("/proc/{first}/stat");
    let ended = || {
        let last = std::fs::read_dir(&threads).map_or(true, |threads| threads.count() <= 1);
        last && std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    };
    let bound = std::time::Instant::now();
    while !ended() {
        assert!(bound.elapsed() < Duration::from_secs(5), "it was killed");
        tokio::task::yield_now().await;
    }
    lvm.run(place.create("x")).await.unwrap();
    assert_ne!(lvm.lvm.helper_pid(), Some(first));
}

#[tokio::test]
async fn without_a_helper_it_says_what_is_missing() {
    let place = Place::new().await;
    for way in [Way::Library("/nonexistent/lvm".into()), Way::Program("/nonexistent/lvm".into())] {
        let error = place.lvm(&way).run(place.create("x"), LONG).await.unwrap_err();
        assert!(matches!(error, LvmError::NotThere(_)), "{error:?}");
    }
}

#[tokio::test]
async fn the_helper_ends_with_its_socket_and_takes_nonsense_for_an_end() {
    let Way::Library(path) = helper() else { unreachable!() };
    let program = Program::new(path);
    let companion = program.start_with_socket().unwrap();
    assert!(companion.ended().await.unwrap().success());
    let mut companion = program.start_with_socket().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut companion.socket, &[0xff; 64]).await.unwrap();
    assert!(!companion.ended().await.unwrap().success());
    assert!(!program.output().await.unwrap().status.success(), "standard input is no socket");
}
