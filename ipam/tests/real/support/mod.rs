//! What the tests of this crate share: a driver on an embedded store in a folder of its own.

pub(crate) mod docker;
pub(crate) mod flaky;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dockline_ipam::IpamError;
use dockline_ipam::driver::Driver;
use dockline_ipam::engine::Settings;
use dockline_ipam::opening::{Opening, open_embedded};
use dockline_ipam_core::DefaultPool;
use dockline_plugin_specs::ipam::{
    ADDRESS_TYPE, ENDPOINT_MAC, ENDPOINT_NAME, GATEWAY, IpamDriver, ReleaseAddress, ReleasePool,
    RequestAddress, RequestPool,
};
use dockline_store::Store;
use dockline_store::embedded::Embedded;
use dockline_store::etcd::{Etcd, EtcdOptions};

pub(crate) const SPACE: &str = "dockline";

pub(crate) fn settings(host: &str) -> Settings {
    let default = |base: &str, size| DefaultPool::new(base.parse().unwrap(), size).unwrap();
    let defaults = vec![default("10.209.0.0/22", 24), default("fd64:6f63:6b6c::/62", 64)];
    let host = host.parse().unwrap();
    Settings { host, defaults, spread: false, rest: Duration::ZERO }
}

/// A driver on a store, with short names for what Docker asks.
pub(crate) struct Host<S: Store = Embedded>(pub(crate) Driver<S>);

/// A driver on an embedded store in this folder.
pub(crate) fn embedded(folder: PathBuf) -> Host {
    embedded_as("node1", folder)
}

/// A driver of a host of this name.
pub(crate) fn embedded_as(host: &str, folder: PathBuf) -> Host {
    let file = folder.join("ipam.redb");
    let opening =
        Opening::start(settings(host), "test".into(), move || open_embedded(file.clone()));
    Host(Driver::new(Arc::new(opening)))
}

/// A driver of a host of this name on a cluster that other hosts use too.
pub(crate) fn on_etcd(host: &str, cluster: &dockline_testkit::Etcd) -> Host<Etcd> {
    let options = EtcdOptions {
        endpoints: cluster.endpoints(),
        namespace: "dockline".parse().unwrap(),
        writer: host.to_owned(),
        tls: None,
        user: None,
    };
    let settings = Settings { spread: true, ..settings(host) };
    let open = move || Etcd::open(options.clone());
    Host(Driver::new(Arc::new(Opening::start(settings, "etcd".into(), open))))
}

/// The text that Docker would show.
pub(crate) fn text(error: &IpamError) -> String {
    dockline_plugin_specs::route::chain(error)
}

impl<S: Store> Host<S> {
    pub(crate) async fn pool_with(&self, request: RequestPool) -> Result<String, IpamError> {
        self.0.request_pool(request).await.map(|pool| pool.pool_id)
    }

    pub(crate) async fn pool(&self, subnet: &str) -> Result<String, IpamError> {
        self.pool_with(named(subnet)).await
    }

    pub(crate) async fn drop_pool(&self, pool: &str) -> Result<(), IpamError> {
        self.0.release_pool(ReleasePool { pool_id: pool.to_owned() }).await
    }

    pub(crate) async fn address_with(&self, request: RequestAddress) -> Result<IpAddr, IpamError> {
        self.0.request_address(request).await.map(|address| address.address.addr())
    }

    /// As for a container, whose MAC is made up.
    pub(crate) async fn address(
        &self,
        pool: &str,
        address: Option<&str>,
    ) -> Result<IpAddr, IpamError> {
        self.address_with(container(pool, address, None)).await
    }

    pub(crate) async fn gateway(
        &self,
        pool: &str,
        address: Option<&str>,
    ) -> Result<IpAddr, IpamError> {
        let mut request = container(pool, address, None);
        request.options = [(ADDRESS_TYPE.to_owned(), GATEWAY.to_owned())].into();
        self.address_with(request).await
    }

    pub(crate) async fn auxiliary(&self, pool: &str, address: &str) -> Result<IpAddr, IpamError> {
        let mut request = container(pool, Some(address), None);
        request.options.clear();
        self.address_with(request).await
    }

    pub(crate) async fn release(&self, pool: &str, address: IpAddr) -> Result<(), IpamError> {
        let release = ReleaseAddress { pool_id: pool.to_owned(), address };
        self.0.release_address(release).await
    }
}

pub(crate) fn named(subnet: &str) -> RequestPool {
    RequestPool {
        address_space: SPACE.to_owned(),
        pool: Some(subnet.parse().unwrap()),
        ..RequestPool::default()
    }
}

pub(crate) fn container(pool: &str, address: Option<&str>, name: Option<&str>) -> RequestAddress {
    let mac = (ENDPOINT_MAC.to_owned(), "02:42:0a:00:00:01".to_owned());
    let name = name.map(|name| (ENDPOINT_NAME.to_owned(), name.to_owned()));
    RequestAddress {
        pool_id: pool.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        options: std::iter::once(mac).chain(name).collect(),
    }
}
