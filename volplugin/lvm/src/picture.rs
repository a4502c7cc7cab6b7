//! What there is: groups and logical volumes, from one `fullreport`.

use std::collections::BTreeMap;

use dockline_types::ByteSize;
use serde::Deserialize;

use crate::Command;

/// The longest line that liblvm2cmd passes on whole, in bytes; longer ones are cut there without a
/// word (`message[4096]` in lvm2's log.c).
const LINE_LIMIT: usize = 4095;

const GROUP_FIELDS: &str = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_exported,\
    vg_missing_pv_count";
const LOGICAL_FIELDS: &str = "lv_name,lv_uuid,lv_size,lv_tags,lv_layout,lv_role,pool_lv,origin,\
    data_percent,metadata_percent";

/// Why a report is not understood.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// A line was cut by liblvm2cmd.
    #[error("LVM's report has a line that liblvm2cmd cannot pass on: somebody's tags are too long")]
    Cut,
    /// It is not JSON of the known form.
    #[error("LVM's report is not understood")]
    Malformed(#[source] serde_json::Error),
    /// A field is not what it must be.
    #[error("LVM reports {field} {value:?}, which is not a number of bytes")]
    Field {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its UUID, as LVM writes it.
    pub uuid: String,
    /// All its room.
    pub size: ByteSize,
    /// The room that no logical volume has.
    pub free: ByteSize,
    /// Sizes of its volumes are multiples of this.
    pub extent: ByteSize,
    /// Whether it was made to be moved to another host: LVM changes nothing in it.
    pub exported: bool,
    /// How many of its disks are missing.
    pub missing_disks: u64,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Logical {
    /// The group it is in.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its UUID, as LVM writes it.
    pub uuid: String,
    /// Its size.
    pub size: ByteSize,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it is made as: `linear`, `thin,sparse`, `thin,pool`…
    pub layout: String,
    /// What it is for: `public`, `private,…`.
    pub role: String,
    /// The thin pool it is in.
    pub pool: Option<String>,
    /// What it is a snapshot of.
    pub origin: Option<String>,
    /// How full a thin pool is, or how much of a thin volume is there, in percent; while active.
    pub data_percent: Option<f64>,
    /// How full a thin pool's metadata is, in percent; while it is active.
    pub metadata_percent: Option<f64>,
}

impl Logical {
    /// `GROUP/NAME`, as commands take it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Whether it is a thin pool.
    pub fn is_thin_pool(&self) -> bool {
        self.layout.split(',').eq(["thin", "pool"])
    }
}

/// Groups and the logical volumes in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// The groups by name.
    pub groups: BTreeMap<String, Group>,
    /// All logical volumes that LVM shows.
    pub logicals: Vec<Logical>,
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    vg: Vec<BTreeMap<String, String>>,
    #[serde(default)]
    lv: Vec<BTreeMap<String, String>>,
}

impl Picture {
    /// The command that reports these groups.
    pub fn command(groups: &[String]) -> Command {
        let command = Command::new("fullreport").args(["--reportformat", "json"]);
        let command = command.args(["--units", "b", "--nosuffix"]);
        let command = command.args(["--configreport", "vg", "-o", GROUP_FIELDS]);
        let command = command.args(["--configreport", "lv", "-o", LOGICAL_FIELDS]);
        let none = ["pv", "pvseg", "seg"].map(|report| ["--configreport", report, "-o", ","]);
        command.args(none.into_iter().flatten()).args(groups)
    }

    /// Reads a report. LVM prints warnings before and among its lines, at the same level.
    pub fn parse(printed: &[String]) -> Result<Self, PictureError> {
        let is_json =
            |line: &&String| line.trim_start().starts_with(['{', '}', '[', ']', '"', ',']);
        let lines: Vec<&str> = printed.iter().filter(is_json).map(String::as_str).collect();
        let json = lines.join("\n");
        let report: Report = serde_json::from_str(&json).map_err(|error| {
            let cut = lines.iter().any(|line| line.len() >= LINE_LIMIT);
            if cut { PictureError::Cut } else { PictureError::Malformed(error) }
        })?;
        let mut picture = Self::default();
        for part in report.report {
            let mut of = String::new();
            for row in part.vg {
                let group = group(&Row(row))?;
                of.clone_from(&group.name);
                picture.groups.insert(group.name.clone(), group);
            }
            for row in part.lv {
                picture.logicals.push(logical(&of, &Row(row))?);
            }
        }
        Ok(picture)
    }
}

struct Row(BTreeMap<String, String>);

impl Row {
    fn text(&self, field: &str) -> String {
        self.0.get(field).cloned().unwrap_or_default()
    }

    fn some(&self, field: &str) -> Option<String> {
        // LVM shows hidden volumes in brackets.
        let text = self.text(field);
        let text = text.trim_start_matches('[').trim_end_matches(']');
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(&self, field: &'static str) -> Result<u64, PictureError> {
        let value = self.text(field);
        value.parse().map_err(|_| PictureError::Field { field, value })
    }

    fn percent(&self, field: &str) -> Option<f64> {
        self.text(field).parse().ok()
    }
}

fn group(row: &Row) -> Result<Group, PictureError> {
    let size = |field| row.number(field).map(ByteSize::from_bytes);
    Ok(Group {
        name: row.text("vg_name"),
        uuid: row.text("vg_uuid"),
        size: size("vg_size")?,
        free: size("vg_free")?,
        extent: size("vg_extent_size")?,
        exported: !row.text("vg_exported").is_empty(),
        missing_disks: row.number("vg_missing_pv_count")?,
    })
}

fn logical(group: &str, row: &Row) -> Result<Logical, PictureError> {
    let tags = row.text("lv_tags");
    Ok(Logical {
        group: group.to_owned(),
        name: row.some("lv_name").unwrap_or_default(),
        uuid: row.text("lv_uuid"),
        size: row.number("lv_size").map(ByteSize::from_bytes)?,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        layout: row.text("lv_layout"),
        role: row.text("lv_role"),
        pool: row.some("pool_lv"),
        origin: row.some("origin"),
        data_percent: row.percent("data_percent"),
        metadata_percent: row.percent("metadata_percent"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As LVM 2.03.16 prints it, with a warning in its midst.
    const PRINTED: &str = r#"  WARNING: Activation disabled. No device-mapper interaction will be attempted.
  {
      "report": [
          {
              "vg": [
                  {"vg_name":"vg", "vg_uuid":"abc", "vg_size":"1073741824", "vg_free":"4194304", "vg_extent_size":"4194304", "vg_exported":"", "vg_missing_pv_count":"0"}
              ]
              ,
              "lv": [
  WARNING: Logical volume vg/x not zeroed.
                  {"lv_name":"x", "lv_uuid":"def", "lv_size":"8388608", "lv_tags":"a=b,c", "lv_layout":"thin,sparse", "lv_role":"public", "pool_lv":"pool", "origin":"", "data_percent":"12.50", "metadata_percent":""}
              ]
          }
      ]
  }"#;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_report_is_read_with_warnings_in_its_midst() {
        let picture = Picture::parse(&lines(PRINTED)).unwrap();
        assert_eq!(picture.groups["vg"].free, ByteSize::from_mib(4));
        let volume = &picture.logicals[0];
        assert_eq!((volume.path().as_str(), volume.tags.len()), ("vg/x", 2));
        assert_eq!((volume.pool.as_deref(), volume.data_percent), (Some("pool"), Some(12.5)));
        assert!(!volume.is_thin_pool());
    }

    #[test]
    fn a_line_that_was_cut_is_told_from_nonsense() {
        let long = PRINTED.replace("a=b", &"t".repeat(5000));
        let cut = lines(&long).into_iter().map(|line| line.chars().take(LINE_LIMIT).collect());
        let cut: Vec<String> = cut.collect();
        assert!(matches!(Picture::parse(&cut), Err(PictureError::Cut)));
        assert!(matches!(Picture::parse(&[]), Err(PictureError::Malformed(_))));
        let wrong = PRINTED.replace("\"8388608\"", "\"8,00m\"");
        let error = Picture::parse(&lines(&wrong)).unwrap_err();
        assert!(matches!(error, PictureError::Field { field: "lv_size", .. }), "{error:?}");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(\\PC{0,20}\n){0,6}", cut in 0..PRINTED.len()) {
            let _ = Picture::parse(&lines(&text));
            if PRINTED.is_char_boundary(cut) {
                let _ = Picture::parse(&lines(&PRINTED[..cut]));
            }
        }
    }
}
