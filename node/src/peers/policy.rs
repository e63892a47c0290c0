//! Which addresses may be dialled, by what they are and by who told of them.
//!
//! An address from a peer is an instruction to open a connection: without a rule, any stranger can make this node knock
//! at `127.0.0.1`, at the router, or at a cloud's metadata service. The rule: **a peer may tell only of places at least as
//! public as the address it is reached at itself**, and names are taken from the user alone, because whoever owns a name
//! decides what it resolves to.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Components of the longest address that is accepted: `/ip4/…/udp/…/quic-v1/p2p/<relay>/p2p-circuit/p2p/…`.
const COMPONENTS_MAX: usize = 6;
/// Addresses through relays that are taken of one peer: it has two relays at most.
const CIRCUITS_MAX: usize = 2;
/// Bytes of a DNS name.
const NAME_BYTES_MAX: usize = 253;
/// Where clouds serve credentials to whoever asks from inside.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The same over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// How far an address reaches; ordered from the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// This network: private, link-local, carrier-grade NAT and unique local ranges.
    Private,
    /// Everywhere.
    Public,
}

/// Who told of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The user: the configuration, a command, or a connection that stands.
    User,
    /// A peer that is itself reached at an address of this scope.
    Peer(Scope),
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// More components than any address of ours has.
    #[error("it has too many components")]
    TooLong,
    /// It does not begin with an IP address or a name.
    #[error("it does not begin with /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr")]
    Host,
    /// It is neither TCP nor QUIC, or goes on after it in a way that is not known.
    #[error("only /tcp/<port> and /udp/<port>/quic-v1, and /p2p/<peer> after them, are known")]
    Protocol,
    /// Port 0.
    #[error("port 0 cannot be dialled")]
    Port,
    /// The name is not one.
    #[error("it is not a DNS name")]
    Name,
    /// A name from somebody else than the user.
    #[error("names are taken from the user only")]
    ForeignName,
    /// No particular machine.
    #[error("it is the unspecified address")]
    Unspecified,
    /// Many machines.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// Not assigned.
    #[error("it is a reserved address")]
    Reserved,
    /// A cloud's metadata service.
    #[error("it is a cloud's metadata service")]
    Metadata,
    /// A narrower scope than that of the peer that told of it.
    #[error("it is on a narrower network than the peer that told of it")]
    NarrowerScope,
    /// It leads through a relay that it does not name, or through several.
    #[error("before /p2p-circuit stands one relay, as /ip4/<address>/tcp/<port>/p2p/<relay>")]
    Relay,
    /// It names another peer than the one it is said to belong to.
    #[error("it names another peer")]
    OtherPeer,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
        })
    }
}

/// Decides whether `address` may be dialled, given who told of it.
///
/// # Errors
/// The first [`Reason`] against it.
pub fn acceptable(address: &Multiaddr, origin: Origin) -> Result<(), Reason> {
    if address.iter().nth(COMPONENTS_MAX).is_some() {
        return Err(Reason::TooLong);
    }
    let Some((relay, after)) = through_relay(address) else { return acceptable_direct(address, origin) };
    let is_named = matches!(relay.iter().last(), Some(Protocol::P2p(_)));
    let mut after = after.iter();
    if !is_named || !matches!(after.next(), None | Some(Protocol::P2p(_))) || after.next().is_some() {
        return Err(Reason::Relay);
    }
    acceptable_direct(&relay, origin)
}

/// Drops the addresses that may not be dialled, given who told of them; of those through relays two are left.
pub fn retain(addresses: &mut Vec<Multiaddr>, origin: Origin) {
    let mut circuits = 0;
    addresses.retain(|told| {
        circuits += usize::from(is_relayed(told));
        (!is_relayed(told) || circuits <= CIRCUITS_MAX) && acceptable(told, origin).is_ok()
    });
}

/// Whether an address leads through a relay.
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The address of the relay that an address leads through, and what stands after `/p2p-circuit`.
pub fn through_relay(address: &Multiaddr) -> Option<(Multiaddr, Multiaddr)> {
    let at = address.iter().position(|part| part == Protocol::P2pCircuit)?;
    Some((address.iter().take(at).collect(), address.iter().skip(at + 1).collect()))
}

fn acceptable_direct(address: &Multiaddr, origin: Origin) -> Result<(), Reason> {
    let mut rest = address.iter();
    let host = rest.next().ok_or(Reason::Host)?;
    let is_dnsaddr = matches!(host, Protocol::Dnsaddr(_));
    let mut next = rest.next();
    match next {
        Some(Protocol::Tcp(0)) => return Err(Reason::Port),
        Some(Protocol::Tcp(_)) => next = rest.next(),
        Some(Protocol::Udp(port)) if rest.next() == Some(Protocol::QuicV1) => match port {
            0 => return Err(Reason::Port),
            _ => next = rest.next(),
        },
        _ if is_dnsaddr => {}
        _ => return Err(Reason::Protocol),
    }
    if !matches!(next, None | Some(Protocol::P2p(_))) || rest.next().is_some() {
        return Err(Reason::Protocol);
    }
    match host {
        Protocol::Ip4(ip) => acceptable_ip(ip.into(), origin),
        Protocol::Ip6(ip) => acceptable_ip(ip.into(), origin),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            acceptable_name(&name, origin)
        }
        _ => Err(Reason::Host),
    }
}

/// Decides whether `ip` may be dialled, given who told of it.
///
/// # Errors
/// The first [`Reason`] against it.
pub fn acceptable_ip(ip: IpAddr, origin: Origin) -> Result<(), Reason> {
    let scope = scope_of_ip(ip)?;
    match origin {
        Origin::User => Ok(()),
        Origin::Peer(_) if [IpAddr::V4(METADATA_V4), METADATA_V6.into()].contains(&canonical(ip)) => {
            Err(Reason::Metadata)
        }
        Origin::Peer(of_peer) if scope < of_peer => Err(Reason::NarrowerScope),
        Origin::Peer(_) => Ok(()),
    }
}

/// The scope of the address that a peer is reached at, for [`Origin::Peer`]; public for a name or anything unknown, which
/// grants the least. So it is for a peer behind a relay: that may be anywhere, wherever the relay is.
pub fn scope_of(address: &Multiaddr) -> Scope {
    if is_relayed(address) {
        return Scope::Public;
    }
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => scope_of_ip(ip.into()).unwrap_or(Scope::Public),
        Some(Protocol::Ip6(ip)) => scope_of_ip(ip.into()).unwrap_or(Scope::Public),
        _ => Scope::Public,
    }
}

/// Whether an address begins with a name, and so comes from the user.
pub fn is_name(address: &Multiaddr) -> bool {
    matches!(
        address.iter().next(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    )
}

/// The scope of an IP address that one machine can have.
///
/// # Errors
/// The [`Reason`] why it is not such an address.
pub fn scope_of_ip(ip: IpAddr) -> Result<Scope, Reason> {
    match canonical(ip) {
        IpAddr::V4(ip) => scope_of_v4(ip),
        IpAddr::V6(ip) => scope_of_v6(ip),
    }
}

/// Splits `/p2p/<peer>` off the end of an address, and checks that it names `peer`.
///
/// # Errors
/// [`Reason::OtherPeer`].
pub fn without_peer(address: &Multiaddr, peer: &PeerId) -> Result<Multiaddr, Reason> {
    let mut address = address.clone();
    match address.iter().last() {
        Some(Protocol::P2p(named)) if named != *peer => Err(Reason::OtherPeer),
        Some(Protocol::P2p(_)) => {
            address.pop();
            Ok(address)
        }
        _ => Ok(address),
    }
}

/// Where a peer is, as far as it says who is behind it. Peers are counted by it wherever their number alone proves little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// A public network: a /24, or a /48.
    Public(Network),
    /// A machine of a private network. Behind some proxies all connections come from one.
    Private(IpAddr),
    /// A process of this machine.
    Here(PeerId),
    /// A peer that was dialled by a name.
    Peer(PeerId),
}

impl Locality {
    /// That of a peer that is reached at an address.
    pub fn of(peer: PeerId, ip: Option<IpAddr>) -> Self {
        match ip {
            Some(ip) if ip.is_loopback() => Self::Here(peer),
            Some(ip) => group_of(ip).map_or(Self::Private(ip), Self::Public),
            None => Self::Peer(peer),
        }
    }

    /// In how many networks these are, as people are told: all processes of this machine are in one.
    pub fn networks(places: impl IntoIterator<Item = Self>) -> usize {
        let places: BTreeSet<Self> = places.into_iter().collect();
        let here = places.iter().filter(|place| matches!(place, Self::Here(_))).count();
        places.len() - here.saturating_sub(1)
    }
}

/// A public network, as [`group_of`] has it.
pub type Network = [u8; 7];

/// The part of an address that one operator holds cheaply: an IPv4 /24 or an IPv6 /48. None for loopback and private
/// addresses, which say nothing about who is behind them.
pub fn group_of(ip: IpAddr) -> Option<Network> {
    if scope_of_ip(ip) != Ok(Scope::Public) {
        return None;
    }
    let mut group = [0; 7];
    match canonical(ip) {
        IpAddr::V4(ip) => {
            group[0] = 4;
            group[1..4].copy_from_slice(&ip.octets()[..3]);
        }
        IpAddr::V6(ip) => {
            group[0] = 6;
            group[1..].copy_from_slice(&ip.octets()[..6]);
        }
    }
    Some(group)
}

/// Unwraps an IPv4 address that travels inside an IPv6 one: mapped, NAT64 or 6to4.
fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let octets = v6.octets();
    let embedded = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [octets[12], octets[13], octets[14], octets[15]],
        [0x2002, ..] => [octets[2], octets[3], octets[4], octets[5]],
        _ => return ip,
    };
    Ipv4Addr::from(embedded).into()
}

fn scope_of_v4(ip: Ipv4Addr) -> Result<Scope, Reason> {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (0, ..) => Err(Reason::Unspecified),
        (224..=239, ..) => Err(Reason::Multicast),
        _ if ip.is_broadcast() => Err(Reason::Multicast),
        (240.., ..) => Err(Reason::Reserved),
        (127, ..) => Ok(Scope::Loopback),
        (10, ..)
        | (172, 16..=31, _)
        | (192, 168, _)
        | (169, 254, _)
        | (100, 64..=127, _)
        | (192, 0, 0)
        | (198, 18..=19, _) => Ok(Scope::Private),
        _ => Ok(Scope::Public),
    }
}

fn scope_of_v6(ip: Ipv6Addr) -> Result<Scope, Reason> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err(Reason::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Ok(Scope::Loopback),
        [0xff00..=0xffff, ..] => Err(Reason::Multicast),
        // fc00::/7, fe80::/10, the deprecated fec0::/10, and the NAT64 range for private use.
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Ok(Scope::Private),
        // 2000::/3 is all that was ever assigned to machines.
        [0x2000..=0x3fff, ..] => Ok(Scope::Public),
        _ => Err(Reason::Reserved),
    }
}

/// What a name resolves to is not judged: names are the user's own, as are all addresses that the user gives.
fn acceptable_name(name: &str, origin: Origin) -> Result<(), Reason> {
    if origin != Origin::User {
        return Err(Reason::ForeignName);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Reason::Name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn judge(address: &str, origin: Origin) -> Result<(), Reason> {
        acceptable(&address.parse().unwrap_or_else(|error| panic!("{address}: {error}")), origin)
    }

    #[test]
    fn shapes_that_no_address_of_ours_has_are_refused_whoever_told_them() {
        let circuits = format!("/ip4/8.8.8.8/tcp/1/p2p/{PEER}/p2p-circuit/p2p-circuit");
        let beyond = format!("/ip4/8.8.8.8/tcp/1/p2p/{PEER}/p2p-circuit/tcp/1");
        let nested = format!("/ip4/8.8.8.8/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}/p2p-circuit");
        let deep = format!("{nested}/p2p/{PEER}");
        let hundred = "/ip4/8.8.8.8".repeat(100);
        for (address, reason) in [
            ("", Reason::Host),
            ("/tcp/4001", Reason::Protocol),
            ("/memory/7", Reason::Protocol),
            ("/unix/tmp", Reason::Protocol),
            ("/unix/tmp/tcp/1", Reason::Host),
            ("/ip4/8.8.8.8", Reason::Protocol),
            ("/ip4/8.8.8.8/udp/4001", Reason::Protocol),
            ("/ip4/8.8.8.8/udp/4001/quic", Reason::Protocol),
            ("/ip4/8.8.8.8/quic-v1", Reason::Protocol),
            ("/ip4/8.8.8.8/tcp/4001/quic-v1", Reason::Protocol),
            ("/ip4/8.8.8.8/udp/4001/quic-v1/webtransport", Reason::Protocol),
            ("/ip4/8.8.8.8/udp/0/quic-v1", Reason::Port),
            ("/ip4/224.0.0.251/udp/1/quic-v1", Reason::Multicast),
            ("/ip4/8.8.8.8/tcp/443/wss", Reason::Protocol),
            ("/ip4/8.8.8.8/tcp/0", Reason::Port),
            ("/ip4/8.8.8.8/tcp/1/ip4/8.8.8.8", Reason::Protocol),
            (&circuits, Reason::Relay),
            (&beyond, Reason::Relay),
            (&nested, Reason::Relay),
            (&deep, Reason::TooLong),
            ("/ip4/8.8.8.8/tcp/1/p2p-circuit", Reason::Relay),
            ("/p2p-circuit", Reason::Relay),
            (&hundred, Reason::TooLong),
            ("/memory/7/tcp/1", Reason::Host),
            ("/ip4/0.0.0.0/tcp/1", Reason::Unspecified),
            ("/ip4/0.1.2.3/tcp/1", Reason::Unspecified),
            ("/ip6/::/tcp/1", Reason::Unspecified),
            ("/ip6/::ffff:0.0.0.0/tcp/1", Reason::Unspecified),
            ("/ip4/224.0.0.251/tcp/1", Reason::Multicast),
            ("/ip4/255.255.255.255/tcp/1", Reason::Multicast),
            ("/ip6/ff02::1/tcp/1", Reason::Multicast),
            ("/ip4/240.0.0.1/tcp/1", Reason::Reserved),
            ("/ip6/4000::1/tcp/1", Reason::Reserved),
        ] {
            for origin in [Origin::User, Origin::Peer(Scope::Loopback), Origin::Peer(Scope::Public)] {
                let judged = judge(address, origin);
                assert_eq!(judged, Err(reason), "{address} from {origin:?}");
            }
        }
    }

    #[test]
    fn peers_tell_only_of_places_at_least_as_public_as_their_own() {
        use Scope::{Loopback, Private, Public};
        for (host, scope) in [
            ("/ip4/127.0.0.1", Loopback),
            ("/ip4/127.255.0.1", Loopback),
            ("/ip6/::1", Loopback),
            ("/ip6/::ffff:127.0.0.1", Loopback),
            ("/ip6/64:ff9b::127.0.0.1", Loopback),
            ("/ip6/2002:7f00:1::1", Loopback),
            ("/ip4/10.0.0.1", Private),
            ("/ip4/172.16.0.1", Private),
            ("/ip4/172.31.255.255", Private),
            ("/ip4/192.168.1.1", Private),
            ("/ip4/169.254.1.1", Private),
            ("/ip4/100.64.0.1", Private),
            ("/ip4/100.127.255.255", Private),
            ("/ip6/fc00::1", Private),
            ("/ip6/fdff::1", Private),
            ("/ip6/fe80::1", Private),
            ("/ip6/::ffff:10.0.0.1", Private),
            ("/ip6/64:ff9b::a00:1", Private),
            ("/ip4/172.32.0.1", Public),
            ("/ip4/172.15.0.1", Public),
            ("/ip4/100.63.255.255", Public),
            ("/ip4/100.128.0.1", Public),
            ("/ip4/104.131.131.82", Public),
            ("/ip6/2604:a880:1:20::203:d001", Public),
        ] {
            for port in ["/tcp/4001", "/udp/4001/quic-v1"] {
                let address = format!("{host}{port}/p2p/{PEER}");
                assert_eq!(scope_of(&address.parse().unwrap()), scope, "{address}");
                assert_eq!(judge(&address, Origin::User), Ok(()), "{address}");
                for of_peer in [Loopback, Private, Public] {
                    let expected = if scope >= of_peer { Ok(()) } else { Err(Reason::NarrowerScope) };
                    assert_eq!(judge(&address, Origin::Peer(of_peer)), expected, "{address} from {of_peer}");
                }
            }
        }
    }

    #[test]
    fn a_relay_is_judged_as_any_other_place_and_grants_nothing_to_who_is_behind_it() {
        use Scope::{Loopback, Private, Public};
        let ends = [String::new(), format!("/p2p/{PEER}")];
        for (port, end) in
            ["/tcp/4001", "/udp/4001/quic-v1"].iter().flat_map(|it| ends.iter().map(move |end| (it, end)))
        {
            let through = |host: &str| format!("{host}{port}/p2p/{PEER}/p2p-circuit{end}");
            assert_eq!(judge(&through("/ip4/8.8.8.8"), Origin::Peer(Public)), Ok(()));
            assert_eq!(judge(&through("/ip4/10.0.0.1"), Origin::Peer(Private)), Ok(()));
            assert_eq!(judge(&through("/ip4/10.0.0.1"), Origin::Peer(Public)), Err(Reason::NarrowerScope));
            assert_eq!(judge(&through("/dns4/a.example"), Origin::User), Ok(()));
            assert_eq!(judge(&through("/dns4/a.example"), Origin::Peer(Loopback)), Err(Reason::ForeignName));
            assert_eq!(scope_of(&through("/ip4/127.0.0.1").parse().unwrap()), Public);
        }
        let mut told: Vec<Multiaddr> = (1..=9)
            .flat_map(|n| {
                [format!("/ip4/8.8.8.{n}/tcp/1/p2p/{PEER}/p2p-circuit"), format!("/ip4/8.8.4.{n}/tcp/1")]
            })
            .map(|text| text.parse().unwrap())
            .collect();
        retain(&mut told, Origin::Peer(Public));
        assert_eq!(told.iter().filter(|it| is_relayed(it)).count(), CIRCUITS_MAX);
        assert_eq!(told.len(), 9 + CIRCUITS_MAX);
    }

    #[test]
    fn no_peer_leads_to_a_metadata_service() {
        for host in ["/ip4/169.254.169.254", "/ip6/::ffff:169.254.169.254", "/ip6/fd00:ec2::254"] {
            for of_peer in [Scope::Loopback, Scope::Private, Scope::Public] {
                let judged = judge(&format!("{host}/tcp/80"), Origin::Peer(of_peer));
                assert_eq!(judged, Err(Reason::Metadata), "{host}");
            }
        }
    }

    #[test]
    fn names_are_taken_from_the_user_only() {
        let long = format!("/dns4/{}/tcp/1", "a".repeat(254));
        for (address, from_user) in [
            ("/dnsaddr/bootstrap.libp2p.io", Ok(())),
            ("/dns4/example.org/tcp/4001", Ok(())),
            ("/dns6/example.org/tcp/4001", Ok(())),
            ("/dns/localhost/tcp/4001", Ok(())),
            ("/dns4/example.org/udp/4001/quic-v1", Ok(())),
            ("/dns/example.org", Err(Reason::Protocol)),
            ("/dns4/a b/tcp/1", Err(Reason::Name)),
            (&long, Err(Reason::Name)),
        ] {
            assert_eq!(judge(address, Origin::User), from_user, "{address}");
            assert!(judge(address, Origin::Peer(Scope::Public)).is_err(), "{address}");
        }
        assert_eq!(
            judge("/dns4/router.internal/tcp/80", Origin::Peer(Scope::Private)),
            Err(Reason::ForeignName)
        );
    }

    #[test]
    fn an_address_that_names_another_peer_is_refused() {
        let peer: PeerId = PEER.parse().unwrap();
        let bare: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
        let full: Multiaddr = format!("{bare}/p2p/{PEER}").parse().unwrap();
        assert_eq!(without_peer(&full, &peer), Ok(bare.clone()));
        assert_eq!(without_peer(&bare, &peer), Ok(bare));
        assert_eq!(without_peer(&full, &PeerId::random()), Err(Reason::OtherPeer));
    }

    #[test]
    fn neighbours_share_a_group() {
        let group = |text: &str| group_of(text.parse().unwrap());
        assert_eq!(group("8.8.8.1"), group("8.8.8.200"));
        assert_eq!(group("::ffff:8.8.8.1"), group("8.8.8.200"));
        assert_ne!(group("8.8.8.1"), group("8.8.9.1"));
        assert_eq!(group("2604:a880:1::1"), group("2604:a880:1:ffff::1"));
        assert_ne!(group("2604:a880:1::1"), group("2604:a880:2::1"));
        assert_eq!(group("10.0.0.1"), None);
    }

    #[test]
    fn all_processes_of_this_machine_are_in_one_network() {
        let of = |ip: &str| Locality::of(PeerId::random(), Some(ip.parse().unwrap()));
        let networks = |ips: &[&str]| Locality::networks(ips.iter().map(|ip| of(ip)));
        assert_eq!(networks(&[]), 0);
        assert_eq!(networks(&["127.0.0.1", "127.0.0.1", "::1"]), 1);
        assert_eq!(networks(&["203.0.113.1", "203.0.113.2", "198.51.100.1", "127.0.0.1"]), 3);
        assert_eq!(networks(&["192.168.1.1", "192.168.1.2", "192.168.1.2"]), 2);
    }
}
