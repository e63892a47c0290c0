//! Directories to publish, made from a seed, and the comparison of what came out with what went in.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use sha2::{Digest, Sha256};

/// A stream of bytes that a seed determines (Marsaglia's xorshift64*).
pub(crate) struct Bytes(u64);

impl Bytes {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Writes a package that holds nothing but its description; `more` are further lines of it.
pub(crate) fn small(folder: &Path, name: &str, version: &str, description: &str, more: &str) {
    fs::create_dir_all(folder).unwrap();
    let text =
        format!("name = \"{name}\"\nversion = \"{version}\"\ndescription = \"{description}\"\n{more}\n");
    fs::write(folder.join("gpack.toml"), text).unwrap();
}

/// Writes a package of `files` files of about `bytes` bytes each.
pub(crate) fn bulk(folder: &Path, name: &str, seed: u64, files: usize, bytes: usize) {
    small(folder, name, "1.0.0", "Many bytes that nothing else holds", "");
    let mut source = Bytes::new(seed);
    for file in 0..files {
        fs::write(folder.join(format!("part-{file:04}.bin")), source.take(bytes)).unwrap();
    }
}

/// Writes a package with everything that a tree may hold: several hundred files in nested folders, programs, names in
/// several scripts, empty files, and one file over five mebibytes.
pub(crate) fn rich(folder: &Path, name: &str, description: &str, seed: u64) {
    small(folder, name, "1.0.0", description, "tags = [\"tested\"]\nlicense = \"MIT\"");
    let mut source = Bytes::new(seed);
    for file in 0..320 {
        let depth = source.below(6);
        let mut path = folder.to_owned();
        for level in 0..depth {
            path.push(format!("level-{level}-{}", source.below(3)));
        }
        fs::create_dir_all(&path).unwrap();
        path.push(format!("file-{file:03}.dat"));
        let length = usize::try_from(source.below(6000)).unwrap();
        fs::write(&path, source.take(length)).unwrap();
        if file % 7 == 0 {
            executable(&path);
        }
    }
    fs::write(folder.join("empty"), "").unwrap();
    fs::create_dir_all(folder.join("grüße/日本語")).unwrap();
    fs::write(folder.join("grüße/日本語/наука ☀ two words.txt"), "letters of several scripts\n").unwrap();
    fs::write(folder.join("grüße/empty too"), "").unwrap();
    fs::write(folder.join("large.bin"), source.take((5 << 20) + 12_345)).unwrap();
    fs::write(folder.join("run.sh"), "#!/bin/sh\necho hello\n").unwrap();
    executable(&folder.join("run.sh"));
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every file below a folder: its path, whether it may be executed, its size and its SHA-256.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, (bool, usize, String)> {
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, (bool, usize, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            collect(root, &path, found);
            continue;
        }
        assert!(metadata.is_file(), "{}", path.display());
        let bytes = fs::read(&path).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.insert(name, (metadata.permissions().mode() & 0o111 != 0, bytes.len(), hash));
    }
}

/// Demands that two trees are the same, byte for byte.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (left, right) = (contents(one), contents(other));
    for (path, state) in &left {
        assert_eq!(Some(state), right.get(path), "{path} of {} and {}", one.display(), other.display());
    }
    let extra: Vec<_> = right.keys().filter(|path| !left.contains_key(*path)).collect();
    assert!(extra.is_empty(), "more in {}: {extra:?}", other.display());
}

/// What `sha256sum` says of every file of a tree.
pub(crate) fn sha256sum(folder: &Path) -> String {
    let script = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names in a folder that an installation in progress uses.
pub(crate) fn partials(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".ggen-partial-")).collect()
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
