//! The wire between a container and the switch: two veth pairs, joined on the host.
//!
//! ```text
//! container ═ host  ~  joint ═ switch
//! ```
//!
//! What arrives at one of the two devices in the middle leaves by the other (an ingress filter with
//! the action `mirred`), before the host's own stack or anybody else sees it. Each of them shapes
//! one direction, out of reach of both the container and Open vSwitch.

use dockline_types::{IfName, MacAddr};
use nix::errno::Errno;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage,
};

use crate::{Deleted, LinkError, Links, VethSpec, named};

/// The ingress queue of a device, to which filters are attached.
pub(crate) const INGRESS: u32 = 0xffff_0000;

/// `ETH_P_ALL`: every protocol. The kernel wants it in the network's byte order.
pub(crate) const EVERY_PROTOCOL: u16 = 0x0003_u16.to_be();

/// The group of devices that are to be deleted. What a crash leaves in it goes with the next.
const CONDEMNED: u32 = 0x00d0_c1de;

/// A wire to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireSpec {
    /// The end that goes into the container.
    pub container: IfName,
    /// Its other end.
    pub host: IfName,
    /// The other end of the switch's.
    pub joint: IfName,
    /// The end on the switch.
    pub switch: IfName,
    /// The address of the container's end.
    pub mac: MacAddr,
    /// The MTU of all four, in bytes.
    pub mtu: u32,
}

impl Links {
    /// Makes a wire; only the container's end is left down, for Docker. When this fails, what was
    /// made by then is there: [`Self::delete_wire`] is the undo. [`LinkError::Exists`] when one of
    /// the names is taken.
    pub async fn create_wire(&self, spec: &WireSpec) -> Result<(), LinkError> {
        let pair = |host: &IfName, container: &IfName, mac| VethSpec {
            host: host.clone(),
            container: container.clone(),
            mac,
            mtu: Some(spec.mtu),
        };
        self.create_veth(&pair(&spec.host, &spec.container, Some(spec.mac))).await?;
        self.create_veth(&pair(&spec.switch, &spec.joint, None)).await?;
        let host = self.index(&spec.host).await?;
        let joint = self.index(&spec.joint).await?;
        for name in [&spec.host, &spec.joint, &spec.switch] {
            self.raise_silent(name).await?;
        }
        self.redirect(&spec.host, host, joint).await?;
        self.redirect(&spec.joint, joint, host).await
    }

    /// Deletes a wire, as far as it is there, by the names of one device of each pair.
    ///
    /// Both pairs go in one request: the kernel waits until nobody looks at a device any more, some
    /// ten milliseconds, once for each request and not for each device.
    pub async fn delete_wire(&self, host: &IfName, switch: &IfName) -> Result<Deleted, LinkError> {
        let _alone = self.condemning.lock().await;
        let mut condemned = false;
        for name in [host, switch] {
            let group = named(name).append_extra_attribute(LinkAttribute::Group(CONDEMNED));
            match self.change(name, "condemn", group).await {
                Ok(()) => condemned = true,
                Err(LinkError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if !condemned {
            return Ok(Deleted::Absent);
        }
        let mut group = LinkMessage::default();
        group.attributes.push(LinkAttribute::Group(CONDEMNED));
        let request = self.handle.link().del_with_message(group);
        let what = || format!("delete {host} and {switch}");
        match self.done(host.as_str(), what, request.execute()).await {
            // Their container's namespace was faster.
            Ok(()) | Err(LinkError::Missing(_)) => Ok(Deleted::Deleted),
            Err(error) => Err(error),
        }
    }

    /// The index of a device.
    pub async fn index(&self, name: &IfName) -> Result<u32, LinkError> {
        let found = self.find(name).await?;
        found.map(|link| link.index).ok_or_else(|| LinkError::Missing(name.to_string()))
    }

    /// Switches a device on that the host itself has no part in: without an IPv6 address of its
    /// own it sends nothing of its own into the container's network.
    async fn raise_silent(&self, name: &IfName) -> Result<(), LinkError> {
        let silent = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let silent = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![silent])]);
        let silent = named(name).append_extra_attribute(silent);
        match self.change(name, "silence", silent).await {
            // A kernel without IPv6 has nothing to silence.
            Err(LinkError::Kernel { source, .. })
                if source.raw_os_error().map(Errno::from_raw) == Some(Errno::EAFNOSUPPORT) => {}
            done => done?,
        }
        self.set_up(name).await
    }

    async fn redirect(&self, name: &IfName, from: u32, to: u32) -> Result<(), LinkError> {
        let what = || format!("redirect what arrives at {name}");
        let index = from.cast_signed();
        let queue = self.handle.qdisc().add(index).ingress();
        self.done(name.as_str(), what, queue.execute()).await?;
        let filter = self.handle.traffic_filter(index).add().parent(INGRESS);
        let filter = filter.protocol(EVERY_PROTOCOL).redirect(to);
        let filter = filter.map_err(|error| LinkError::of(name.as_str(), what(), error))?;
        self.done(name.as_str(), what, filter.execute()).await
    }
}
