//! The device of a logical volume, told without asking LVM.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use dockline_mounts::BlockDevice;
use dockline_types::ByteSize;

use super::Place;
use crate::backend::{BackendError, Disk, Kept};
use crate::blocking;

/// Where device-mapper's device is: it joins group and name with a dash, and doubles others.
pub(super) fn node(group: &str, name: &str) -> PathBuf {
    let [group, name] = [group, name].map(|part| part.replace('-', "--"));
    PathBuf::from(format!("/dev/mapper/{group}-{name}"))
}

/// What device-mapper calls a device that was just made, and its size.
pub(super) async fn identify(group: &str, name: &str) -> Result<(String, ByteSize), BackendError> {
    let device = node(group, name);
    let path = device.clone();
    let identified = blocking(move || {
        let device = BlockDevice::open(&path)?;
        let is = dockline_mounts::dm_uuid(device.number()?);
        let dm_uuid = is.ok_or_else(|| io::Error::other("device-mapper does not know it"))?;
        Ok((dm_uuid, ByteSize::from_bytes(device.size()?)))
    });
    identified.await.map_err(BackendError::storage("open", &device))
}

/// The device if the logical volume is active.
pub(super) async fn find(place: &Place) -> Result<Option<Disk>, BackendError> {
    let place = place.clone();
    let device = node(&place.group, &place.name);
    let path = device.clone();
    let found = blocking(move || open(&path, &place.dm_uuid)).await;
    found.map_err(BackendError::storage("open", &device))
}

fn open(path: &std::path::Path, dm_uuid: &str) -> io::Result<Option<Disk>> {
    let device = match BlockDevice::open(path) {
        // A node whose device is gone says ENXIO or ENODEV.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => return Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(6 | 19)) => return Ok(None),
        opened => opened?,
    };
    let number = device.number()?;
    let is = dockline_mounts::dm_uuid(number);
    if is.as_deref() != Some(dm_uuid) {
        return Err(io::Error::other(format!("it is device {is:?}, and {dm_uuid} is expected")));
    }
    Ok(Some(Disk { path: path.to_owned(), number, device: Kept::Block(device) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_are_doubled_as_device_mapper_does() {
        assert_eq!(node("my-vg", "dv_1"), PathBuf::from("/dev/mapper/my--vg-dv_1"));
    }

    #[test]
    fn a_device_that_is_another_is_not_taken() {
        let nowhere = open(std::path::Path::new("/dev/mapper/none-none"), "LVM-x");
        assert!(nowhere.unwrap().is_none());
        let other = open(std::path::Path::new("/dev/null"), "LVM-x").unwrap_err();
        assert!(other.to_string().contains("LVM-x is expected"), "{other}");
    }
}
