//! What stands for a head where two catalogues are compared.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::release::{Head, VerifiedHead};

/// Bytes of an id.
pub const ID_BYTES: usize = 32;

/// Names one state of a package: SHA-256 of publisher ‖ name ‖ sequence ‖ entry, and a byte that says whether it is frozen.
///
/// A node that holds the proof against a publisher has another state than one that does not, so that the proof gets around.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; ID_BYTES]);

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The time and the id of one state of a package. The order is that of time: what is newest is compared cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// When it was released, in seconds.
    pub released: u64,
    /// Which it is.
    pub id: Id,
}

impl Item {
    /// What is before everything that was released later than `released`, and after everything else.
    pub const fn end_of(released: u64) -> Self {
        Self { released, id: Id([u8::MAX; ID_BYTES]) }
    }
}

/// The item of a head, where its package is `frozen` or is not.
pub fn item(head: &VerifiedHead, frozen: bool) -> Item {
    item_of(head.head(), frozen)
}

/// The item of a head that was verified before.
pub fn item_of(head: &Head, frozen: bool) -> Item {
    let digest = Sha256::new()
        .chain_update(head.publisher.as_bytes())
        .chain_update(head.name.as_str())
        .chain_update(head.sequence.get().to_be_bytes())
        .chain_update(head.entry.to_bytes())
        .chain_update([u8::from(frozen)])
        .finalize();
    Item { released: released(head), id: Id(digest.into()) }
}

/// When the state that a head tells of was released, in seconds.
fn released(head: &Head) -> u64 {
    head.released_at.as_secs()
}

/// Ids as they travel: one string of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<Id>);

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|id| id.0).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
        if !rest.is_empty() {
            return Err(de::Error::custom("ids of 32 bytes each are cut off"));
        }
        Ok(Self(ids.iter().copied().map(Id).collect()))
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.released, serde_bytes::Bytes::new(&self.id.0)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (released, id): (u64, serde_bytes::ByteArray<ID_BYTES>) = Deserialize::deserialize(deserializer)?;
        Ok(Self { released, id: Id(id.into_array()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_ids_survive_the_wire_and_cut_ids_do_not() {
        let item = Item { released: 1_800_000_000, id: Id([7; ID_BYTES]) };
        let bytes = serde_ipld_dagcbor::to_vec(&item).unwrap();
        assert_eq!(bytes.len(), 1 + 5 + 2 + ID_BYTES);
        assert_eq!(serde_ipld_dagcbor::from_slice::<Item>(&bytes).unwrap(), item);
        let ids = Ids(vec![Id([1; ID_BYTES]), Id([2; ID_BYTES])]);
        let bytes = serde_ipld_dagcbor::to_vec(&ids).unwrap();
        assert_eq!(bytes.len(), 2 + 2 * ID_BYTES);
        assert_eq!(serde_ipld_dagcbor::from_slice::<Ids>(&bytes).unwrap(), ids);
        let cut = serde_ipld_dagcbor::to_vec(serde_bytes::Bytes::new(&[0; 33])).unwrap();
        assert!(serde_ipld_dagcbor::from_slice::<Ids>(&cut).is_err());
    }
}
