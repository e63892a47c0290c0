//! One run of the command: its format, its state folder, and the only ways to stdout and stderr.

use std::{
    fmt::Debug,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use ggen_marketplace::{
    code::Code,
    control::{
        api::{ErrorBody, Failure, Versioned},
        client::Client,
    },
};
use serde::Serialize;

use crate::{
    arguments::Global,
    domain::marketplace::p2p_state,
    page::{self, Page},
    yaml,
};

/// How answers are printed: for people, as one JSON document, as a table where the answer is a list, or as YAML.
// The variants have no text of their own, so that the help of every verb stays short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Human,
    Json,
    Table,
    Yaml,
}

/// What a verb gives back.
pub(crate) type Finished<T> = Result<T, End>;

/// Why a command ended before its answer was printed.
#[derive(Debug)]
pub(crate) enum End {
    /// It failed.
    Failed(Failure),
    /// The reader of stdout has enough.
    StdoutClosed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How a command ended that printed its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Well.
    Ok,
    /// The answer itself tells of a failure of this kind.
    Told(Code),
    /// Told to stop twice.
    Forced,
}

impl Exit {
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Told(code) => code.exit_code(),
            Self::Forced => Code::Interrupted.exit_code(),
        }
    }
}

/// One run of the command.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    format: Format,
    home: PathBuf,
}

impl Session {
    /// Finds the state folder; touches nothing.
    pub(crate) fn new(global: Global) -> Finished<Self> {
        Ok(Self { format: global.format, home: p2p_state::home(global.home)? })
    }

    /// The state folder, absolute.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// A client of the node on the state folder.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.home)
    }

    /// Whether progress may be drawn: for people, on a terminal.
    pub(crate) fn draws_progress(&self) -> bool {
        matches!(self.format, Format::Human | Format::Table) && io::stderr().is_terminal()
    }

    /// Runs a verb until it is done, or dropped because of Ctrl-C or a polite kill; `next` says what to do after that.
    pub(crate) async fn attend<T>(&self, next: &str, verb: impl Future<Output = Finished<T>>) -> Finished<T> {
        tokio::select! {
            biased;
            result = verb => result,
            () = p2p_state::told_to_stop() => {
                Err(Failure::new(Code::Interrupted, "It was interrupted.", next).into())
            }
        }
    }

    /// Runs a verb that has no end by itself: Ctrl-C, or a polite kill, is its end, and no failure.
    pub(crate) async fn until_interrupted(
        &self,
        verb: impl Future<Output = Finished<Exit>>,
    ) -> Finished<Exit> {
        tokio::select! {
            biased;
            result = verb => result,
            () = p2p_state::told_to_stop() => Ok(Exit::Told(Code::Interrupted)),
        }
    }

    /// Prints an answer on stdout in the format that was asked for.
    pub(crate) fn print<T: Serialize>(&self, answer: &T, human: impl FnOnce(&T, &mut Page)) -> Finished<()> {
        let text = match self.format {
            Format::Json => page::clean_json(&encode(&Versioned::new(answer))?),
            Format::Yaml => {
                let value =
                    serde_json::to_value(Versioned::new(answer)).map_err(|error| unprintable(&error))?;
                yaml::document(&value)
            }
            Format::Human | Format::Table => {
                let mut page = Page::new(width(&io::stdout()));
                human(answer, &mut page);
                page.into_text()
            }
        };
        to_stdout(&text)
    }

    /// Prints one value of an endless answer: as a line of JSON, as an item of a list in YAML, or as text.
    pub(crate) fn print_line<T: Serialize + ?Sized>(&self, answer: &T, human: &str) -> Finished<()> {
        match self.format {
            Format::Yaml => {
                let value = serde_json::to_value(answer).map_err(|error| unprintable(&error))?;
                to_stdout(&yaml::document(&serde_json::Value::Array(vec![value])))
            }
            Format::Json => {
                let line = serde_json::to_string(answer).map_err(|error| unprintable(&error))?;
                to_stdout(&format!("{}\n", page::clean_json(&line)))
            }
            Format::Human | Format::Table => to_stdout(&format!("{}\n", page::clean(human))),
        }
    }

    /// Prints text of our own as it is, whatever the format: completions, a configuration file.
    pub(crate) fn print_verbatim(&self, text: &str) -> Finished<()> {
        to_stdout(text)
    }

    /// Tells a person something beside the answer, on stderr.
    pub(crate) fn note(&self, text: &str) {
        to_stderr(&format!("{}\n", page::clean_lines(text)));
    }

    /// Tells a person of one failure of several, on stderr; a program finds it in the answer.
    pub(crate) fn show_failure(&self, purpose: &str, failure: &Failure) {
        if matches!(self.format, Format::Human | Format::Table) {
            to_stderr(&page::failure(purpose, failure));
        }
    }

    /// Warns a person on stderr.
    pub(crate) fn warn(&self, text: &str) {
        let style = page::WARNING;
        to_stderr(&format!("{style}warning:{style:#} {}\n", page::clean_lines(text)));
    }
}

/// Columns of a terminal; `None` where there is none.
fn width(stream: &impl std::os::fd::AsFd) -> Option<u16> {
    let columns = rustix::termios::tcgetwinsize(stream).ok()?.ws_col;
    Some(if columns < 40 { 80 } else { columns })
}

fn encode<T: Serialize>(value: &T) -> Finished<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?;
    text.push('\n');
    Ok(text)
}

fn unprintable(error: &serde_json::Error) -> Failure {
    Failure::new(Code::Failed, format!("The answer cannot be printed: {error}."), "Please report this.")
}

fn to_stdout(text: &str) -> Finished<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => End::StdoutClosed,
        _ => Failure::new(
            Code::Io,
            format!("The answer cannot be written to stdout: {error}."),
            "What was asked for is done; see where stdout goes.",
        )
        .into(),
    })
}

/// Nobody can be told that stderr is closed.
fn to_stderr(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Shows a failure: JSON on stdout, or what, why and what to do next on stderr.
pub(crate) fn show_failure(format: Format, purpose: &str, failure: &Failure) {
    let body = Versioned::new(ErrorBody::from(failure.clone()));
    match format {
        Format::Json => drop(encode(&body).and_then(|text| to_stdout(&page::clean_json(&text)))),
        Format::Yaml => {
            drop(serde_json::to_value(&body).map(|value| to_stdout(&yaml::document(&value))));
        }
        Format::Human | Format::Table => to_stderr(&page::failure(purpose, failure)),
    }
}

/// Shows what the parser of arguments says: help and version on stdout, refusals on stderr, without the control characters
/// of a refused value.
pub(crate) fn show_clap(error: &clap::Error) {
    let text = error.render().to_string();
    if error.use_stderr() {
        to_stderr(&page::clean_lines(&text));
    } else {
        let _ = to_stdout(&text);
    }
}
