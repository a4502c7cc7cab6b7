//! `IpamDriver`: pools of addresses, and addresses from them.
//!
//! Source: moby `libnetwork/ipams/remote/api/api.go`, `docs/ipam.md`. The engine never repeats a
//! release that failed, and asks again for what it already has: a driver answers the same request
//! the same way and counts the references.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;

use dockline_types::{MacAddr, PoolCidr};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::engine::{null_is_empty, text_or_none};
use crate::{Done, calls};

/// The option of [`RequestAddress`] that says what the address is for.
pub const ADDRESS_TYPE: &str = "RequestAddressType";
/// The value of [`ADDRESS_TYPE`] for a network's gateway.
pub const GATEWAY: &str = "com.docker.network.gateway";
/// The option with an endpoint's MAC, sent to drivers whose capabilities ask for it.
pub const ENDPOINT_MAC: &str = "com.docker.network.endpoint.macaddress";
/// The option with the container's name (engine 29 and later).
pub const ENDPOINT_NAME: &str = "com.docker.network.endpoint.name";

/// Asks what the driver wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetCapabilities {}

/// What the driver wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Capabilities {
    /// Send the endpoint's MAC with each request for an address.
    #[serde(rename = "RequiresMACAddress")]
    pub requires_mac_address: bool,
    /// Repeat all requests when dockerd starts; right for drivers that keep nothing.
    pub requires_request_replay: bool,
}

/// Asks for the names of the default address spaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDefaultAddressSpaces {}

/// The names of the default address spaces; they must never change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressSpaces {
    /// The space of networks of scope local (all but Swarm's).
    #[serde(rename = "LocalDefaultAddressSpace")]
    pub local: String,
    /// The space of networks of scope global.
    #[serde(rename = "GlobalDefaultAddressSpace")]
    pub global: String,
}

/// Asks for a pool; sent for each subnet of each `docker network create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPool {
    /// One of the default address spaces.
    #[serde(deserialize_with = "null_is_empty")]
    pub address_space: String,
    /// `--subnet`, or none: the driver chooses.
    #[serde(with = "text_or_none")]
    pub pool: Option<PoolCidr>,
    /// `--ip-range`: where addresses are chosen from.
    #[serde(with = "text_or_none")]
    pub sub_pool: Option<PoolCidr>,
    /// `--ipam-opt`.
    #[serde(deserialize_with = "null_is_empty")]
    pub options: BTreeMap<String, String>,
    /// Whether an IPv6 pool is meant. Not to be trusted where a pool is named (moby#34902).
    #[serde(rename = "V6")]
    pub v6: bool,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pool {
    /// The driver's name for it; the same pool always has the same.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// Its addresses.
    pub pool: PoolCidr,
    /// What else the engine should know, such as a [`GATEWAY`].
    #[serde(default, deserialize_with = "null_is_empty")]
    pub data: BTreeMap<String, String>,
}

/// Gives a pool back; may come for a pool that was never used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasePool {
    /// The driver's name for it.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
}

/// Asks for an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestAddress {
    /// The driver's name for the pool.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// `--ip`, `--gateway` or `--aux-address`; or none: the driver chooses.
    #[serde(with = "text_or_none")]
    pub address: Option<IpAddr>,
    /// What it is for: [`ADDRESS_TYPE`], [`ENDPOINT_MAC`], [`ENDPOINT_NAME`].
    #[serde(deserialize_with = "null_is_empty")]
    pub options: BTreeMap<String, String>,
}

impl RequestAddress {
    /// Whether the address is to be a network's gateway.
    pub fn is_gateway(&self) -> bool {
        self.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY)
    }

    /// The MAC of the endpoint it is for, where the engine told it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.options.get(ENDPOINT_MAC)?.parse().ok()
    }

    /// The name of the container it is for, where the engine told it.
    pub fn container(&self) -> Option<&str> {
        self.options.get(ENDPOINT_NAME).map(String::as_str)
    }
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Address {
    /// The address with its pool's prefix length.
    pub address: IpNet,
    /// What else the engine should know; it ignores it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub data: BTreeMap<String, String>,
}

/// Gives an address back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReleaseAddress {
    /// The driver's name for the pool.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// The address.
    pub address: IpAddr,
}

calls! {
    GetCapabilities = "IpamDriver.GetCapabilities" (Ignored) -> Capabilities;
    GetDefaultAddressSpaces = "IpamDriver.GetDefaultAddressSpaces" (Ignored) -> AddressSpaces;
    RequestPool = "IpamDriver.RequestPool" (Required) -> Pool;
    ReleasePool = "IpamDriver.ReleasePool" (Required) -> Done;
    RequestAddress = "IpamDriver.RequestAddress" (Required) -> Address;
    ReleaseAddress = "IpamDriver.ReleaseAddress" (Required) -> Done;
}

/// What an IPAM driver does. `Ok` is answered as it is; an error's whole chain becomes the text
/// that `docker` shows.
pub trait IpamDriver: Send + Sync + 'static {
    /// Why a call was refused.
    type Failure: std::error::Error + Send + Sync + 'static;

    /// What it wants to be told. Answered with everything else down.
    fn capabilities(&self) -> Capabilities;

    /// The names of the default address spaces. Answered with everything else down.
    fn default_address_spaces(&self) -> AddressSpaces;

    /// Takes a reference to a pool, which is made if need be.
    fn request_pool(
        &self,
        request: RequestPool,
    ) -> impl Future<Output = Result<Pool, Self::Failure>> + Send;

    /// Gives a reference to a pool back. A pool that is unknown is a success.
    fn release_pool(
        &self,
        request: ReleasePool,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Takes an address.
    fn request_address(
        &self,
        request: RequestAddress,
    ) -> impl Future<Output = Result<Address, Self::Failure>> + Send;

    /// Gives an address back. An address that is not held is a success.
    fn release_address(
        &self,
        request: ReleaseAddress,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;
}
