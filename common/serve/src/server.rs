//! Connections, limits, deadlines, draining.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::{LastAnswer, Watched};
use crate::{Request, Response, Service, Socket};

/// How much is taken at once, and how long is waited.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body. Docker's are below 10 KiB; a network with thousands of labels
    /// and auxiliary addresses stays below a mebibyte.
    pub body: usize,
    /// Connections at once; more wait in the kernel's backlog. dockerd keeps a handful, and one
    /// more for each call in progress.
    pub connections: usize,
    /// How long a client may take to send a body it announced.
    pub body_read: Duration,
    /// How long the requests in progress may take to end after the stop signal.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            connections: 512,
            body_read: Duration::from_secs(10),
            drain: Duration::from_secs(20),
        }
    }
}

/// How long to leave a socket alone that could not be accepted from.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves one service on one socket.
///
/// There is no time-out for an idle connection or a slow request head: dockerd keeps idle
/// connections, and one that closes just as dockerd writes makes it repeat the request without its
/// body. The sockets are open to root alone, and [`Limits::connections`] bounds them.
#[derive(Debug)]
pub struct Server<S> {
    service: Arc<S>,
    limits: Limits,
    /// The requests being carried out; they may outlive their connections.
    requests: TaskTracker,
}

impl<S: Service> Server<S> {
    /// A server of this service.
    pub fn new(service: Arc<S>, limits: Limits) -> Self {
        Self { service, limits, requests: TaskTracker::new() }
    }

    /// Serves until `stop`, then lets the requests in progress end ([`Limits::drain`]).
    pub async fn run(self, socket: Socket, stop: CancellationToken) -> std::io::Result<()> {
        let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
        let server = Arc::new(self);
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(server.limits.connections));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: the connections that end free some.
                        tracing::error!(%error, "cannot accept a connection");
                        if tokio::time::timeout(ACCEPT_AGAIN, stop.cancelled()).await.is_ok() {
                            break;
                        }
                        continue;
                    }
                },
            };
            let last = Arc::new(LastAnswer::default());
            let connection = graceful.watch(server.connection(stream, &last));
            let server = Arc::clone(&server);
            server.requests.clone().spawn(async move {
                // How the connection itself ended says nothing that `last` does not say better.
                let _ = connection.await;
                if let Some((request, response)) = last.never_read() {
                    server.take_back(&request, &response).await;
                }
                drop(slot);
            });
        }
        drop(listener);
        drop(socket);
        server.requests.close();
        let ended = async {
            graceful.shutdown().await;
            server.requests.wait().await;
        };
        if tokio::time::timeout(server.limits.drain, ended).await.is_err() {
            tracing::warn!(
                in_progress = server.requests.len(),
                "stopped before every request ended"
            );
        }
        Ok(())
    }

    fn connection(
        self: &Arc<Self>,
        stream: UnixStream,
        last: &Arc<LastAnswer>,
    ) -> http1::Connection<
        TokioIo<Watched>,
        impl hyper::service::HttpService<
            Incoming,
            ResBody = Full<Bytes>,
            Future: Send,
            Error = Infallible,
        > + use<S>,
    > {
        let server = Arc::clone(self);
        let stream = Watched { stream, last: Arc::clone(last) };
        let last = Arc::clone(last);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (server, last) = (Arc::clone(&server), Arc::clone(&last));
            async move {
                let response = server.handle(request, &last).await;
                let mut answer = hyper::Response::new(Full::new(response.body));
                *answer.status_mut() = response.status;
                let media_type = hyper::header::HeaderValue::from_static(response.media_type);
                answer.headers_mut().insert(CONTENT_TYPE, media_type);
                Ok::<_, Infallible>(answer)
            }
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service)
    }

    /// Reads a request, has it carried out in a task of its own and waits for the answer. This
    /// future is dropped when the client goes away; the task is not.
    async fn handle(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        last: &LastAnswer,
    ) -> Response {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, self.limits.body).collect();
        let body = match tokio::time::timeout(self.limits.body_read, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let most = self.limits.body;
                let text = format!("the request is cut short or larger than {most} bytes");
                return self.service.failure(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            Err(_) => {
                let text = "the request's body did not arrive".to_owned();
                return self.service.failure(StatusCode::REQUEST_TIMEOUT, text);
            }
        };
        let path = head.uri.path().to_owned();
        let request = Arc::new(Request { method: head.method, path, body });
        let patience = self.service.patience(&request);
        let (sender, receiver) = oneshot::channel();
        let (server, asked) = (Arc::clone(self), Arc::clone(&request));
        self.requests.spawn(async move {
            let response = server.service.answer(&asked).await;
            if let Err(response) = sender.send(response) {
                server.take_back(&asked, &response).await;
            }
        });
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(response)) => {
                last.set(request, response.clone());
                response
            }
            Ok(Err(_)) => {
                let text = "the plugin failed in an unforeseen way; its log says where".to_owned();
                self.service.failure(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            Err(_) => {
                let waited = patience.as_secs();
                let text = format!("no result after {waited} s; it goes on in the background");
                self.service.failure(StatusCode::GATEWAY_TIMEOUT, text)
            }
        }
    }

    async fn take_back(&self, request: &Request, response: &Response) {
        tracing::warn!(path = request.path, "nobody received the answer: taken back");
        self.service.undelivered(request, response).await;
    }
}
