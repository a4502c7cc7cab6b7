//! `NetworkDriver`: networks, and the endpoints by which containers are on them.
//!
//! Source: moby `libnetwork/drivers/remote/api/api.go`, `driver.go`. A container's life is
//! [`CreateEndpoint`], [`Join`], [`Leave`], [`DeleteEndpoint`]; after a crash of dockerd the last
//! two may never come. The engine keeps no error of a deletion and never repeats it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;

use dockline_types::{EndpointId, IfName, MacAddr, NetworkId, PoolCidr};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{null_is_empty, text_or_none};
use crate::{Done, calls};

/// Whether something is this host's or the cluster's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This host's.
    #[default]
    Local,
    /// The cluster's.
    Global,
}

/// Asks what the driver's networks are like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetCapabilities {}

/// What the driver's networks are like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Capabilities {
    /// Who knows of a network.
    pub scope: Scope,
    /// How far a network's containers reach.
    pub connectivity_scope: Scope,
    /// Whether [`GwAllocCheck`] is understood (asked by engine 28 and later).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gw_alloc_checker: bool,
}

/// Asks whether a network needs a gateway's address (engine 28 and later).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GwAllocCheck {
    /// As in [`CreateNetwork`].
    #[serde(deserialize_with = "null_is_empty")]
    pub options: NetworkOptions,
}

/// Which gateways need no address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GwAllocChecked {
    /// No IPv4 gateway.
    #[serde(rename = "SkipIPv4")]
    pub skip_ipv4: bool,
    /// No IPv6 gateway.
    #[serde(rename = "SkipIPv6")]
    pub skip_ipv6: bool,
}

/// One subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamData {
    /// The address space it is from.
    #[serde(deserialize_with = "null_is_empty")]
    pub address_space: String,
    /// Its addresses.
    #[serde(skip_serializing_if = "Option::is_none", with = "text_or_none")]
    pub pool: Option<PoolCidr>,
    /// Its gateway, with the prefix length.
    #[serde(skip_serializing_if = "Option::is_none", with = "text_or_none")]
    pub gateway: Option<IpNet>,
    /// `--aux-address`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub aux_addresses: BTreeMap<String, IpNet>,
}

/// The options of a network. Neither its name nor its labels are told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkOptions {
    /// `-o`: the driver's own.
    #[serde(
        rename = "com.docker.network.generic",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub generic: BTreeMap<String, String>,
    /// `--ipv6`.
    #[serde(rename = "com.docker.network.enable_ipv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// `--internal`.
    #[serde(rename = "com.docker.network.internal", skip_serializing_if = "Option::is_none")]
    pub internal: Option<bool>,
    /// What other engines send besides, such as `com.docker.network.enable_ipv4` of engine 28.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Makes a network. Never repeated when dockerd starts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetwork {
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// Its options.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: NetworkOptions,
    /// Its IPv4 subnets.
    #[serde(rename = "IPv4Data", default, deserialize_with = "null_is_empty")]
    pub ipv4_data: Vec<IpamData>,
    /// Its IPv6 subnets.
    #[serde(rename = "IPv6Data", default, deserialize_with = "null_is_empty")]
    pub ipv6_data: Vec<IpamData>,
}

/// Asks a Swarm manager's driver for a network's cluster-wide options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllocateNetwork {
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// `-o`, flat.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: BTreeMap<String, String>,
    /// Its IPv4 subnets.
    #[serde(rename = "IPv4Data", default, deserialize_with = "null_is_empty")]
    pub ipv4_data: Vec<IpamData>,
    /// Always empty in Swarm.
    #[serde(rename = "IPv6Data", default, deserialize_with = "null_is_empty")]
    pub ipv6_data: Vec<IpamData>,
}

/// The options that [`CreateNetwork`] gets on every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AllocatedNetwork {
    /// `-o`, flat.
    #[serde(deserialize_with = "null_is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Names a network.
macro_rules! of_network {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The network's id.
            #[serde(rename = "NetworkID")]
            pub network_id: NetworkId,
        }
    };
}

/// Names an endpoint.
macro_rules! of_endpoint {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The network's id.
            #[serde(rename = "NetworkID")]
            pub network_id: NetworkId,
            /// The endpoint's id.
            #[serde(rename = "EndpointID")]
            pub endpoint_id: EndpointId,
        }
    };
}

of_network! {
    /// Undoes [`AllocateNetwork`].
    FreeNetwork
}
of_network! {
    /// Removes a network; comes after its addresses and pools were released.
    DeleteNetwork
}
of_endpoint! {
    /// Removes an endpoint; may come without a [`Leave`] before it.
    DeleteEndpoint
}
of_endpoint! {
    /// Asks for what is to be shown of an endpoint.
    EndpointOperInfo
}
of_endpoint! {
    /// A container leaves; its interface is still inside it and comes back afterwards.
    Leave
}
of_endpoint! {
    /// The endpoint is no longer its container's gateway.
    RevokeExternalConnectivity
}

/// An endpoint's addresses. In the engine's request, what is there was chosen already; in the
/// driver's answer, only what the request left empty may stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointInterface {
    /// The IPv4 address with its prefix length.
    #[serde(with = "text_or_none")]
    pub address: Option<IpNet>,
    /// The IPv6 address with its prefix length.
    #[serde(rename = "AddressIPv6", with = "text_or_none")]
    pub address_ipv6: Option<IpNet>,
    /// The MAC.
    #[serde(with = "text_or_none")]
    pub mac_address: Option<MacAddr>,
}

/// The name under which [`CreateEndpoint::options`] and [`Join::options`] carry published ports.
pub const PORT_MAP: &str = "com.docker.network.portmap";

/// Makes an endpoint. If it fails, the engine does not send a [`DeleteEndpoint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateEndpoint {
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// Its addresses.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub interface: EndpointInterface,
    /// `--driver-opt` as text, and the engine's own under `com.docker.network.` (such as
    /// [`PORT_MAP`]). Not repeated in [`Join`].
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: Map<String, Value>,
}

/// The answer to [`CreateEndpoint`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreatedEndpoint {
    /// What the driver chose, where the request left a field empty.
    pub interface: Option<EndpointInterface>,
}

/// The answer to [`EndpointOperInfo`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OperInfo {
    /// What is to be shown.
    #[serde(deserialize_with = "null_is_empty")]
    pub value: Map<String, Value>,
}

/// A container joins by an endpoint. Its namespace must not be entered: it may not be in use yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Join {
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// The path of the container's network namespace.
    #[serde(default)]
    pub sandbox_key: String,
    /// The container's published and exposed ports only.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: Map<String, Value>,
}

/// Which interface the engine moves into the container, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Its name in the host's namespace.
    pub src_name: IfName,
    /// Its name in the container, to which the engine adds the lowest free number.
    pub dst_prefix: String,
}

/// A route of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// 0 by way of the next hop, 1 directly over the interface.
    pub route_type: u8,
    /// The next hop.
    #[serde(default, with = "text_or_none")]
    pub next_hop: Option<IpAddr>,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Joined {
    /// The interface.
    pub interface_name: Option<InterfaceName>,
    /// The IPv4 default gateway.
    #[serde(with = "text_or_none")]
    pub gateway: Option<IpAddr>,
    /// The IPv6 default gateway.
    #[serde(rename = "GatewayIPv6", with = "text_or_none")]
    pub gateway_ipv6: Option<IpAddr>,
    /// Further routes.
    #[serde(deserialize_with = "null_is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Without a gateway the engine adds an interface on its own bridge, unless this is true.
    pub disable_gateway_service: bool,
}

/// The endpoint becomes its container's gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProgramExternalConnectivity {
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// The container's published and exposed ports.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: Map<String, Value>,
}

/// A Swarm node appeared ([`DiscoverNew`]) or went ([`DiscoverDelete`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub struct DiscoverNew {
    /// 1: a node.
    pub discovery_type: i64,
    /// `{"Address": …, "self": …}` for a node.
    pub discovery_data: Value,
}

/// A Swarm node went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscoverDelete {
    /// 1: a node.
    pub discovery_type: i64,
    /// As in [`DiscoverNew`].
    pub discovery_data: Value,
}

calls! {
    GetCapabilities = "NetworkDriver.GetCapabilities" (Ignored) -> Capabilities;
    GwAllocCheck = "NetworkDriver.GwAllocCheck" (Required) -> GwAllocChecked;
    AllocateNetwork = "NetworkDriver.AllocateNetwork" (Required) -> AllocatedNetwork;
    FreeNetwork = "NetworkDriver.FreeNetwork" (Required) -> Done;
    CreateNetwork = "NetworkDriver.CreateNetwork" (Required) -> Done;
    DeleteNetwork = "NetworkDriver.DeleteNetwork" (Required) -> Done;
    CreateEndpoint = "NetworkDriver.CreateEndpoint" (Required) -> CreatedEndpoint;
    DeleteEndpoint = "NetworkDriver.DeleteEndpoint" (Required) -> Done;
    EndpointOperInfo = "NetworkDriver.EndpointOperInfo" (Required) -> OperInfo;
    Join = "NetworkDriver.Join" (Required) -> Joined;
    Leave = "NetworkDriver.Leave" (Required) -> Done;
    ProgramExternalConnectivity = "NetworkDriver.ProgramExternalConnectivity" (Required) -> Done;
    RevokeExternalConnectivity = "NetworkDriver.RevokeExternalConnectivity" (Required) -> Done;
    DiscoverNew = "NetworkDriver.DiscoverNew" (Required) -> Done;
    DiscoverDelete = "NetworkDriver.DiscoverDelete" (Required) -> Done;
}

/// What a network driver does. `Ok` is answered as it is; an error's whole chain becomes the text
/// that `docker` shows.
///
/// A driver of this trait is one whose networks Docker knows of on each host by itself (scope
/// local). Swarm's [`AllocateNetwork`] and [`FreeNetwork`] are therefore not part of it, nor are
/// the discovery calls: they succeed without being asked ([`crate::route`]).
pub trait NetworkDriver: Send + Sync + 'static {
    /// Why a call was refused.
    type Failure: std::error::Error + Send + Sync + 'static;

    /// What its networks are like. Answered with everything else down.
    fn capabilities(&self) -> Capabilities;

    /// Makes a network. The same again is a success, another under the same id a conflict.
    fn create_network(
        &self,
        request: CreateNetwork,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Removes a network. One that is unknown is a success.
    fn delete_network(
        &self,
        request: DeleteNetwork,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Makes an endpoint, whole or not at all. The same again gets the same answer.
    fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> impl Future<Output = Result<CreatedEndpoint, Self::Failure>> + Send;

    /// Removes an endpoint. One that is unknown is a success.
    fn delete_endpoint(
        &self,
        request: DeleteEndpoint,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// What is to be shown of an endpoint.
    fn endpoint_oper_info(
        &self,
        request: EndpointOperInfo,
    ) -> impl Future<Output = Result<OperInfo, Self::Failure>> + Send;

    /// A container joins. The same again gets the same answer.
    fn join(&self, request: Join) -> impl Future<Output = Result<Joined, Self::Failure>> + Send;

    /// A container leaves. An endpoint that is unknown is a success.
    fn leave(&self, request: Leave) -> impl Future<Output = Result<(), Self::Failure>> + Send;
}
