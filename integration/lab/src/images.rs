//! Roots of other distributions.
use std::path::PathBuf;
use crate::error::LabError;
/// x
pub async fn debian13() -> Result<PathBuf, LabError> { Err(LabError::Topology(String::new())) }
