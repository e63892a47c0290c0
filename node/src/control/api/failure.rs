//! What failed, as it crosses the socket and as `--format json` prints it.

use serde::{Deserialize, Serialize};

use crate::code::Code;

/// What failed, why, and what to do next.
///
/// On the wire the code is its word ([`Code::as_str`]). A word of a newer node is read as [`Code::Failed`] and stays
/// readable at the end of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireFailure", into = "WireFailure")]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// A full sentence.
    pub message: String,
    /// What to do next; may span lines.
    pub hint: String,
    /// Whether the same command may work a little later.
    pub retryable: bool,
}

impl Failure {
    /// Joins a code with its message and hint.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), retryable: code.retryable() }
    }

    /// Whether it is that no node runs on the state folder.
    pub fn is_not_running(&self) -> bool {
        self.code == Code::NotRunning
    }

    /// The exit status that goes with the code.
    pub fn exit_code(&self) -> u8 {
        self.code.exit_code()
    }
}

/// A [`Failure`] as it crosses the socket.
#[derive(Serialize, Deserialize)]
struct WireFailure {
    code: String,
    message: String,
    hint: String,
    retryable: bool,
}

impl From<Failure> for WireFailure {
    fn from(Failure { code, message, hint, retryable }: Failure) -> Self {
        Self { code: code.as_str().to_owned(), message, hint, retryable }
    }
}

impl From<WireFailure> for Failure {
    fn from(WireFailure { code: word, message, hint, retryable }: WireFailure) -> Self {
        match Code::from_word(&word) {
            Some(code) => Self { code, message, hint, retryable },
            None => Self { code: Code::Failed, message: format!("{message} ({word})"), hint, retryable },
        }
    }
}

/// The body of every failed answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed.
    pub error: Failure,
    /// The exit status of the command.
    pub exit_code: u8,
}

impl From<Failure> for ErrorBody {
    fn from(error: Failure) -> Self {
        let exit_code = error.exit_code();
        Self { error, exit_code }
    }
}
