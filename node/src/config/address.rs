//! Multiaddrs as people write them: parsed with an error that names the bad part.
//!
//! The syntax is that of the [multiaddr specification](https://github.com/multiformats/multiaddr); what may be listened
//! on or dialled is narrower, because this node speaks TCP and QUIC, by IP address or DNS name, and dials through relays.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::error::quoted;
use crate::{code::Code, limits::MULTIADDR_BYTES_MAX};

/// Longest DNS name, in bytes of its text form (RFC 1035).
const DNS_NAME_BYTES_MAX: usize = 253;
/// Longest label of a DNS name, in bytes (RFC 1035).
const DNS_LABEL_BYTES_MAX: usize = 63;

/// Why an address was refused: which part, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    address: String,
    what: String,
}

impl AddressError {
    fn new(address: &str, what: impl Into<String>) -> Self {
        Self { address: address.to_owned(), what: what.into() }
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        Code::Usage
    }

    /// What is wrong, without the address.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// An address of the kind that is expected.
    pub fn hint(&self) -> String {
        "an address looks like /ip4/192.0.2.7/tcp/4001, /ip4/192.0.2.7/udp/4001/quic-v1 or /dnsaddr/example.org, and may end with \
         /p2p/<peer id>"
            .into()
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", quoted(&self.address), self.what)
    }
}

impl std::error::Error for AddressError {}

/// Parses a multiaddr of any kind.
///
/// # Errors
/// The part that is wrong, as in `'/ip4/999.1.1.1': '999.1.1.1' is not an IPv4 address`.
pub fn parse_multiaddr(text: &str) -> Result<Multiaddr, AddressError> {
    if text.len() > MULTIADDR_BYTES_MAX {
        return Err(AddressError::new(text, format!("it is longer than {MULTIADDR_BYTES_MAX} bytes")));
    }
    check_parts(text).map_err(|what| AddressError::new(text, what))?;
    text.parse().map_err(|error| AddressError::new(text, format!("it is not a multiaddr: {error}")))
}

/// Parses an address to listen on: `/ip4/…` or `/ip6/…`, and after it `/tcp/…` or `/udp/…/quic-v1`.
///
/// # Errors
/// As [`parse_multiaddr`], and for an address of any other shape.
pub fn parse_listen(text: &str) -> Result<Multiaddr, AddressError> {
    let address = parse_multiaddr(text)?;
    check_listen(&address).map(|()| address).map_err(|what| AddressError::new(text, what))
}

/// Parses an address to dial: `/ip4`, `/ip6`, `/dns`, `/dns4` or `/dns6` and a port of TCP or QUIC, or `/dnsaddr/…`; a `/p2p/…`
/// may end each of them. After one that names its peer, `/p2p-circuit/p2p/…` leads to another peer through it.
///
/// # Errors
/// As [`parse_multiaddr`], and for an address of any other shape.
pub fn parse_dial(text: &str) -> Result<Multiaddr, AddressError> {
    let address = parse_multiaddr(text)?;
    check_dial(&address).map(|()| address).map_err(|what| AddressError::new(text, what))
}

/// Checks that a node can listen on `address`.
pub(super) fn check_listen(address: &Multiaddr) -> Result<(), String> {
    const EXPECTED: &str =
        "expected /ip4/<address>/tcp/<port>, the same with /udp/<port>/quic-v1, or one with /ip6";
    let mut parts = address.iter();
    match parts.next() {
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
        Some(other) => return Err(format!("cannot listen on {}, {EXPECTED}", quoted(&other.to_string()))),
        None => return Err(format!("it is empty, {EXPECTED}")),
    }
    match parts.next() {
        Some(Protocol::Tcp(_)) => {}
        Some(Protocol::Udp(port)) => check_quic(port, parts.next())?,
        Some(other) => {
            return Err(format!("{} cannot follow the IP address, {EXPECTED}", quoted(&other.to_string())));
        }
        None => return Err(format!("the port is missing, {EXPECTED}")),
    }
    match parts.next() {
        Some(Protocol::P2p(_)) => {
            Err("an address to listen on has no '/p2p/…': the node adds its own peer id".into())
        }
        Some(other) => Err(format!("{} cannot follow the port, {EXPECTED}", quoted(&other.to_string()))),
        None => Ok(()),
    }
}

/// Checks that a node can dial `address`.
pub(super) fn check_dial(address: &Multiaddr) -> Result<(), String> {
    const EXPECTED: &str = "expected /ip4/<address>/tcp/<port>, the same with /udp/<port>/quic-v1, /ip6/…, /dns4/<name>/… or /dnsaddr/<name>";
    let mut parts = address.iter();
    let needs_port = match parts.next() {
        Some(Protocol::Ip4(ip)) if ip.is_unspecified() => return Err(unspecified(&ip)),
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => return Err(unspecified(&ip)),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => true,
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            check_dns_name(&name).map(|()| true)?
        }
        Some(Protocol::Dnsaddr(name)) => check_dns_name(&name).map(|()| false)?,
        Some(other) => return Err(format!("cannot dial {}, {EXPECTED}", quoted(&other.to_string()))),
        None => return Err(format!("it is empty, {EXPECTED}")),
    };
    if needs_port {
        match parts.next() {
            Some(Protocol::Tcp(0) | Protocol::Udp(0)) => {
                return Err("nobody can be dialled on port 0".into());
            }
            Some(Protocol::Tcp(_)) => {}
            Some(Protocol::Udp(port)) => check_quic(port, parts.next())?,
            Some(other) => {
                return Err(format!("{} is no port, {EXPECTED}", quoted(&other.to_string())));
            }
            None => return Err(format!("the port is missing, {EXPECTED}")),
        }
    }
    match (parts.next(), parts.next()) {
        (None, _) | (Some(Protocol::P2p(_)), None) => Ok(()),
        (Some(Protocol::P2p(_)), Some(Protocol::P2pCircuit)) => match (parts.next(), parts.next()) {
            (Some(Protocol::P2p(_)), None) => Ok(()),
            _ => {
                Err("after '/p2p-circuit' stands '/p2p/<peer id>', whom the relay leads to, and nothing more"
                    .into())
            }
        },
        (Some(Protocol::P2p(_)), Some(other)) | (Some(other), _) => Err(format!(
            "{} is not supported here: only '/p2p/<peer id>' may end it, and '/p2p-circuit/p2p/<peer id>' after that",
            quoted(&other.to_string())
        )),
    }
}

/// Checks what stands after a UDP port.
fn check_quic(port: u16, after: Option<Protocol<'_>>) -> Result<(), String> {
    let found = match after {
        Some(Protocol::QuicV1) => return Ok(()),
        Some(other) => quoted(&other.to_string()),
        None => "nothing".into(),
    };
    Err(format!("over UDP only QUIC is spoken: after '/udp/{port}' stands {found}, expected '/quic-v1'"))
}

fn unspecified(ip: &dyn fmt::Display) -> String {
    format!("'{ip}' stands for every address of this machine: it can be listened on, not dialled")
}

/// The multiaddr of a host and a port as other programs write them, such as `192.0.2.7:4001`.
fn of_host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(ip) = bare.and_then(|host| host.parse::<Ipv6Addr>().ok()) {
        return Some(format!("/ip6/{ip}/tcp/{port}"));
    }
    match host.parse::<Ipv4Addr>() {
        Ok(ip) => Some(format!("/ip4/{ip}/tcp/{port}")),
        Err(_) => check_dns_name(host).ok().map(|()| format!("/dns/{host}/tcp/{port}")),
    }
}

/// Walks the parts that people write and names the first that is wrong; rarer protocols are left to the parser.
fn check_parts(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty, expected something like /ip4/192.0.2.7/tcp/4001".into());
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(match of_host_and_port(text) {
            Some(address) => format!("it must begin with '/': write it as {address}"),
            None => "it must begin with '/', as in /ip4/192.0.2.7/tcp/4001".into(),
        });
    };
    if rest.ends_with('/') {
        return Err("it ends with '/', with nothing after it".into());
    }
    let mut parts = rest.split('/');
    while let Some(protocol) = parts.next() {
        let mut argument = || match parts.next() {
            Some("") | None => Err(format!("'/{protocol}' has no value")),
            Some(argument) => Ok(argument),
        };
        match protocol {
            "ip4" => {
                let ip = argument()?;
                ip.parse::<Ipv4Addr>().map_err(|_| format!("{} is not an IPv4 address", quoted(ip)))?;
            }
            "ip6" => {
                let ip = argument()?;
                ip.parse::<Ipv6Addr>().map_err(|_| format!("{} is not an IPv6 address", quoted(ip)))?;
            }
            "tcp" | "udp" => {
                let port = argument()?;
                port.parse::<u16>()
                    .map_err(|_| format!("{} is not a port, expected 0 to 65535", quoted(port)))?;
            }
            "dns" | "dns4" | "dns6" | "dnsaddr" => check_dns_name(argument()?)?,
            "p2p" | "ipfs" => {
                let id = argument()?;
                id.parse::<PeerId>()
                    .map_err(|_| format!("{} is not a peer id, expected 12D3… or Qm…", quoted(id)))?;
            }
            "" => return Err("it has an empty part: '//'".into()),
            // Their values may hold anything; the parser knows how many parts belong to them.
            "unix" | "memory" | "certhash" | "sni" | "http-path" | "x-parity-ws" | "x-parity-wss"
            | "onion" | "onion3" | "garlic32" | "garlic64" | "ip6zone" | "ipcidr" | "dccp" | "sctp" => {
                argument()?;
            }
            "quic" | "quic-v1" | "ws" | "wss" | "tls" | "noise" | "http" | "https" | "udt" | "utp"
            | "webtransport" | "webrtc" | "webrtc-direct" | "p2p-circuit" | "p2p-websocket-star"
            | "p2p-webrtc-star" | "p2p-webrtc-direct" | "p2p-stardust" => {}
            other => return Err(format!("{} is not a protocol", quoted(other))),
        }
    }
    Ok(())
}

/// Checks the shape of a DNS name; an underscore and a final dot are allowed, as they are in use.
fn check_dns_name(name: &str) -> Result<(), String> {
    let label_fits = |label: &str| {
        (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    if name.len() <= DNS_NAME_BYTES_MAX && labels.split('.').all(label_fits) {
        Ok(())
    } else {
        Err(format!("{} is not a DNS name", quoted(name)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";

    #[test]
    fn the_bad_part_is_named() {
        for (address, what) in [
            ("", "it is empty, expected something like /ip4/192.0.2.7/tcp/4001"),
            ("ip4/1.2.3.4", "it must begin with '/', as in /ip4/192.0.2.7/tcp/4001"),
            ("1.2.3.4:9", "it must begin with '/': write it as /ip4/1.2.3.4/tcp/9"),
            ("[2001:db8::1]:9", "it must begin with '/': write it as /ip6/2001:db8::1/tcp/9"),
            ("example.org:4001", "it must begin with '/': write it as /dns/example.org/tcp/4001"),
            ("example.org:70000", "it must begin with '/', as in /ip4/192.0.2.7/tcp/4001"),
            ("/ip4/999.1.1.1", "'999.1.1.1' is not an IPv4 address"),
            ("/ip4/999.1.1.1/tcp/1", "'999.1.1.1' is not an IPv4 address"),
            ("/ip6/10.0.0.1/tcp/1", "'10.0.0.1' is not an IPv6 address"),
            ("/ip4/1.2.3.4/tcp/70000", "'70000' is not a port, expected 0 to 65535"),
            ("/ip4/1.2.3.4/tcp/-1", "'-1' is not a port, expected 0 to 65535"),
            ("/ip4/1.2.3.4/tcp", "'/tcp' has no value"),
            ("/ip4//tcp/1", "'/ip4' has no value"),
            ("/ip4/1.2.3.4//tcp/1", "it has an empty part: '//'"),
            ("/ip4/1.2.3.4/tcp/1/", "it ends with '/', with nothing after it"),
            ("/ip4/1.2.3.4/tpc/1", "'tpc' is not a protocol"),
            ("/ip4/1.2.3.4/tcp/1/p2p/QmBad", "'QmBad' is not a peer id, expected 12D3… or Qm…"),
            ("/dns4/exa mple.org/tcp/1", "'exa mple.org' is not a DNS name"),
            ("/dnsaddr/a..b", "'a..b' is not a DNS name"),
        ] {
            assert_eq!(parse_multiaddr(address).unwrap_err().what(), what, "{address}");
        }
        assert_eq!(
            parse_multiaddr("/ip4/999.1.1.1").unwrap_err().to_string(),
            "'/ip4/999.1.1.1': '999.1.1.1' is not an IPv4 address"
        );
    }

    #[test]
    fn an_overlong_address_is_refused_before_it_is_parsed() {
        let address = format!("/dns4/{}/tcp/1", "a.".repeat(MULTIADDR_BYTES_MAX));
        assert_eq!(parse_multiaddr(&address).unwrap_err().what(), "it is longer than 1024 bytes");
    }

    #[test]
    fn addresses_to_listen_on() {
        for good in [
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::/tcp/4001",
            "/ip4/127.0.0.1/tcp/0",
            "/ip6/::1/tcp/65535",
            "/ip4/0.0.0.0/udp/4001/quic-v1",
            "/ip6/::/udp/0/quic-v1",
        ] {
            assert_eq!(parse_listen(good).unwrap().to_string(), good);
        }
        for (bad, part) in [
            ("/dns4/example.org/tcp/1", "'/dns4/example.org'"),
            ("/ip4/0.0.0.0", "port is missing"),
            ("/ip4/0.0.0.0/udp/4001", "after '/udp/4001' stands nothing, expected '/quic-v1'"),
            ("/ip4/0.0.0.0/udp/4001/quic", "stands '/quic', expected '/quic-v1'"),
            ("/ip4/0.0.0.0/udp/4001/quic-v1/webtransport", "'/webtransport' cannot follow"),
            (&format!("/ip4/0.0.0.0/udp/1/quic-v1/p2p/{PEER}"), "its own peer id"),
            ("/ip4/0.0.0.0/tcp/1/ws", "'/ws'"),
            (&format!("/ip4/0.0.0.0/tcp/1/p2p/{PEER}"), "its own peer id"),
        ] {
            let error = parse_listen(bad).unwrap_err();
            assert!(error.what().contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn addresses_to_dial() {
        let with_peer = format!("/ip4/104.131.131.82/tcp/4001/p2p/{PEER}");
        let dnsaddr = format!("/dnsaddr/bootstrap.libp2p.io/p2p/{PEER}");
        for good in [
            with_peer.as_str(),
            dnsaddr.as_str(),
            "/dnsaddr/bootstrap.libp2p.io",
            &format!("{with_peer}/p2p-circuit/p2p/{PEER}"),
            "/dns4/a.example/tcp/1",
            "/ip4/10.0.0.1/udp/4001/quic-v1",
            "/dns4/a.example/udp/4001/quic-v1",
            &format!("/ip6/2001:db8::1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
            "/dns6/a.example/tcp/1",
            "/dns/localhost/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
        ] {
            assert_eq!(parse_dial(good).unwrap().to_string(), good);
        }
        for (bad, part) in [
            ("/ip4/0.0.0.0/tcp/4001", "'0.0.0.0'"),
            ("/ip6/::/tcp/4001", "'::'"),
            ("/ip4/10.0.0.1/tcp/0", "port 0"),
            ("/ip4/10.0.0.1", "port is missing"),
            ("/dns4/a.example", "port is missing"),
            ("/ip4/10.0.0.1/udp/1", "after '/udp/1' stands nothing, expected '/quic-v1'"),
            ("/ip4/10.0.0.1/udp/0/quic-v1", "port 0"),
            ("/ip4/0.0.0.0/udp/1/quic-v1", "'0.0.0.0'"),
            ("/ip4/10.0.0.1/tcp/1/ws", "'/ws'"),
            (&format!("/p2p/{PEER}"), "cannot dial"),
            (&format!("{with_peer}/p2p-circuit"), "'/p2p-circuit'"),
            (&format!("{with_peer}/p2p-circuit/tcp/1"), "'/p2p-circuit'"),
            ("/ip4/10.0.0.1/tcp/1/p2p-circuit", "'/p2p-circuit'"),
        ] {
            let error = parse_dial(bad).unwrap_err();
            assert!(error.what().contains(part), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(/(ip4|ip6|tcp|dns4|dnsaddr|p2p|unix|ws|[a-z0-9.:%]{0,9})){0,8}|.{0,64}") {
            let _ = parse_multiaddr(&text);
            let _ = parse_listen(&text);
            let _ = parse_dial(&text);
        }

        #[test]
        fn what_is_accepted_survives_its_text(ip: [u8; 4], port in 1u16.., listen: bool) {
            let ip = Ipv4Addr::from(ip);
            prop_assume!(listen || !ip.is_unspecified());
            let text = format!("/ip4/{ip}/tcp/{port}");
            let parsed = if listen { parse_listen(&text) } else { parse_dial(&text) };
            prop_assert_eq!(parsed.unwrap().to_string(), text);
        }
    }
}
