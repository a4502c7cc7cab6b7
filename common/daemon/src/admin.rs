//! The operators' socket as a service.

use std::future::Future;
use std::time::Duration;

use dockline_admin::{PREFIX, Refusal, Status, Verb};
use dockline_plugin_specs::route::chain;
use dockline_serve::{Request, Response, Service};
use hyper::{Method, StatusCode};
use serde::Serialize;

/// How long an operator's client is kept waiting; growing a file system may take a while.
const PATIENCE: Duration = Duration::from_secs(110);

const JSON: &str = "application/json";

/// The type that Prometheus asks for.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// This daemon has no such verb.
    #[error("{0} is not known here: do the versions of the daemon and of the client match?")]
    Unknown(String),
    /// The request is not one of this verb.
    #[error("the request {verb} is malformed")]
    Malformed {
        /// The verb.
        verb: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon said no, or failed.
    #[error(transparent)]
    Refused(Box<dyn std::error::Error + Send + Sync>),
}

impl AdminError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What a daemon tells its operators and does for them.
pub trait Admin: Send + Sync + 'static {
    /// How it is doing. Answered at once, with everything else down.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// Carries out a verb of its own: finds it by [`Verb::NAME`] and lets [`carry_out`] do the
    /// rest. Never dropped half-way.
    fn call(
        &self,
        verb: &str,
        _body: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, AdminError>> + Send {
        let unknown = AdminError::Unknown(verb.to_owned());
        std::future::ready(Err(unknown))
    }

    /// Its counters in Prometheus' text form; `None` if it has none.
    fn metrics(&self) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }
}

/// Reads a verb's request, carries it out and writes the answer.
pub async fn carry_out<V: Verb, E: std::error::Error + Send + Sync + 'static>(
    body: &[u8],
    run: impl AsyncFnOnce(V) -> Result<V::Answer, E>,
) -> Result<Vec<u8>, AdminError> {
    let malformed = |source| AdminError::Malformed { verb: V::NAME, source };
    let request = serde_json::from_slice(body).map_err(malformed)?;
    let answer = run(request).await.map_err(|error| AdminError::Refused(error.into()))?;
    serde_json::to_vec(&answer).map_err(|error| AdminError::Refused(error.into()))
}

/// A daemon's operators' socket.
#[derive(Debug)]
pub(crate) struct AdminService<A>(pub(crate) A);

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The types of the interface cannot fail to be written as JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Response { status, media_type: JSON, body: body.into() }
}

impl<A: Admin> AdminService<A> {
    async fn verb(&self, verb: &str, request: &Request) -> Response {
        let started = std::time::Instant::now();
        let done = self.0.call(verb, &request.body).await;
        let elapsed_ms = started.elapsed().as_millis();
        match done {
            Ok(body) => {
                tracing::info!(verb, elapsed_ms, "an operator's request done");
                Response { status: StatusCode::OK, media_type: JSON, body: body.into() }
            }
            Err(error) => {
                let text = chain(&error);
                tracing::warn!(verb, elapsed_ms, error = text, "an operator's request refused");
                self.failure(error.status(), text)
            }
        }
    }
}

impl<A: Admin> Service for AdminService<A> {
    async fn answer(&self, request: &Request) -> Response {
        let unknown = || AdminError::Unknown(format!("{} {}", request.method, request.path));
        match (&request.method, request.path.strip_prefix(PREFIX)) {
            (&Method::GET, Some("status")) => json(StatusCode::OK, &self.0.status().await),
            (&Method::GET, Some("metrics")) => match self.0.metrics().await {
                Some(text) => {
                    Response { status: StatusCode::OK, media_type: METRICS, body: text.into() }
                }
                None => self.failure(StatusCode::NOT_FOUND, unknown().to_string()),
            },
            (&Method::POST, Some(verb)) => self.verb(verb, request).await,
            _ => self.failure(StatusCode::NOT_FOUND, unknown().to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    struct Double {
        number: u64,
    }

    impl Verb for Double {
        const NAME: &'static str = "numbers/double";
        type Answer = u64;
    }

    #[derive(Debug, thiserror::Error)]
    #[error("too large: choose a smaller number")]
    struct TooLarge(#[source] std::fmt::Error);

    struct Calculator;

    impl Admin for Calculator {
        async fn status(&self) -> Status {
            unreachable!("not asked for")
        }

        async fn call(&self, verb: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
            match verb {
                Double::NAME => {
                    carry_out(body, async |Double { number }| {
                        number.checked_mul(2).ok_or(TooLarge(std::fmt::Error))
                    })
                    .await
                }
                other => Err(AdminError::Unknown(other.to_owned())),
            }
        }
    }

    async fn ask(method: Method, path: &str, body: &str) -> (u16, String) {
        let body = body.to_owned().into();
        let request = Request { method, path: format!("{PREFIX}{path}"), body };
        let response = AdminService(Calculator).answer(&request).await;
        (response.status.as_u16(), String::from_utf8(response.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_verb_is_found_by_its_name_and_answered() {
        let done = ask(Method::POST, Double::NAME, r#"{"number": 21}"#).await;
        assert_eq!(done, (200, "42".to_owned()));
    }

    #[tokio::test]
    async fn what_is_refused_says_why_and_whose_fault_it_is() {
        let most = format!(r#"{{"number": {}}}"#, u64::MAX);
        for (method, path, body, status, words) in [
            (Method::POST, Double::NAME, most.as_str(), 500, "too large: choose a smaller number"),
            (Method::POST, Double::NAME, r#"{"number": "x"}"#, 400, "numbers/double is malformed"),
            (Method::POST, "numbers/halve", "{}", 404, "numbers/halve is not known here"),
            (Method::GET, Double::NAME, "", 404, "GET /v1/numbers/double is not known here"),
            (Method::GET, "metrics", "", 404, "is not known here"),
        ] {
            let (found, text) = ask(method, path, body).await;
            let refusal: Refusal = serde_json::from_str(&text).unwrap();
            assert_eq!(found, status, "{path} {body}");
            assert!(refusal.error.contains(words), "{}", refusal.error);
        }
    }
}
