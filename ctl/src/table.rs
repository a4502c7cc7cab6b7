//! Results as tables for people or as JSON for programs.

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::Output;

/// The table's width in characters where there is no terminal to ask.
const WIDTH: u16 = 120;

/// Prints a result in the form that was asked for.
pub(crate) fn print(
    output: Output,
    value: &impl Serialize,
    table: impl FnOnce() -> Table,
) -> anyhow::Result<ExitCode> {
    match output {
        Output::Table => println!("{}", table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A table with these columns.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(header);
    table.add_rows(rows);
    table
}
