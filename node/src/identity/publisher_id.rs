//! The name of a publisher.

use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Error;

/// What every text form begins with, before the separator `1`.
const HRP: Hrp = Hrp::parse_unchecked("gp");

/// Characters of the text form: `gp1`, 52 for 32 bytes, 6 of checksum.
const TEXT_LENGTH: usize = 61;

/// The name of a publisher: SHA-256 of the payload of its genesis key document.
///
/// The bytes that are hashed are the canonical DAG-CBOR of key document 0 ([`super::KeyDocument`]), as they stand in the
/// `payload` of its envelope: without the context string and without the signatures. The id therefore stays the same
/// whichever of the genesis keys signed, and when the keys are changed later.
///
/// Its text form is [bech32m](https://github.com/bitcoin/bips/blob/master/bip-0350.mediawiki) in lower case, `gp1…`. In
/// CBOR it is a byte string of 32 bytes; in a format for people it is the text form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId([u8; 32]);

impl PublisherId {
    /// The id whose bytes are already known, as in a database.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&bech32::encode_lower::<Bech32m>(HRP, &self.0).expect("32 bytes fit into bech32m"))
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublisherId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::publisher_id(text, why);
        if !text.starts_with("gp1") {
            return Err(refuse("it does not begin with gp1"));
        }
        if text.len() != TEXT_LENGTH {
            return Err(refuse("it is not 61 characters long"));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse("it has capital letters"));
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|_| refuse("its checksum is wrong; a character was changed or lost"))?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let id = bytes.try_into().map(Self).map_err(|_| refuse("it does not hold 32 bytes"))?;
        // Four bits of the last character carry nothing; other than zero they would make a second text of one id.
        if id.to_string() == text { Ok(id) } else { Err(refuse("it is not in its canonical form")) }
    }
}

impl Serialize for PublisherId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serde_bytes::Bytes::new(&self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublisherId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            serde_bytes::ByteArray::<32>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "gp1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0ssymllp";

    fn id() -> PublisherId {
        PublisherId::from_bytes(std::array::from_fn(|i| i as u8))
    }

    #[test]
    fn the_text_form_is_fixed() {
        assert_eq!(id().to_string(), TEXT);
        assert_eq!(TEXT.parse::<PublisherId>().unwrap(), id());
    }

    #[test]
    fn other_texts_are_refused() {
        let hrp = |hrp| bech32::encode_lower::<Bech32m>(Hrp::parse(hrp).unwrap(), id().as_bytes()).unwrap();
        let bech32_1 = bech32::encode_lower::<bech32::Bech32>(HRP, id().as_bytes()).unwrap();
        let short = bech32::encode_lower::<Bech32m>(HRP, &[0; 31]).unwrap();
        let long = bech32::encode_lower::<Bech32m>(HRP, &[0; 33]).unwrap();
        let mixed = TEXT.replacen('q', "Q", 1);
        let changed = TEXT.replacen('y', "z", 1);
        for bad in [
            "",
            "gp1",
            "gp",
            &hrp("bc"),
            &hrp("gpp"),
            &bech32_1,
            &short,
            &long,
            &mixed,
            &TEXT.to_uppercase(),
            &changed,
            &TEXT[..60],
            &format!("{TEXT}q"),
            &format!(" {TEXT}"),
            &format!("{TEXT}\n"),
        ] {
            let error = bad.parse::<PublisherId>().unwrap_err();
            assert_eq!(error.code(), crate::code::Code::Usage, "{bad}");
        }
    }

    #[test]
    fn unused_bits_are_no_second_name() {
        use bech32::{ByteIterExt, Fe32, Fe32IterExt};
        let mut symbols: Vec<Fe32> = id().as_bytes().iter().copied().bytes_to_fes().collect();
        *symbols.last_mut().unwrap() = Fe32::try_from(symbols.last().unwrap().to_u8() | 1).unwrap();
        let text: String = symbols.into_iter().with_checksum::<Bech32m>(&HRP).chars().collect();
        assert!(text.parse::<PublisherId>().is_err(), "{text}");
    }

    #[test]
    fn cbor_has_bytes_and_json_has_text() {
        let cbor = serde_ipld_dagcbor::to_vec(&id()).unwrap();
        assert_eq!((cbor.len(), cbor[0], cbor[1]), (34, 0x58, 32));
        assert_eq!(serde_ipld_dagcbor::from_slice::<PublisherId>(&cbor).unwrap(), id());
        assert!(serde_ipld_dagcbor::from_slice::<PublisherId>(&cbor[..33]).is_err());
        let json = serde_json::to_string(&id()).unwrap();
        assert_eq!(json, format!("\"{TEXT}\""));
        assert_eq!(serde_json::from_str::<PublisherId>(&json).unwrap(), id());
    }

    proptest! {
        #[test]
        fn every_id_survives_its_text(bytes: [u8; 32]) {
            let id = PublisherId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().len(), TEXT_LENGTH);
            prop_assert_eq!(id.to_string().parse::<PublisherId>().unwrap(), id);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}", tail in "gp1\\PC{58}") {
            let _ = text.parse::<PublisherId>();
            let _ = tail.parse::<PublisherId>();
        }
    }
}
