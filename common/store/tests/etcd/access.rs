//! Getting in: TLS with client certificates, users with passwords, and keyspaces that are not ours.

use std::sync::Arc;

use crate::support::{causes, open, options};
use dockline_store::contract::{self, Space};
use dockline_store::etcd::{Etcd, OpenError, Tls, User};
use dockline_store::{Key, Store, Txn, Value};

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_certificate_it_gets_in_and_without_it_does_not() {
    let etcd = dockline_testkit::Etcd::start_with_tls().await.unwrap();
    let tls = |identity| Some(Tls { ca: etcd.file("ca.pem"), identity });
    let identity = Some((etcd.file("client.pem"), etcd.file("client.key")));
    let mut settings = options(&etcd, "node1");
    settings.tls = tls(identity);
    let store = Arc::new(Etcd::open(settings.clone()).await.unwrap());
    contract::one_of_many_creates_a_key(&store, &Space::new("many")).await;
    contract::a_watch_makes_progress(&*store, &Space::new("watch")).await;

    settings.tls = tls(None);
    let error = Etcd::open(settings.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
    let missing = etcd.file("nothing.pem");
    settings.tls = tls(Some((missing.clone(), missing.clone())));
    let error = causes(&Etcd::open(settings).await.unwrap_err());
    assert!(error.contains(&format!("cannot read {}", missing.display())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_it_gets_in_and_goes_on_when_the_token_is_gone() {
    let mut etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    for words in [
        "user add root:secret",
        "user grant-role root root",
        "user add dockline:swordfish",
        "role add writer",
        // The fences and the number of the keyspace begin with the namespace too.
        "role grant-permission writer readwrite test/dockline --prefix",
        "user grant-role dockline writer",
        "auth enable",
    ] {
        let ran = etcd.ctl().args(words.split(' ')).run().await;
        assert!(ran.is_ok() || words.starts_with("user grant-role root"), "{words}: {ran:?}");
    }
    let password_file = etcd.file("password");
    std::fs::write(&password_file, "wrong\n").unwrap();
    let mut settings = options(&etcd, "node1");
    settings.user = Some(User { name: "dockline".into(), password_file: password_file.clone() });
    let error = causes(&Etcd::open(settings.clone()).await.unwrap_err());
    assert!(error.contains("authentication failed"), "{error}");
    std::fs::write(&password_file, "swordfish\n").unwrap();
    let store = Arc::new(Etcd::open(settings.clone()).await.unwrap());
    contract::a_watch_goes_on_where_a_scan_ended(&store, &Space::new("watch")).await;
    // Tokens are in the server's memory alone.
    etcd.end(0, nix::sys::signal::Signal::SIGKILL).await.unwrap();
    etcd.run(0).await.unwrap();
    contract::compares_guard_a_transaction(&*store, &Space::new("after")).await;

    settings.namespace = "test/other".parse().unwrap();
    let error = causes(&Etcd::open(settings).await.unwrap_err());
    assert!(error.contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_of_a_newer_version_is_not_written_to() {
    let etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    for found in ["2", "something else"] {
        let put = ["put", "test/dockline.keyspace", found];
        etcd.ctl().args(put).run().await.unwrap();
        let error = Etcd::open(options(&etcd, "node1")).await.unwrap_err();
        assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
        assert!(error.to_string().contains("run that version here too"), "{error}");
    }
    let keys = etcd.ctl().args(["get", "", "--prefix", "--keys-only"]).run().await.unwrap();
    assert_eq!(keys.text().trim(), "test/dockline.keyspace");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_do_not_see_each_other_and_what_others_put_there_is_shown() {
    let etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    let store = open(&etcd, "node1").await;
    let mut other = options(&etcd, "node1");
    other.namespace = "test/docklin".parse().unwrap();
    let other = Etcd::open(other).await.unwrap();
    let key = Key::new("a").unwrap();
    let create = || Txn::create(key.clone(), Value::new("1").unwrap());
    for store in [&store, &other] {
        let done = store.txn(create()).await.unwrap();
        assert!(matches!(done, dockline_store::Outcome::Committed { .. }), "{done:?}");
    }
    // Longer than the store itself takes: it is there all the same.
    let long = "x".repeat(dockline_store::MAX_VALUE_BYTES + 1);
    etcd.ctl().args(["put", "test/dockline/b", &long]).run().await.unwrap();
    let found = store.get(Key::new("b").unwrap()).await.unwrap().unwrap();
    assert_eq!(found.value.as_bytes().len(), long.len());
    assert_eq!(other.get(Key::new("b").unwrap()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_of_one_name_do_not_harm_each_other() {
    let etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    let stores = [Arc::new(open(&etcd, "node1").await), Arc::new(open(&etcd, "node1").await)];
    let clients = stores.map(|store| {
        tokio::spawn(async move {
            let mut won = 0;
            for at in 0..50 {
                let key = Key::new(format!("{at}")).unwrap();
                match store.txn(Txn::create(key, Value::new("1").unwrap())).await {
                    Ok(dockline_store::Outcome::Committed { .. }) => won += 1,
                    Ok(_) => {}
                    Err(error) => {
                        let error = causes(&error);
                        assert!(error.contains("each host needs a name of its own"), "{error}");
                    }
                }
            }
            won
        })
    });
    let mut won = 0;
    for client in clients {
        won += client.await.unwrap();
    }
    assert!(won <= 50, "{won} creations of 50 keys succeeded");
}
