//! Key files of this program: they are never published, whatever is asked for.

use std::{fs, io::Read, path::Path};

use crate::{
    identity::{PublicKey, SecretKey, hex, node_key, publisher},
    limits::KEY_FILE_BYTES_MAX,
    package::walk::open,
};

/// Bytes that hold a secret key and its public one, with what may stand around them.
pub(crate) const SPAN: usize = 512;
/// Digits of a key.
const DIGITS: usize = 64;
const SECRET: &[u8] = b"secret:";
const PUBLIC: &[u8] = b"public:";
/// Key files of one state folder that are read.
const OWN_MAX: usize = 64;

/// The secret keys of the state folder that publishes, by which they are found in whatever file.
#[derive(Clone, Default)]
pub(crate) struct OwnSecrets(Vec<Secret>);

/// A secret key as it may stand somewhere.
#[derive(Clone)]
struct Secret {
    digits: Vec<u8>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for OwnSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnSecrets({})", self.0.len())
    }
}

impl OwnSecrets {
    /// Those in the key files below `folder`; what cannot be read has no secret that could be found.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let files = [folder.to_owned(), folder.join(publisher::FOLDER_NAME)].into_iter().flat_map(|folder| {
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
        });
        let keys = files.filter(|path| path.extension().is_some_and(|ending| ending == "key"));
        let secrets = keys.take(OWN_MAX).filter_map(|path| {
            let mut text = Vec::new();
            open(&path).ok()?.take(KEY_FILE_BYTES_MAX as u64).read_to_end(&mut text).ok()?;
            let at = memchr::memmem::find(&text, SECRET)?;
            let digits = digits(&text[at + SECRET.len()..])?;
            let bytes = std::str::from_utf8(&digits).ok().and_then(hex::decode)?;
            Some(Secret { digits, bytes })
        });
        Self(secrets.collect())
    }

    /// Where one of them stands, as digits or as its bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        let places = self.0.iter().flat_map(|secret| {
            let forms = [&secret.digits, &secret.bytes];
            forms.into_iter().filter_map(|form| memchr::memmem::find(bytes, form))
        });
        places.min()
    }
}

/// Whether a file has the name of a key file of this program, given as the name of its folder and its own.
pub(crate) fn has_name(folder: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    name == node_key::FILE_NAME
        || (folder.eq_ignore_ascii_case(publisher::FOLDER_NAME) && name.ends_with(".key"))
}

/// Where a secret key of this program stands, whatever is around it: a secret beside the public key that belongs to it.
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, SECRET).find(|at| is_key(bytes, *at))
}

fn is_key(bytes: &[u8], at: usize) -> bool {
    let Some(secret) = digits(&bytes[at + SECRET.len()..]).and_then(|it| key(&it)) else { return false };
    let before = &bytes[at.saturating_sub(SPAN / 2)..at];
    let Some(public) = memchr::memmem::rfind(before, PUBLIC) else { return false };
    let public = digits(&before[public + PUBLIC.len()..]).and_then(|it| key(&it));
    let public = public.and_then(|bytes| PublicKey::from_bytes(bytes).ok());
    public == Some(SecretKey::from_bytes(&secret).public_key())
}

/// The digits of a key behind its name.
fn digits(rest: &[u8]) -> Option<Vec<u8>> {
    let start = rest.iter().take(8).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let digits = rest.get(start..start + DIGITS)?;
    digits.iter().all(u8::is_ascii_hexdigit).then(|| digits.to_ascii_lowercase())
}

fn key(digits: &[u8]) -> Option<[u8; 32]> {
    std::str::from_utf8(digits).ok().and_then(hex::decode)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Publisher, time::Timestamp};

    #[test]
    fn a_key_file_is_found_wherever_it_stands() {
        let key = Publisher::from_secret([7; 32], Timestamp::from_secs(1)).export();
        assert_eq!(find(key.as_bytes()), memchr::memmem::find(key.as_bytes(), SECRET));
        let indented = key.replace('\n', "\r\n    ");
        let inside = [b"\0tar\xff".repeat(1000), indented.into_bytes(), vec![0; 10]].concat();
        assert!(find(&inside).is_some());
        // Cut off behind the secret.
        let end = find(key.as_bytes()).unwrap() + SECRET.len() + 1 + DIGITS;
        assert!(find(&key.as_bytes()[..end]).is_some());
        assert!(find(&key.as_bytes()[..end - 1]).is_none());
    }

    #[test]
    fn what_only_looks_like_a_key_file_is_none() {
        let key = Publisher::from_secret([7; 32], Timestamp::from_secs(1)).export();
        let public = key.lines().find(|line| line.starts_with("public")).unwrap();
        let other = format!("ggen-key 1\n{public}\nsecret: {}\n", "0".repeat(64));
        let described =
            "ggen-key 1\nkind: publisher\npublic: <64 hexadecimal digits>\nsecret: <64 hexadecimal digits>\n";
        for text in [other.as_str(), described, "secret:", "secret: ", public] {
            assert_eq!(find(text.as_bytes()), None, "{text}");
        }
        assert_eq!(find(&b"secret:".repeat(100_000)), None);
    }

    #[test]
    fn the_secrets_of_the_state_folder_are_found_as_digits_and_as_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("publishers")).unwrap();
        let key = Publisher::from_secret([7; 32], Timestamp::from_secs(1)).export();
        fs::write(folder.path().join("publishers/default.key"), &key).unwrap();
        fs::write(folder.path().join("node.key"), "cut off").unwrap();
        let own = OwnSecrets::in_folder(folder.path());
        let digits = hex::encode(&[7; 32]);
        assert_eq!(own.find(format!("x{digits}").as_bytes()), Some(1));
        assert_eq!(own.find(&[&[1][..], &[7; 32]].concat()), Some(1));
        assert_eq!(own.find(&digits.as_bytes()[1..]), None);
        assert_eq!(format!("{own:?}"), "OwnSecrets(1)");
        assert_eq!(OwnSecrets::in_folder(&folder.path().join("none")).find(&[7; 32]), None);
    }
}
