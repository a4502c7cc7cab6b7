//! Many clients of several daemons on a cluster of three, with daemons killed and members killed
//! and paused at random: no address ever has two owners, and none that was given is lost.
//!
//! `DOCKLINE_SEED` repeats what happens when, `DOCKLINE_HISTORY_S` makes it longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dockline_exec::Program;
use dockline_plugin_specs::ipam::{ReleaseAddress, RequestPool};
use dockline_testkit::Etcd;
use nix::sys::signal::Signal;

use crate::support::docker::{Docker, NoAnswer, daemon, request};

const SUBNET: &str = "10.0.0.0/20";
const POOL: &str = "dockline/10.0.0.0/20";
const HOSTS: usize = 3;
const CLIENTS: usize = 4;

/// Numbers that a seed determines (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Who was given what, and has not begun to give it back.
#[derive(Debug, Default)]
struct Ledger {
    owned: BTreeMap<String, usize>,
    answered: usize,
    unanswered: usize,
}

struct World {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

/// Why a call was refused has to do with a member or a daemon that is down.
fn is_trouble(text: &str) -> bool {
    ["waiting for the store", "did not answer", "did not say", "do not arrive"]
        .iter()
        .any(|words| text.contains(words))
}

/// Requests and releases until told to stop.
async fn client(docker: Docker, world: Arc<World>, number: usize, seed: u64) {
    let mut dice = Dice(seed);
    let mut mine: Vec<String> = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(3));
    while !world.stop.load(Ordering::Relaxed) {
        tick.tick().await;
        if mine.is_empty() || (mine.len() < 12 && dice.roll(2) == 0) {
            let answer = docker.call(&request(POOL, None)).await;
            let mut ledger = world.ledger.lock().unwrap();
            match answer {
                Ok(answer) => {
                    let address = answer.address.addr().to_string();
                    ledger.answered += 1;
                    if let Some(other) = ledger.owned.insert(address.clone(), number) {
                        panic!("{address} was given to client {other} and to {number}");
                    }
                    mine.push(address);
                }
                Err(NoAnswer::Lost) => ledger.unanswered += 1,
                Err(NoAnswer::Refused(text)) => {
                    assert!(is_trouble(&text), "{text}");
                    ledger.unanswered += 1;
                }
            }
        } else {
            let place = usize::try_from(dice.roll(mine.len() as u64)).unwrap();
            let address = mine.swap_remove(place);
            // From here on it may be given to another.
            world.ledger.lock().unwrap().owned.remove(&address);
            let release =
                ReleaseAddress { pool_id: POOL.to_owned(), address: address.parse().unwrap() };
            match docker.call(&release).await {
                Ok(_) => {}
                Err(NoAnswer::Lost) => world.ledger.lock().unwrap().unanswered += 1,
                Err(NoAnswer::Refused(text)) => {
                    assert!(is_trouble(&text), "{text}");
                    world.ledger.lock().unwrap().unanswered += 1;
                }
            }
        }
    }
}

/// Lets a daemon live for a while, kills it, and starts it again, until told to stop.
async fn lives(daemon: Program, world: Arc<World>, seed: u64) {
    let mut dice = Dice(seed);
    while !world.stop.load(Ordering::Relaxed) {
        let lifetime = Duration::from_millis(1500 + dice.roll(3000));
        drop(daemon.clone().deadline(lifetime).output().await);
    }
}

/// Kills and pauses members until `end`.
async fn harm(etcd: &mut Etcd, dice: &mut Dice, end: Instant) {
    let mut tick = tokio::time::interval(Duration::from_millis(700));
    while Instant::now() < end {
        tick.tick().await;
        let some = usize::try_from(dice.roll(3)).unwrap();
        match dice.roll(4) {
            0 => {
                let leader = etcd.leader().await.unwrap();
                etcd.end(leader, Signal::SIGKILL).await.unwrap();
                tick.tick().await;
                etcd.run(leader).await.unwrap();
                etcd.wait_until_well().await.unwrap();
            }
            1 => {
                etcd.pause(some).unwrap();
                tick.tick().await;
                tick.tick().await;
                etcd.resume(some).unwrap();
            }
            2 => {
                etcd.end(some, Signal::SIGTERM).await.unwrap();
                etcd.run(some).await.unwrap();
                etcd.wait_until_well().await.unwrap();
            }
            _ => {}
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_ever_has_two_owners_and_none_is_lost() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let seed = number("DOCKLINE_SEED", u64::from(now.subsec_nanos())).max(1);
    println!("DOCKLINE_SEED={seed}");
    let length = Duration::from_secs(number("DOCKLINE_HISTORY_S", 12));
    let mut etcd = Etcd::start(3).await.unwrap();
    let world = Arc::new(World { ledger: Mutex::default(), stop: AtomicBool::new(false) });
    let store = format!("[store]\nkind = \"etcd\"\nendpoints = {:?}\n", etcd.endpoints());
    let pool = RequestPool {
        address_space: "dockline".into(),
        pool: Some(SUBNET.parse().unwrap()),
        ..RequestPool::default()
    };
    let mut dice = Dice(seed);
    let (mut folders, mut tasks) = (Vec::new(), Vec::new());
    for host in 0..HOSTS {
        let folder = tempfile::tempdir().unwrap();
        let docker = Docker::of(folder.path());
        let program = daemon(folder.path(), &format!("node{host}"), &store);
        tasks.push(tokio::spawn(lives(program, Arc::clone(&world), dice.roll(u64::MAX) | 1)));
        for _ in 0..20 {
            if docker.insist(&pool).await.is_ok() {
                break;
            }
        }
        for at in 0..CLIENTS {
            let (docker, world) = (docker.clone(), Arc::clone(&world));
            let seed = dice.roll(u64::MAX) | 1;
            tasks.push(tokio::spawn(client(docker, world, host * CLIENTS + at, seed)));
        }
        folders.push(folder);
    }
    harm(&mut etcd, &mut dice, Instant::now() + length).await;
    world.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }

    let last = tempfile::tempdir().unwrap();
    let docker = Docker::of(last.path());
    let program = daemon(last.path(), "node9", &store).deadline(Duration::from_secs(60));
    let life = tokio::spawn(async move { drop(program.output().await) });
    docker.insist(&pool).await.unwrap();
    let Ledger { owned, answered, unanswered } = std::mem::take(&mut *world.ledger.lock().unwrap());
    println!("{answered} answered, {unanswered} not, {} owned at the end", owned.len());
    assert!(answered > 200, "only {answered} requests were answered");
    for address in owned.keys() {
        let refused = docker.insist(&request(POOL, Some(address))).await.unwrap_err();
        assert!(refused.contains("is in use"), "{address} was lost: {refused}");
    }
    let keys = ["get", "dockline/ipam/address/", "--prefix", "--keys-only"];
    let held = etcd.ctl().args(keys).run().await.unwrap().text();
    let held = held.lines().filter(|line| !line.is_empty()).count();
    // What is held besides belongs to requests and releases that got no answer.
    assert!(held >= owned.len() && held <= owned.len() + unanswered, "{held} are held");
    life.abort();
}
