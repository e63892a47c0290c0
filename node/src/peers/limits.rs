//! How many connections there may be, with the reason for each number.
//!
//! The number of established connections is the user's (`limits.connections_max`), and its default is wide on purpose: a
//! hard cap near the number of peers a node wants strangles the gossip mesh. What bounds them from below the cap is that
//! an idle connection is closed.

use std::time::Duration;

/// Inbound connections over TCP whose handshake is not done; over QUIC half as many more. Those of an attacker that stay half-open live for [`HANDSHAKE_TIMEOUT`], or
/// until somebody else needs their place.
pub const PENDING_INCOMING_MAX: usize = 512;
/// Those of one IPv4 address or one IPv6 /64: enough for an office that comes back at once, and a fraction of all.
pub const PENDING_INCOMING_PER_ADDRESS_MAX: usize = 64;
/// Outbound connections whose handshake is not done; a Kademlia query opens a few at once, a bootstrap all of its own.
pub const PENDING_OUTGOING_MAX: usize = 128;
/// Established direct connections with one peer: two arise when both sides dial at once, or both ends of a hole in their NATs
/// succeed, and one more while one of them looks whether the other can be reached.
pub const ESTABLISHED_PER_PEER_MAX: usize = 3;
/// How long Noise and the multiplexer may take, from the first byte on.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without any stream is closed after this time: three rounds of the exchange of heads.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How old an inbound handshake may become where newcomers find no room: three round trips, over the longest of links.
pub const HANDSHAKE_CROWDED: Duration = Duration::from_secs(2);
/// Saved peers dialled at start, besides the bootstrap list.
pub const REDIAL_AT_START_MAX: usize = 32;
/// Dials that [`Redial`](super::Redial) keeps in progress at once.
pub const REDIALS_AT_ONCE_MAX: usize = 16;
/// Addresses that [`Redial`](super::Redial) tries in turn: the bootstrap list and the saved peers.
pub const REDIAL_TARGETS_MAX: usize = 256;
/// Peers whose connections broke and that [`Lost`](super::Lost) dials again: the neighbourhood of a large node.
pub const LOST_MAX: usize = 128;
/// Connections with one peer through relays, beside [`ESTABLISHED_PER_PEER_MAX`]: two arise when both sides dial at once.
pub const RELAYED_PER_PEER_MAX: usize = 2;

const _: () = assert!(REDIALS_AT_ONCE_MAX < PENDING_OUTGOING_MAX);
