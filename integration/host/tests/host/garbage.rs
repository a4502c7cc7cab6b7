//! Garbage on the daemons' own sockets: an error in words, and they go on serving.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dockline_host::daemons::{Daemon, built};
use dockline_host::report::wait_until;
use dockline_host::suite::Suite;
use serde_json::Value;

use crate::support;

const INTERFACES: [&str; 3] = ["IpamDriver", "NetworkDriver", "VolumeDriver"];

const METHODS: [&str; 14] = [
    "RequestPool",
    "ReleasePool",
    "RequestAddress",
    "ReleaseAddress",
    "CreateNetwork",
    "DeleteNetwork",
    "CreateEndpoint",
    "DeleteEndpoint",
    "Join",
    "Leave",
    "Create",
    "Mount",
    "Unmount",
    "Remove",
];

const BODIES: [&[u8]; 12] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\"text\"",
    b"\xff\xfe\x00",
    b"{\"NetworkID\":7,\"Name\":7,\"PoolID\":7}",
    b"{\"NetworkID\":\"../../etc\",\"EndpointID\":\"\\u0000\"}",
    b"{\"Name\":\"../../../etc/passwd\",\"ID\":\"../x\"}",
    b"{\"PoolID\":\"\",\"Address\":\"999.1.1.1\"}",
    b"{\"AddressSpace\":\"\",\"Pool\":\"10.0.0.0/99\"}",
    b"{\"AddressSpace\":\"no such space\",\"Pool\":\"10.0.0.1/8\",\"V6\":true}",
];

/// One call on a connection of its own: the status and the body.
fn call(socket: &Path, method: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end + 4))
}

#[tokio::test]
async fn garbage_is_refused_in_words_and_changes_nothing() {
    let plugins = tempfile::tempdir().unwrap();
    let config = format!("plugins_dir = {:?}\n", plugins.path());
    let suite = Suite::with(&["--bridge=none", "--iptables=false"], &config).await.unwrap();
    for daemon in Daemon::ALL {
        let socket = plugins.path().join(format!("{}.sock", daemon.name()));
        for interface in INTERFACES {
            for method in METHODS.map(|method| format!("{interface}.{method}")) {
                for body in BODIES {
                    let (status, answer) = call(&socket, &method, body);
                    let answer: Value = serde_json::from_slice(&answer).unwrap();
                    let shown = String::from_utf8_lossy(body);
                    // An unknown thing's release succeeds; all else is an error with its reason.
                    let released = ["Release", "Delete", "Leave", "Unmount", "Remove"];
                    if status == 200 {
                        let may = released.iter().any(|verb| method.contains(verb));
                        assert!(may, "{method} {shown} succeeded: {answer}");
                    } else {
                        let text = answer["Err"].as_str().unwrap_or_default();
                        assert!(text.len() > 10, "{method} {shown}: {status} {answer}");
                        assert_eq!(answer["Err"], answer["Error"]);
                    }
                }
            }
        }
        assert!(suite.daemon(daemon).is_alive(), "{} died of garbage", daemon.name());
        let (status, _) = call(&socket, "Plugin.Activate", b"");
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn an_address_whose_client_died_before_it_read_the_answer_is_free_again() {
    let plugins = tempfile::tempdir().unwrap();
    let config = format!("plugins_dir = {:?}\n", plugins.path());
    let suite = Suite::with(&["--bridge=none", "--iptables=false"], &config).await.unwrap();
    let socket = plugins.path().join("dockline-ipam.sock");
    let pool = br#"{"AddressSpace":"dockline","Pool":"10.8.0.0/24"}"#;
    let (status, pool) = call(&socket, "IpamDriver.RequestPool", pool);
    assert_eq!(status, 200);
    let pool: Value = serde_json::from_slice(&pool).unwrap();
    let body = serde_json::json!({ "PoolID": pool["PoolID"], "Address": "" }).to_string();
    let length = body.len();
    let path = "/IpamDriver.RequestAddress";
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    for number in 0..20 {
        let mut client = UnixStream::connect(&socket).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        // Every other one dies with its answer half read.
        if number % 2 == 0 {
            client.read_exact(&mut [0]).unwrap();
        }
    }
    // A client may be gone before its request has begun: then there is nothing to take back. What
    // was carried out is told by the log, and so is what was taken back.
    let log = suite.place.log("dockline-ipam");
    let (mut done, mut taken_back) = (0, 0);
    wait_until("every answer was taken back", Duration::from_secs(20), async || {
        let log = std::fs::read_to_string(&log)?;
        let is_done = |line: &&str| line.contains("RequestAddress") && line.contains("done");
        done = log.lines().filter(is_done).count();
        taken_back = log.matches("nobody received the answer").count();
        Ok(done >= 10 && done == taken_back)
    })
    .await
    .unwrap();
    wait_until("no address is held", Duration::from_secs(20), async || {
        Ok(support::status(&suite, "dockline-ipam").await?["counts"]["addresses"] == 0)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_wrong_configuration_is_told_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dockline.toml");
    for (daemon, text, words) in [
        (Daemon::Net, "[net]\nmtu = 10", "net.mtu = 10"),
        (Daemon::Net, "[net]\nmtuu = 10", "line 2"),
        (Daemon::Vol, "[vol]\ndefault_fs = \"ntfs\"", "ntfs"),
        (Daemon::Ipam, "[ipam]\ndefault_pools = [{ base = \"10.0.0.0/24\", size = 8 }]", "ipam"),
    ] {
        std::fs::write(&file, text).unwrap();
        let check = dockline_exec::Program::new(built(daemon.name()).unwrap());
        let check = check.arg("--config").arg(&file).arg("--check-config");
        let output = check.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{text}: {said}");
    }
}
