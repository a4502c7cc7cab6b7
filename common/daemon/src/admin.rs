//! The operators' socket as a service.

use std::future::Future;
use std::time::Duration;

use dockline_admin::{PREFIX, Refusal, Status};
use dockline_serve::{Request, Response, Service};
use hyper::{Method, StatusCode};
use serde::Serialize;

/// How long an operator's client is kept waiting; growing a file system may take a while.
const PATIENCE: Duration = Duration::from_secs(110);

const JSON: &str = "application/json";

/// What a daemon tells its operators and does for them.
pub trait Admin: Send + Sync + 'static {
    /// How it is doing. Answered at once, with everything else down.
    fn status(&self) -> impl Future<Output = Status> + Send;
}

/// A daemon's operators' socket.
#[derive(Debug)]
pub(crate) struct AdminService<A>(pub(crate) A);

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The types of the interface cannot fail to be written as JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Response { status, media_type: JSON, body: body.into() }
}

impl<A: Admin> Service for AdminService<A> {
    async fn answer(&self, request: &Request) -> Response {
        match (&request.method, request.path.strip_prefix(PREFIX)) {
            (&Method::GET, Some("status")) => json(StatusCode::OK, &self.0.status().await),
            (method, _) => {
                let text = format!(
                    "{method} {} is not known here: do the versions of the daemon and of the client match?",
                    request.path
                );
                self.failure(StatusCode::NOT_FOUND, text)
            }
        }
    }

    async fn undelivered(&self, _: &Request, _: &Response) {
        // An operator who hung up finds what was done by asking again.
    }

    fn patience(&self, _: &Request) -> Duration {
        PATIENCE
    }

    fn failure(&self, status: StatusCode, text: String) -> Response {
        json(status, &Refusal { error: text })
    }
}
