//! Whichever backend the configuration names.

use std::collections::BTreeMap;

use dockline_types::ByteSize;
use dockline_vol_core::{Limits, VolumeName, VolumeRecord};

use crate::backend::{Backend, BackendError, Capacity, Disk, Found};
use crate::logical::LogicalDisks;
use crate::loopfile::LoopFiles;

/// One of the backends.
#[derive(Debug)]
pub enum AnyBackend {
    /// Disks in files.
    Files(LoopFiles),
    /// Logical volumes.
    Logical(LogicalDisks),
}

macro_rules! either {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            AnyBackend::Files($backend) => $call,
            AnyBackend::Logical($backend) => $call,
        }
    };
}

impl Backend for AnyBackend {
    fn about(&self) -> String {
        either!(self, backend => backend.about())
    }

    fn step(&self) -> ByteSize {
        either!(self, backend => backend.step())
    }

    async fn recover(&self) -> Result<BTreeMap<VolumeName, Found>, BackendError> {
        either!(self, backend => backend.recover().await)
    }

    async fn create(&self, record: &VolumeRecord) -> Result<VolumeRecord, BackendError> {
        either!(self, backend => backend.create(record).await)
    }

    async fn grow(&self, record: &VolumeRecord, size: ByteSize) -> Result<ByteSize, BackendError> {
        either!(self, backend => backend.grow(record, size).await)
    }

    async fn relimit(&self, record: &VolumeRecord, limits: Limits) -> Result<(), BackendError> {
        either!(self, backend => backend.relimit(record, limits).await)
    }

    async fn attach(&self, record: &VolumeRecord) -> Result<Disk, BackendError> {
        either!(self, backend => backend.attach(record).await)
    }

    async fn in_use(&self, record: &VolumeRecord) -> Result<Option<Disk>, BackendError> {
        either!(self, backend => backend.in_use(record).await)
    }

    async fn remove(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        either!(self, backend => backend.remove(record).await)
    }

    async fn empty_trash(&self) -> Result<(), BackendError> {
        either!(self, backend => backend.empty_trash().await)
    }

    async fn capacity(&self) -> Result<Capacity, BackendError> {
        either!(self, backend => backend.capacity().await)
    }
}
