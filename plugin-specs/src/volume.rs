//! `VolumeDriver`: volumes, and mounting them.
//!
//! Source: moby `volume/drivers/proxy.go`, `adapter.go`. The engine asks [`Get`] before every
//! other call, and takes any error from it for "no such volume".

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::null_is_empty;
use crate::{Done, calls};

/// Makes a volume; sent only if [`Get`] did not find it. The engine does not look at the name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Create {
    /// The volume's name as the user wrote it.
    pub name: String,
    /// `-o`.
    #[serde(deserialize_with = "null_is_empty")]
    pub opts: BTreeMap<String, String>,
}

/// Names a volume.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            /// The volume's name as the user wrote it.
            pub name: String,
        }
    };
}

named! {
    /// Removes a volume that dockerd has no more references to.
    Remove
}
named! {
    /// Asks where a volume is mounted.
    Path
}
named! {
    /// Asks for a volume.
    Get
}

/// Mounts a volume for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// The volume's name as the user wrote it.
    pub name: String,
    /// Names the container's use of it; the same for `docker cp`, and again after a crash.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Ends a container's use of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Unmount {
    /// The volume's name as the user wrote it.
    pub name: String,
    /// What [`Mount`] was given.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Asks for all volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {}

/// Asks whether volumes are this host's or the cluster's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetCapabilities {}

/// Where a volume is mounted; empty if it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mounted {
    /// The folder that the container gets.
    pub mountpoint: String,
}

/// A volume as `docker volume inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where it is mounted; empty if it is not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mountpoint: String,
    /// When it was made, as RFC 3339. Left out when unknown: `""` makes the engine fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// What else there is to show.
    #[serde(skip_serializing_if = "Map::is_empty", deserialize_with = "null_is_empty")]
    pub status: Map<String, Value>,
}

/// The answer to [`Get`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Found {
    /// The volume; none if there is no such volume.
    pub volume: Option<Volume>,
}

/// The answer to [`List`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// All volumes. The engine reads only names and mount points here.
    #[serde(deserialize_with = "null_is_empty")]
    pub volumes: Vec<Volume>,
}

/// Whether a volume of one name is one volume on all hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each host has its own.
    #[default]
    Local,
    /// It is the cluster's.
    Global,
}

/// What volumes of the driver are like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Capabilities {
    /// Whose they are.
    pub scope: Scope,
}

/// The answer to [`GetCapabilities`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Capable {
    /// What volumes of the driver are like.
    pub capabilities: Capabilities,
}

calls! {
    Create = "VolumeDriver.Create" (Required) -> Done;
    Remove = "VolumeDriver.Remove" (Required) -> Done;
    Mount = "VolumeDriver.Mount" (Required) -> Mounted;
    Unmount = "VolumeDriver.Unmount" (Required) -> Done;
    Path = "VolumeDriver.Path" (Required) -> Mounted;
    Get = "VolumeDriver.Get" (Required) -> Found;
    List = "VolumeDriver.List" (Ignored) -> Listed;
    GetCapabilities = "VolumeDriver.Capabilities" (Ignored) -> Capable;
}

/// What a volume driver does. `Ok` is answered as it is; an error's whole chain becomes the text
/// that `docker` shows.
pub trait VolumeDriver: Send + Sync + 'static {
    /// Why a call was refused.
    type Failure: std::error::Error + Send + Sync + 'static;

    /// A new dockerd is there: the uses of volumes that an earlier one began may have ended
    /// without an [`Unmount`].
    fn activated(&self) -> impl Future<Output = ()> + Send;

    /// Whose the volumes are.
    fn capabilities(&self) -> Capabilities;

    /// Makes a volume, whole or not at all. The same again is a success.
    fn create(&self, request: Create) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Removes a volume. One that is unknown is a success.
    fn remove(&self, request: Remove) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Begins a use of a volume, which is mounted if it is not.
    fn mount(&self, request: Mount) -> impl Future<Output = Result<Mounted, Self::Failure>> + Send;

    /// Ends a use of a volume. One that is unknown is a success.
    fn unmount(&self, request: Unmount) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Where a volume is mounted.
    fn path(&self, request: Path) -> impl Future<Output = Result<Mounted, Self::Failure>> + Send;

    /// A volume, from memory: an error here makes the engine forget it.
    fn get(
        &self,
        request: Get,
    ) -> impl Future<Output = Result<Option<Volume>, Self::Failure>> + Send;

    /// All volumes, from memory.
    fn list(&self) -> impl Future<Output = Result<Vec<Volume>, Self::Failure>> + Send;
}
