//! From the errors of the modules to what a person or a program is told.

use std::error::Error;

use crate::{
    catalog, code::Code, config, control::api::Failure, fetch, identity, network, package, peers, project,
    release, reputation, store,
};

/// An error with a stable code and advice.
pub(super) trait Coded: Error + Sized + 'static {
    fn stable_code(&self) -> Code;
    fn advice(&self) -> String;
}

macro_rules! coded {
    ($($error:ty),+ $(,)?) => {$(
        impl Coded for $error {
            fn stable_code(&self) -> Code {
                self.code()
            }

            fn advice(&self) -> String {
                self.hint()
            }
        }
    )+};
}

coded!(
    catalog::Error,
    config::Error,
    fetch::log::Error,
    fetch::session::Error,
    identity::key_file::Error,
    network::Error,
    package::gpack::Error,
    package::manifest::Error,
    package::walk::Error,
    peers::Error,
    project::Error,
    release::Error,
    reputation::Error,
    store::Error,
);

impl Coded for package::check::Error {
    fn stable_code(&self) -> Code {
        self.code()
    }

    fn advice(&self) -> String {
        self.hint().to_owned()
    }
}

impl Coded for package::pack::Error<store::Error> {
    fn stable_code(&self) -> Code {
        self.code(store::Error::code)
    }

    fn advice(&self) -> String {
        match self {
            Self::Sink(error) => error.hint(),
            error => error.hint(),
        }
    }
}

impl Coded for package::unpack::Error<store::Error> {
    fn stable_code(&self) -> Code {
        self.code(store::Error::code)
    }

    fn advice(&self) -> String {
        self.hint()
    }
}

impl Coded for package::unixfs::ReadError<store::Error> {
    fn stable_code(&self) -> Code {
        match self {
            Self::Source(error) => error.code(),
            Self::Graph(error) => error.code(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Source(error) => error.hint(),
            Self::Graph(_) => {
                "Nothing was installed. Its publisher has to release a corrected version.".to_owned()
            }
        }
    }
}

/// Turns an error into what is told: a sentence with all its causes, and what to do next.
pub(super) fn fail(error: impl Coded) -> Failure {
    Failure::new(error.stable_code(), sentence(&error), error.advice())
}

/// The message of an error and of its causes, as one sentence. Messages begin in lower case, so that they can be joined.
pub(super) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let message = error.to_string();
        // Wrappers that only repeat their source add nothing.
        if !text.contains(&message) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&message);
        }
        cause = error.source();
    }
    let mut letters = text.chars();
    let mut sentence: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    sentence.extend(letters);
    if !sentence.ends_with(['.', '!', '?', '\n']) {
        sentence.push('.');
    }
    sentence
}
