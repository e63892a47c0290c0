//! A router that translates addresses, as a table without sockets: time and addresses go in, addresses come out.
//!
//! Mapping and filtering are those of [RFC 4787](https://www.rfc-editor.org/rfc/rfc4787) and
//! [RFC 5382](https://www.rfc-editor.org/rfc/rfc5382), for TCP.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The first port that a symmetric router gives out.
const FIRST_PORT: u16 = 20_000;
/// What a router forgets of a connection that says nothing: the least that RFC 5382 allows.
pub const IDLE: Duration = Duration::from_secs(2 * 3_600 + 4 * 60);

/// How a router translates and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One outside port for each inside one; everybody may send to it ("full cone").
    EndpointIndependent,
    /// One outside port for each inside one; an address that was sent to may send to it, from any of its ports ("restricted cone").
    AddressDependent,
    /// One outside port for each inside one; only a socket that was sent to may send to it ("port-restricted cone"), as most homes have it.
    AddressAndPortDependent,
    /// An outside port for each inside one and whom it sends to, and only that socket may answer.
    Symmetric,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent, Self::Symmetric];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Symmetric => "symmetric",
        }
    }
}

/// What a router is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How it translates.
    pub kind: Kind,
    /// Its address towards the world.
    pub outside: IpAddr,
    /// After how long without a packet a mapping is forgotten.
    pub idle: Duration,
    /// Whether those inside reach each other by its outside address.
    pub hairpins: bool,
}

impl Settings {
    /// A router of a kind, with the time-out of RFC 5382, that does not hairpin.
    pub fn new(kind: Kind, outside: IpAddr) -> Self {
        Self { kind, outside, idle: IDLE, hairpins: false }
    }
}

/// A router with what it remembers.
#[derive(Debug)]
pub struct Router {
    settings: Settings,
    /// By inside socket, and where that counts by whom it sends to.
    outside: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    mappings: BTreeMap<u16, Mapping>,
    /// Ports that its owner, or a protocol such as UPnP, opened.
    forwards: BTreeMap<u16, SocketAddr>,
    /// Who came to an open port, by the inside socket: answers leave from that port.
    answers: BTreeMap<(SocketAddr, SocketAddr), (u16, Duration)>,
    next_port: u16,
    /// Nothing expires before.
    expires: Duration,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    to: Option<SocketAddr>,
    /// Who was sent to, and when last.
    sent: BTreeMap<SocketAddr, Duration>,
    last: Duration,
}

impl Router {
    /// A router that remembers nothing.
    pub fn new(settings: Settings) -> Self {
        let (outside, mappings, forwards, answers) = Default::default();
        let (next_port, expires) = (FIRST_PORT, Duration::ZERO);
        Self { settings, outside, mappings, forwards, answers, next_port, expires }
    }

    /// What it is.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Opens an outside port for everybody, as a person or UPnP does.
    pub fn forward(&mut self, port: u16, inside: SocketAddr) {
        self.forwards.insert(port, inside);
    }

    /// The inside socket that an outside port leads to now, whoever sends to it.
    pub fn inside(&self, port: u16) -> Option<SocketAddr> {
        let mapped = || self.mappings.get(&port).map(|mapping| mapping.inside);
        self.forwards.get(&port).copied().or_else(mapped)
    }

    /// Forgets what was idle for too long.
    fn expire(&mut self, now: Duration) {
        if now < self.expires {
            return;
        }
        let idle = self.settings.idle;
        let Self { outside, mappings, answers, .. } = self;
        // What is new expires later than this.
        let mut expires = now + idle;
        let mut is_fresh = |last: Duration| {
            let is_fresh = last + idle > now;
            if is_fresh {
                expires = expires.min(last + idle);
            }
            is_fresh
        };
        mappings.retain(|_, mapping| {
            mapping.sent.retain(|_, last| is_fresh(*last));
            let stays = is_fresh(mapping.last);
            if !stays {
                outside.remove(&(mapping.inside, mapping.to));
            }
            stays
        });
        answers.retain(|_, (_, last)| is_fresh(*last));
        self.expires = expires;
    }

    /// Somebody inside sends to `remote`: what that sees as the sender; none where no port is left.
    pub fn outbound(&mut self, now: Duration, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        if let Some((port, last)) = self.answers.get_mut(&(inside, remote)) {
            *last = now;
            return Some(SocketAddr::new(self.settings.outside, *port));
        }
        let to = (self.settings.kind == Kind::Symmetric).then_some(remote);
        let known = self.outside.get(&(inside, to)).copied();
        let forwarded = || self.forwards.iter().find(|(_, at)| **at == inside).map(|(port, _)| *port);
        let port = match known {
            Some(port) => port,
            // A router whose mapping is the same for everybody keeps the port where it can, as most do.
            None => match forwarded().filter(|_| to.is_none()) {
                Some(port) => port,
                None => self.free_port(if to.is_none() { inside.port() } else { self.next_port })?,
            },
        };
        self.outside.insert((inside, to), port);
        let (sent, last) = (BTreeMap::new(), now);
        let mapping = self.mappings.entry(port).or_insert(Mapping { inside, to, sent, last });
        mapping.last = now;
        mapping.sent.insert(remote, now);
        Some(SocketAddr::new(self.settings.outside, port))
    }

    /// The wanted port, or the next one that is free.
    fn free_port(&mut self, wanted: u16) -> Option<u16> {
        let is_free =
            |port: &u16| !self.mappings.contains_key(port) && !self.forwards.contains_key(port) && *port != 0;
        let port = (wanted..=u16::MAX).chain(1_024..wanted).find(is_free)?;
        if wanted == self.next_port {
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        Some(port)
    }

    /// `remote` sends to an outside port: who gets it inside; none where it is dropped.
    pub fn inbound(&mut self, now: Duration, port: u16, remote: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        if let Some(inside) = self.forwards.get(&port).copied() {
            self.answers.insert((inside, remote), (port, now));
            return Some(inside);
        }
        let mapping = self.mappings.get_mut(&port)?;
        let passes = match self.settings.kind {
            Kind::EndpointIndependent => true,
            Kind::AddressDependent => mapping.sent.keys().any(|sent| sent.ip() == remote.ip()),
            Kind::AddressAndPortDependent | Kind::Symmetric => mapping.sent.contains_key(&remote),
        };
        passes.then(|| {
            mapping.last = now;
            mapping.inside
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    fn kinds() -> impl Iterator<Item = Option<Kind>> {
        std::iter::once(None).chain(Kind::ALL.map(Some))
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A host, behind a router or not.
    struct Peer {
        inside: SocketAddr,
        router: Option<Router>,
    }

    impl Peer {
        fn new(kind: Option<Kind>, number: u8) -> Self {
            let outside = IpAddr::from([100, 64, 0, number]);
            let router = kind.map(|kind| Router::new(Settings::new(kind, outside)));
            Self { inside: SocketAddr::from(([10, 0, 0, number], 4_001)), router }
        }

        fn sends(&mut self, to: SocketAddr) -> SocketAddr {
            self.router.as_mut().map_or(self.inside, |it| it.outbound(NOW, self.inside, to).unwrap())
        }

        fn takes(&mut self, at: SocketAddr, from: SocketAddr) -> bool {
            match &mut self.router {
                None => at == self.inside,
                Some(router) => router.inbound(NOW, at.port(), from) == Some(self.inside),
            }
        }
    }

    /// What a peer has when the other one dials it: the address that a third party saw of it.
    fn reaches(one: Option<Kind>, other: Option<Kind>) -> &'static str {
        let server = at("8.8.8.8:4001");
        let (mut one, mut other) = (Peer::new(one, 1), Peer::new(other, 2));
        let (of_one, of_other) = (one.sends(server), other.sends(server));
        let from = one.sends(of_other);
        if other.takes(of_other, from) {
            return "direct";
        }
        // Both send at the same time: a hole punch.
        let back = other.sends(of_one);
        if other.takes(of_other, from) || one.takes(of_one, back) { "punch" } else { "relay" }
    }

    #[test]
    fn who_reaches_whom_directly_by_a_punch_or_by_a_relay_only() {
        let table: Vec<Vec<&str>> =
            kinds().map(|one| kinds().map(|other| reaches(one, other)).collect()).collect();
        assert_eq!(
            table,
            [
                // none, endpoint-independent, address-dependent, address-and-port-dependent, symmetric
                ["direct", "direct", "punch", "punch", "punch"],
                ["direct", "direct", "punch", "punch", "punch"],
                ["direct", "direct", "punch", "punch", "punch"],
                ["direct", "direct", "punch", "punch", "relay"],
                ["direct", "direct", "punch", "relay", "relay"],
            ]
        );
    }

    #[test]
    fn a_mapping_that_is_idle_is_forgotten_and_one_in_use_is_not() {
        let mut router = Router::new(Settings::new(Kind::EndpointIndependent, [100, 64, 0, 1].into()));
        let (inside, remote) = (at("10.0.0.1:4001"), at("8.8.8.8:1"));
        let outside = router.outbound(NOW, inside, remote).unwrap();
        assert_eq!(router.inbound(NOW + IDLE / 2, outside.port(), remote), Some(inside));
        assert_eq!(
            router.inbound(NOW + IDLE, outside.port(), remote),
            Some(inside),
            "half an hour ago it was used"
        );
        assert_eq!(router.inbound(NOW + IDLE * 2, outside.port(), remote), None);
    }

    #[test]
    fn a_symmetric_router_shows_everybody_another_port_and_others_the_same() {
        let inside = at("10.0.0.1:4001");
        let seen = |kind| {
            let mut router = Router::new(Settings::new(kind, [100, 64, 0, 1].into()));
            ["8.8.8.8:1", "8.8.8.8:2", "9.9.9.9:1"]
                .map(|to| router.outbound(NOW, inside, at(to)).unwrap().port())
        };
        assert_eq!(seen(Kind::EndpointIndependent), [4_001; 3]);
        assert_eq!(seen(Kind::AddressDependent), [4_001; 3]);
        assert_eq!(seen(Kind::AddressAndPortDependent), [4_001; 3]);
        assert_eq!(seen(Kind::Symmetric), [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 2]);
    }

    #[test]
    fn an_open_port_leads_inside_for_everybody() {
        let mut router = Router::new(Settings::new(Kind::Symmetric, [100, 64, 0, 1].into()));
        router.forward(4_001, at("10.0.0.1:4001"));
        assert_eq!(router.inbound(NOW, 4_001, at("8.8.8.8:1")), Some(at("10.0.0.1:4001")));
        assert_eq!(router.inbound(NOW, 4_002, at("8.8.8.8:1")), None);
        let answer = router.outbound(NOW, at("10.0.0.1:4001"), at("8.8.8.8:1"));
        assert_eq!(answer, Some(at("100.64.0.1:4001")), "who came there is answered from there");
        assert_ne!(router.outbound(NOW, at("10.0.0.1:4001"), at("8.8.8.8:2")), answer);
        assert_ne!(router.outbound(NOW + IDLE, at("10.0.0.1:4001"), at("8.8.8.8:1")), answer, "forgotten");
    }

    #[test]
    fn of_many_that_were_sent_to_each_expires_at_its_own_time() {
        let mut router = Router::new(Settings::new(Kind::AddressAndPortDependent, [100, 64, 0, 1].into()));
        let inside = at("10.0.0.1:4001");
        let remote = |n: u16| SocketAddr::from(([8, 8, 8, 8], n));
        let late = |n: u16| NOW + IDLE / 100 * u32::from(n);
        for n in 1..=90 {
            router.outbound(late(n), inside, remote(n));
        }
        let passes = |router: &mut Router, n| router.inbound(late(n) + IDLE, 4_001, remote(n)).is_some();
        assert!((1..90).all(|n| !passes(&mut router, n)));
        assert_eq!(
            router.inbound(late(89) + IDLE, 4_001, remote(90)),
            Some(inside),
            "a moment before its time"
        );
    }
}
