//! Why a call of Docker's was refused, in words for whoever typed the command.

use dockline_links::LinkError;
use dockline_locks::Busy;
use dockline_net_core::endpoint::EndpointError;
use dockline_net_core::limit_options::LimitError;
use dockline_net_core::marks::MarksError;
use dockline_net_core::network::NetworkError;
use dockline_ovsdb::switch::{BridgeError, PortError};
use dockline_ovsdb::transaction::TransactError;
use dockline_store::StoreError;
use dockline_store::embedded::OpenError;
use dockline_types::{EndpointId, IfName, IfNameError, NetworkId};

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The network's options are wrong.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The endpoint's are.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Another network has this id.
    #[error("a network with the id {0} is there already and is made differently")]
    NetworkConflict(NetworkId),
    /// No such network here.
    #[error(
        "dockline-net does not know the network {0}: its record is lost. Remove it with \
         `docker network rm` and make it again"
    )]
    UnknownNetwork(NetworkId),
    /// No such endpoint here.
    #[error("dockline-net has no port for the endpoint {0}: start the container again")]
    UnknownEndpoint(EndpointId),
    /// Another endpoint has this port.
    #[error(
        "the port {port} belongs to another endpoint than {endpoint}: start the container again"
    )]
    EndpointConflict {
        /// The port.
        port: IfName,
        /// Whose it is not.
        endpoint: EndpointId,
    },
    /// The port's marks are damaged.
    #[error(
        "the port {port} of Open vSwitch is damaged: remove it with `ovs-vsctl del-port {port}`"
    )]
    Marks {
        /// The port.
        port: IfName,
        /// How.
        #[source]
        source: MarksError,
    },
    /// The id makes no device name.
    #[error("the endpoint's id does not make a name for its interface")]
    Name(#[from] IfNameError),
    /// The store cannot be opened.
    #[error("dockline-net cannot open its store of networks")]
    StoreDown(#[from] OpenError),
    /// The store cannot be read or written.
    #[error("dockline-net cannot use its store of networks")]
    Store(#[from] StoreError),
    /// A record in the store is damaged.
    #[error("the record of the network {id} is damaged")]
    Record {
        /// The network.
        id: String,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// A record does not fit into the store.
    #[error("the record of the network does not fit into the store")]
    TooLarge(#[from] dockline_store::LimitError),
    /// An operator's limit is wrong.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// No port is called so.
    #[error(
        "no port is called {0:?}: see `dockline port ls`. A port's name, the beginning of an \
         endpoint's id, a MAC or an address will do"
    )]
    UnknownPort(String),
    /// Several are.
    #[error("several ports are called {0:?}: name one by its port, see `dockline port ls`")]
    AmbiguousPort(String),
    /// What is on the switch is not known.
    #[error("Open vSwitch does not answer: is ovsdb-server running?")]
    NoPicture,
    /// Open vSwitch does not answer.
    #[error("Open vSwitch does not answer: is ovsdb-server running?")]
    SwitchDown(#[source] TransactError),
    /// ovs-vswitchd has not said what it can do.
    #[error("ovs-vswitchd has not come up since ovsdb-server did: is it running?")]
    VswitchdDown,
    /// The bridge cannot be had.
    #[error("the bridge for containers cannot be had")]
    Bridge(#[from] BridgeError),
    /// The port cannot be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The devices cannot be had.
    #[error("the container's interface cannot be had")]
    Link(#[from] LinkError),
    /// Another call for the same endpoint is going on.
    #[error(transparent)]
    Busy(#[from] Busy),
}
