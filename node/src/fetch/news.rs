//! What is told of a tree that is followed, as it goes over the wire.
//!
//! Marks stand one behind the other. A member is the length of its peer id (1 byte) and the id, the number of its addresses (1 byte), and
//! each of these behind its length (2 bytes).

use libp2p::{Multiaddr, PeerId};

use super::{
    protocol::Broken,
    swarm::{Mark, Member},
};
use crate::limits::{
    SWARM_ADDRESSES_MAX, SWARM_MARKS_AT_ONCE_MAX, SWARM_MEMBERS_AT_ONCE_MAX, SWARM_MESSAGE_BYTES_MAX,
};

/// Bytes of an address that is told: with all of them a message stays within its bound.
const ADDRESS_BYTES_MAX: usize = 200;

/// Writes marks.
pub(super) fn encode_marks(marks: &[Mark]) -> Vec<u8> {
    marks.iter().flat_map(|mark| mark.to_bytes()).collect()
}

/// Reads marks.
pub(super) fn decode_marks(bytes: &[u8]) -> Result<Vec<Mark>, Broken> {
    let (marks, rest) = bytes.as_chunks::<{ Mark::BYTES }>();
    if !rest.is_empty() || marks.len() > SWARM_MARKS_AT_ONCE_MAX {
        return Err(Broken("marks of another length than they have, or too many"));
    }
    Ok(marks.iter().map(|mark| Mark::from_bytes(*mark)).collect())
}

/// Writes members.
pub(super) fn encode_members(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let peer = member.peer.to_bytes();
        bytes.push(u8::try_from(peer.len()).unwrap_or_default());
        bytes.extend(peer);
        let addresses = member.addresses.iter().map(Multiaddr::to_vec);
        let short = addresses.filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        let addresses: Vec<Vec<u8>> = short.take(SWARM_ADDRESSES_MAX).collect();
        bytes.push(u8::try_from(addresses.len()).unwrap_or_default());
        for address in addresses {
            bytes.extend(u16::try_from(address.len()).unwrap_or_default().to_be_bytes());
            bytes.extend(address);
        }
    }
    debug_assert!(bytes.len() <= SWARM_MESSAGE_BYTES_MAX, "the bounds fit together");
    bytes
}

/// Reads members.
pub(super) fn decode_members(mut bytes: &[u8]) -> Result<Vec<Member>, Broken> {
    const BROKEN: Broken = Broken("members that are none");
    let mut members = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(take(&mut bytes, 1).ok_or(BROKEN)?[0]);
        let peer = PeerId::from_bytes(take(&mut bytes, length).ok_or(BROKEN)?).map_err(|_| BROKEN)?;
        let count = usize::from(take(&mut bytes, 1).ok_or(BROKEN)?[0]);
        if count > SWARM_ADDRESSES_MAX || members.len() == SWARM_MEMBERS_AT_ONCE_MAX {
            return Err(Broken("too many members, or addresses of one"));
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let length = take(&mut bytes, 2).ok_or(BROKEN)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let address = take(&mut bytes, length).ok_or(BROKEN)?;
            addresses.push(Multiaddr::try_from(address.to_vec()).map_err(|_| BROKEN)?);
        }
        members.push(Member { peer, addresses });
    }
    Ok(members)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::{Codec, ContentId};

    fn member(addresses: &[&str]) -> Member {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Member { peer: PeerId::random(), addresses }
    }

    #[test]
    fn members_come_as_they_were_told() {
        let members = vec![member(&[]), member(&["/ip4/203.0.113.7/tcp/4001", "/ip6/2001:db8::7/tcp/4001"])];
        assert_eq!(decode_members(&encode_members(&members)), Ok(members));
    }

    #[test]
    fn no_more_is_told_of_a_member_than_is_read() {
        let long = format!("/dns4/{}/tcp/1", "a".repeat(230));
        let mut told = member(&["/ip4/203.0.113.7/tcp/4001"; SWARM_ADDRESSES_MAX + 3]);
        told.addresses.insert(0, long.parse().unwrap());
        let came = decode_members(&encode_members(&vec![told; SWARM_MEMBERS_AT_ONCE_MAX])).unwrap();
        assert!(came.iter().all(|member| member.addresses.len() == SWARM_ADDRESSES_MAX));
        assert!(decode_members(&encode_members(&vec![member(&[]); SWARM_MEMBERS_AT_ONCE_MAX + 1])).is_err());
    }

    #[test]
    fn marks_come_as_they_were_told_and_are_bounded() {
        let marks: Vec<Mark> = (0..SWARM_MARKS_AT_ONCE_MAX)
            .map(|n| Mark::of(&ContentId::of(Codec::Raw, &n.to_be_bytes())))
            .collect();
        let mut bytes = encode_marks(&marks);
        assert_eq!(decode_marks(&bytes), Ok(marks));
        assert!(decode_marks(&bytes[1..]).is_err());
        bytes.extend([0; Mark::BYTES]);
        assert!(decode_marks(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_marks(&bytes);
            if let Ok(members) = decode_members(&bytes) {
                prop_assert!(members.len() <= SWARM_MEMBERS_AT_ONCE_MAX);
            }
        }
    }
}
