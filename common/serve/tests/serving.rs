//! The server over a real socket, with clients that behave as dockerd does and as it should not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use dockline_serve::socket::Inherited;
use dockline_serve::{Limits, Request, Response, Server, Service, Socket};
use hyper::StatusCode;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Answers with what it was sent; `/held` waits until it is let go; `/bug` panics.
#[derive(Debug, Default)]
struct Echo {
    begun: Notify,
    let_go: Notify,
    told: Notify,
    undelivered: Mutex<Vec<String>>,
}

impl Service for Echo {
    async fn answer(&self, request: &Request) -> Response {
        match request.path.as_str() {
            "/held" => {
                self.begun.notify_one();
                self.let_go.notified().await;
            }
            "/bug" => panic!("as asked"),
            _ => {}
        }
        Response { status: StatusCode::OK, media_type: "text/plain", body: request.body.clone() }
    }

    async fn undelivered(&self, request: &Request, _: &Response) {
        self.undelivered.lock().unwrap().push(request.path.clone());
        self.told.notify_one();
    }

    fn patience(&self, request: &Request) -> Duration {
        if request.body.as_ref() == b"hasty" {
            Duration::from_millis(50)
        } else {
            Duration::from_secs(20)
        }
    }
}

struct Running {
    folder: tempfile::TempDir,
    service: Arc<Echo>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let lock = folder.path().join("x.lock");
        let socket = Socket::take(&path, &lock, &mut Inherited::default()).unwrap();
        let service = Arc::new(Echo::default());
        let stop = CancellationToken::new();
        let server = Server::new(Arc::clone(&service), limits);
        let ended = tokio::spawn(server.run(socket, stop.clone()));
        Self { folder, service, stop, ended }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.sock")
    }

    async fn call(&self, path: &str, body: &str) -> (u16, String) {
        let request = post(path, body);
        let socket = self.path();
        tokio::task::spawn_blocking(move || exchange(&socket, &request)).await.unwrap()
    }
}

fn post(path: &str, body: &str) -> String {
    // The Host header is what Docker 20.10 sends: the escaped path of the socket.
    let host = "%2Frun%2Fdocker%2Fplugins%2Fx.sock";
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn exchange(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut stream)
}

fn read_answer(stream: &mut UnixStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn one_connection_serves_many_calls_and_stays_open_when_idle() {
    let running = Running::start(Limits::default());
    let socket = running.path();
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        for body in ["one", "two", ""] {
            stream.write_all(post("/Any.Call", body).as_bytes()).unwrap();
            assert_eq!(read_answer(&mut stream), (200, body.to_owned()));
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_request_outlives_its_client_and_is_taken_back() {
    let running = Running::start(Limits::default());
    let mut client = UnixStream::connect(running.path()).unwrap();
    client.write_all(post("/held", "x").as_bytes()).unwrap();
    running.service.begun.notified().await;
    drop(client);
    // The server must see the hang-up before the answer is ready; a second call's answer shows
    // that it has gone through its sockets since.
    running.call("/", "").await;
    running.service.let_go.notify_one();
    running.service.told.notified().await;
    assert_eq!(*running.service.undelivered.lock().unwrap(), ["/held"]);
}

#[tokio::test]
async fn an_answer_that_was_sent_and_never_read_is_taken_back() {
    let running = Running::start(Limits::default());
    for _ in 0..20 {
        let mut client = UnixStream::connect(running.path()).unwrap();
        client.write_all(post("/quick", "x").as_bytes()).unwrap();
        // The answer is there and half read when the client dies.
        let client = tokio::task::spawn_blocking(move || {
            client.read_exact(&mut [0]).unwrap();
            client
        });
        drop(client.await.unwrap());
        running.service.told.notified().await;
    }
    assert_eq!(running.service.undelivered.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn an_answer_that_was_read_stays_whatever_the_client_does_next() {
    let running = Running::start(Limits::default());
    let next: [&[u8]; 3] = [b"", b"\x16\x03\x01 not http\r\n\r\n", b"POST /half"];
    for garbage in next {
        let socket = running.path();
        tokio::task::spawn_blocking(move || {
            let mut client = UnixStream::connect(socket).unwrap();
            client.write_all(post("/quick", "x").as_bytes()).unwrap();
            assert_eq!(read_answer(&mut client), (200, "x".to_owned()));
            let _ = client.write_all(garbage);
        })
        .await
        .unwrap();
    }
    let Running { service, stop, ended, .. } = running;
    stop.cancel();
    ended.await.unwrap().unwrap();
    assert!(service.undelivered.lock().unwrap().is_empty(), "an answer was taken from its client");
}

#[tokio::test]
async fn out_of_patience_is_an_error_and_the_result_is_taken_back() {
    let running = Running::start(Limits::default());
    let (status, text) = running.call("/held", "hasty").await;
    assert_eq!(status, 504);
    assert!(text.contains("no result after 0 s"), "{text}");
    running.service.let_go.notify_one();
    running.service.told.notified().await;
}

#[tokio::test]
async fn a_bug_in_one_request_is_an_error_and_the_next_is_served() {
    let running = Running::start(Limits::default());
    assert_eq!(running.call("/bug", "").await.0, 500);
    assert_eq!(running.call("/", "fine").await, (200, "fine".to_owned()));
}

#[tokio::test]
async fn a_body_beyond_the_limit_or_that_never_comes_is_refused() {
    let body_read = Duration::from_millis(100);
    let running = Running::start(Limits { body: 10, body_read, ..Limits::default() });
    assert_eq!(running.call("/", "01234567890").await.0, 413);
    assert_eq!(running.call("/", "0123456789").await.0, 200);
    let socket = running.path();
    let half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab";
    let answer = tokio::task::spawn_blocking(move || exchange(&socket, half)).await.unwrap();
    assert_eq!(answer.0, 408);
}

#[tokio::test]
async fn garbage_closes_its_connection_only() {
    let running = Running::start(Limits::default());
    let socket = running.path();
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"\x16\x03\x01 not http\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{rest:?}");
    })
    .await
    .unwrap();
    assert_eq!(running.call("/", "fine").await.0, 200);
}

#[tokio::test]
async fn more_connections_than_the_limit_wait_their_turn() {
    let running = Running::start(Limits { connections: 2, ..Limits::default() });
    let idle: Vec<_> = (0..2).map(|_| UnixStream::connect(running.path()).unwrap()).collect();
    let waiting = running.call("/", "late");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "a third connection was served beside two");
    drop(idle);
    assert_eq!(waiting.await, (200, "late".to_owned()));
}

#[tokio::test]
async fn stopping_lets_a_request_end_and_removes_the_socket() {
    let running = Running::start(Limits::default());
    let path = running.path();
    let socket = path.clone();
    let call =
        tokio::task::spawn_blocking(move || exchange(&socket, &post("/held", "in progress")));
    running.service.begun.notified().await;
    running.stop.cancel();
    running.service.let_go.notify_one();
    assert_eq!(call.await.unwrap(), (200, "in progress".to_owned()));
    running.ended.await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn draining_has_an_end() {
    let drain = Duration::from_millis(50);
    let running = Running::start(Limits { drain, ..Limits::default() });
    let mut client = UnixStream::connect(running.path()).unwrap();
    client.write_all(post("/held", "x").as_bytes()).unwrap();
    running.service.begun.notified().await;
    running.stop.cancel();
    running.ended.await.unwrap().unwrap();
}
