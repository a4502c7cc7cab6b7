//! What `dockline-vol` does for its operators, and tells them.

use dockline_types::ByteSize;
use serde::{Deserialize, Serialize};

use crate::Verb;

/// All volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListVolumes {}

impl Verb for ListVolumes {
    const NAME: &'static str = "volumes/list";
    type Answer = Vec<VolumeInfo>;
}

/// Makes a volume larger, in use or not. Asked for again, it finishes what was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeVolume {
    /// The volume.
    pub name: String,
    /// The size it is to have.
    pub size: ByteSize,
}

impl Verb for ResizeVolume {
    const NAME: &'static str = "volumes/resize";
    type Answer = VolumeInfo;
}

/// Changes how fast each container may read and write a volume, at once and for good. What is not
/// mentioned stays; 0 lifts a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitVolume {
    /// The volume.
    pub name: String,
    /// Bytes read in a second.
    pub read_bps: Option<u64>,
    /// Bytes written in a second.
    pub write_bps: Option<u64>,
    /// Reads in a second.
    pub read_iops: Option<u64>,
    /// Writes in a second.
    pub write_iops: Option<u64>,
}

impl Verb for LimitVolume {
    const NAME: &'static str = "volumes/limit";
    /// The volume, unless it was removed meanwhile.
    type Answer = Option<VolumeInfo>;
}

/// Who has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUsers {
    /// The volume.
    pub name: String,
}

impl Verb for VolumeUsers {
    const NAME: &'static str = "volumes/who";
    type Answer = Vec<VolumeUser>;
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its size; nothing if it is damaged.
    pub size: Option<ByteSize>,
    /// What files have in it, in bytes, while the host has it mounted.
    pub used: Option<ByteSize>,
    /// Its file system.
    pub fs: Option<String>,
    /// How it gets its room, where the backend has a choice.
    pub layout: Option<String>,
    /// The class of its group.
    pub class: Option<String>,
    /// Whether the host has it mounted.
    pub mounted: bool,
    /// What is wrong with it.
    pub damaged: Option<String>,
}

/// A process that has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUser {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// Where it has the volume, in its own view.
    pub path: String,
}
