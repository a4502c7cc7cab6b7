//! Why a request is refused.

use std::net::IpAddr;

use dockline_ipam_core::{
    AddressError, AddressRecord, Exhausted, NameError, OptionError, PoolError, PoolIdError, PoolKey,
};
use dockline_store::{LimitError, StoreError};

use crate::engine::StartError;

/// Why a request is refused, for the person who typed the `docker` command.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The store is not open yet.
    #[error("waiting for the store of addresses: {why}")]
    Waiting {
        /// What it waits for.
        why: String,
    },
    /// Another version took the store over while this one ran.
    #[error(transparent)]
    Newer(StartError),
    /// The store refused or could not be asked.
    #[error("the store of addresses did not answer, and nothing was changed")]
    Store(#[source] StoreError),
    /// The store may have done it. What it did is undone as soon as it can be asked.
    #[error("the store of addresses did not say whether it did the write; try again")]
    Unknown(#[source] StoreError),
    /// More than a store takes.
    #[error("the record is too large for the store")]
    Limit(#[from] LimitError),
    /// A record cannot be written.
    #[error("the record cannot be written")]
    Encode(#[source] serde_json::Error),
    /// A record in the store makes no sense.
    #[error(
        "the record {key} in the store is damaged, and is left alone: remove it there once you \
         know that nobody uses it"
    )]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// `--ipam-opt` has something that cannot be taken.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The address space is not a name.
    #[error(transparent)]
    Space(#[from] NameError),
    /// The subnet cannot be a pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The id of a pool is none.
    #[error(transparent)]
    PoolId(#[from] PoolIdError),
    /// `--ip-range` without `--subnet`.
    #[error("a range of addresses needs the subnet that it is a part of: add --subnet")]
    RangeAlone,
    /// All default pools are in use.
    #[error(
        "no default {} pool is free: name one with --subnet, or add a range to [ipam] \
         default_pools in the configuration", if *v6 { "IPv6" } else { "IPv4" }
    )]
    NoDefaultPool {
        /// The family.
        v6: bool,
    },
    /// Nobody has asked for this pool, or it was given back.
    #[error(
        "the pool {0} does not exist (any more): create the network anew, so that its pool is \
         asked for again"
    )]
    UnknownPool(PoolKey),
    /// The address is not for containers.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nothing is free.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// Somebody else has it.
    #[error("the address {address} is in use: it is held by {holder}; choose another, or free it")]
    InUse {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: Box<AddressRecord>,
    },
    /// Others change the same all the time.
    #[error("{what} is changed by others all the time: try again")]
    Busy {
        /// What is.
        what: String,
    },
    /// The picture of the store is behind.
    #[error("the changes of the store do not arrive: see the log of dockline-ipam; try again")]
    Behind,
}

impl From<StoreError> for IpamError {
    fn from(error: StoreError) -> Self {
        match error {
            unknown @ StoreError::Unknown(_) => Self::Unknown(unknown),
            other => Self::Store(other),
        }
    }
}
