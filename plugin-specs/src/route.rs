//! From a method's name and a body to a driver's call, and back to a body.
//!
//! One place decides what is refused before a driver sees it, and which call takes back an answer
//! that nobody received. It knows nothing of HTTP beyond [`CallError::status`].

use std::error::Error;
use std::future::Future;

use serde::Serialize;
use serde_json::json;

use crate::ipam::{self, IpamDriver};
use crate::network::{self, NetworkDriver};
use crate::volume::{self, VolumeDriver};
use crate::{Activate, Activated, Body, Call, Done, Interface};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No such method.
    #[error("{0} is not a method of this plugin")]
    UnknownMethod(String),
    /// The engine's retry of a request whose body it had used up ([`Body::Required`]).
    #[error("{0}: the body is empty (dockerd repeats a failed request without it): try again")]
    EmptyBody(&'static str),
    /// Not the JSON of this call.
    #[error("{method}: the request is not understood")]
    Malformed {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The driver refused.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl CallError {
    /// The HTTP status it is answered with. The engine takes anything but 200 for an error, and
    /// 404 for "not implemented".
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownMethod(_) => 404,
            Self::EmptyBody(_) | Self::Malformed { .. } => 400,
            Self::Refused(_) => 500,
        }
    }
}

/// An error's text and those of its sources, which is what the user of `docker` reads.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The body of a refusal. The engine reads `Err` for network and volume drivers and with any
/// status but 200, and `Error` for IPAM drivers with 200; both stand in every refusal.
pub fn refusal(text: &str) -> Vec<u8> {
    json!({ "Err": text, "Error": text }).to_string().into_bytes()
}

/// A driver behind the wire: bodies in, bodies out.
pub trait Plugin: Send + Sync + 'static {
    /// Carries out one call. `method` is the path of the request without its slash.
    fn call(
        &self,
        method: &str,
        body: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;

    /// Takes back what `call` answered to the same request, since nobody received it: the engine
    /// went away meanwhile and will never give back what it does not know it has.
    fn take_back(
        &self,
        method: &str,
        body: &[u8],
        answer: &[u8],
    ) -> impl Future<Output = ()> + Send;
}

/// Reads the body of a call.
pub fn read<C: Call>(body: &[u8]) -> Result<C, CallError> {
    let body = match C::BODY {
        Body::Ignored => b"{}",
        Body::Required if body.trim_ascii().is_empty() => {
            return Err(CallError::EmptyBody(C::METHOD));
        }
        Body::Required => body,
    };
    serde_json::from_slice(body)
        .map_err(|source| CallError::Malformed { method: C::METHOD, source })
}

/// Writes an answer. The types of this crate cannot fail to be written as JSON.
fn write(answer: &impl Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(answer).map_err(|source| CallError::Refused(source.into()))
}

/// Writes what a driver said.
fn said<A: Serialize, E: Error + Send + Sync + 'static>(
    result: Result<A, E>,
) -> Result<Vec<u8>, CallError> {
    write(&result.map_err(|refused| CallError::Refused(refused.into()))?)
}

fn activated(interface: Interface) -> Result<Vec<u8>, CallError> {
    write(&Activated { implements: vec![interface] })
}

fn unknown(method: &str) -> CallError {
    CallError::UnknownMethod(method.chars().take(100).collect())
}

/// A network driver as a plugin.
#[derive(Debug)]
pub struct NetworkPlugin<D>(pub D);

impl<D: NetworkDriver> Plugin for NetworkPlugin<D> {
    async fn call(&self, method: &str, body: &[u8]) -> Result<Vec<u8>, CallError> {
        use network::*;
        let Self(driver) = self;
        let done = |()| Done {};
        match method {
            Activate::METHOD => activated(Interface::NetworkDriver),
            GetCapabilities::METHOD => write(&driver.capabilities()),
            CreateNetwork::METHOD => said(driver.create_network(read(body)?).await.map(done)),
            DeleteNetwork::METHOD => said(driver.delete_network(read(body)?).await.map(done)),
            CreateEndpoint::METHOD => said(driver.create_endpoint(read(body)?).await),
            DeleteEndpoint::METHOD => said(driver.delete_endpoint(read(body)?).await.map(done)),
            EndpointOperInfo::METHOD => said(driver.endpoint_oper_info(read(body)?).await),
            Join::METHOD => said(driver.join(read(body)?).await),
            Leave::METHOD => said(driver.leave(read(body)?).await.map(done)),
            // Published ports are refused or ignored when the endpoint is made, so there is
            // nothing to program; and a driver of scope local has no nodes to learn of.
            ProgramExternalConnectivity::METHOD
            | RevokeExternalConnectivity::METHOD
            | DiscoverNew::METHOD
            | DiscoverDelete::METHOD => write(&Done {}),
            _ => Err(unknown(method)),
        }
    }

    async fn take_back(&self, method: &str, body: &[u8], _answer: &[u8]) {
        // Other calls leave nothing behind that the next call for the same network or endpoint
        // does not find and remove.
        if method != network::CreateEndpoint::METHOD {
            return;
        }
        let Ok(network::CreateEndpoint { network_id, endpoint_id, .. }) = read(body) else {
            return;
        };
        let _ = self.0.delete_endpoint(network::DeleteEndpoint { network_id, endpoint_id }).await;
    }
}

/// An IPAM driver as a plugin.
#[derive(Debug)]
pub struct IpamPlugin<D>(pub D);

impl<D: IpamDriver> Plugin for IpamPlugin<D> {
    async fn call(&self, method: &str, body: &[u8]) -> Result<Vec<u8>, CallError> {
        use ipam::*;
        let Self(driver) = self;
        let done = |()| Done {};
        match method {
            Activate::METHOD => activated(Interface::IpamDriver),
            GetCapabilities::METHOD => write(&driver.capabilities()),
            GetDefaultAddressSpaces::METHOD => write(&driver.default_address_spaces()),
            RequestPool::METHOD => said(driver.request_pool(read(body)?).await),
            ReleasePool::METHOD => said(driver.release_pool(read(body)?).await.map(done)),
            RequestAddress::METHOD => said(driver.request_address(read(body)?).await),
            ReleaseAddress::METHOD => said(driver.release_address(read(body)?).await.map(done)),
            _ => Err(unknown(method)),
        }
    }

    async fn take_back(&self, method: &str, body: &[u8], answer: &[u8]) {
        // A release that fails is found by the next reconciliation; there is nobody to tell.
        match method {
            ipam::RequestPool::METHOD => {
                let Ok(ipam::Pool { pool_id, .. }) = serde_json::from_slice(answer) else { return };
                let _ = self.0.release_pool(ipam::ReleasePool { pool_id }).await;
            }
            ipam::RequestAddress::METHOD => {
                let Ok(ipam::RequestAddress { pool_id, .. }) = read(body) else { return };
                let Ok(taken) = serde_json::from_slice::<ipam::Address>(answer) else { return };
                let release = ipam::ReleaseAddress { pool_id, address: taken.address.addr() };
                let _ = self.0.release_address(release).await;
            }
            _ => {}
        }
    }
}

/// A volume driver as a plugin.
#[derive(Debug)]
pub struct VolumePlugin<D>(pub D);

impl<D: VolumeDriver> Plugin for VolumePlugin<D> {
    async fn call(&self, method: &str, body: &[u8]) -> Result<Vec<u8>, CallError> {
        use volume::*;
        let Self(driver) = self;
        let done = |()| Done {};
        match method {
            Activate::METHOD => {
                driver.activated().await;
                activated(Interface::VolumeDriver)
            }
            GetCapabilities::METHOD => write(&Capable { capabilities: driver.capabilities() }),
            Create::METHOD => said(driver.create(read(body)?).await.map(done)),
            Remove::METHOD => said(driver.remove(read(body)?).await.map(done)),
            Mount::METHOD => said(driver.mount(read(body)?).await),
            Unmount::METHOD => said(driver.unmount(read(body)?).await.map(done)),
            Path::METHOD => said(driver.path(read(body)?).await),
            Get::METHOD => said(driver.get(read(body)?).await.map(|volume| Found { volume })),
            List::METHOD => said(driver.list().await.map(|volumes| Listed { volumes })),
            _ => Err(unknown(method)),
        }
    }

    async fn take_back(&self, method: &str, body: &[u8], _answer: &[u8]) {
        // A volume that was made stays: the next Create finds it by its Get.
        if method != volume::Mount::METHOD {
            return;
        }
        let Ok(volume::Mount { name, id }) = read(body) else { return };
        let _ = self.0.unmount(volume::Unmount { name, id }).await;
    }
}
