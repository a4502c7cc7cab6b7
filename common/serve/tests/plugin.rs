//! A plugin behind the server: what Docker would read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use dockline_plugin_specs::route::{IpamPlugin, VolumePlugin};
use dockline_plugin_specs::{ipam, volume};
use dockline_serve::plugin::PluginService;
use dockline_serve::{Request, Service};
use hyper::Method;
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
#[error("the pool is exhausted")]
struct Exhausted(#[source] std::io::Error);

/// Gives one address, and counts what it was given back.
#[derive(Debug, Default)]
struct OneAddress {
    released: std::sync::Mutex<Vec<ipam::ReleaseAddress>>,
}

impl ipam::IpamDriver for &'static OneAddress {
    type Failure = Exhausted;

    fn capabilities(&self) -> ipam::Capabilities {
        ipam::Capabilities::default()
    }

    fn default_address_spaces(&self) -> ipam::AddressSpaces {
        ipam::AddressSpaces { local: "l".into(), global: "g".into() }
    }

    async fn request_pool(&self, _: ipam::RequestPool) -> Result<ipam::Pool, Exhausted> {
        Err(Exhausted(std::io::Error::other("254 of 254 held")))
    }

    async fn release_pool(&self, _: ipam::ReleasePool) -> Result<(), Exhausted> {
        Ok(())
    }

    async fn request_address(&self, _: ipam::RequestAddress) -> Result<ipam::Address, Exhausted> {
        Ok(ipam::Address { address: "10.0.0.2/24".parse().unwrap(), data: Default::default() })
    }

    async fn release_address(&self, release: ipam::ReleaseAddress) -> Result<(), Exhausted> {
        self.released.lock().unwrap().push(release);
        Ok(())
    }
}

fn service() -> (&'static OneAddress, PluginService<IpamPlugin<&'static OneAddress>>) {
    let driver: &OneAddress = Box::leak(Box::default());
    (driver, PluginService::new(IpamPlugin(driver)))
}

fn post(method: &str, body: impl Into<Bytes>) -> Request {
    Request { method: Method::POST, path: format!("/{method}"), body: body.into() }
}

async fn ask(request: &Request) -> (u16, Value) {
    let response = service().1.answer(request).await;
    (response.status.as_u16(), serde_json::from_slice(&response.body).unwrap())
}

#[tokio::test]
async fn activation_and_capabilities_take_any_body() {
    for body in ["", "{}", "null", "garbage"] {
        let (status, answer) = ask(&post("Plugin.Activate", body)).await;
        assert_eq!((status, answer), (200, json!({ "Implements": ["IpamDriver"] })));
    }
}

#[tokio::test]
async fn a_refusal_carries_its_causes_under_both_names() {
    let (status, answer) = ask(&post("IpamDriver.RequestPool", "{}")).await;
    let text = "the pool is exhausted: 254 of 254 held";
    assert_eq!((status, answer), (500, json!({ "Err": text, "Error": text })));
}

#[tokio::test]
async fn what_is_not_a_call_is_refused_in_words() {
    let cases: [(&str, &[u8], u16, &str); 6] = [
        ("IpamDriver.RequestAddress", b"", 400, "body is empty"),
        ("IpamDriver.RequestAddress", b"  \n", 400, "body is empty"),
        ("IpamDriver.RequestAddress", b"{\"PoolID\":", 400, "not understood: EOF"),
        ("IpamDriver.RequestPool", br#"{"Pool":"10.0.0.1/24"}"#, 400, "did you mean 10.0.0.0/24?"),
        ("IpamDriver.RequestPool", b"\xff\xfe", 400, "not understood"),
        ("IpamDriver.Nonsense", b"{}", 404, "IpamDriver.Nonsense is not a method"),
    ];
    for (method, body, status, words) in cases {
        let (got, answer) = ask(&post(method, Bytes::from_static(body))).await;
        let text = answer["Err"].as_str().unwrap();
        assert!(got == status && text.contains(words), "{method} {body:?}: {got} {text}");
    }
    let get = Request { method: Method::GET, ..post("Plugin.Activate", "") };
    assert_eq!(ask(&get).await.0, 405);
}

#[tokio::test]
async fn an_address_that_nobody_received_is_released() {
    let (driver, service) = service();
    let request = post("IpamDriver.RequestAddress", r#"{"PoolID":"p","Address":""}"#);
    let response = service.answer(&request).await;
    service.undelivered(&request, &response).await;
    let address = "10.0.0.2".parse().unwrap();
    let released = driver.released.lock().unwrap().clone();
    assert_eq!(released, [ipam::ReleaseAddress { pool_id: "p".into(), address }]);
}

#[tokio::test]
async fn a_refusal_that_nobody_received_takes_nothing_back() {
    let (driver, service) = service();
    let request = post("IpamDriver.RequestAddress", "");
    let response = service.answer(&request).await;
    service.undelivered(&request, &response).await;
    assert!(driver.released.lock().unwrap().is_empty());
}

#[test]
fn every_call_is_answered_before_dockerd_gives_up() {
    /// Never called.
    struct Nothing;
    impl volume::VolumeDriver for Nothing {
        type Failure = std::io::Error;
        async fn activated(&self) {}
        fn capabilities(&self) -> volume::Capabilities {
            volume::Capabilities::default()
        }
        async fn create(&self, _: volume::Create) -> std::io::Result<()> {
            Ok(())
        }
        async fn remove(&self, _: volume::Remove) -> std::io::Result<()> {
            Ok(())
        }
        async fn mount(&self, _: volume::Mount) -> std::io::Result<volume::Mounted> {
            Ok(volume::Mounted::default())
        }
        async fn unmount(&self, _: volume::Unmount) -> std::io::Result<()> {
            Ok(())
        }
        async fn path(&self, _: volume::Path) -> std::io::Result<volume::Mounted> {
            Ok(volume::Mounted::default())
        }
        async fn get(&self, _: volume::Get) -> std::io::Result<Option<volume::Volume>> {
            Ok(None)
        }
        async fn list(&self) -> std::io::Result<Vec<volume::Volume>> {
            Ok(Vec::new())
        }
    }
    let service = PluginService::new(VolumePlugin(Nothing));
    let patience = |method| service.patience(&post(method, ""));
    assert_eq!(patience("VolumeDriver.Create"), Duration::from_secs(110));
    assert_eq!(patience("VolumeDriver.Get"), Duration::from_secs(50));
    assert_eq!(patience("NetworkDriver.Join"), Duration::from_secs(30));
}
