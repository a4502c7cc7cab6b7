//! Passing on what dockerd and a plugin say, and writing it down.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};

#[derive(Debug)]
struct Capture {
    forward: PathBuf,
    output: Mutex<File>,
}

/// Stands between until it is stopped.
pub(crate) async fn run(listen: &Path, forward: PathBuf, output: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(output);
    let file = file.with_context(|| format!("cannot open {}", output.display()))?;
    let listener = UnixListener::bind(listen);
    let listener = listener.with_context(|| format!("cannot listen on {}", listen.display()))?;
    let capture = Arc::new(Capture { forward, output: Mutex::new(file) });
    loop {
        let (stream, _) = listener.accept().await?;
        let capture = Arc::clone(&capture);
        let service = service_fn(move |request| {
            let capture = Arc::clone(&capture);
            async move { capture.pass_on(request).await }
        });
        tokio::spawn(async move {
            let served = server::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
}

impl Capture {
    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let asked = body.collect().await?.to_bytes();
        let stream = UnixStream::connect(&self.forward).await?;
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let method = head.uri.path().trim_start_matches('/').to_owned();
        let request = Request::from_parts(head, Full::new(asked.clone()));
        let (head, body) = sender.send_request(request).await?.into_parts();
        let answered = body.collect().await?.to_bytes();
        self.write_down(&method, &asked, head.status.as_u16(), &answered)?;
        Ok(Response::from_parts(head, Full::new(answered)))
    }

    fn write_down(&self, method: &str, asked: &[u8], status: u16, answered: &[u8]) -> Result<()> {
        let line = json!({
            "method": method,
            "request": as_json(asked),
            "status": status,
            "answer": as_json(answered),
        });
        // A panic while writing leaves at worst a torn line; the next lines are whole.
        let mut output = self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        writeln!(output, "{line}").context("cannot write the capture")
    }
}

/// A body as JSON; an empty one as null, and what is no JSON as text.
fn as_json(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}
