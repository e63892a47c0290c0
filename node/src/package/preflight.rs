//! What is looked over before publishing: what a package should have, and what it must not hold.
//!
//! Nothing here concerns form, hashes or signatures. What a package should have is not looked for where checks are skipped; what looks
//! as if it were a secret is published only where that was asked for, and a key file of this program never.

use std::{fmt, io::Read};

use super::{
    Gpack,
    own::{self, OwnSecrets},
    secrets,
    walk::{self, Found},
};

/// Bytes of each file that are searched for secrets: 4 MiB. Keys and credentials stand in small files.
const SEARCHED_BYTES_MAX: u64 = 4 << 20;
/// Bytes of one package that are searched so far into its files: 512 MiB, some two seconds.
const SEARCHED_TOTAL_MAX: u64 = 512 << 20;
/// Bytes of each file that are searched beyond that.
const SEARCHED_BYTES_MIN: u64 = 64 << 10;
/// Findings that are listed; a directory that is full of secrets needs no longer list.
const FINDINGS_MAX: usize = 100;
/// A package over this size is probably not meant to be so large: 100 MiB.
const LARGE_BYTES: u64 = 100 << 20;

/// What to do about files that look as if they held secrets.
pub const SECRETS_HINT: &str = "What is published cannot be taken back. Leave these files out with a line in .ggenignore, or publish with \
                                --allow-secrets if they hold no secrets.";
/// What to do about key files of this program.
pub const FORBIDDEN_HINT: &str = "Who has such a key can publish in your name. Leave the file out with a line in .ggenignore, or move it away.";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Key files of this program, which are never published.
    pub forbidden: Vec<Finding>,
    /// What looks as if it were a secret.
    pub findings: Vec<Finding>,
    /// What was not searched, as full sentences.
    pub warnings: Vec<String>,
}

/// A secret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's path inside the package.
    pub path: String,
    /// The line, from 1; 0 where the file's name is the reason.
    pub line: usize,
    /// What it looks like; never the secret itself.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// What the `found` files of a package lack, as full sentences.
pub fn inspect(found: &[Found], gpack: &Gpack) -> Vec<String> {
    let mut warnings = Vec::new();
    let has = |stems: &[&str]| {
        found.iter().filter(|found| !found.path.as_str().contains('/')).any(|found| {
            let name = found.path.as_str().to_lowercase();
            stems.iter().any(|stem| name.starts_with(stem))
        })
    };
    if gpack.license.is_none() {
        warnings.push(
            "No license is named in gpack.toml; without one, others may not be allowed to use the package."
                .to_owned(),
        );
    }
    if !has(&["license", "licence", "copying", "unlicense"]) {
        warnings.push("There is no LICENSE file at the top of the package.".to_owned());
    }
    if !has(&["readme"]) {
        warnings.push("There is no README file at the top of the package.".to_owned());
    }
    let size = found.iter().fold(0u64, |sum, found| sum.saturating_add(found.state.size));
    if size > LARGE_BYTES {
        let largest =
            found.iter().max_by_key(|found| found.state.size).map_or("", |found| found.path.as_str());
        warnings.push(format!("The package has {} MiB; its largest file is {largest}.", size >> 20));
    }
    warnings
}

/// Searches the `found` files of a package for secrets, and for those that `own` holds.
///
/// # Errors
/// [`walk::Error::Io`] where a file cannot be read.
pub(crate) fn secrets(found: &[Found], own: &OwnSecrets) -> Result<Secrets, walk::Error> {
    let mut report = Secrets::default();
    let (mut searched, mut cut_off) = (0u64, Vec::new());
    for found in found {
        let most = if searched < SEARCHED_TOTAL_MAX { SEARCHED_BYTES_MAX } else { SEARCHED_BYTES_MIN };
        let read;
        let bytes = match &found.held {
            Some(held) => &held[..held.len().min(usize::try_from(most).unwrap_or(usize::MAX))],
            None => {
                read = beginning(found, most)?;
                &read[..]
            }
        };
        searched = searched.saturating_add(bytes.len() as u64);
        if found.state.size > most {
            cut_off.push(found.path.as_str());
        }
        look(found, bytes, own, &mut report);
        // What may be overruled ends no search for what may not.
        if report.forbidden.len() >= FINDINGS_MAX {
            break;
        }
    }
    report.warnings.extend(match cut_off.as_slice() {
        [] => None,
        [only] => Some(format!("{only} was not searched for secrets to its end.")),
        [first, ..] => {
            let files = cut_off.len();
            Some(format!("{files} files were not searched for secrets to their ends; the first is {first}."))
        }
    });
    Ok(report)
}

fn beginning(found: &Found, most: u64) -> Result<Vec<u8>, walk::Error> {
    // Room for all of it, so that it is read at once.
    let mut bytes = Vec::with_capacity(usize::try_from(found.state.size.min(most)).unwrap_or_default());
    walk::open(&found.source)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| walk::Error::Io { path: found.path.to_string(), source })?;
    Ok(bytes)
}

fn look(found: &Found, bytes: &[u8], own: &OwnSecrets, report: &mut Secrets) {
    let name = found.path.file_name();
    let folder = found.path.as_str().rsplit('/').nth(1).unwrap_or_default();
    let finding = |line, what: &str| Finding { path: found.path.to_string(), line, what: what.to_owned() };
    if own::has_name(folder, name) {
        return report.forbidden.push(finding(0, "files of this name hold keys of this program"));
    }
    if let Some(at) = own::find(bytes).or_else(|| own.find(bytes)) {
        let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
        return report.forbidden.push(finding(line, "it holds a secret key of this program"));
    }
    if report.findings.len() >= FINDINGS_MAX {
        return;
    }
    if let Some(what) = secrets::by_name(folder, name) {
        return report.findings.push(finding(0, what));
    }
    let secrets = secrets::in_bytes(name, bytes);
    report.findings.extend(secrets.iter().map(|it| finding(secrets::line(bytes, it.at), &it.what)));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{identity::Publisher, package::gpack, time::Timestamp};

    const GPACK: &str = "name = 'a'\nversion = '1.0.0'\ndescription = 'd'\n";

    fn found(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Found>) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = walk::walk(directory.path()).unwrap();
        (directory, found)
    }

    fn report(files: &[(&str, &str)]) -> Secrets {
        let (_directory, found) = found(files);
        secrets(&found, &OwnSecrets::default()).unwrap()
    }

    fn lacking(files: &[(&str, &str)], gpack: &str) -> Vec<String> {
        let parsed = gpack::parse("gpack.toml".as_ref(), gpack.as_bytes(), None).unwrap();
        inspect(&found(files).1, &parsed.gpack)
    }

    #[test]
    fn a_complete_package_lacks_nothing() {
        let files = [("README.md", "hi"), ("LICENSE-MIT", "…")];
        assert_eq!(lacking(&files, &format!("{GPACK}license = 'MIT'")), [""; 0]);
        assert_eq!(report(&files), Secrets::default());
    }

    #[test]
    fn what_is_missing_is_a_warning_each() {
        assert_eq!(lacking(&[("gpack.toml", GPACK)], GPACK).len(), 3);
    }

    #[test]
    fn secrets_are_found_with_their_line() {
        // Assembled here, so that this file itself is not taken for one that holds a key.
        let key = format!("x\n-----BEGIN RSA PRIVATE {}-----\nMII", "KEY");
        let aws = format!("id = \"AK{}ABCDEFGHIJ234567\"", "IA");
        let token = format!("ghp{}{}", "_", "a1B2c3".repeat(6));
        let set = "[db]\nport = 1\npassword = \"hunter2\"\n";
        let report = report(&[
            (".env", "A=1"),
            ("a.pem", &key),
            ("b.txt", &aws),
            ("c.txt", &token),
            ("id_ed25519", ""),
            ("settings.toml", set),
            (".aws/credentials", "[default]"),
        ]);
        let found: Vec<_> =
            report.findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        let expected = [
            (".aws/credentials", 0),
            (".env", 0),
            ("a.pem", 2),
            ("b.txt", 1),
            ("c.txt", 1),
            ("id_ed25519", 0),
            ("settings.toml", 3),
        ];
        assert_eq!(found, expected);
        assert!(report.findings.iter().all(|finding| !finding.to_string().contains(&token)));
        assert_eq!(report.forbidden, []);
    }

    #[test]
    fn key_files_of_this_program_are_forbidden_by_name_and_by_what_they_hold() {
        let key = Publisher::from_secret([7; 32], Timestamp::from_secs(1)).export();
        let report = report(&[
            ("gpack.toml", GPACK),
            ("notes.txt", &format!("my key:\n\n{key}")),
            ("keys/node.key", ""),
            ("state/keys/publishers/default.key", ""),
            ("docs/server.key", ""),
        ]);
        let found: Vec<_> =
            report.forbidden.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(found, [("keys/node.key", 0), ("notes.txt", 6), ("state/keys/publishers/default.key", 0)]);
    }

    /// The secrets of a folder with one key of these bytes.
    fn own(secret: [u8; 32]) -> OwnSecrets {
        let folder = tempfile::tempdir().unwrap();
        let key = Publisher::from_secret(secret, Timestamp::from_secs(1)).export();
        fs::write(folder.path().join("default.key"), key).unwrap();
        OwnSecrets::in_folder(folder.path())
    }

    #[test]
    fn whatever_else_is_found_the_secrets_of_this_node_are() {
        let (directory, _) = found(&[("z/node.key", "")]);
        // Assembled here, so that this file itself is not taken for one that holds a key.
        let pem = format!("-----BEGIN RSA PRIVATE {}-----\nMII", "KEY");
        for n in 0..FINDINGS_MAX {
            fs::write(directory.path().join(format!("{n}.env")), "").unwrap();
            fs::write(directory.path().join(format!("{n}.pem")), &pem).unwrap();
        }
        fs::write(directory.path().join("z.bin"), [7; 32]).unwrap();
        let found = walk::walk(directory.path()).unwrap();
        let report = secrets(&found, &own([7; 32])).unwrap();
        assert!(report.findings.len() >= FINDINGS_MAX, "{}", report.findings.len());
        let forbidden: Vec<_> = report.forbidden.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(forbidden, ["z.bin", "z/node.key"]);
    }

    #[test]
    fn a_secret_of_this_node_is_not_packed_wherever_it_stands() {
        let own = own([0xab; 32]);
        let digits = "ab".repeat(32);
        let wide = digits.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let forms = [digits.clone().into_bytes(), digits.to_uppercase().into_bytes(), wide];
        let chunk = crate::limits::CHUNK_BYTES;
        // In a small file, and over the border of two chunks beyond what is searched before.
        for (form, at) in forms.iter().flat_map(|form| [10, 5 * chunk - 20].map(|at| (form, at))) {
            let bytes = [vec![b'x'; at], form.clone()].concat();
            let (directory, _) = found(&[]);
            fs::write(directory.path().join("f"), &bytes).unwrap();
            let found = walk::walk(directory.path()).unwrap();
            if at < chunk {
                assert_eq!(secrets(&found, &own).unwrap().forbidden.len(), 1);
            }
            for workers in [0, 2] {
                let mut sink = |_| Ok::<_, std::convert::Infallible>(());
                let packed = super::super::pack::pack_on(&found, workers, &own, &mut sink, &mut |_, _| {});
                let error = packed.unwrap_err();
                assert!(error.to_string().contains("f holds a secret key of this program"), "{error}");
            }
        }
    }

    #[test]
    fn a_key_file_is_not_packed_whatever_was_looked_at_before() {
        let key = Publisher::from_secret([7; 32], Timestamp::from_secs(1)).export();
        let filling = "x".repeat((8 << 20) - 100);
        let (_directory, found) = found(&[("big.bin", &format!("{filling}{key}"))]);
        assert_eq!(
            secrets(&found, &OwnSecrets::default()).unwrap().forbidden,
            [],
            "it is beyond what is searched"
        );
        let packed =
            super::super::pack::pack(&found, &mut |_| Ok::<_, std::convert::Infallible>(()), &mut |_, _| {});
        let error = packed.unwrap_err();
        assert!(error.to_string().contains("big.bin holds a secret key of this program"), "{error}");
    }

    #[test]
    fn what_was_not_searched_is_said() {
        let (directory, _) = found(&[("small", "")]);
        let big = fs::File::create(directory.path().join("big")).unwrap();
        big.set_len(SEARCHED_BYTES_MAX + 1).unwrap();
        let found = walk::walk(directory.path()).unwrap();
        let report = secrets(&found, &OwnSecrets::default()).unwrap();
        assert_eq!(report.warnings.len(), 1);
        assert!(report.warnings[0].contains("big"), "{:?}", report.warnings);
    }
}
