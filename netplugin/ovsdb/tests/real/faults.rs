//! Daemons that die, freeze and come back, answers that are lost, callers that go away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dockline_ovsdb::switch::{Deleted, Outcome, PortError, Until};
use dockline_ovsdb::transaction::{TransactError, Transaction};
use dockline_testkit::{Ovs, OvsDaemon, eventually};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::proxy::Proxy;
use super::{BRIDGE, bridge, ours, port, soon, switch_at, told, with_bridge};

const PATIENCE: Duration = Duration::from_secs(20);

async fn port_names(ovs: &Ovs) -> anyhow::Result<Vec<String>> {
    let text = told(ovs, &["list-ports", BRIDGE]).await?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn five_hundred_at_once_share_transactions() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    let next_cfg = || switch.client().look(|picture| picture.root().unwrap().next_cfg);
    let before = next_cfg();
    let specs = (0..500).map(|n| port(&format!("p{n}"))).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut ofports = std::collections::HashSet::new();
    for added in switch.add_ports(specs, deadline).await {
        assert!(ofports.insert(added?.ofport));
    }
    assert_eq!(port_names(&ovs).await?.len(), 500);
    let transactions = next_cfg() - before;
    assert!(transactions <= 4, "{transactions} transactions for 500 ports");

    let names: Vec<String> = (0..500).map(|n| format!("p{n}")).collect();
    for deleted in switch.delete_ports(&names, &ours(), Until::Applied, deadline).await {
        assert_eq!(deleted?, Deleted::Deleted);
    }
    assert_eq!(port_names(&ovs).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn nothing_runs_yet_and_the_call_waits_for_it() -> anyhow::Result<()> {
    let mut ovs = Ovs::start_server_only().await?;
    ovs.end(OvsDaemon::Server, Signal::SIGKILL).await?;
    let switch = switch_at(&ovs.socket());
    let asked = tokio::spawn({
        let switch = switch.clone();
        async move { switch.ensure_bridge(&bridge(), soon()).await }
    });
    ovs.run(OvsDaemon::Server).await?;
    ovs.run(OvsDaemon::Vswitchd).await?;
    asked.await??;
    Ok(())
}

#[tokio::test]
async fn what_gives_up_while_it_waits_is_never_done() -> anyhow::Result<()> {
    let (mut ovs, switch) = with_bridge().await?;
    ovs.end(OvsDaemon::Server, Signal::SIGKILL).await?;
    eventually("the loss to be noticed", PATIENCE, async || {
        switch.client().look(|picture| !picture.is_connected()).then_some(())
    })
    .await?;
    let at_once = Instant::now() + Duration::from_millis(100);
    let early = switch.add_port(port("early"), at_once).await;
    assert!(matches!(early, Err(PortError::NotStarted(_))), "{early:?}");
    let dropped =
        tokio::time::timeout(Duration::from_millis(100), switch.add_port(port("dropped"), soon()));
    assert!(dropped.await.is_err());
    ovs.run(OvsDaemon::Server).await?;
    switch.add_port(port("later"), soon()).await?;
    assert_eq!(port_names(&ovs).await?, ["later"]);
    Ok(())
}

#[tokio::test]
async fn the_server_is_killed_while_changes_are_in_flight() -> anyhow::Result<()> {
    let (mut ovs, switch) = with_bridge().await?;
    for round in 0..3 {
        let specs = (0..40).map(|n| port(&format!("r{round}p{n}"))).collect();
        let adding = tokio::spawn({
            let switch = switch.clone();
            async move { switch.add_ports(specs, soon()).await }
        });
        // At another point of the work in each round.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(round * 3) {
            tokio::task::yield_now().await;
        }
        ovs.end(OvsDaemon::Server, Signal::SIGKILL).await?;
        ovs.run(OvsDaemon::Server).await?;
        // Whatever was lost was looked for and done again: all are there, once.
        for added in adding.await? {
            assert_eq!(added?.outcome, Outcome::Created);
        }
    }
    assert_eq!(port_names(&ovs).await?.len(), 120);
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_is_noticed_and_its_outcome_is_unknown() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    ovs.pause(OvsDaemon::Server)?;
    let deadline = Instant::now() + Duration::from_millis(300);
    let added = switch.add_port(port("p1"), deadline).await;
    assert!(matches!(added, Err(PortError::Unknown(_))), "{added:?}");
    let mut transaction = Transaction::new();
    transaction.announce();
    let deadline = Instant::now() + Duration::from_millis(300);
    let raw = switch.client().transact(&transaction, deadline).await;
    assert!(matches!(&raw, Err(error) if error.is_unknown()), "{raw:?}");
    // Neither answers echoes: the connection is given up.
    eventually("the silence to be noticed", PATIENCE, async || {
        switch.client().look(|picture| !picture.is_connected()).then_some(())
    })
    .await?;
    ovs.resume(OvsDaemon::Server)?;
    // The undo of an unknown outcome works whether or not it was done.
    switch.delete_port("p1", &ours(), Until::Applied, soon()).await?;
    assert_eq!(port_names(&ovs).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_frozen_switch_leaves_the_change_in_the_database() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    ovs.pause(OvsDaemon::Vswitchd)?;
    let deadline = Instant::now() + Duration::from_millis(300);
    let added = switch.add_port(port("p1"), deadline).await;
    assert!(matches!(added, Err(PortError::NotApplied(_))), "{added:?}");
    assert_eq!(told(&ovs, &["--no-wait", "list-ports", BRIDGE]).await?, "p1");
    // The database is not held up by a change that waits for a switch that does not move.
    let waiting = tokio::spawn({
        let switch = switch.clone();
        async move { switch.add_port(port("p2"), soon()).await }
    });
    eventually("the port in the database", PATIENCE, async || {
        switch.client().look(|picture| picture.port("p2").map(drop))
    })
    .await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let deleted = switch.delete_port("p1", &ours(), Until::Committed, deadline).await?;
    assert_eq!(deleted, Deleted::Deleted);
    ovs.resume(OvsDaemon::Vswitchd)?;
    assert_eq!(waiting.await??.outcome, Outcome::Created);
    Ok(())
}

#[tokio::test]
async fn the_switch_is_killed_and_takes_over_what_it_missed() -> anyhow::Result<()> {
    let (mut ovs, switch) = with_bridge().await?;
    ovs.end(OvsDaemon::Vswitchd, Signal::SIGKILL).await?;
    let adding = tokio::spawn({
        let switch = switch.clone();
        async move { switch.add_port(port("p1"), soon()).await }
    });
    eventually("the port in the database", PATIENCE, async || {
        switch.client().look(|picture| picture.port("p1").map(drop))
    })
    .await?;
    ovs.run(OvsDaemon::Vswitchd).await?;
    assert_eq!(adding.await??.outcome, Outcome::Created);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_looked_for_and_not_done_twice() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    drop(switch);
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    switch.client().connected(soon()).await?;
    for there in [true, false] {
        proxy.lose_answers();
        let asked = tokio::spawn({
            let switch = switch.clone();
            async move {
                if there {
                    let added = switch.add_port(port("p1"), soon()).await;
                    added.map(|added| added.outcome == Outcome::Created)
                } else {
                    let deleted = switch.delete_port("p1", &ours(), Until::Applied, soon()).await;
                    deleted.map(|deleted| deleted == Deleted::Deleted)
                }
            }
        });
        eventually("the change to be made", PATIENCE, async || {
            let names = port_names(&ovs).await.ok()?;
            (names.contains(&"p1".to_owned()) == there).then_some(())
        })
        .await?;
        proxy.cut();
        assert!(asked.await??, "the change was not recognised as its own");
        switch.client().connected(soon()).await?;
    }
    assert_eq!(port_names(&ovs).await?, [""; 0]);
    Ok(())
}

/// Somebody else changes the same things between our look and our write: the database refuses, and
/// the refusal is told as what it means. Neighbours in the transaction do not notice.
#[tokio::test]
async fn lost_races_are_conflicts_and_harm_no_neighbour() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    switch.add_port(port("p3"), soon()).await?;
    drop(switch);
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    // Held words must not look like a dead server.
    let mut config = dockline_ovsdb::Config::new(&proxy.socket);
    config.probe = PATIENCE;
    let switch = dockline_ovsdb::Switch::new(dockline_ovsdb::Client::start(config));
    switch.client().connected(soon()).await?;
    proxy.hold_answers();
    ovs.vsctl().args(["--no-wait", "add-port", BRIDGE, "p1"]).run().await?;
    let before = proxy.sent.load(Ordering::SeqCst);
    let adding = tokio::spawn({
        let switch = switch.clone();
        async move { switch.add_ports(vec![port("p1"), port("p2")], soon()).await }
    });
    sent_more_than(&proxy, before).await?;
    proxy.release();
    let added = adding.await?;
    assert!(matches!(added[0], Err(PortError::Conflict { .. })), "{added:?}");
    assert!(matches!(added[1], Ok(added) if added.outcome == Outcome::Created), "{added:?}");

    proxy.hold_answers();
    let mark = ["--no-wait", "set", "port", "p3", "external_ids:owner=them"];
    ovs.vsctl().args(mark).run().await?;
    let before = proxy.sent.load(Ordering::SeqCst);
    let deleting = tokio::spawn({
        let switch = switch.clone();
        async move { switch.delete_port("p3", &ours(), Until::Applied, soon()).await }
    });
    sent_more_than(&proxy, before).await?;
    proxy.release();
    let deleted = deleting.await?;
    assert!(matches!(deleted, Err(PortError::Conflict { .. })), "{deleted:?}");
    assert_eq!(port_names(&ovs).await?, ["p1", "p2", "p3"]);
    Ok(())
}

async fn sent_more_than(proxy: &Proxy, before: u64) -> anyhow::Result<()> {
    eventually("our change to be sent", PATIENCE, async || {
        (proxy.sent.load(Ordering::SeqCst) > before).then_some(())
    })
    .await
}

/// The bridge goes between our look and our write.
#[tokio::test]
async fn a_port_is_never_left_without_its_bridge() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    drop(switch);
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    switch.client().connected(soon()).await?;
    proxy.hold_answers();
    ovs.vsctl().args(["--no-wait", "del-br", BRIDGE]).run().await?;
    let before = proxy.sent.load(Ordering::SeqCst);
    let adding = tokio::spawn({
        let switch = switch.clone();
        async move { switch.add_port(port("p1"), soon()).await }
    });
    sent_more_than(&proxy, before).await?;
    proxy.release();
    let added = adding.await?;
    assert!(matches!(added, Err(PortError::NoBridge(_))), "{added:?}");
    assert_eq!(told(&ovs, &["--no-wait", "--bare", "list", "interface"]).await?, "");
    Ok(())
}

#[tokio::test]
async fn a_server_without_the_newer_monitor_is_watched_too() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    drop(switch);
    let proxy = Proxy::before_an_old_server(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    assert_eq!(switch.add_port(port("p1"), soon()).await?.outcome, Outcome::Created);
    ovs.vsctl().args(["set", "port", "p1", "tag=7", "external_ids:more=1"]).run().await?;
    eventually("the change to be seen", PATIENCE, async || {
        let client = switch.client();
        client.look(|picture| {
            let (_, port) = picture.port("p1")?;
            (port.tag == Some(7) && port.external_ids.len() == 2).then_some(())
        })
    })
    .await?;
    proxy.cut();
    let deleted = switch.delete_port("p1", &ours(), Until::Applied, soon()).await?;
    assert_eq!(deleted, Deleted::Deleted);
    assert_eq!(port_names(&ovs).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() -> anyhow::Result<()> {
    let ovs = Ovs::start_server_only().await?;
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    switch.client().connected(soon()).await?;
    assert_eq!(proxy.open.load(Ordering::SeqCst), 1);
    drop(switch);
    eventually("the connection to be closed", PATIENCE, async || {
        (proxy.open.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn callers_that_go_away_harm_nobody() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    drop(switch);
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    switch.client().connected(soon()).await?;
    for n in 0..50_u64 {
        let name = format!("p{n}");
        let mut transaction = Transaction::new();
        transaction.announce();
        let client = switch.client();
        let calls = async {
            tokio::join!(
                switch.add_port(port(&name), soon()),
                client.transact(&transaction, soon())
            )
        };
        let _ = tokio::time::timeout(Duration::from_micros(n * 40), calls).await;
    }
    assert_eq!(switch.add_port(port("last"), soon()).await?.outcome, Outcome::Created);
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 1, "the connection was given up");
    // What was taken up is whole; what was not left nothing.
    for name in port_names(&ovs).await? {
        switch.add_port(port(&name), soon()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_picture_follows_others_and_catches_up_after_an_absence() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    switch.add_port(port("a"), soon()).await?;
    drop(switch);
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let switch = switch_at(&proxy.socket);
    let client = switch.client();
    let sees = |name: &str| client.look(|picture| picture.port(name).is_some());
    client.connected(soon()).await?;
    assert!(sees("a"), "what was there before");
    ovs.vsctl().args(["--no-wait", "add-port", BRIDGE, "b"]).run().await?;
    eventually("b to be seen", PATIENCE, async || sees("b").then_some(())).await?;

    drop(proxy);
    let away = async || client.look(|picture| !picture.is_connected()).then_some(());
    eventually("the loss to be noticed", PATIENCE, away).await?;
    assert!(sees("a") && sees("b"), "what was known stays known");
    let change = ["--no-wait", "del-port", "a", "--", "add-port", BRIDGE, "c"];
    ovs.vsctl().args(change).run().await?;
    let _proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    client.connected(soon()).await?;
    assert_eq!([sees("a"), sees("b"), sees("c")], [false, true, true]);
    Ok(())
}

#[tokio::test]
async fn an_echo_keeps_a_quiet_connection_alive() -> anyhow::Result<()> {
    let ovs = Ovs::start_server_only().await?;
    let proxy = Proxy::start(ovs.folder(), ovs.socket())?;
    let mut config = dockline_ovsdb::Config::new(&proxy.socket);
    config.probe = Duration::from_millis(50);
    let client = dockline_ovsdb::Client::start(config);
    client.connected(soon()).await?;
    let quiet = proxy.sent.load(Ordering::SeqCst);
    eventually("several echoes", PATIENCE, async || {
        (proxy.sent.load(Ordering::SeqCst) > quiet + 200).then_some(())
    })
    .await?;
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 1);
    assert!(client.look(|picture| picture.is_connected()));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_no_ovs_database_is_an_error_and_not_a_hang() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("odd.sock");
    let listener = tokio::net::UnixListener::bind(&socket)?;
    let odd = tokio::spawn(async move {
        let answers: [&[u8]; 4] =
            [b"HTTP/1.1 400 Bad\r\n", b"{\"id\":0,\"result\":7,\"error\":null}", b"{\"id\":", b"]"];
        for answer in answers.into_iter().cycle() {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let client = dockline_ovsdb::Client::start(dockline_ovsdb::Config::new(&socket));
    let error = client.connected(Instant::now() + Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, TransactError::NotSent));
    odd.abort();
    Ok(())
}
