//! The one encoding that a signed structure may have.
//!
//! [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/) allows one form for each value, but a decoder that skips a field
//! that it does not know also skips the checks of it. [`check`] therefore walks the bytes first, without allocating, and
//! everything after it may rely on the form.
//!
//! Two kinds of structure use it: *closed* ones, in which a field that is not known is refused, and *open* ones, in which
//! it is ignored, so that fields can be added later without a new version.
//!
//! **Discrepancy:** floating-point numbers are refused, since no structure has any.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Error;
use crate::limits::SIGNED_DEPTH_MAX;

/// The number of a CID's tag.
const TAG_CID: u64 = 42;

/// Encodes `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("structures hold only what DAG-CBOR has")
}

/// Decodes a structure in which fields that are not known are ignored.
pub(crate) fn decode_open<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    check(bytes).map_err(|why| Error::malformed(what, why))?;
    serde_ipld_dagcbor::from_slice(bytes).map_err(|error| Error::malformed(what, shorten(&error.to_string())))
}

/// Decodes a structure that has no encoding but the one it is given in.
pub(crate) fn decode_closed<T: DeserializeOwned + Serialize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    let value = decode_open(what, bytes)?;
    if encodes_to(&value, bytes) {
        Ok(value)
    } else {
        Err(Error::malformed(what, "it is not in its canonical encoding"))
    }
}

/// Whether `bytes` are the encoding of `value`.
pub(crate) fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    encode(value) == bytes
}

/// Writes a structure that may be large part by part: what encodes whole structures holds every field of each map twice, to sort
/// them.
pub(crate) mod parts {
    use std::io::{self, Write};

    use serde::Serialize;

    /// What a head says that a number is of.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Kind {
        /// The number itself.
        Unsigned = 0,
        /// Bytes that follow.
        Bytes = 2,
        /// Bytes of text that follow.
        Text = 3,
        /// Items that follow.
        List = 4,
        /// Fields that follow, in canonical order: shorter names first, and names of one length by their bytes.
        Map = 5,
    }

    /// Writes a head: a kind, and a number in its shortest form.
    pub(crate) fn head(out: &mut dyn Write, kind: Kind, number: u64) -> io::Result<()> {
        let major = (kind as u8) << 5;
        let bytes = number.to_be_bytes();
        let (info, skipped) = match number {
            0..24 => return out.write_all(&[major | bytes[7]]),
            24..0x100 => (24, 7),
            0x100..0x1_0000 => (25, 6),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 0),
        };
        out.write_all(&[major | info])?;
        out.write_all(&bytes[skipped..])
    }

    /// Writes a text.
    pub(crate) fn text(out: &mut dyn Write, text: &str) -> io::Result<()> {
        head(out, Kind::Text, text.len() as u64)?;
        out.write_all(text.as_bytes())
    }

    /// Writes bytes.
    pub(crate) fn bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
        head(out, Kind::Bytes, bytes.len() as u64)?;
        out.write_all(bytes)
    }

    /// Writes a field of a map whose value is small.
    pub(crate) fn field<T: Serialize>(out: &mut dyn Write, name: &str, value: &T) -> io::Result<()> {
        text(out, name)?;
        out.write_all(&super::encode(value))
    }

    /// All that `write` writes, in a buffer of just that size.
    pub(crate) fn all(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> Vec<u8> {
        struct Counted(usize);

        impl Write for Counted {
            fn write(&mut self, written: &[u8]) -> io::Result<usize> {
                self.0 += written.len();
                Ok(written.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let mut counted = Counted(0);
        write(&mut counted).expect("counting cannot fail");
        let mut bytes = Vec::with_capacity(counted.0);
        write(&mut bytes).expect("memory takes everything");
        bytes
    }
}

/// Whether `bytes` are what `write` writes. No second copy of them is made to find out: they may be many.
pub(crate) fn are_written(bytes: &[u8], write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> bool {
    struct Expected<'a>(&'a [u8]);

    impl io::Write for Expected<'_> {
        fn write(&mut self, written: &[u8]) -> io::Result<usize> {
            self.0 = self.0.strip_prefix(written).ok_or(io::ErrorKind::InvalidData)?;
            Ok(written.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut expected = Expected(bytes);
    write(&mut expected).is_ok() && expected.0.is_empty()
}

/// Reads the `version` of a structure and refuses all but `known`.
pub(crate) fn check_version(what: &'static str, bytes: &[u8], known: u64) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Probe {
        version: u64,
    }
    let Probe { version } = decode_open(what, bytes)?;
    match version {
        version if version == known => Ok(()),
        version if version > known => Err(Error::Newer { what, version, known }),
        _ => Err(Error::malformed(what, format!("there is no version {version}"))),
    }
}

/// Keeps what a decoder says of hostile bytes from filling a message or a terminal.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(120).flat_map(char::escape_default).collect();
    if text.chars().nth(120).is_some() {
        short.push('…');
    }
    short
}

/// Walks `bytes` and accepts exactly one value in canonical DAG-CBOR.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let mut cursor = Cursor { rest: bytes };
    cursor.value(0)?;
    if cursor.rest.is_empty() { Ok(()) } else { Err("bytes follow its end") }
}

/// Whether `bytes` are a map that has a field of this name: costs no memory, and a fraction of decoding it.
pub(crate) fn has_field(bytes: &[u8], name: &str) -> bool {
    let mut cursor = Cursor { rest: bytes };
    cursor.has_field(name).unwrap_or(false)
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], &'static str> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (taken, rest) = split.ok_or("it is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    /// The major type and its argument, which must be as short as it can be.
    fn head(&mut self) -> Result<(u8, u64), &'static str> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 31);
        let bytes = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24..=27 => 1 << (info - 24),
            _ => return Err("a length is indefinite"),
        };
        let argument = self.take(bytes)?.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let minimum = if bytes == 1 { 24 } else { 1 << (bytes * 4) };
        if major == 7 {
            Err("it holds a number with a fraction, or an unassigned value")
        } else if argument < minimum {
            Err("a number is longer than it must be")
        } else {
            Ok((major, argument))
        }
    }

    fn text(&mut self, len: u64) -> Result<&'a [u8], &'static str> {
        let text = self.take(len)?;
        std::str::from_utf8(text).map_err(|_| "a text is not UTF-8")?;
        Ok(text)
    }

    fn value(&mut self, depth: usize) -> Result<(), &'static str> {
        if depth > SIGNED_DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        let (major, argument) = self.head()?;
        match major {
            0 | 1 => Ok(()),
            2 => self.take(argument).map(drop),
            3 => self.text(argument).map(drop),
            4 => (0..argument).try_for_each(|_| self.value(depth + 1)),
            5 => self.map(argument, depth),
            6 => self.cid(argument),
            _ if (20..=22).contains(&argument) => Ok(()),
            _ => Err("it holds an unassigned value"),
        }
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<(), &'static str> {
        let mut last: Option<&[u8]> = None;
        for _ in 0..len {
            let (3, length) = self.head()? else { return Err("a key is not a text") };
            let key = self.text(length)?;
            // Shorter keys sort first, as their encoded length does.
            if last.is_some_and(|last| (last.len(), last) >= (key.len(), key)) {
                return Err("its keys are not in order, or doubled");
            }
            last = Some(key);
            self.value(depth + 1)?;
        }
        Ok(())
    }

    fn has_field(&mut self, name: &str) -> Result<bool, &'static str> {
        let (5, len) = self.head()? else { return Ok(false) };
        for _ in 0..len {
            let (3, length) = self.head()? else { return Ok(false) };
            if self.text(length)? == name.as_bytes() {
                return Ok(true);
            }
            self.value(1)?;
        }
        Ok(false)
    }

    fn cid(&mut self, tag: u64) -> Result<(), &'static str> {
        let (TAG_CID, (2, length)) = (tag, self.head()?) else { return Err("it holds an unknown tag") };
        if self.take(length)?.first() == Some(&0) { Ok(()) } else { Err("a content id is malformed") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::{Codec, ContentId};

    #[test]
    fn a_head_is_that_of_the_one_encoding() {
        use parts::{Kind, all, head};
        let numbers = [0, 23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
        for number in numbers {
            assert_eq!(all(|out| head(out, Kind::Unsigned, number)), encode(&number), "{number}");
        }
        for length in [0usize, 23, 24, 255, 256, 65_536] {
            let text = "x".repeat(length);
            assert_eq!(all(|out| parts::text(out, &text)), encode(&text));
            let bytes = serde_bytes::ByteBuf::from(text.clone());
            assert_eq!(all(|out| parts::bytes(out, &bytes)), encode(&bytes));
        }
        assert_eq!(
            all(|out| parts::field(out, "a", &vec![1, 2])),
            [encode(&"a"), encode(&vec![1, 2])].concat()
        );
    }

    #[test]
    fn every_other_form_of_a_value_is_refused() {
        for (bad, why) in [
            (&[0x18, 0x17][..], "a number on one byte too many"),
            (&[0x19, 0x00, 0xff], "a number on two bytes that fits into one"),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "a number on eight bytes that fits into four"),
            (&[0x58, 0x01, 0x00], "a length on one byte too many"),
            (&[0x9f, 0xff], "an array without a length"),
            (&[0xa2, 0x61, b'b', 0, 0x61, b'a', 0], "keys out of order"),
            (&[0xa2, 0x62, b'a', b'a', 0, 0x61, b'b', 0], "a longer key first"),
            (&[0xa2, 0x61, b'a', 0, 0x61, b'a', 0], "a doubled key"),
            (&[0xa1, 0x00, 0x00], "a key that is a number"),
            (&[0xf9, 0x00, 0x00], "a fraction"),
            (&[0xf7], "undefined"),
            (&[0xf8, 0x16], "null on two bytes"),
            (&[0xc1, 0x00], "another tag"),
            (&[0xd8, 0x2a, 0x41, 0x01], "a content id without its prefix"),
            (&[0x61, 0xff], "a text that is not UTF-8"),
            (&[0x00, 0x00], "bytes after the end"),
            (&[0x82, 0x00], "an array that is cut off"),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "an array of all memory"),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "bytes of all memory"),
            (&[], "nothing"),
        ] {
            assert!(check(bad).is_err(), "{why}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| [vec![0x81; levels], vec![0x00]].concat();
        assert!(check(&nested(SIGNED_DEPTH_MAX)).is_ok());
        assert!(check(&nested(SIGNED_DEPTH_MAX + 1)).is_err());
        assert!(check(&nested(1 << 20)).is_err());
    }

    #[test]
    fn what_we_encode_is_canonical() {
        #[derive(Serialize)]
        struct All {
            longer: Option<u64>,
            cid: ContentId,
            b: (bool, bool, i64),
        }
        let all = All { longer: None, cid: ContentId::of(Codec::Raw, b""), b: (true, false, i64::MIN) };
        assert_eq!(check(&encode(&all)), Ok(()));
    }

    #[test]
    fn an_encoding_is_compared_to_its_end() {
        let value = ("text", 7, vec![1u8; 300]);
        let bytes = encode(&value);
        assert!(encodes_to(&value, &bytes));
        assert!(!encodes_to(&value, &bytes[..bytes.len() - 1]), "cut off");
        assert!(!encodes_to(&value, &[bytes.clone(), vec![0]].concat()), "something follows");
        assert!(!encodes_to(&("text", 8, vec![1u8; 300]), &bytes), "another value");
    }

    #[test]
    fn a_field_is_found_at_the_top_alone() {
        #[derive(Serialize)]
        struct Outer {
            a: Inner,
            last: u8,
        }
        #[derive(Serialize)]
        struct Inner {
            within: &'static str,
        }
        let bytes = encode(&Outer { a: Inner { within: "text" }, last: 1 });
        let found = |name: &str| has_field(&bytes, name);
        assert!(found("a") && found("last"));
        assert!(!found("within") && !found("text") && !found("") && !found("las"));
        assert!(!has_field(&encode(&("last", 1)), "last") && !has_field(&[], "last"));
        assert!(!has_field(&bytes[..1], "a"), "cut off");
    }

    proptest! {
        #[test]
        fn numbers_of_every_size_are_canonical(number: u64, text: String, bytes: Vec<u8>) {
            prop_assert_eq!(check(&encode(&(number, text, serde_bytes::Bytes::new(&bytes)))), Ok(()));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (check(&bytes), has_field(&bytes, "name"));
        }
    }
}
