//! The package that the demonstration publishes: a few files that come with the program, and sample data beside them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The word that finds the package.
pub(super) const KEYWORD: &str = "greeting";

/// The files that come with the program.
const FILES: &[(&str, &str)] = &[
    ("gpack.toml", include_str!("../../../../../examples/greeting-templates/gpack.toml")),
    ("README.md", include_str!("../../../../../examples/greeting-templates/README.md")),
    ("LICENSE", include_str!("../../../../../examples/greeting-templates/LICENSE")),
    ("templates/de.txt", include_str!("../../../../../examples/greeting-templates/templates/de.txt")),
    ("templates/en.txt", include_str!("../../../../../examples/greeting-templates/templates/en.txt")),
    ("templates/es.txt", include_str!("../../../../../examples/greeting-templates/templates/es.txt")),
    ("templates/fr.txt", include_str!("../../../../../examples/greeting-templates/templates/fr.txt")),
    ("templates/ro.txt", include_str!("../../../../../examples/greeting-templates/templates/ro.txt")),
];

/// Files of sample data: enough blocks for several providers to have a share in.
const SAMPLES: usize = 16;
/// Bytes of one file of sample data; one block each.
const SAMPLE_BYTES: usize = 512 << 10;

/// Writes the package into a new folder.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        put(&folder.join(path), text.as_bytes())?;
    }
    for number in 0..SAMPLES {
        put(&folder.join(format!("sample-data/{number:02}.bin")), &sample(number))?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}

/// Bytes that are the same in every run and do not repeat: SHA-256 of a counter.
fn sample(number: usize) -> Vec<u8> {
    (0..SAMPLE_BYTES / 32)
        .flat_map(|counter| {
            let mut hash = Sha256::new();
            hash.update(b"ggen/demo/v1");
            hash.update((number as u64).to_be_bytes());
            hash.update((counter as u64).to_be_bytes());
            hash.finalize()
        })
        .collect()
}

/// SHA-256 of every file below a folder, by path. Reads the bytes itself and asks no node.
pub(super) fn digests(folder: &Path) -> io::Result<BTreeMap<PathBuf, [u8; 32]>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                let inside = path.strip_prefix(folder).map_err(io::Error::other)?.to_owned();
                found.insert(inside, Sha256::digest(fs::read(&path)?).into());
            }
        }
    }
    Ok(found)
}

/// One SHA-256 over a whole list of files: their paths and their digests, in order.
pub(super) fn digest_of(files: &BTreeMap<PathBuf, [u8; 32]>) -> String {
    let mut hash = Sha256::new();
    for (path, digest) in files {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(digest);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_the_same_in_every_run_and_a_changed_byte_shows() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for folder in &folders {
            write(folder.path()).unwrap();
        }
        let [first, second] = folders.each_ref().map(|folder| digests(folder.path()).unwrap());
        assert_eq!(first.len(), FILES.len() + SAMPLES);
        assert_eq!(first, second);
        let mut bytes = sample(0);
        bytes[0] ^= 1;
        fs::write(folders[1].path().join("sample-data/00.bin"), bytes).unwrap();
        let changed = digests(folders[1].path()).unwrap();
        assert_ne!(digest_of(&first), digest_of(&changed));
    }

    #[test]
    fn no_two_samples_share_a_block() {
        assert_ne!(sample(0), sample(1));
        assert_eq!(sample(0).len(), SAMPLE_BYTES);
    }

    #[test]
    fn every_file_of_the_example_comes_with_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/greeting-templates");
        let there: Vec<PathBuf> = digests(&folder).unwrap().into_keys().collect();
        let mut embedded: Vec<PathBuf> = FILES.iter().map(|(path, _)| PathBuf::from(path)).collect();
        embedded.sort();
        assert_eq!(there, embedded);
    }
}
