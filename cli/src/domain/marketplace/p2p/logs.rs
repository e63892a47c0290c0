//! `logs`: the daemon's log.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use clap::Args;
use ggen_marketplace::{code::Code, control::api::Failure};
use serde::Serialize;

use crate::{
    domain::marketplace::p2p_state::log,
    session::{Exit, Finished, Session},
    values,
};

/// How often the log is looked at with `--follow`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of one line that are shown.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Show the log of the daemon.
#[derive(Debug, Args)]
#[command(after_help = "\
A node in the foreground logs to its terminal instead. RUST_LOG=debug at the start of the node logs more.

Examples:
  ggen marketplace p2p logs
  ggen marketplace p2p logs --lines 20 --follow")]
pub(crate) struct Logs {
    /// Show at most this many lines from the end.
    #[arg(long, value_name = "N", default_value = "100", value_parser = values::lines, allow_negative_numbers = true)]
    lines: usize,
    /// Show new lines as they come, until you interrupt it; with json each line is one string, with yaml one item of a list.
    #[arg(long, short)]
    follow: bool,
}

/// The answer without `--follow`.
#[derive(Debug, Serialize)]
struct Lines {
    lines: VecDeque<String>,
}

impl Logs {
    /// Whether it goes on until it is interrupted.
    pub(crate) fn follows(&self) -> bool {
        self.follow
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let path = log::path(session.home());
        let mut reader = open(&path)?;
        let lines = last_lines(&mut reader, self.lines).map_err(|error| unreadable(&path, &error))?;
        if !self.follow {
            session.print(&Lines { lines }, |answer, page| {
                for line in &answer.lines {
                    page.line(line);
                }
            })?;
            return Ok(Exit::Ok);
        }
        for line in &lines {
            session.print_line(line.as_str(), line)?;
        }
        loop {
            while let Some(line) = next_line(&mut reader).map_err(|error| unreadable(&path, &error))? {
                session.print_line(line.as_str(), &line)?;
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
            if was_replaced(&mut reader, &path) {
                reader = open(&path)?;
            }
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path).map(BufReader::new).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Code::NotFound,
            format!("There is no log {} yet.", path.display()),
            "Only a daemon writes one: ggen marketplace p2p start --daemon",
        ),
        _ => unreadable(path, &error),
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Code::Io,
        format!("The log {} cannot be read: {error}.", path.display()),
        "Run the command as the user who started the node.",
    )
}

/// Whether another file took the log's place, or the log was cut.
fn was_replaced(reader: &mut BufReader<File>, path: &Path) -> bool {
    let (Ok(ours), Ok(now), Ok(at)) =
        (reader.get_ref().metadata(), std::fs::metadata(path), reader.stream_position())
    else {
        return false;
    };
    ours.ino() != now.ino() || now.len() < at
}

/// The last lines, holding no more than those in memory.
fn last_lines(reader: &mut BufReader<File>, number: usize) -> io::Result<VecDeque<String>> {
    let mut lines = VecDeque::new();
    while let Some(line) = next_line(reader)? {
        if lines.len() == number {
            lines.pop_front();
        }
        if number > 0 {
            lines.push_back(line);
        }
    }
    Ok(lines)
}

/// The next whole line; a line that is still being written waits.
fn next_line(reader: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let start = reader.stream_position()?;
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') && (line.len() as u64) < LINE_BYTES_MAX {
        reader.seek(SeekFrom::Start(start))?;
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(anstream::adapter::strip_str(text.trim_end()).to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_whole_lines_from_the_end_are_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "a\nb\n\nd\nunfinis").unwrap();
        let mut reader = open(file.path()).unwrap();
        assert_eq!(last_lines(&mut reader, 2).unwrap(), ["", "d"]);
        assert_eq!(next_line(&mut reader).unwrap(), None);
        writeln!(file, "hed").unwrap();
        assert_eq!(next_line(&mut reader).unwrap().as_deref(), Some("unfinished"));
        assert!(last_lines(&mut open(file.path()).unwrap(), 0).unwrap().is_empty());
    }
}
