//! What an operator asks a daemon to do or to tell, as a type that both sides share.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A verb of one daemon: the request, and by it the answer. Sent as `POST /v1/<NAME>` with the
/// request as JSON; fields are only ever added.
pub trait Verb: Serialize + DeserializeOwned + Send + Sync {
    /// Its name in the path: words joined by `/`, such as `ports/set-rate`.
    const NAME: &'static str;
    /// What a success is answered with.
    type Answer: Serialize + DeserializeOwned + Send;
}
