//! What a node answers on its control socket: as a whole, or a line at a time, within bounds.

use std::io;

use http_body_util::{BodyExt, Limited};
use hyper::{Response, body::Incoming};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::ANSWER_BYTES_MAX;
use crate::{
    code::Code,
    control::{
        api::{ErrorBody, Failure, SCHEMA_VERSION, Step, Versioned},
        service::Outcome,
    },
};

/// The head of an answer, its body still to be read.
pub(super) struct Answer {
    pub(super) head: Response<Box<Incoming>>,
    pub(super) _connection: Connection,
}

/// The task that moves the bytes; ends with the answer, which tells the node that nobody waits any more.
pub(super) struct Connection(pub(super) JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Splits what arrives into lines.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Outcome<()> {
        if self.buffer.len().saturating_add(bytes.len()) > ANSWER_BYTES_MAX {
            return Err(broken("it is larger than 64 MiB"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

/// Reads a whole answer.
pub(super) async fn whole<T: DeserializeOwned>(answer: Answer) -> Outcome<T> {
    let status = answer.head.status();
    let body = Limited::new(answer.head.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| broken(&error.to_string()))?.to_bytes();
    if !status.is_success() {
        let body: ErrorBody = serde_json::from_slice(&bytes)
            .map_err(|_| incompatible(&format!("it answered HTTP {}", status.as_u16())))?;
        return Err(body.error);
    }
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| incompatible(&format!("not JSON: {error}")))?;
    versioned(value)
}

/// Takes an answer apart, if its shape is of our version.
fn versioned<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    match value.get("schema_version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(SCHEMA_VERSION) => {}
        Some(version) => {
            return Err(incompatible(&format!("it speaks version {version}, this ggen {SCHEMA_VERSION}")));
        }
        None => return Err(incompatible("it does not say its version")),
    }
    serde_json::from_value(value).map_err(|error| incompatible(&error.to_string()))
}

/// Parses one line of a streamed answer.
pub(super) fn step<T: DeserializeOwned>(line: &[u8]) -> Outcome<Step<T>> {
    let mut value: Value =
        serde_json::from_slice(line).map_err(|error| incompatible(&format!("not JSON: {error}")))?;
    if value.get("event").and_then(Value::as_str) == Some("done") {
        let result = value.get_mut("result").map(Value::take).unwrap_or_default();
        return versioned(result).map(|body| Step::Done { result: Versioned::new(body) });
    }
    serde_json::from_value::<Step<Value>>(value).map_err(|error| incompatible(&error.to_string())).and_then(
        |step| match step {
            Step::Progress(state) => Ok(Step::Progress(state)),
            Step::Failed(body) => Ok(Step::Failed(body)),
            Step::Done { .. } => Err(incompatible("a step that is done has no result")),
        },
    )
}

pub(super) fn broken(why: &str) -> Failure {
    Failure::new(
        Code::Io,
        format!("The connection to the node broke: {why}."),
        "See whether it still runs: ggen marketplace p2p status",
    )
}

/// Why there is no answer. Where the node went away before it began one, there is none any more.
pub(super) fn unanswered(error: &hyper::Error) -> Failure {
    let is_cut_off = || {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        })
    };
    match error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_cut_off() {
        true => stopped(),
        false => broken(&error.to_string()),
    }
}

pub(super) fn stopped() -> Failure {
    Failure::new(
        Code::NotRunning,
        "The node has stopped.",
        "Start it again: ggen marketplace p2p start --daemon",
    )
}

pub(super) fn incompatible(why: &str) -> Failure {
    Failure::new(
        Code::Failed,
        format!("The node's answer cannot be understood: {why}."),
        "The node is of another version than this ggen. Restart it: ggen marketplace p2p restart",
    )
}
