//! The wire form of [DAG-PB](https://ipld.io/specs/codecs/dag-pb/spec/) nodes and the UnixFS message inside them.
//!
//! Links come before the data, and each field is written in one way only. The reader takes that one way; anything else is
//! refused.

use crate::content::{ContentId, ID_BYTES};

/// The first byte of each field: its number and wire type.
mod tag {
    pub(super) const NODE_LINK: u8 = 0x12;
    pub(super) const NODE_DATA: u8 = 0x0a;
    pub(super) const LINK_HASH: u8 = 0x0a;
    pub(super) const LINK_NAME: u8 = 0x12;
    pub(super) const LINK_TSIZE: u8 = 0x18;
    pub(super) const DATA_TYPE: u8 = 0x08;
    pub(super) const DATA_DATA: u8 = 0x12;
    pub(super) const DATA_FILE_SIZE: u8 = 0x18;
    pub(super) const DATA_BLOCK_SIZE: u8 = 0x20;
    pub(super) const DATA_HASH_TYPE: u8 = 0x28;
    pub(super) const DATA_FANOUT: u8 = 0x30;
}

const TYPE_DIRECTORY: u64 = 1;
const TYPE_FILE: u64 = 2;
const TYPE_SHARD: u64 = 5;

/// A named child of a directory, or an unnamed one of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) id: ContentId,
    /// Bytes of the child's block and of everything below it.
    pub(super) tsize: u64,
}

/// Bytes of `number` as a variable-length integer.
pub(super) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes that one link adds to its node.
pub(super) fn link_len(name_len: usize, tsize: u64) -> usize {
    let body = link_body_len(name_len, tsize);
    1 + varint_len(body as u64) + body
}

fn link_body_len(name_len: usize, tsize: u64) -> usize {
    (2 + ID_BYTES) + (1 + varint_len(name_len as u64) + name_len) + (1 + varint_len(tsize))
}

/// Bytes that UnixFS data of `len` bytes adds to its node.
pub(super) fn data_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: u64) {
    out.push(tag);
    put_varint(out, number);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    put_number(out, tag, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Encodes a node of `links`, in the order given, with its UnixFS `data`.
pub(super) fn node(links: &[Link], data: &[u8]) -> Vec<u8> {
    let len =
        links.iter().map(|link| link_len(link.name.len(), link.tsize)).sum::<usize>() + data_len(data.len());
    let mut out = Vec::with_capacity(len);
    for link in links {
        put_number(&mut out, tag::NODE_LINK, link_body_len(link.name.len(), link.tsize) as u64);
        put_bytes(&mut out, tag::LINK_HASH, &link.id.to_bytes());
        put_bytes(&mut out, tag::LINK_NAME, link.name.as_bytes());
        put_number(&mut out, tag::LINK_TSIZE, link.tsize);
    }
    put_bytes(&mut out, tag::NODE_DATA, data);
    debug_assert_eq!(out.len(), len, "the sizes that decide about sharding are those of the bytes");
    out
}

/// The UnixFS data of a plain directory.
pub(super) fn directory_data() -> Vec<u8> {
    vec![tag::DATA_TYPE, TYPE_DIRECTORY as u8]
}

/// The UnixFS data of a shard of a directory; the `bits` of its children, highest first, without leading zero bytes.
pub(super) fn shard_data(bits: &[u8], hash_type: u64, fanout: u64) -> Vec<u8> {
    let mut out = vec![tag::DATA_TYPE, TYPE_SHARD as u8];
    put_bytes(&mut out, tag::DATA_DATA, bits);
    put_number(&mut out, tag::DATA_HASH_TYPE, hash_type);
    put_number(&mut out, tag::DATA_FANOUT, fanout);
    out
}

/// The UnixFS data of a file node over parts of these sizes.
pub(super) fn file_data(parts: &[u64]) -> Vec<u8> {
    let mut out = vec![tag::DATA_TYPE, TYPE_FILE as u8];
    put_number(&mut out, tag::DATA_FILE_SIZE, parts.iter().fold(0, |sum, part| part.saturating_add(sum)));
    for part in parts {
        put_number(&mut out, tag::DATA_BLOCK_SIZE, *part);
    }
    out
}

/// Bytes of what [`file_data`] makes of `count` parts of `size` bytes and, where it is not empty, a last one of `rest`.
pub(super) fn file_data_len(count: u64, size: u64, rest: u64) -> usize {
    let total = count.saturating_mul(size).saturating_add(rest);
    let last = if rest > 0 { 1 + varint_len(rest) } else { 0 };
    2 + (1 + varint_len(total)) + count as usize * (1 + varint_len(size)) + last
}

/// Reads a node from its start, one field after the other.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                // The shortest form is the only one.
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    /// The next field, where it has this tag.
    fn expect(&mut self, tag: u8) -> Option<()> {
        (self.0.first() == Some(&tag)).then(|| self.0 = &self.0[1..])
    }

    fn number(&mut self, tag: u8) -> Option<u64> {
        self.expect(tag)?;
        self.varint()
    }

    fn bytes(&mut self, tag: u8) -> Option<&'a [u8]> {
        let len = self.number(tag)?;
        self.take(usize::try_from(len).ok()?)
    }

    /// The next link of a file node: id and cumulative size. `Ok(None)` where no more links follow.
    pub(super) fn file_link(&mut self) -> Result<Option<(ContentId, u64)>, ()> {
        if self.0.first() != Some(&tag::NODE_LINK) {
            return Ok(None);
        }
        self.file_link_body().map(Some).ok_or(())
    }

    fn file_link_body(&mut self) -> Option<(ContentId, u64)> {
        let mut body = Reader(self.bytes(tag::NODE_LINK)?);
        let id = ContentId::from_bytes(body.bytes(tag::LINK_HASH)?).ok()?;
        let name = body.bytes(tag::LINK_NAME)?;
        let tsize = body.number(tag::LINK_TSIZE)?;
        (name.is_empty() && body.is_empty()).then_some((id, tsize))
    }

    /// The id of the next link of any node; none where no more links follow.
    pub(super) fn link(&mut self) -> Option<ContentId> {
        let mut body = Reader(self.bytes(tag::NODE_LINK)?);
        ContentId::from_bytes(body.bytes(tag::LINK_HASH)?).ok()
    }

    /// The UnixFS data of a file node: its total size and those of its parts, at most `limit` of them.
    pub(super) fn file_data(&mut self, limit: usize) -> Option<(u64, Vec<u64>)> {
        let mut data = Reader(self.bytes(tag::NODE_DATA)?);
        if data.number(tag::DATA_TYPE)? != TYPE_FILE {
            return None;
        }
        let total = data.number(tag::DATA_FILE_SIZE)?;
        let mut parts = Vec::new();
        while !data.is_empty() {
            if parts.len() == limit {
                return None;
            }
            parts.push(data.number(tag::DATA_BLOCK_SIZE)?);
        }
        Some((total, parts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_survive_and_have_the_length_foretold(number: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            prop_assert_eq!(out.len(), varint_len(number));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Some(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(_)) = reader.file_link() {}
            let _ = reader.file_data(8);
        }

        #[test]
        fn data_has_the_length_foretold(count in 0u64..50, size in 1u64..1 << 40, rest in 0u64..1 << 40) {
            let mut parts = vec![size; count as usize];
            if rest > 0 {
                parts.push(rest);
            }
            prop_assert_eq!(file_data(&parts).len(), file_data_len(count, size, rest));
        }
    }

    #[test]
    fn integers_have_one_form_only() {
        for bad in [
            &[0x80, 0x00][..],
            &[0x80],
            &[],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(Reader::new(bad).varint(), None, "{bad:?}");
        }
    }
}
