//! What the tests on etcd share.

use dockline_store::etcd::{Etcd, EtcdOptions};

pub(crate) fn options(etcd: &dockline_testkit::Etcd, writer: &str) -> EtcdOptions {
    EtcdOptions {
        endpoints: etcd.endpoints(),
        namespace: "test/dockline".parse().unwrap(),
        writer: writer.to_owned(),
        tls: None,
        user: None,
    }
}

pub(crate) async fn open(etcd: &dockline_testkit::Etcd, writer: &str) -> Etcd {
    Etcd::open(options(etcd, writer)).await.unwrap()
}

/// An error with all that is beneath it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
