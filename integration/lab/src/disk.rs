//! Disks that fail or are slow: a device-mapper device under whatever a test puts on the disk.
//!
//! The test uses the mapped device in place of the disk, as a physical volume for example, and
//! switches what lies beneath while it is in use.

use std::time::Duration;

use crate::command::Cmd;
use crate::error::LabError;
use crate::node::Node;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing.
    None,
    /// Every read and write fails (dm-error).
    Dead,
    /// Every write fails, reads succeed (dm-flakey).
    RefusesWrites,
    /// Every write is acknowledged and lost, reads succeed (dm-flakey).
    LosesWrites,
    /// It works for some seconds, then fails everything for some seconds, and so on (dm-flakey).
    Flakey {
        /// How long it works.
        up: Duration,
        /// How long it fails.
        down: Duration,
    },
    /// Every read and every write takes this much longer (dm-delay).
    Slow {
        /// More time per read.
        read: Duration,
        /// More time per write.
        write: Duration,
    },
}

impl DiskFault {
    /// The device-mapper table for a disk of this many sectors.
    fn table(self, disk: &str, sectors: &str) -> String {
        let flakey = |up: u64, down: u64, more: &str| {
            format!("0 {sectors} flakey {disk} 0 {up} {down}{more}")
        };
        match self {
            Self::None => format!("0 {sectors} linear {disk} 0"),
            Self::Dead => format!("0 {sectors} error"),
            // Never up: the down interval follows itself.
            Self::RefusesWrites => flakey(0, 3600, " 1 error_writes"),
            Self::LosesWrites => flakey(0, 3600, " 1 drop_writes"),
            Self::Flakey { up, down } => flakey(up.as_secs(), down.as_secs(), ""),
            Self::Slow { read, write } => format!(
                "0 {sectors} delay {disk} 0 {} {disk} 0 {}",
                read.as_millis(),
                write.as_millis()
            ),
        }
    }
}

/// A disk of a node whose faults can be switched. It lasts until the node's next boot; after that,
/// [`Node::faulty_disk`] again makes it of the same disk.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    node: Node,
    disk: String,
    name: String,
    sectors: String,
}

impl Node {
    /// Puts a switchable device over a disk (`/dev/ubda`) under a name of the caller's choice, at
    /// first without a fault, and hides the disk itself from LVM.
    pub async fn faulty_disk(&self, disk: &str, name: &str) -> Result<FaultyDisk, LabError> {
        let sectors = self.run(["blockdev", "--getsz", disk]).await?.text();
        let faulty = FaultyDisk {
            node: self.clone(),
            disk: disk.to_owned(),
            name: name.to_owned(),
            sectors,
        };
        // LVM would find its label twice, on the disk and through the device, and might choose the
        // disk, under which nothing ever fails.
        let hide = "grep -qxs -- \"$1\" /etc/lvm/lab-hidden || echo \"$1\" >>/etc/lvm/lab-hidden; \
            { echo 'devices { global_filter = ['; \
              while read -r disk; do echo \"\\\"r|^$disk\\$|\\\",\"; done </etc/lvm/lab-hidden; \
              echo '\"a|.*|\" ] }'; } >/etc/lvm/lvmlocal.conf";
        self.run(Cmd::sh(hide).args(["sh", disk])).await?;
        self.run("modprobe -a dm-mod dm-flakey dm-delay").await?;
        let table = DiskFault::None.table(disk, &faulty.sectors);
        self.run(["dmsetup", "create", name, "--table", &table]).await?;
        Ok(faulty)
    }
}

impl FaultyDisk {
    /// The device to use in place of the disk.
    pub fn device(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// Switches to this fault at once, under whatever is in flight.
    pub async fn set(&self, fault: DiskFault) -> Result<(), LabError> {
        let table = fault.table(&self.disk, &self.sectors);
        let name = self.name.as_str();
        // Neither flushing nor freezing: on a disk that fails already both would hang.
        self.node.run(["dmsetup", "suspend", "--noflush", "--nolockfs", name]).await?;
        let loaded = self.node.run(["dmsetup", "load", name, "--table", &table]).await;
        // A suspended device hangs everything on it, so it is resumed whatever the load said.
        self.node.run(["dmsetup", "resume", name]).await?;
        loaded.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_the_kernel_documents_them() {
        let of = |fault: DiskFault| fault.table("/dev/ubda", "100");
        let second = Duration::from_secs(1);
        assert_eq!(of(DiskFault::None), "0 100 linear /dev/ubda 0");
        assert_eq!(of(DiskFault::Dead), "0 100 error");
        let flakey = DiskFault::Flakey { up: second * 5, down: second * 2 };
        assert_eq!(of(flakey), "0 100 flakey /dev/ubda 0 5 2");
        assert_eq!(of(DiskFault::LosesWrites), "0 100 flakey /dev/ubda 0 0 3600 1 drop_writes");
        let slow = DiskFault::Slow { read: Duration::from_millis(5), write: second };
        assert_eq!(of(slow), "0 100 delay /dev/ubda 0 5 /dev/ubda 0 1000");
    }
}
