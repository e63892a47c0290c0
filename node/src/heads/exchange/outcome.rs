//! How the reading of a peer ended.

/// How a round of reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Everything that the peer has is here, or was declined.
    InSync,
    /// Something of it could not be taken for now; it is asked for again.
    Waits,
    /// The peer had no room.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// The connection or the stream ended before the answer did.
    CutOff,
    /// It gave so many heads that no more are taken of it for a while.
    TooMuch,
    /// What it said led nowhere.
    GaveUp,
}

impl Outcome {
    /// What is said of a peer that was read so.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "was read completely",
            Self::Waits => "has something that cannot be taken now",
            Self::Refused => "had no room",
            Self::TimedOut => "did not answer in time",
            Self::CutOff => "was cut off",
            Self::TooMuch => "gives more than can be taken at once",
            Self::GaveUp => "said what leads nowhere",
        }
    }

    /// Whether the peer failed to tell.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::InSync | Self::Waits)
    }
}
