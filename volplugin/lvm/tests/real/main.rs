//! LVM for real, both ways: on this machine in groups whose volumes are never made devices, and
//! the same suite on lab nodes, where they are.

mod contract;
mod helper;
mod nodes;
mod support;
