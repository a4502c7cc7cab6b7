//! Network devices over netlink: the wires between containers and the switch, limits on them, and
//! what the driver needs to know of the devices there are.
//!
//! It works in the network namespace it was opened in, makes no addresses or routes (Docker sets
//! those inside the container), and knows nothing of Open vSwitch.

mod error;
mod generic;
mod guard;
mod link;
mod shaper;
mod wire;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use dockline_types::{IfName, MacAddr};
use futures_util::{Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub use error::LinkError;
pub use guard::SockFilter;
pub use link::{Counters, Kind, Link, Peer};
pub use shaper::{Shape, Shaped};
pub use wire::WireSpec;

use error::Failure;
use generic::Generic;

/// How long the kernel may take to answer. It answers at once; only a machine that stands still
/// reaches this.
const DEADLINE: Duration = Duration::from_secs(5);

/// The name under which the kernel's Open vSwitch module can be spoken to.
const OVS_FAMILY: &str = "ovs_datapath";

/// A veth pair to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethSpec {
    /// The end that stays here and becomes a port.
    pub host: IfName,
    /// The end that goes into the container. Names are unique within a namespace.
    pub container: IfName,
    /// The address of the container's end; the kernel makes one up if there is none.
    pub mac: Option<MacAddr>,
    /// The MTU of both ends, in bytes; the kernel's default (1500) if there is none.
    pub mtu: Option<u32>,
}

/// Whether a device was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// This call deleted it.
    Deleted,
    /// There was none of that name.
    Absent,
}

/// The devices of one network namespace.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
    generic: Generic,
    /// Held while devices are put together to be deleted.
    condemning: Mutex<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Links {
    /// Opens the devices of the calling thread's network namespace. Must be called within a tokio
    /// runtime; later calls may come from any thread.
    pub fn open() -> Result<Self, LinkError> {
        let opening = |source| LinkError::Kernel { what: "open a netlink socket".into(), source };
        let generic = Generic::open().map_err(opening)?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(opening)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
            generic,
            condemning: Mutex::default(),
        })
    }

    /// Makes a veth pair with its addresses and MTU, in one step: both ends or none, both down.
    /// [`LinkError::Exists`] when one of the names is taken.
    pub async fn create_veth(&self, spec: &VethSpec) -> Result<(), LinkError> {
        let mut host = LinkVeth::new(spec.host.as_str(), spec.container.as_str());
        let mut container = LinkUnspec::new_with_name(spec.container.as_str());
        if let Some(mtu) = spec.mtu {
            host = host.mtu(mtu);
            container = container.mtu(mtu);
        }
        if let Some(mac) = spec.mac {
            container = container.address(mac.octets().to_vec());
        }
        let peer = InfoData::Veth(InfoVeth::Peer(container.build()));
        let request = self.handle.link().add(host.set_info_data(peer).build());
        let what = || format!("make the veth pair {} and {}", spec.host, spec.container);
        self.done(spec.host.as_str(), what, request.execute()).await
    }

    /// Deletes a device; of a veth pair both ends go, wherever the other is.
    pub async fn delete(&self, name: &IfName) -> Result<Deleted, LinkError> {
        let request = self.handle.link().del_with_message(named(name).build());
        match self.done(name.as_str(), || format!("delete {name}"), request.execute()).await {
            Ok(()) => Ok(Deleted::Deleted),
            Err(LinkError::Missing(_)) => Ok(Deleted::Absent),
            Err(error) => Err(error),
        }
    }

    /// The device of this name, if there is one.
    pub async fn find(&self, name: &IfName) -> Result<Option<Link>, LinkError> {
        let what = || format!("look for {name}");
        let answers = self.handle.link().get().match_name(name.as_str()).execute();
        match self.collected(name.as_str(), what, answers, Link::read).await {
            Ok(links) => Ok(links.into_iter().next()),
            Err(LinkError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices of the namespace.
    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let answers = self.handle.link().get().execute();
        self.collected("any", || "list the devices".to_owned(), answers, Link::read).await
    }

    /// Switches a device on.
    pub async fn set_up(&self, name: &IfName) -> Result<(), LinkError> {
        self.change(name, "switch on", named(name).up()).await
    }

    /// Sets a device's MTU, in bytes.
    pub async fn set_mtu(&self, name: &IfName, mtu: u32) -> Result<(), LinkError> {
        self.change(name, "set the MTU of", named(name).mtu(mtu)).await
    }

    /// Moves a device into the network namespace that a file descriptor names.
    pub async fn move_to(&self, name: &IfName, namespace: BorrowedFd<'_>) -> Result<(), LinkError> {
        let target = named(name).setns_by_fd(namespace.as_raw_fd());
        self.change(name, "move", target).await
    }

    /// Makes the kernel compute the checksums of what is sent from a device, instead of leaving
    /// them to hardware that a veth does not have. The setting stays when the device is moved.
    ///
    /// Needed on the container's end under Open vSwitch's userspace datapath: it takes packets off
    /// the host's end as they are, and passes TCP and UDP on with checksums that nobody ever
    /// computed, which the receiver drops. On the kernel's datapath it would only cost throughput.
    pub fn disable_tx_checksum(&self, name: &IfName) -> Result<(), LinkError> {
        self.generic.disable_tx_checksum(name).map_err(|source| match Failure::of(&source) {
            Failure::Missing => LinkError::Missing(name.to_string()),
            _ => LinkError::Kernel { what: format!("set the checksums of {name}"), source },
        })
    }

    /// Whether the running kernel can forward for Open vSwitch. Asking loads the module if the
    /// machine has it.
    pub fn has_ovs_module(&self) -> Result<bool, LinkError> {
        let found = self.generic.family(OVS_FAMILY).map_err(|source| LinkError::Kernel {
            what: format!("ask for the netlink family {OVS_FAMILY}"),
            source,
        });
        found.map(|family| family.is_some())
    }

    async fn change(
        &self,
        name: &IfName,
        verb: &str,
        to: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LinkError> {
        let request = self.handle.link().change(to.build());
        self.done(name.as_str(), || format!("{verb} {name}"), request.execute()).await
    }

    /// Sends a request that the library has no words for.
    async fn sent(
        &self,
        request: NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(), rtnetlink::Error> {
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }

    async fn done(
        &self,
        name: &str,
        what: impl FnOnce() -> String,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), LinkError> {
        match tokio::time::timeout(DEADLINE, request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LinkError::of(name, what(), error)),
            Err(_) => Err(LinkError::TimedOut { what: what() }),
        }
    }

    async fn collected<M, T>(
        &self,
        name: &str,
        what: impl Fn() -> String,
        answers: impl Stream<Item = Result<M, rtnetlink::Error>>,
        read: impl Fn(&M) -> Option<T>,
    ) -> Result<Vec<T>, LinkError> {
        let mut answers = std::pin::pin!(answers);
        let mut found = Vec::new();
        let all = async {
            while let Some(message) = answers.next().await {
                match message {
                    Ok(message) => found.extend(read(&message)),
                    Err(error) => return Err(LinkError::of(name, what(), error)),
                }
            }
            Ok(())
        };
        let all = tokio::time::timeout(DEADLINE, all).await;
        all.map_err(|_| LinkError::TimedOut { what: what() })??;
        Ok(found)
    }
}

fn named(name: &IfName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name.as_str())
}
