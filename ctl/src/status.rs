//! `dockline status`: each daemon, what it needs and how much it looks after.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use dockline_admin::{Client, ClientError, Health, Status};
use dockline_daemon::Config;
use futures_util::future::join_all;
use serde::Serialize;

use crate::Output;

/// A daemon answers this at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// The daemons: their name for Docker and for operators.
const DAEMONS: [(&str, &str); 3] =
    [("dockline-ipam", "ipam"), ("dockline-net", "net"), ("dockline-vol", "vol")];

/// What is known of one daemon.
#[derive(Debug, Serialize)]
struct Seen {
    /// Stands in the answer too.
    #[serde(skip)]
    name: &'static str,
    up: bool,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Status(Status),
    Silent { name: &'static str, error: String },
}

/// Shows all daemons; success means that all are up and have what they need.
pub(crate) async fn show(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let seen = join_all(DAEMONS.map(|(name, short)| ask(config, name, short))).await;
    match output {
        Output::Table => println!("{}", table(&seen)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&seen)?),
    }
    Ok(if seen.iter().all(Seen::is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(config: &Config, name: &'static str, short: &str) -> Seen {
    let answer: Result<Status, ClientError> =
        Client::new(config.admin_socket(short), PATIENCE).get("status").await;
    match answer {
        Ok(status) => Seen { name, up: true, answer: Answer::Status(status) },
        Err(error) => {
            let error = error.to_string();
            Seen { name, up: false, answer: Answer::Silent { name, error } }
        }
    }
}

impl Seen {
    fn is_well(&self) -> bool {
        match &self.answer {
            Answer::Status(status) => {
                !status.parts.iter().any(|part| matches!(part.health, Health::Down(_)))
            }
            Answer::Silent { .. } => false,
        }
    }

    fn row(&self) -> [String; 5] {
        match &self.answer {
            Answer::Status(status) => {
                let uptime = humantime::format_duration(Duration::from_secs(status.uptime_s));
                let parts = status.parts.iter().map(|part| {
                    let what = format!("{}: {}", part.role, part.what);
                    match &part.health {
                        Health::Ok => what,
                        Health::Degraded(why) => format!("{what} (degraded: {why})"),
                        Health::Down(why) => format!("{what} (DOWN: {why})"),
                    }
                });
                let counts = status.counts.iter().map(|(kind, count)| format!("{kind} {count}"));
                let join = |lines: Vec<String>| lines.join("\n");
                [
                    self.name.to_owned(),
                    format!("up {uptime}"),
                    status.version.clone(),
                    join(parts.collect()),
                    join(counts.collect()),
                ]
            }
            Answer::Silent { error, .. } => [self.name, "DOWN", "", error, ""].map(str::to_owned),
        }
    }
}

fn table(seen: &[Seen]) -> Table {
    let header = ["DAEMON", "STATE", "VERSION", "NEEDS", "LOOKS AFTER"];
    crate::table::table(header, seen.iter().map(Seen::row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockline_admin::Part;

    fn up(health: Health) -> Seen {
        let part = Part { role: "store".into(), what: "embedded".into(), health };
        let status = Status {
            name: "dockline-ipam".into(),
            version: "0.1.0".into(),
            pid: 1,
            uptime_s: 61,
            parts: vec![part],
            counts: [("pools".to_owned(), 2)].into(),
        };
        Seen { name: "dockline-ipam", up: true, answer: Answer::Status(status) }
    }

    #[test]
    fn a_daemon_without_what_it_needs_is_not_well() {
        assert!(up(Health::Ok).is_well());
        assert!(up(Health::Degraded("slow".into())).is_well());
        assert!(!up(Health::Down("gone".into())).is_well());
        let name = "dockline-net";
        let silent = Answer::Silent { name, error: "nothing answers".into() };
        assert!(!Seen { name, up: false, answer: silent }.is_well());
    }

    #[test]
    fn the_table_says_what_is_wrong() {
        let shown = table(&[up(Health::Down("the disk is full".into()))]).to_string();
        for words in ["dockline-ipam", "up 1m 1s", "store: embedded", "the disk is full", "pools 2"]
        {
            assert!(shown.contains(words), "{words} is missing in\n{shown}");
        }
    }

    #[test]
    fn the_json_is_flat_and_tells_up_from_down() {
        let json = serde_json::to_value(up(Health::Down("gone".into()))).unwrap();
        assert_eq!(json["up"], true);
        assert_eq!(json["parts"][0]["state"], "down");
        assert_eq!(json["parts"][0]["why"], "gone");
    }
}
