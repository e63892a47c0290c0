//! What is looked over before publishing, and skipped on request: what a package should have, and what it must not hold.
//!
//! Nothing here concerns form, hashes or signatures; those are never skipped. Only the beginning of each file is read.

use std::{fmt, io::Read};

use super::{
    Gpack,
    walk::{self, Found},
};

/// Bytes of each file that are searched for secrets. Keys and credentials stand in small files.
const SEARCHED_BYTES_MAX: u64 = 1 << 20;
/// A package over this size is probably not meant to be so large: 100 MiB.
const LARGE_BYTES: u64 = 100 << 20;
/// Bytes of the kind of a key, with the dashes after it; the longest in use is half as long.
const KEY_KIND_BYTES_MAX: usize = 80;
/// Names of files that hold credentials by convention.
const SECRET_NAMES: [&str; 9] =
    [".env", ".netrc", ".npmrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Reasons not to publish.
    pub errors: Vec<Finding>,
    /// What a later version might mend, as full sentences.
    pub warnings: Vec<String>,
}

/// A secret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's path inside the package.
    pub path: String,
    /// The line, from 1; 0 where the file's name is the reason.
    pub line: usize,
    /// What it looks like.
    pub what: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

impl Report {
    /// What to do about the errors.
    pub fn hint(&self) -> &'static str {
        "What is published cannot be taken back. Leave these files out with a line in .ggenignore, or publish with \
         --skip-verify if they hold no secrets."
    }
}

/// Looks over the `found` files of a package.
///
/// # Errors
/// [`walk::Error::Io`] where a file cannot be read.
pub fn inspect(found: &[Found], gpack: &Gpack) -> Result<Report, walk::Error> {
    let mut report = Report::default();
    let has = |stems: &[&str]| {
        found.iter().filter(|found| !found.path.as_str().contains('/')).any(|found| {
            let name = found.path.as_str().to_lowercase();
            stems.iter().any(|stem| name.starts_with(stem))
        })
    };
    if gpack.license.is_none() {
        report.warnings.push(
            "No license is named in gpack.toml; without one, others may not be allowed to use the package."
                .to_owned(),
        );
    }
    if !has(&["license", "licence", "copying", "unlicense"]) {
        report.warnings.push("There is no LICENSE file at the top of the package.".to_owned());
    }
    if !has(&["readme"]) {
        report.warnings.push("There is no README file at the top of the package.".to_owned());
    }
    let size = found.iter().fold(0u64, |sum, found| sum.saturating_add(found.state.size));
    if size > LARGE_BYTES {
        let largest =
            found.iter().max_by_key(|found| found.state.size).map_or("", |found| found.path.as_str());
        report.warnings.push(format!("The package has {} MiB; its largest file is {largest}.", size >> 20));
    }
    for found in found {
        report.errors.extend(secret(found)?);
    }
    Ok(report)
}

fn secret(found: &Found) -> Result<Option<Finding>, walk::Error> {
    let path = found.path.to_string();
    if is_secret_name(&found.path.file_name().to_lowercase()) {
        return Ok(Some(Finding { path, line: 0, what: "files of this name hold credentials" }));
    }
    let mut bytes = Vec::new();
    walk::open(&found.source)
        .and_then(|file| file.take(SEARCHED_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|source| walk::Error::Io { path: path.clone(), source })?;
    let line = |at: usize| 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    Ok(secret_text(&bytes).map(|(at, what)| Finding { path, line: line(at), what }))
}

fn is_secret_name(name: &str) -> bool {
    let is_example = [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    (SECRET_NAMES.contains(&name) || name.starts_with(".env.")) && !is_example
}

/// Where a secret stands, and what it looks like.
fn secret_text(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let key = find(bytes, b"-----BEGIN ", |rest| {
        let rest = &rest[..rest.len().min(KEY_KIND_BYTES_MAX)];
        let line = rest.split(|byte| *byte == b'\n' || *byte == b'\r').next().unwrap_or_default();
        // The words between the dashes: the kind of key; the text of a certificate or a public key is no secret.
        let end = line.windows(5).position(|window| window == b"-----");
        end.is_some_and(|end| {
            line[..end].ends_with(b"PRIVATE KEY") || line[..end].ends_with(b"PRIVATE KEY BLOCK")
        })
    });
    let key = key.map(|at| (at, "it holds a private key"));
    let token = |prefix: &[u8], len: usize, what| find_token(bytes, prefix, len).map(|at| (at, what));
    [
        key,
        token(b"AKIA", 16, "it holds an AWS access key"),
        token(b"ASIA", 16, "it holds an AWS access key"),
        token(b"ghp_", 36, "it holds a GitHub token"),
    ]
    .into_iter()
    .flatten()
    .min_by_key(|(at, _)| *at)
}

/// The first place where `prefix` stands and what follows passes `check`.
fn find(bytes: &[u8], prefix: &[u8], check: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let places = bytes.windows(prefix.len()).enumerate().filter(|(_, window)| *window == prefix);
    places.map(|(at, _)| at).find(|at| check(&bytes[at + prefix.len()..]))
}

/// The first word that is `prefix` and `len` letters and digits more. Words of documentation say that they are examples.
fn find_token(bytes: &[u8], prefix: &[u8], len: usize) -> Option<usize> {
    let is_aws = prefix.len() == 4 && len == 16;
    let of_word = |byte: &u8| {
        if is_aws { byte.is_ascii_uppercase() || byte.is_ascii_digit() } else { byte.is_ascii_alphanumeric() }
    };
    let mut from = 0;
    loop {
        let at = from
            + find(&bytes[from..], prefix, |rest| {
                // One more than the word may have: a file of nothing but prefixes must not be read anew at each of them.
                rest.iter().take(len + 1).take_while(|byte| of_word(byte)).count() == len
                    && !rest[..len].ends_with(b"EXAMPLE")
            })?;
        if at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::package::gpack;

    const GPACK: &str = "name = 'a'\nversion = '1.0.0'\ndescription = 'd'\n";

    fn report(files: &[(&str, &str)], gpack: &str) -> Report {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            fs::write(directory.path().join(path), text).unwrap();
        }
        let parsed = gpack::parse("gpack.toml".as_ref(), gpack.as_bytes(), None).unwrap();
        inspect(&walk::walk(directory.path()).unwrap(), &parsed.gpack).unwrap()
    }

    #[test]
    fn a_complete_package_has_nothing_to_mend() {
        let files = [("README.md", "hi"), ("LICENSE-MIT", "…")];
        assert_eq!(report(&files, &format!("{GPACK}license = 'MIT'")), Report::default());
    }

    #[test]
    fn what_is_missing_is_a_warning_each() {
        let report = report(&[("gpack.toml", GPACK)], GPACK);
        assert_eq!(report.errors, []);
        assert_eq!(report.warnings.len(), 3, "{:?}", report.warnings);
    }

    #[test]
    fn secrets_are_errors_with_their_line() {
        // Assembled here, so that this file itself is not taken for one that holds a key.
        let key = format!("x\n-----BEGIN RSA PRIVATE {}-----\nMII", "KEY");
        let aws = format!("id = \"AK{}ABCDEFGHIJ234567\"", "IA");
        let token = format!("ghp{}{}", "_", "a1".repeat(18));
        let found = report(
            &[(".env", "A=1"), ("a.pem", &key), ("b.txt", &aws), ("c.txt", &token), ("id_ed25519", "")],
            GPACK,
        );
        let found: Vec<_> =
            found.errors.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(found, [(".env", 0), ("a.pem", 2), ("b.txt", 1), ("c.txt", 1), ("id_ed25519", 0)]);
    }

    #[test]
    fn a_file_full_of_beginnings_is_read_once() {
        for beginning in [format!("AK{}", "IA"), format!("ghp{}", "_"), format!("-----{} ", "BEGIN")] {
            let bytes = beginning.repeat(SEARCHED_BYTES_MAX as usize / beginning.len()).into_bytes();
            let started = tokio::time::Instant::now();
            assert_eq!(secret_text(&bytes), None);
            // It takes milliseconds; one reading of the rest for each beginning takes minutes.
            assert!(started.elapsed() < std::time::Duration::from_secs(30), "{beginning}");
        }
    }

    #[test]
    fn what_only_looks_like_a_secret_is_none() {
        let aws = |rest: &str| format!("AK{}{rest}", "IA");
        let files = [
            (".env.example", "A=1".to_owned()),
            ("id_rsa.pub", "ssh-rsa AAAA".to_owned()),
            ("cert.pem", "-----BEGIN CERTIFICATE-----\nMII".to_owned()),
            ("public.pem", "-----BEGIN PUBLIC KEY-----\nMII".to_owned()),
            ("doc.md", aws("IOSFODNN7EXAMPLE")),
            ("long.md", aws("ABCDEFGHIJ2345678")),
            ("inside.md", format!("X{}", aws("ABCDEFGHIJ234567"))),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(report(&files, GPACK).errors, []);
    }
}
