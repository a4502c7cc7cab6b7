//! What IPAM decides: which pools there are, which address is next, who may have it.
//!
//! Pure: no I/O, no clock, no randomness. The daemon reads and writes the store and asks here.

mod chunk;
mod defaults;
mod key;
mod names;
mod occupancy;
mod options;
mod picture;
mod pool;
mod record;

pub use defaults::{DefaultPool, DefaultPoolError, next_default};
pub use key::{LAYOUT, Place, ROOT};
pub use names::{ContainerName, HostName, NameError, SpaceName};
pub use occupancy::Occupancy;
pub use options::{OptionError, PoolOptions};
pub use picture::{Exhausted, Picture};
pub use pool::{AddressError, PoolError, PoolId, PoolIdError, PoolKey, Subnet, check_overlap};
pub use record::{AddressRecord, Holder, Nonce, NotHeld, PoolRecord, Reservation, Share, Shares};
