//! How many connections there may be, with the reason for each number.
//!
//! The caps are wide on purpose. A hard cap near the number of peers a node wants strangles the gossip mesh: measured in
//! simulation, 48 connections without trimming reached 79 of 999 nodes. The water marks keep the number where it should
//! be, by closing the least valuable connections; the caps only stop a flood.

use std::time::Duration;

/// Inbound connections whose handshake is not done. Half-open ones of an attacker live for [`HANDSHAKE_TIMEOUT`], so this
/// also bounds how many of them an honest peer has to queue behind.
pub const PENDING_INCOMING_MAX: u32 = 128;
/// Outbound connections whose handshake is not done; a Kademlia query opens a few at once, a bootstrap all of its own.
pub const PENDING_OUTGOING_MAX: u32 = 128;
/// Established inbound connections; about 90 KiB each.
pub const ESTABLISHED_INCOMING_MAX: u32 = 512;
/// Established outbound connections.
pub const ESTABLISHED_OUTGOING_MAX: u32 = 512;
/// Established connections in all.
pub const ESTABLISHED_MAX: u32 = 768;
/// Established connections with one peer: two arise when both sides dial at once.
pub const ESTABLISHED_PER_PEER_MAX: u32 = 2;
/// Inbound connections from one address group (an IPv4 /24, an IPv6 /48), other than loopback and private ones.
pub const INCOMING_PER_GROUP_MAX: u32 = 32;
/// Over this many connections the least valuable ones are closed …
pub const HIGH_WATER: u32 = 256;
/// … until this many are left.
pub const LOW_WATER: u32 = 160;
/// A connection younger than this is not closed for its value: it had no chance to show any.
pub const GRACE: Duration = Duration::from_secs(30);
/// A connection has this long to finish its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without any stream is closed after this time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Saved peers dialled at start, besides the bootstrap list.
pub const REDIAL_AT_START_MAX: usize = 32;
/// Dials that [`Redial`](super::Redial) keeps under way at once.
pub const REDIALS_AT_ONCE_MAX: usize = 16;
/// Addresses that [`Redial`](super::Redial) tries in turn: the bootstrap list and the saved peers.
pub const REDIAL_TARGETS_MAX: usize = 256;

const _: () = assert!(LOW_WATER < HIGH_WATER && HIGH_WATER < ESTABLISHED_MAX);
const _: () = assert!(REDIALS_AT_ONCE_MAX < PENDING_OUTGOING_MAX as usize);
