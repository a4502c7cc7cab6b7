//! The volume driver on real loop devices, file systems and mounts. It needs root, and the
//! programs of e2fsprogs, xfsprogs and util-linux.

mod daemon;
mod faults;
mod growth;
mod life;
mod limits;
mod nodes;
mod support;
