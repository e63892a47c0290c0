//! The seeds that failed once, kept in a file so that they are run before any others.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::children::Job;

/// The name of the file, in the folder of the scenarios.
pub const FILE_NAME: &str = "corpus.toml";
/// Bytes of the file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What stands at its beginning.
const HEADER: &str = "\
# Seeds that failed once. `ggen-sim sweep --corpus` runs them first, and `ggen-sim sweep --keep` adds to them.
# Each must hold now: a bug that was mended stays mended. A `note` is kept.
";

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corpus {
    /// By what failed; the note, where somebody wrote one.
    entries: BTreeMap<Entry, Option<String>>,
}

/// A run that failed once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The scenario's file, seen from the folder of the corpus.
    pub scenario: String,
    /// The variant, where it has several.
    pub variant: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The invariant that did not hold, or why the run failed.
    pub expectation: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    failed: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    scenario: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    seed: u64,
    expectation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read or written.
    #[error("{path} cannot be used: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that cannot be.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl Corpus {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let size = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            found => found.map_err(failed)?.len(),
        };
        if size > FILE_BYTES_MAX {
            return Err(failed(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let invalid = |source| Error::Invalid { path: path.to_owned(), source: Box::new(source) };
        let document: Document = toml::from_str(&text).map_err(invalid)?;
        let entries = document.failed.into_iter().map(|line| {
            let Line { scenario, variant, seed, expectation, note } = line;
            (Entry { scenario, variant, seed, expectation }, note)
        });
        Ok(Self { entries: entries.collect() })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let beside = path.with_extension("toml.new");
        fs::write(&beside, self.text()).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }

    fn text(&self) -> String {
        let lines = self.entries.iter().map(|(entry, note)| {
            let Entry { scenario, variant, seed, expectation } = entry.clone();
            Line { scenario, variant, seed, expectation, note: note.clone() }
        });
        let document = Document { failed: lines.collect() };
        let body = if document.failed.is_empty() {
            String::new()
        } else {
            format!("\n{}", toml::to_string(&document).expect("text and numbers alone"))
        };
        format!("{HEADER}{body}")
    }

    /// Adds a run that failed; whether it was not there yet.
    pub fn add(&mut self, entry: Entry) -> bool {
        let is_new = !self.entries.contains_key(&entry);
        self.entries.entry(entry).or_default();
        is_new
    }

    /// The runs, each once, where `path` is the corpus.
    pub fn jobs(&self, path: &Path) -> Vec<Job> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let job = |entry: &Entry| Job {
            file: folder.join(&entry.scenario),
            variant: entry.variant.clone(),
            seed: entry.seed,
            engine: None,
        };
        let mut jobs: Vec<Job> = self.entries.keys().map(job).collect();
        jobs.dedup();
        jobs
    }
}

/// How a scenario is named in the corpus `path`: from its folder, where it is below that, and in full elsewhere.
pub fn name_of(scenario: &Path, path: &Path) -> io::Result<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (scenario, folder) = (scenario.canonicalize()?, folder.canonicalize()?);
    let name = scenario.strip_prefix(&folder).unwrap_or(&scenario);
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scenario: &str, seed: u64) -> Entry {
        Entry { scenario: scenario.to_owned(), variant: None, seed, expectation: "it holds".to_owned() }
    }

    #[test]
    fn a_file_is_sorted_without_doubles_and_keeps_notes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert_eq!(Corpus::read(&path).unwrap(), Corpus::default());
        let kept =
            "[[failed]]\nscenario = \"b.toml\"\nseed = 3\nexpectation = \"it holds\"\nnote = \"mended\"\n";
        fs::write(&path, kept).unwrap();
        let mut corpus = Corpus::read(&path).unwrap();
        assert!(corpus.add(entry("b.toml", 20)));
        assert!(corpus.add(entry("a.toml", 7)));
        assert!(!corpus.add(entry("b.toml", 3)));
        corpus.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# Seeds that failed once.") && text.contains("note = \"mended\""),
            "{text}"
        );
        assert_eq!(Corpus::read(&path).unwrap(), corpus);
        let jobs = corpus.jobs(&path);
        let jobs: Vec<_> =
            jobs.iter().map(|job| (job.file.file_name().unwrap().to_str(), job.seed)).collect();
        assert_eq!(jobs, [(Some("a.toml"), 7), (Some("b.toml"), 3), (Some("b.toml"), 20)]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "[[failed]]\nscenario = \"a.toml\"\nsead = 3\n").unwrap();
        let error = Corpus::read(&path).unwrap_err().to_string();
        assert!(error.contains("unknown field `sead`"), "{error}");
    }
}
