//! `dockline volume`: what Docker cannot ask of volumes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use comfy_table::{Table, presets};
use dockline_admin::Client;
use dockline_admin::vol::{
    LimitVolume, ListVolumes, ResizeVolume, VolumeInfo, VolumeUser, VolumeUsers,
};
use dockline_daemon::Config;
use dockline_types::ByteSize;
use serde::Serialize;

use crate::Output;

/// How long the daemon may take; it answers within 110 s itself.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List volumes: size, how full, file system, mounted.
    Ls,
    /// Show one volume.
    Show {
        /// Its name.
        name: String,
    },
    /// Make a volume larger while containers use it.
    Resize {
        /// Its name.
        name: String,
        /// The size it is to have, as in 20GiB.
        size: ByteSize,
    },
    /// Change how fast each container may read and write a volume, at once and for good. What is
    /// not mentioned stays as it is.
    Limit {
        /// Its name.
        name: String,
        /// Bytes read in a second, as in 10MiB, or none.
        #[arg(long, value_parser = bytes)]
        read_bps: Option<u64>,
        /// Bytes written in a second, as in 10MiB, or none.
        #[arg(long, value_parser = bytes)]
        write_bps: Option<u64>,
        /// Reads in a second, or none.
        #[arg(long, value_parser = operations)]
        read_iops: Option<u64>,
        /// Writes in a second, or none.
        #[arg(long, value_parser = operations)]
        write_iops: Option<u64>,
    },
    /// Show the processes that have a volume, in all mount namespaces.
    Who {
        /// Its name.
        name: String,
    },
}

/// Carries out one verb.
pub(crate) async fn carry_out(
    config: &Config,
    verb: Verb,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let client = Client::new(config.admin_socket("vol"), PATIENCE);
    match verb {
        Verb::Ls => show(&client.call(&ListVolumes {}).await?, output, table)?,
        Verb::Show { name } => {
            let mut volumes = client.call(&ListVolumes {}).await?;
            volumes.retain(|volume| volume.name == name);
            anyhow::ensure!(!volumes.is_empty(), "there is no volume {name}");
            show(&volumes, output, table)?;
        }
        Verb::Resize { name, size } => {
            let resized = client.call(&ResizeVolume { name, size }).await?;
            show(&[resized], output, table)?;
        }
        Verb::Limit { name, read_bps, write_bps, read_iops, write_iops } => {
            let limit = LimitVolume { name, read_bps, write_bps, read_iops, write_iops };
            let limited: Vec<_> = client.call(&limit).await?.into_iter().collect();
            show(&limited, output, table)?;
        }
        Verb::Who { name } => show(&client.call(&VolumeUsers { name }).await?, output, users)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A limit in bytes; 0, which lifts it, is written `none`.
fn bytes(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    Some(size.bytes()).filter(|bytes| *bytes >= 4096).ok_or("at least 4096 are needed".to_owned())
}

/// A limit in operations; 0, which lifts it, is written `none`.
fn operations(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|number| (1..=4_294_967_295).contains(number));
    number.ok_or_else(|| "a number from 1 to 4294967295 is expected".to_owned())
}

fn show<T: Serialize>(
    rows: &[T],
    output: Output,
    table: impl FnOnce(&[T]) -> Table,
) -> anyhow::Result<()> {
    match output {
        Output::Table => println!("{}", table(rows)),
        Output::Json => {
            println!("{}", serde_json::to_string_pretty(rows).context("cannot write it as JSON")?);
        }
    }
    Ok(())
}

fn empty_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn table(volumes: &[VolumeInfo]) -> Table {
    let mut table =
        empty_table(&["VOLUME", "SIZE", "USED", "FS", "LAYOUT", "CLASS", "MOUNTED", "WRONG"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    table.add_rows(volumes.iter().cloned().map(|volume| {
        [
            volume.name,
            or_dash(volume.size.map(|size| size.to_string())),
            or_dash(volume.used.map(mib)),
            or_dash(volume.fs),
            or_dash(volume.layout),
            or_dash(volume.class),
            if volume.mounted { "yes" } else { "no" }.to_owned(),
            or_dash(volume.damaged),
        ]
    }));
    table
}

/// In whole MiB, rounded up; how full a file system is has no rounder figure.
fn mib(size: ByteSize) -> String {
    format!("{}MiB", size.bytes().div_ceil(1 << 20))
}

fn users(users: &[VolumeUser]) -> Table {
    let mut table = empty_table(&["PID", "COMMAND", "AT"]);
    let row = |user: &VolumeUser| [user.pid.to_string(), user.command.clone(), user.path.clone()];
    table.add_rows(users.iter().map(row));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_known_and_what_is_wrong() {
        let volume = VolumeInfo {
            name: "data1".into(),
            size: Some(ByteSize::from_mib(2048)),
            used: Some(ByteSize::from_bytes(1)),
            fs: Some("xfs".into()),
            layout: Some("thin".into()),
            class: None,
            mounted: true,
            damaged: None,
        };
        let broken = VolumeInfo {
            name: "data2".into(),
            size: None,
            damaged: Some("two claim it".into()),
            mounted: false,
            ..volume.clone()
        };
        let shown = table(&[volume, broken]).to_string();
        for words in ["VOLUME", "data1", "2GiB", "1MiB", "thin", "yes", "data2", "two claim it"] {
            assert!(shown.contains(words), "{words} is missing in\n{shown}");
        }
    }
}
