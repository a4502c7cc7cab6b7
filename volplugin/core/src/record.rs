//! What is kept beside a volume: everything about it that its file system does not say.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use dockline_types::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Class, FsKind, Layout, Limits, RootOwner, VolumeName, VolumeSettings};

/// The version of the form that is written.
const VERSION: u64 = 1;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A later release wrote it.
    #[error(
        "it has version {found}, and this release knows version {VERSION}: upgrade dockline-vol"
    )]
    Newer {
        /// The version it says it has.
        found: u64,
    },
    /// It is not a record.
    #[error("it is not a volume's record")]
    Malformed(#[source] serde_json::Error),
}

/// What identifies one volume for ever: a UUID, which its file system carries too. A name can come
/// again after a removal, an id cannot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

impl VolumeId {
    /// The id as 8-4-4-4-12 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let lengths = text.split('-').map(str::len);
        if lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || hex(byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err("not a UUID in lower case")
        }
    }
}

impl TryFrom<String> for VolumeId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment in whole seconds, written as RFC 3339 in UTC: the only form Docker reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(SystemTime);

impl From<SystemTime> for Timestamp {
    /// A time before 1970 or after 9999, from a clock that is wrong, becomes 1970.
    fn from(time: SystemTime) -> Self {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let last = 253_402_300_799; // 9999-12-31T23:59:59Z
        let seconds = if seconds <= last { seconds } else { 0 };
        Self(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = humantime::TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_rfc3339(&text).map(Self::from)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.0).fmt(f)
    }
}

/// A volume as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRecord {
    /// What Docker calls it.
    pub name: VolumeName,
    /// What it is for ever.
    pub id: VolumeId,
    /// How large its disk is.
    pub size: ByteSize,
    /// Its file system.
    pub fs: FsKind,
    /// Whose the folder is that containers get, as it was made; a container may change it.
    pub owner: RootOwner,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it gets its room, where the backend leaves a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// The class of the group it is in, where groups have classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// How fast each container may read and write it.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

impl VolumeRecord {
    /// What the volume is like, without what tells it from others.
    pub fn settings(&self) -> VolumeSettings {
        VolumeSettings {
            size: self.size,
            fs: self.fs,
            owner: self.owner,
            layout: self.layout,
            class: self.class.clone(),
            limits: self.limits,
        }
    }

    /// The record as text to be kept.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::json!(self);
        json["version"] = VERSION.into();
        format!("{json:#}\n")
    }

    /// Reads a record that was kept.
    pub fn from_json(text: &[u8]) -> Result<Self, RecordError> {
        let mut json: serde_json::Map<String, Value> =
            serde_json::from_slice(text).map_err(RecordError::Malformed)?;
        match json.remove("version").as_ref().map(Value::as_u64) {
            Some(Some(VERSION)) => {
                serde_json::from_value(json.into()).map_err(RecordError::Malformed)
            }
            Some(Some(found)) if found > VERSION => Err(RecordError::Newer { found }),
            _ => Err(RecordError::Malformed(serde::de::Error::missing_field("version"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = r#"{
  "created_at": "2026-11-22T01:50:26Z",
  "fs": "xfs",
  "id": "11111111-2222-3333-4444-555555555555",
  "name": "data1",
  "owner": {
    "gid": 0,
    "mode": "0755",
    "uid": 0
  },
  "size": "1GiB",
  "version": 1
}
"#;

    /// The form of version 1 is for ever: if this fails, a new version is due.
    #[test]
    fn version_1_reads_and_writes_as_it_always_did() {
        let record = VolumeRecord::from_json(KEPT.as_bytes()).unwrap();
        assert_eq!(record.size.bytes(), 1 << 30);
        assert_eq!(record.to_json(), KEPT);
    }

    #[test]
    fn what_a_later_release_wrote_is_not_guessed_at() {
        let newer = KEPT.replace("\"version\": 1", "\"version\": 2");
        let error = VolumeRecord::from_json(newer.as_bytes()).unwrap_err();
        assert!(matches!(error, RecordError::Newer { found: 2 }), "{error:?}");
    }

    #[test]
    fn what_is_torn_or_wrong_is_refused() {
        let wrong = [
            KEPT.replace(": 1\n", ": 0\n"),
            KEPT.replace("data1", "../data1"),
            KEPT.replace("11111111-2222", "../11111-2222"),
            KEPT.replace("\"fs\"", "\"fz\""),
            KEPT.replace("2026-11-22T01:50:26Z", "yesterday"),
            "[]".to_owned(),
        ];
        let torn = (0..KEPT.len() - 1).map(|cut| KEPT[..cut].to_owned());
        for bad in torn.chain(wrong) {
            let error = VolumeRecord::from_json(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, RecordError::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn a_time_is_what_docker_reads_whatever_the_clock_says() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        for wrong in [far, before] {
            assert_eq!(Timestamp::from(wrong).to_string(), "1970-01-01T00:00:00Z");
        }
    }
}
