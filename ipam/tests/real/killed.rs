//! The daemon's process, killed at any moment under many clients: what it answered stays true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use dockline_exec::ExecError;
use dockline_plugin_specs::ipam::{ReleaseAddress, RequestPool};

use crate::support::docker::{Docker, NoAnswer, daemon, request};

/// Large enough for what every round leaves held.
const SUBNET: &str = "10.0.0.0/20";
const CLIENTS: usize = 8;

/// What is known of each address.
#[derive(Debug, Default)]
struct Ledger {
    /// Answered, and not asked to be released since.
    owned: BTreeMap<String, usize>,
    answered: usize,
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), "node1", "");
    let docker = Docker::of(folder.path());
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
