//! Docker's three plugin protocols as types, without any I/O.
//!
//! * [`network`], [`ipam`], [`volume`]: every call with its request and its answer, and one trait
//!   per protocol that a driver implements.
//! * [`route`]: from a method's name and a body to a call of that trait and back to a body.
//! * [`discovery`]: the files by which Docker finds a plugin.
//!
//! What the engine sends is read forgivingly (unknown fields are ignored, `null` and a missing
//! field mean empty, `""` means none); names and addresses are exact. Nothing here decides
//! anything: a driver's own options are text that the driver parses.
//!
//! The facts are from the engine's source (moby, `pkg/plugins`, `libnetwork/drivers/remote/api`,
//! `libnetwork/ipams/remote/api`, `volume/drivers`) and from captured traffic, which lies in
//! `captures/` and is read back by the tests.

pub mod discovery;
mod engine;
pub mod ipam;
pub mod network;
pub mod route;
pub mod volume;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The media type the engine asks for; the type of every answer.
pub const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// One of the engine's plugin protocols, as `Plugin.Activate` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interface {
    /// Networks and endpoints.
    NetworkDriver,
    /// Address pools and addresses.
    IpamDriver,
    /// Volumes.
    VolumeDriver,
}

/// Whether a call carries a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It has no arguments; the engine sends an empty body or `{}`, and neither is looked at.
    Ignored,
    /// It has arguments. An empty body is the engine's retry of a request whose body an earlier
    /// attempt had used up (`callWithRetry`, moby#35459): it must be refused, never read as
    /// "everything by default".
    Required,
}

/// One call of a protocol: its name on the wire and what it answers.
pub trait Call: Serialize + DeserializeOwned {
    /// The path of its request without the leading slash, such as `VolumeDriver.Create`.
    const METHOD: &'static str;
    /// Whether it carries a body.
    const BODY: Body;
    /// What a success answers.
    type Answer: Serialize + DeserializeOwned;
}

/// Declares request types as calls.
macro_rules! calls {
    ($($request:ty = $method:literal ($body:ident) -> $answer:ty;)+) => {
        $(impl $crate::Call for $request {
            const METHOD: &'static str = $method;
            const BODY: $crate::Body = $crate::Body::$body;
            type Answer = $answer;
        })+
    };
}
use calls;

/// An answer without content. It is an object and not `null`, which is what the engine's own
/// plugins send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// `Plugin.Activate`: what the plugin implements. Asked once in the life of a dockerd, at the
/// first use of the plugin's name, so it also tells that a new dockerd is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {}

/// The answer to [`Activate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// The protocols it speaks.
    #[serde(rename = "Implements")]
    pub implements: Vec<Interface>,
}

calls! {
    Activate = "Plugin.Activate" (Ignored) -> Activated;
}

/// How long dockerd waits for the answer to a call; `None` where it waits for ever. A call that
/// took longer is never repeated (source: moby `volume/drivers/proxy.go`; network and IPAM
/// drivers, and activation, have no limit).
pub fn engine_patience(method: &str) -> Option<Duration> {
    match method {
        volume::Create::METHOD | volume::Mount::METHOD => Some(Duration::from_secs(120)),
        _ if method.starts_with("VolumeDriver.") => Some(Duration::from_secs(60)),
        _ => None,
    }
}
