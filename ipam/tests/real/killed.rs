//! The daemon's process, killed at any moment under many clients: what it answered stays true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use dockline_exec::{ExecError, Program};
use dockline_plugin_specs::Call;
use dockline_plugin_specs::ipam::{ENDPOINT_MAC, ReleaseAddress, RequestAddress, RequestPool};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyperlocal::{UnixClientExt, UnixConnector, Uri};

/// Large enough for what every round leaves held.
const SUBNET: &str = "10.0.0.0/20";
const CLIENTS: usize = 8;

/// Why there is no answer to a call.
#[derive(Debug)]
enum NoAnswer {
    /// The daemon is not there, or went away: what it did is not known.
    Lost,
    /// The daemon said no.
    Refused(String),
}

/// dockerd, as far as the daemon can tell.
#[derive(Debug, Clone)]
struct Docker {
    socket: PathBuf,
    http: Client<UnixConnector, Full<Bytes>>,
}

impl Docker {
    fn new(socket: PathBuf) -> Self {
        // Like dockerd's, a connection is not kept once its peer has died.
        Self { socket, http: Client::unix() }
    }

    async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, NoAnswer> {
        let body = Full::new(Bytes::from(serde_json::to_vec(call).unwrap()));
        let uri = Uri::new(&self.socket, &format!("/{}", C::METHOD));
        let request = hyper::Request::post(uri).body(body).unwrap();
        let response = self.http.request(request).await.map_err(|_| NoAnswer::Lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|_| NoAnswer::Lost)?.to_bytes();
        if status.is_success() {
            Ok(serde_json::from_slice(&body).unwrap())
        } else {
            Err(NoAnswer::Refused(String::from_utf8_lossy(&body).into_owned()))
        }
    }

    /// Calls until there is an answer, for the parts of the test in which nothing is killed.
    async fn insist<C: Call>(&self, call: &C) -> Result<C::Answer, String> {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..2000 {
            tick.tick().await;
            match self.call(call).await {
                Ok(answer) => return Ok(answer),
                Err(NoAnswer::Refused(text)) => return Err(text),
                Err(NoAnswer::Lost) => {}
            }
        }
        panic!("the daemon does not come up");
    }
}

/// What is known of each address.
#[derive(Debug, Default)]
struct Ledger {
    /// Answered, and not asked to be released since.
    owned: BTreeMap<String, usize>,
    answered: usize,
}

fn request(pool: &str, address: Option<&str>) -> RequestAddress {
    RequestAddress {
        pool_id: pool.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        options: [(ENDPOINT_MAC.to_owned(), "02:42:0a:00:00:01".to_owned())].into(),
    }
}

/// Requests and releases until the daemon is gone.
async fn client(docker: Docker, pool: String, ledger: Arc<Mutex<Ledger>>, number: usize) {
    let mut mine: Vec<String> = Vec::new();
    loop {
        if mine.len() < 6 {
            let answer = match docker.call(&request(&pool, None)).await {
                Ok(answer) => answer.address.addr().to_string(),
                Err(NoAnswer::Refused(text)) => panic!("{text}"),
                Err(NoAnswer::Lost) => return,
            };
            let mut ledger = ledger.lock().unwrap();
            ledger.answered += 1;
            if let Some(other) = ledger.owned.insert(answer.clone(), number) {
                panic!("{answer} was given to client {other} and to {number}");
            }
            mine.push(answer);
        } else {
            let address = mine.remove(0);
            // From here on it may be given to another.
            ledger.lock().unwrap().owned.remove(&address);
            let address = address.parse().unwrap();
            let release = ReleaseAddress { pool_id: pool.clone(), address };
            match docker.call(&release).await {
                Ok(_) => {}
                Err(NoAnswer::Refused(text)) => panic!("{text}"),
                Err(NoAnswer::Lost) => return,
            }
        }
    }
}

fn daemon(folder: &Path) -> Program {
    let config = folder.join("dockline.toml");
    let text = format!(
        "host = \"node1\"\nplugins_dir = {:?}\nrun_dir = {:?}\nstate_dir = {:?}\n",
        folder.join("plugins"),
        folder.join("run"),
        folder.join("state")
    );
    std::fs::write(&config, text).unwrap();
    Program::new(env!("CARGO_BIN_EXE_dockline-ipam")).env("DOCKLINE_CONFIG", config)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let docker = Docker::new(folder.path().join("plugins/dockline-ipam.sock"));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let pool = RequestPool {
        address_space: "dockline".into(),
        pool: Some(SUBNET.parse().unwrap()),
        ..RequestPool::default()
    };
    let pool_id = format!("dockline/{SUBNET}");
    for round in 0..12 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let lifetime = Duration::from_millis(400 + u64::from(now.subsec_micros() % 400));
        let mortal = daemon.clone().deadline(lifetime);
        let life = tokio::spawn(async move { mortal.output().await });
        let socket = docker.clone();
        let pool = pool.clone();
        let insisted = tokio::spawn(async move { socket.insist(&pool).await });
        // A daemon that was killed before it came up gives no answer: the next round's does.
        let mut clients = Vec::new();
        if let Ok(Ok(Ok(_))) = tokio::time::timeout(lifetime, insisted).await {
            for number in 0..CLIENTS {
                let (docker, ledger) = (docker.clone(), Arc::clone(&ledger));
                clients.push(tokio::spawn(client(docker, pool_id.clone(), ledger, number)));
            }
        }
        let killed = life.await.unwrap();
        assert!(matches!(killed, Err(ExecError::TimedOut { .. })), "round {round}: {killed:?}");
        for client in clients {
            client.await.unwrap();
        }
    }

    let last = daemon.deadline(Duration::from_secs(60));
    let life = tokio::spawn(async move { last.output().await });
    docker.insist(&pool).await.unwrap();
    let ledger = Arc::into_inner(ledger).unwrap().into_inner().unwrap();
    assert!(ledger.answered > 100, "only {} requests were answered", ledger.answered);
    for address in ledger.owned.keys() {
        let refused = docker.insist(&request(&pool_id, Some(address))).await.unwrap_err();
        assert!(refused.contains("is in use"), "{address}: {refused}");
    }
    life.abort();
}
