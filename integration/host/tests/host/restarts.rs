//! Every process killed while containers run: they keep talking, and nothing is left in the end.

use std::time::Duration;

use dockline_host::daemons::Daemon;
use dockline_host::demo::{CONTAINERS, Demo, NETWORK};
use dockline_host::docker::QUIET;
use dockline_host::report::wait_until;
use dockline_host::suite::Suite;

use crate::support::{TWO_LOOKS, exec, nothing_left, ports, run};

/// What needs two looks of the janitor need not take a minute.
const LOOK_OFTEN: &str = "[net]\nlook_every_s = 5\n";

/// Starts a ping in web1 that goes on, five packets a second, into a file.
async fn start_talking(suite: &Suite) {
    let address = Demo::new(&suite.docker, &suite.place).connection("web2").await.unwrap().address;
    let address = address.split('/').next().unwrap().to_owned();
    let talk = format!("ping -i 0.2 {address} > /tmp/talk");
    suite.docker(&["exec", "-d", "web1", "sh", "-c", &talk]).await.unwrap();
}

/// The sequence numbers of the answers so far.
async fn answers(suite: &Suite) -> Vec<u64> {
    let talk = exec(suite, "web1", &["cat", "/tmp/talk"]).await.unwrap();
    let numbers = talk.lines().filter_map(|line| line.split("seq=").nth(1)?.split(' ').next());
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// Waits for more answers and fails if any is missing.
async fn still_talking(suite: &Suite, since: &str) {
    let before = answers(suite).await.len();
    wait_until("they go on talking", Duration::from_secs(20), async || {
        Ok(answers(suite).await.len() > before + 5)
    })
    .await
    .unwrap();
    let answers = answers(suite).await;
    let expected: Vec<u64> = (0..answers.len() as u64).collect();
    assert_eq!(answers, expected, "packets were lost since {since}");
}

#[tokio::test]
async fn containers_keep_talking_while_each_process_is_killed_and_started_again() {
    let mut suite = Suite::start().await.unwrap();
    Demo::new(&suite.docker, &suite.place).run().await.unwrap();
    start_talking(&suite).await;
    for daemon in Daemon::ALL {
        suite.kill(daemon).await.unwrap();
        still_talking(&suite, &format!("the end of {}", daemon.name())).await;
        suite.restart(daemon).await.unwrap();
    }
    suite.kill_docker().await.unwrap();
    suite.restart_docker(&QUIET).await.unwrap();
    still_talking(&suite, "the end of dockerd").await;

    let written = exec(&suite, "web1", &["cat", "/data/words"]).await.unwrap();
    assert_eq!(written, "written by the first web1");
    for container in CONTAINERS {
        suite.docker(&["stop", "-t", "1", container]).await.unwrap();
        suite.docker(&["start", container]).await.unwrap();
    }
    start_talking(&suite).await;
    still_talking(&suite, "their restart").await;
    assert_eq!(exec(&suite, "web1", &["cat", "/data/words"]).await.unwrap(), written);

    Demo::new(&suite.docker, &suite.place).remove(true).await.unwrap();
    nothing_left(&suite, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn a_crash_of_dockerd_that_takes_the_containers_leaves_nothing() {
    // Without live-restore dockerd ends what runs when it starts again, and often does not say
    // that the endpoints are gone.
    let options = ["--bridge=none", "--iptables=false"];
    let mut suite = Suite::with(&options, LOOK_OFTEN).await.unwrap();
    Demo::new(&suite.docker, &suite.place).run().await.unwrap();
    suite.kill_docker().await.unwrap();
    suite.restart_docker(&options).await.unwrap();
    for container in CONTAINERS {
        suite.docker(&["start", container]).await.unwrap();
    }
    let words = exec(&suite, "web1", &["cat", "/data/words"]).await.unwrap();
    assert_eq!(words, "written by the first web1");
    Demo::new(&suite.docker, &suite.place).remove(true).await.unwrap();
    nothing_left(&suite, TWO_LOOKS).await.unwrap();
}

#[tokio::test]
async fn everything_killed_at_once_comes_back_and_works() {
    let mut suite = Suite::start().await.unwrap();
    Demo::new(&suite.docker, &suite.place).run().await.unwrap();
    suite.kill_docker().await.unwrap();
    for daemon in Daemon::ALL {
        suite.kill(daemon).await.unwrap();
    }
    suite.switch.vswitchd.kill().await.unwrap();
    suite.switch.database.kill().await.unwrap();
    let place = &suite.place;
    suite.switch.database = dockline_host::switch::Switch::start_database(place).await.unwrap();
    suite.switch.vswitchd = dockline_host::switch::Switch::start_vswitchd(place).await.unwrap();
    for daemon in Daemon::ALL {
        suite.restart(daemon).await.unwrap();
    }
    suite.restart_docker(&QUIET).await.unwrap();
    start_talking(&suite).await;
    still_talking(&suite, "everything was killed").await;
    run(&suite, "web3", &["--network", NETWORK]).await.unwrap();
    assert_eq!(ports(&suite).await.unwrap().len(), 3);
    suite.docker(&["rm", "-f", "web3"]).await.unwrap();
    Demo::new(&suite.docker, &suite.place).remove(true).await.unwrap();
    nothing_left(&suite, TWO_LOOKS).await.unwrap();
}
