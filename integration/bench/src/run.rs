//! `docker run` and `docker network connect` on each kind of network.

use std::time::Instant;

use anyhow::{Context, Result};
use dockline_host::image;
use dockline_host::suite::Suite;
use serde_json::{Map, json};

use crate::series::Series;

/// The networks: what they are called, and how they are made. The first is ours.
const NETWORKS: [(&str, &[&str]); 3] = [
    (
        "dockline",
        &["-d", "dockline-net", "--ipam-driver", "dockline-ipam", "--subnet", "10.1.0.0/16"],
    ),
    ("user-bridge", &["-d", "bridge", "--subnet", "10.2.0.0/16"]),
    ("macvlan", &["-d", "macvlan", "-o", "parent=parent0", "--subnet", "10.3.0.0/16"]),
];

/// Measures and prints.
pub(crate) async fn measure(rounds: usize) -> Result<()> {
    // Docker as it comes, with its firewall rules; only its default bridge is left out.
    let suite = Suite::with(&["--bridge=none"], "").await?;
    suite.run("ip", &["link", "add", "parent0", "type", "veth", "peer", "parent1"]).await?;
    suite.run("ip", &["link", "set", "parent0", "up"]).await?;
    for (name, how) in NETWORKS {
        suite.docker(&[&["network", "create"], how, &[name]].concat()).await?;
    }
    // What a container that is to be connected is on before.
    suite.docker(&["network", "create", "--internal", "own"]).await?;

    let mut runs = NETWORKS.map(|_| Series::default());
    let mut connects = NETWORKS.map(|_| Series::default());
    for round in 0..=rounds {
        for (at, (network, _)) in NETWORKS.iter().enumerate() {
            let run = ["run", "--rm", "--network", network, image::NAME, "true"];
            let run = time(&suite, &run).await?;
            let idle = ["run", "-d", "--name", "idle", "--network", "own", image::NAME];
            suite.docker(&[&idle[..], &["tail", "-f", "/dev/null"]].concat()).await?;
            let connect = time(&suite, &["network", "connect", network, "idle"]).await?;
            suite.docker(&["rm", "-f", "idle"]).await?;
            // The first round warms up.
            if round > 0 {
                runs[at].add(run);
                connects[at].add(connect);
            }
        }
        println!("round {round} of {rounds}");
    }
    report("docker run", &runs);
    report("docker network connect", &connects);
    let figures = json!({
        "run_over_bridge": runs[0].over(&runs[1]),
        "run_over_macvlan": runs[0].over(&runs[2]),
        "connect_over_bridge": connects[0].over(&connects[1]),
        "connect_over_macvlan": connects[0].over(&connects[2]),
    });
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/run.json", serde_json::to_vec_pretty(&figures)?)?;
    let figures: &Map<_, _> = figures.as_object().context("figures")?;
    for (name, ratio) in figures {
        println!("{name:24} {:.2}", ratio.as_f64().unwrap_or(f64::NAN));
    }
    Ok(())
}

async fn time(suite: &Suite, args: &[&str]) -> Result<std::time::Duration> {
    let command = suite.docker.command(&suite.place, args);
    let started = Instant::now();
    command.run().await?;
    Ok(started.elapsed())
}

fn report(what: &str, series: &[Series; 3]) {
    println!("\n{what}, ms             median      min      max");
    for ((name, _), series) in NETWORKS.iter().zip(series) {
        let (least, most) = series.range_ms();
        println!("  {name:24} {:8.0} {least:8.0} {most:8.0}", series.median_ms());
    }
}
