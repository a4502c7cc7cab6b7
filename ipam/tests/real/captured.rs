//! What a real engine sent, sent again: every answer is the one the engine worked with.

use std::path::Path;

use crate::support::embedded_as;
use dockline_plugin_specs::route::{IpamPlugin, Plugin, chain};
use serde_json::Value;

async fn replay(engine: &str) {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-specs/captures");
    let file = captures.join(engine).join("dockline-ipam.jsonl");
    let lines = std::fs::read_to_string(file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The host of the capture, which some answers name.
    let plugin = IpamPlugin(embedded_as("vm", folder.path().to_owned()).0);
    let mut count = 0;
    for line in lines.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let body = match &exchange["request"] {
            Value::Null => Vec::new(),
            request => serde_json::to_vec(request).unwrap(),
        };
        let method = exchange["method"].as_str().unwrap();
        let answer = match plugin.call(method, &body).await {
            Ok(answer) => serde_json::from_slice(&answer).unwrap(),
            Err(error) => serde_json::json!({ "Err": chain(&error), "Error": chain(&error) }),
        };
        assert_eq!(answer, exchange["answer"], "{line}");
        count += 1;
    }
    assert!(count > 20, "only {count} exchanges in the capture");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_20_10() {
    replay("20.10").await;
}
