//! The daemon as a process: killed at random moments, over its sockets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_admin::{Client, Health, Status};
use dockline_exec::Program;

use crate::support::{Place, until};

/// A running daemon; dropping it kills it with SIGKILL.
struct Daemon {
    task: tokio::task::JoinHandle<()>,
    place: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Daemon {
    async fn start(place: &Place) -> Self {
        let folder = place.folder.path().to_owned();
        let config = folder.join("dockline.toml");
        let text = format!(
            "plugins_dir = \"{0}/plugins\"\nrun_dir = \"{0}/run\"\nstate_dir = \"{0}\"\n",
            folder.display()
        );
        std::fs::write(&config, text).expect("a configuration");
        std::fs::create_dir_all(folder.join("plugins")).expect("a folder");
        let program = Program::new(env!("CARGO_BIN_EXE_dockline-vol")).arg("--config").arg(config);
        let program = program.deadline(Duration::from_secs(120));
        let task = tokio::spawn(async move {
            let ended = program.output().await.expect("it runs");
            panic!("the daemon ended: {}", String::from_utf8_lossy(&ended.stderr));
        });
        let daemon = Self { task, place: folder };
        until_async(async || daemon.call("VolumeDriver.Capabilities", "{}").await.is_some()).await;
        daemon
    }

    /// One call as dockerd makes it; nothing if there was no answer.
    async fn call(&self, method: &str, body: &str) -> Option<String> {
        call(&self.place.join("plugins/dockline-vol.sock"), method, body).await
    }

    async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        // Its process group is killed when its task ends; the kernel then frees the lock.
        let lock = self.place.join("volumes/lock");
        until(|| {
            let file = std::fs::File::open(&lock).expect("the lock");
            nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
        })
        .await;
    }
}

async fn until_async(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it holds within 10 s");
}

/// Speaks HTTP by hand, so that the test does not share the daemon's view of it.
async fn call(socket: &Path, method: &str, body: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let request = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn create(name: &str) -> String {
    format!(r#"{{"Name":"{name}","Opts":{{"fs":"ext4","size":"16MiB"}}}}"#)
}

#[tokio::test]
async fn it_answers_docker_and_its_operators() {
    let place = Place::new();
    let daemon = Daemon::start(&place).await;
    let activated = daemon.call("Plugin.Activate", "").await.unwrap();
    assert_eq!(activated, r#"{"Implements":["VolumeDriver"]}"#);
    let found = daemon.call("VolumeDriver.Get", r#"{"Name":"data1"}"#).await.unwrap();
    assert_eq!(found, r#"{"Volume":null}"#, "what dockerd takes for: there is none");
    assert_eq!(daemon.call("VolumeDriver.Create", &create("data1")).await.unwrap(), "{}");
    let mount = r#"{"Name":"data1","ID":"a"}"#;
    let mounted = daemon.call("VolumeDriver.Mount", mount).await.unwrap();
    let expected = place.root().join("mounts/data1/_data");
    assert_eq!(mounted, format!(r#"{{"Mountpoint":"{}"}}"#, expected.display()));
    assert!(expected.is_dir());

    let operators = Client::new(place.folder.path().join("run/vol.sock"), Duration::from_secs(5));
    let status: Status = operators.get("status").await.unwrap();
    assert_eq!(status.name, "dockline-vol");
    assert_eq!((status.counts["volumes"], status.counts["mounted"]), (1, 1));
    assert_eq!((status.parts[0].role.as_str(), &status.parts[0].health), ("backend", &Health::Ok));
    assert!(status.parts[0].what.starts_with("loop files in "), "{:?}", status.parts[0].what);

    assert_eq!(daemon.call("VolumeDriver.Unmount", mount).await.unwrap(), "{}");
    let removed = daemon.call("VolumeDriver.Remove", r#"{"Name":"data1"}"#).await;
    assert_eq!(removed.unwrap(), "{}");
    place.assert_clean().await;
}

#[tokio::test]
async fn killed_while_a_container_writes_it_takes_up_where_it_was() {
    let place = Place::new();
    let daemon = Daemon::start(&place).await;
    daemon.call("VolumeDriver.Create", &create("data1")).await.unwrap();
    let mount = r#"{"Name":"data1","ID":"a"}"#;
    daemon.call("VolumeDriver.Mount", mount).await.unwrap();
    let at = place.root().join("mounts/data1/_data");
    let mut file = std::fs::File::create(at.join("file")).unwrap();
    daemon.kill().await;
    std::io::Write::write_all(&mut file, b"written while nobody looked after it").unwrap();
    drop(file);

    let daemon = Daemon::start(&place).await;
    let found = daemon.call("VolumeDriver.Get", r#"{"Name":"data1"}"#).await.unwrap();
    assert!(found.contains(r#""mounted":true"#), "{found}");
    assert_eq!(daemon.call("VolumeDriver.Unmount", mount).await.unwrap(), "{}");
    assert!(!at.exists(), "it still knew the use that the container had");
    daemon.call("VolumeDriver.Mount", mount).await.unwrap();
    assert!(at.join("file").metadata().unwrap().len() > 0);
    daemon.call("VolumeDriver.Unmount", mount).await.unwrap();
    place.assert_clean().await;
}

/// Kills the daemon at moments spread over the time that a whole life of a volume takes. After
/// each, everything that Docker was told is true, and there is nothing else.
#[tokio::test]
async fn killed_at_any_moment_it_keeps_its_word() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place).await;
    daemon.call("VolumeDriver.Create", &create("stays")).await.unwrap();
    for round in 0..40u64 {
        let name = format!("v{round}");
        let mount = format!(r#"{{"Name":"{name}","ID":"a"}}"#);
        let life = [
            ("VolumeDriver.Create", create(&name)),
            ("VolumeDriver.Mount", mount.clone()),
            ("VolumeDriver.Unmount", mount.clone()),
            ("VolumeDriver.Remove", format!(r#"{{"Name":"{name}"}}"#)),
        ];
        let socket = place.folder.path().join("plugins/dockline-vol.sock");
        let (calls, sent) = (life.clone(), socket.clone());
        let mut living = tokio::spawn(async move {
            let mut told = Vec::new();
            for (method, body) in &calls {
                match call(&sent, method, body).await {
                    Some(answer) => told.push((*method, answer)),
                    None => break,
                }
            }
            told
        });
        // A whole life takes about 40 ms.
        let early = tokio::time::timeout(Duration::from_millis(round), &mut living).await;
        daemon.kill().await;
        let told = match early {
            Ok(told) => told.unwrap(),
            Err(_) => living.await.unwrap(),
        };
        assert!(told.iter().all(|(_, answer)| !answer.contains("Err")), "{told:?}");

        daemon = Daemon::start(&place).await;
        let said = |method: &str| told.iter().any(|(told, _)| *told == method);
        let get = format!(r#"{{"Name":"{name}"}}"#);
        let found = daemon.call("VolumeDriver.Get", &get).await.unwrap();
        let there = !found.contains(r#""Volume":null"#);
        assert!(there || !said("VolumeDriver.Create") || said("VolumeDriver.Unmount"), "{told:?}");
        assert!(!(there && said("VolumeDriver.Remove")), "{told:?} {found}");
        assert!(!found.contains("damaged"), "{found}");
        // What dockerd does next: it makes the volume unless it is there, uses it and removes it.
        for (method, body) in &life {
            let answer = daemon.call(method, body).await.unwrap();
            assert!(!answer.contains("Err"), "round {round}, {method}: {answer}");
        }
        assert_eq!(place.names("volumes"), ["stays"]);
        place.assert_clean().await;
    }
}
