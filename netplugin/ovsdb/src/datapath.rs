//! Which datapath forwards the packets: the kernel's or the userspace one.

use std::fmt;

use crate::picture::Picture;

/// Whether the running kernel has Open vSwitch's module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelModule {
    /// It is loaded, or built in.
    Present,
    /// It is not there and cannot be loaded.
    Absent,
}

impl From<bool> for KernelModule {
    fn from(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

/// Who forwards the packets, and why that one, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's module: fast.
    Kernel,
    /// ovs-vswitchd itself: packets pass through userspace.
    Userspace(Reason),
}

/// Why the kernel's datapath is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel has no module `openvswitch`.
    NoModule,
    /// ovs-vswitchd does not offer it (it runs with `--disable-system`).
    NotOffered,
    /// It was asked for.
    Asked,
}

impl Datapath {
    /// The best one there is. The picture must be that of a connected database with a running
    /// ovs-vswitchd: `None` as long as ovs-vswitchd has not said what it offers.
    pub fn choose(picture: &Picture, module: KernelModule) -> Option<Self> {
        let offered = &picture.root()?.datapath_types;
        if offered.is_empty() {
            return None;
        }
        Some(match module {
            KernelModule::Absent => Self::Userspace(Reason::NoModule),
            KernelModule::Present if offered.contains("system") => Self::Kernel,
            KernelModule::Present => Self::Userspace(Reason::NotOffered),
        })
    }

    /// The word for it in `Bridge.datapath_type`.
    pub fn datapath_type(self) -> &'static str {
        match self {
            Self::Kernel => "system",
            Self::Userspace(_) => "netdev",
        }
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel datapath",
            Self::Userspace(Reason::NoModule) => {
                "userspace datapath, which is slower: this kernel has no openvswitch module \
                 (try `modprobe openvswitch`)"
            }
            Self::Userspace(Reason::NotOffered) => {
                "userspace datapath, which is slower: ovs-vswitchd runs without the kernel \
                 datapath (--disable-system)"
            }
            Self::Userspace(Reason::Asked) => {
                "userspace datapath, which is slower, as the configuration asks"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::picture::Form;

    #[test]
    fn the_kernel_is_used_when_both_sides_have_it() {
        let picture = |types: &[&str]| {
            let mut picture = Picture::default();
            let uuid = "00000000-0000-0000-0000-00000000000a";
            let row = json!({"datapath_types": ["set", types]});
            let update = json!({"Open_vSwitch": {uuid: {"initial": row}}});
            picture.update(&update, Form::Differences).unwrap();
            picture
        };
        let both = picture(&["netdev", "system"]);
        let userspace = |reason| Some(Datapath::Userspace(reason));
        assert_eq!(Datapath::choose(&both, KernelModule::Present), Some(Datapath::Kernel));
        assert_eq!(Datapath::choose(&both, KernelModule::Absent), userspace(Reason::NoModule));
        let one = picture(&["netdev"]);
        assert_eq!(Datapath::choose(&one, KernelModule::Present), userspace(Reason::NotOffered));
        assert_eq!(Datapath::choose(&picture(&[]), KernelModule::Present), None);
        assert_eq!(Datapath::choose(&Picture::default(), KernelModule::Present), None);
    }
}
