//! Serving HTTP/1.1 on a Unix socket: the sockets Docker calls and the operators' sockets.
//!
//! * [`socket`]: taking the socket (mode 0600, one owner, stale ones replaced, systemd's adopted).
//! * [`server`]: connections, limits, deadlines, draining.
//! * `delivery`: whether a client received its answer.
//! * [`plugin`]: one of Docker's plugin protocols as a [`Service`].
//!
//! What a request does is decided by a [`Service`]; here is only how it arrives and how it is
//! answered. A request is carried out in a task of its own, which no client that goes away and no
//! deadline can cut in half: it ends, and if nobody was there to receive its answer, the service is
//! told so.

mod delivery;
pub mod plugin;
pub mod server;
pub mod socket;

use std::future::Future;

use bytes::Bytes;
use hyper::{Method, StatusCode};

pub use server::{Limits, Server};
pub use socket::{Socket, SocketError};

/// A request, read whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: Method,
    /// The path, with its leading slash.
    pub path: String,
    /// The body, within [`Limits::body`].
    pub body: Bytes,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The media type of the body.
    pub media_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// An error as plain text, for requests that never reached a service that could say it better.
    fn plain(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: text.into().into() }
    }
}

/// What is served on a socket.
pub trait Service: Send + Sync + 'static {
    /// Carries out a request. Never dropped half-way.
    fn answer(&self, request: &Request) -> impl Future<Output = Response> + Send;

    /// Nobody received this answer: the client went away, or [`Service::patience`] had run out.
    fn undelivered(
        &self,
        request: &Request,
        response: &Response,
    ) -> impl Future<Output = ()> + Send;

    /// How long a client is kept waiting for this request.
    fn patience(&self, request: &Request) -> std::time::Duration;

    /// An answer for a request that was not carried out, or not yet: over a limit, out of
    /// patience, or ended by a bug.
    fn failure(&self, status: StatusCode, text: String) -> Response {
        Response::plain(status, text)
    }
}
