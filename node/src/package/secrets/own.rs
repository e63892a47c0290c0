//! Key files of this program: they are never published, whatever is asked for.

use std::{fs, io::Read, path::Path};

use crate::{
    identity::{PublicKey, SecretKey, hex, node_key, publisher},
    limits::KEY_FILE_BYTES_MAX,
    package::walk::open,
};

/// Bytes that hold a secret key and its public one, with what may stand around them, in two bytes a letter too.
pub(crate) const SPAN: usize = 1024;
/// How far before a secret key its public one is looked for.
const NEAR: usize = 256;
/// Digits of a key.
const DIGITS: usize = 64;
/// Bytes that a digit may take: UTF-8, UTF-16 and UTF-32, of which all but one are zero.
const WIDTHS: [usize; 3] = [1, 2, 4];
const SECRET: &[u8] = b"secret:";
const SECRET_WIDE: &[u8] = b"s\0e\0c\0r\0e\0t\0:";
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

    /// Where one of them stands: as its bytes, or as digits, large or small ones, whatever bytes each takes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        let as_bytes = self.0.iter().filter_map(|secret| memchr::memmem::find(bytes, &secret.bytes));
        let as_digits = WIDTHS.into_iter().filter_map(|width| self.find_digits(bytes, width));
        as_bytes.chain(as_digits).min()
    }

    fn find_digits(&self, bytes: &[u8], width: usize) -> Option<usize> {
        let mut first = None;
        for offset in 0..width {
            let mut at = offset;
            // No run of so many digits fits between two of these places.
            while at < bytes.len() {
                if bytes[at].is_ascii_hexdigit() {
                    let (start, end) = run(bytes, at, width);
                    let digits: Vec<u8> = bytes[start..=end].iter().step_by(width).copied().collect();
                    let is_one =
                        |it: &[u8]| self.0.iter().any(|secret| it.eq_ignore_ascii_case(&secret.digits));
                    if let Some(number) = digits.windows(DIGITS).position(is_one) {
                        let found = start + number * width;
                        first = Some(first.map_or(found, |first: usize| first.min(found)));
                        break;
                    }
                    at = end;
                }
                at += DIGITS * width;
            }
        }
        first
    }
}

/// Whether a file has the name of a key file of this program, given as the name of its folder and its own.
pub(crate) fn has_name(folder: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    name == node_key::FILE_NAME
        || (folder.eq_ignore_ascii_case(publisher::FOLDER_NAME) && name.ends_with(".key"))
}

/// The first and the last of the digits around one of them, each in so many bytes.
fn run(bytes: &[u8], at: usize, width: usize) -> (usize, usize) {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_zero = |from: usize, to: usize| bytes[from + 1..to].iter().all(|byte| *byte == 0);
    let (mut start, mut end) = (at, at);
    while start >= width && is_digit(start - width) && is_zero(start - width, start) {
        start -= width;
    }
    while is_digit(end + width) && is_zero(end, end + width) {
        end += width;
    }
    (start, end)
}

/// Where a secret key of this program stands, whatever is around it: a secret beside the public key that belongs to it.
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    let plain = memchr::memmem::find_iter(bytes, SECRET).find(|at| is_key(bytes, *at));
    plain.or_else(|| memchr::memmem::find_iter(bytes, SECRET_WIDE).find(|at| is_wide_key(bytes, *at)))
}

/// As [`is_key`] for text in two bytes a letter.
fn is_wide_key(bytes: &[u8], at: usize) -> bool {
    let narrow = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != 0).collect::<Vec<u8>>();
    let before = narrow(&bytes[at.saturating_sub(2 * NEAR)..at]);
    let rest = narrow(&bytes[at..bytes.len().min(at + 2 * NEAR)]);
    is_key(&[&before[..], &rest].concat(), before.len())
}

fn is_key(bytes: &[u8], at: usize) -> bool {
    let Some(secret) = digits(&bytes[at + SECRET.len()..]).and_then(|it| key(&it)) else { return false };
    let before = &bytes[at.saturating_sub(NEAR)..at];
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

    /// A text in UTF-16 and in UTF-32, with the small end first and last.
    fn wide(text: &str) -> [Vec<u8>; 4] {
        let two = || text.encode_utf16();
        let four = || text.chars().map(u32::from);
        [
            two().flat_map(u16::to_le_bytes).collect(),
            two().flat_map(u16::to_be_bytes).collect(),
            four().flat_map(u32::to_le_bytes).collect(),
            four().flat_map(u32::to_be_bytes).collect(),
        ]
    }

    #[test]
    fn large_digits_and_wide_letters_disguise_no_key() {
        let key = Publisher::from_secret([0xab; 32], Timestamp::from_secs(1)).export();
        for text in &wide(&key)[..2] {
            assert!(find(text).is_some());
            assert!(find(&[&[0xff, 0xfe][..], text].concat()).is_some());
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("default.key"), &key).unwrap();
        let own = OwnSecrets::in_folder(folder.path());
        for digits in ["ab".repeat(32), "AB".repeat(32), "aB".repeat(32)] {
            let forms = wide(&digits).into_iter().chain([digits.clone().into_bytes()]);
            for form in forms {
                for before in 0..5 {
                    let text = [vec![b'x'; before], form.clone(), b"rest".to_vec()].concat();
                    assert!(own.find(&text).is_some(), "{before}: {form:?}");
                    assert_eq!(own.find(&text[..before + form.len() - 4]), None, "a part of it");
                }
            }
        }
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
        assert_eq!(own.find(format!("{}{digits}", "0".repeat(1000)).as_bytes()), Some(1000));
        assert_eq!(format!("{own:?}"), "OwnSecrets(1)");
        assert_eq!(OwnSecrets::in_folder(&folder.path().join("none")).find(&[7; 32]), None);
    }
}
