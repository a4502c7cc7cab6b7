//! Traffic captured from real engines, read into the types and written again: nothing that the
//! engine says is lost or changed, and every call it makes is known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dockline_plugin_specs::route::{CallError, read};
use dockline_plugin_specs::{Activate, Call, ipam, network, volume};
use serde::Deserialize;
use serde_json::Value;

/// One line of a capture.
#[derive(Debug, Deserialize)]
struct Line {
    method: String,
    request: Value,
    status: u16,
    answer: Value,
}

fn captures() -> Vec<(PathBuf, Line)> {
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut lines = Vec::new();
    for engine in std::fs::read_dir(engines).unwrap() {
        for file in std::fs::read_dir(engine.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            for line in text.lines() {
                lines.push((file.clone(), serde_json::from_str(line).unwrap()));
            }
        }
    }
    assert!(lines.len() > 100, "the captures are gone: see docs/captures.md");
    lines
}

/// Go writes what is empty in several ways, which all mean the same: `null`, `{}`, `[]`, `""`, or
/// nothing at all.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_empty(value)));
            let full = |value: &Value| match value {
                Value::Null => false,
                Value::Object(fields) => !fields.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty(),
                _ => true,
            };
            Value::Object(fields.filter(|(_, value)| full(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        Value::Null => Value::Object(Default::default()),
        other => other,
    }
}

/// Reads a line as this call; `None` if it is another.
fn round_trip<C: Call>(line: &Line) -> Option<()> {
    if line.method != C::METHOD {
        return None;
    }
    let body = if line.request.is_null() { Vec::new() } else { line.request.to_string().into() };
    let request: C = read(&body).unwrap();
    let again = serde_json::to_value(&request).unwrap();
    assert_eq!(without_empty(again), without_empty(line.request.clone()), "{}", C::METHOD);
    if line.status == 200 {
        let answer: C::Answer = serde_json::from_value(line.answer.clone()).unwrap();
        let again = serde_json::to_value(&answer).unwrap();
        assert_eq!(without_empty(again), without_empty(line.answer.clone()), "{}", C::METHOD);
    }
    Some(())
}

/// Every call that a capture may hold.
fn every_call(line: &Line) -> Option<()> {
    None.or_else(|| round_trip::<Activate>(line))
        .or_else(|| round_trip::<ipam::GetCapabilities>(line))
        .or_else(|| round_trip::<ipam::GetDefaultAddressSpaces>(line))
        .or_else(|| round_trip::<ipam::RequestPool>(line))
        .or_else(|| round_trip::<ipam::ReleasePool>(line))
        .or_else(|| round_trip::<ipam::RequestAddress>(line))
        .or_else(|| round_trip::<ipam::ReleaseAddress>(line))
        .or_else(|| round_trip::<network::GetCapabilities>(line))
        .or_else(|| round_trip::<network::CreateNetwork>(line))
        .or_else(|| round_trip::<network::DeleteNetwork>(line))
        .or_else(|| round_trip::<network::CreateEndpoint>(line))
        .or_else(|| round_trip::<network::DeleteEndpoint>(line))
        .or_else(|| round_trip::<network::EndpointOperInfo>(line))
        .or_else(|| round_trip::<network::Join>(line))
        .or_else(|| round_trip::<network::Leave>(line))
        .or_else(|| round_trip::<network::ProgramExternalConnectivity>(line))
        .or_else(|| round_trip::<network::RevokeExternalConnectivity>(line))
        .or_else(|| round_trip::<volume::Create>(line))
        .or_else(|| round_trip::<volume::Remove>(line))
        .or_else(|| round_trip::<volume::Mount>(line))
        .or_else(|| round_trip::<volume::Unmount>(line))
        .or_else(|| round_trip::<volume::Path>(line))
        .or_else(|| round_trip::<volume::Get>(line))
        .or_else(|| round_trip::<volume::List>(line))
        .or_else(|| round_trip::<volume::GetCapabilities>(line))
}

#[test]
fn what_the_engine_says_reads_back_the_same() {
    for (file, line) in captures() {
        assert!(every_call(&line).is_some(), "{}: {} is not known", file.display(), line.method);
    }
}

#[test]
fn the_captures_hold_every_call_that_the_engine_makes() {
    let seen: BTreeSet<_> = captures().into_iter().map(|(_, line)| line.method).collect();
    // `VolumeDriver.Path` is asked only where dockerd has lost the path, and Swarm's calls never
    // of a driver of scope local.
    let expected = [
        "IpamDriver.GetCapabilities",
        "IpamDriver.GetDefaultAddressSpaces",
        "IpamDriver.ReleaseAddress",
        "IpamDriver.ReleasePool",
        "IpamDriver.RequestAddress",
        "IpamDriver.RequestPool",
        "NetworkDriver.CreateEndpoint",
        "NetworkDriver.CreateNetwork",
        "NetworkDriver.DeleteEndpoint",
        "NetworkDriver.DeleteNetwork",
        "NetworkDriver.EndpointOperInfo",
        "NetworkDriver.GetCapabilities",
        "NetworkDriver.Join",
        "NetworkDriver.Leave",
        "NetworkDriver.ProgramExternalConnectivity",
        "NetworkDriver.RevokeExternalConnectivity",
        "Plugin.Activate",
        "VolumeDriver.Capabilities",
        "VolumeDriver.Create",
        "VolumeDriver.Get",
        "VolumeDriver.List",
        "VolumeDriver.Mount",
        "VolumeDriver.Remove",
        "VolumeDriver.Unmount",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn a_call_with_arguments_is_never_read_from_an_empty_body() {
    assert!(matches!(read::<volume::Mount>(b""), Err(CallError::EmptyBody(_))));
    assert!(matches!(read::<network::CreateEndpoint>(b" "), Err(CallError::EmptyBody(_))));
    assert!(matches!(read::<ipam::ReleaseAddress>(b""), Err(CallError::EmptyBody(_))));
}

#[test]
fn what_other_engines_add_or_leave_out_is_taken() {
    let added = br#"{"NetworkID":"a1","Options":{"com.docker.network.enable_ipv4":true,
        "com.docker.network.generic":null},"IPv4Data":null,"IPv6Data":null,"Later":{"x":[1]}}"#;
    let request: network::CreateNetwork = read(added).unwrap();
    assert_eq!(request.options.other["com.docker.network.enable_ipv4"], true);
    assert!(request.options.generic.is_empty() && request.ipv4_data.is_empty());
    // `docker volume create` without options (go-plugins-helpers#108).
    let request: volume::Create = read(br#"{"Name":"v","Opts":null}"#).unwrap();
    assert!(request.opts.is_empty());
    let request: ipam::RequestPool = read(br#"{"AddressSpace":"x","Pool":"","V6":false}"#).unwrap();
    assert_eq!((request.pool, request.sub_pool), (None, None));
}
