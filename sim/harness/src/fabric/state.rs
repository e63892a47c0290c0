//! What a fabric is at a moment: hosts, links, connections, dials, and what is to come.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Error, Host,
    flows::{Flows, Foretold},
    nat::{self, Router},
    share::Line,
};
use crate::{draw::Draws, net::End as Ended};

/// Bytes that are written and not read yet, in one direction of a connection: more cannot be written.
pub(super) const WINDOW_BYTES: usize = 1 << 20;
/// Bytes of a segment.
pub(super) const SEGMENT_BYTES_MAX: usize = 16 << 10;
/// Connections that a port keeps for whoever accepts them, as Linux and most programs have it.
pub(super) const BACKLOG_MAX: usize = 128;
/// The first port that a host gives out by itself.
const EPHEMERAL_FIRST: u16 = 32_768;

/// How long a link takes, and what it loses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// From one host to the other.
    pub latency: Duration,
    /// Longer than that by up to so much, drawn for each segment; nothing overtakes.
    pub jitter: Duration,
    /// Of a thousand packets, so many are lost, and sent again.
    pub loss_permille: u16,
}

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// Segments reach the other end.
    Arrive { conn: u64, end: usize },
    /// What was lost is sent again.
    Resend { conn: u64, end: usize },
    /// The segment that is being sent has left.
    Sent { conn: u64, end: usize, version: u64 },
    /// Lines are shared again.
    Share,
    /// The sender hears that so many bytes were read.
    Credit { conn: u64, end: usize, bytes: usize, attempt: u32 },
    /// The end hears that there is no connection.
    Reset { conn: u64, end: usize },
    /// A request for a connection reaches its host, from this socket.
    Syn { dial: u64, from: SocketAddr },
    /// The answer reaches who dialled.
    SynAck { dial: u64 },
    /// The answer to that reaches who listens.
    Accept { conn: u64, attempt: u32 },
    /// Nobody listens.
    Refused { dial: u64 },
    /// Nobody has answered for a while.
    Redial { dial: u64 },
}

#[derive(Debug)]
pub(super) struct HostState {
    pub(super) ip: IpAddr,
    pub(super) lines: (Option<u64>, Option<u64>),
    /// The number of the router before it.
    pub(super) router: Option<usize>,
    pub(super) firewall: bool,
    pub(super) is_running: bool,
    pub(super) is_off: bool,
    pub(super) listeners: BTreeMap<u16, Listening>,
    pub(super) conns: BTreeSet<u64>,
    dials: BTreeSet<u64>,
    next_port: u16,
}

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Host(usize),
    /// To an outside port of a router.
    Router(usize),
}

#[derive(Debug, Default)]
pub(super) struct Listening {
    /// Tells a port that was opened again from the one before.
    pub(super) number: u64,
    pub(super) ready: VecDeque<u64>,
    /// Connections whose dialler has not answered yet.
    pub(super) half_open: BTreeSet<u64>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    Data(Bytes),
    /// Nothing more comes.
    Fin,
    /// There is no connection any more.
    Rst,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) load: Load,
    pub(super) departed: u64,
    pub(super) due: u64,
    pub(super) is_lost: bool,
}

/// One end of a connection, with what it sends and what it received.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: usize,
    pub(super) local: SocketAddr,
    /// As it sees the other one.
    pub(super) remote: SocketAddr,
    /// Whether a program holds it, or will.
    pub(super) is_open: bool,
    /// Its machine lost power: it sends nothing more.
    pub(super) is_gone: bool,
    pub(super) queue: VecDeque<Load>,
    pub(super) flight: VecDeque<Segment>,
    pub(super) held: VecDeque<Segment>,
    pub(super) lost: VecDeque<Segment>,
    pub(super) attempt: u32,
    /// Since when nothing was acknowledged.
    pub(super) lost_since: u64,
    /// Bytes that were written and whose reading it does not know of.
    pub(super) outstanding: usize,
    pub(super) segments: u64,
    pub(super) is_finished: bool,
    pub(super) writer: Option<Waker>,
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) is_eof: bool,
    pub(super) error: Option<io::ErrorKind>,
    pub(super) reader: Option<Waker>,
}

impl End {
    fn new(host: usize, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            host,
            local,
            remote,
            is_open: true,
            is_gone: false,
            queue: VecDeque::new(),
            flight: VecDeque::new(),
            held: VecDeque::new(),
            lost: VecDeque::new(),
            attempt: 0,
            lost_since: 0,
            outstanding: 0,
            segments: 0,
            is_finished: false,
            writer: None,
            inbox: VecDeque::new(),
            is_eof: false,
            error: None,
            reader: None,
        }
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(super) struct Conn {
    /// First who dialled.
    pub(super) ends: [End; 2],
    /// Where it waits to be accepted: port and number.
    pub(super) waits: Option<(u16, u64)>,
}

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) host: usize,
    pub(super) local: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) attempt: u32,
    pub(super) conn: Option<u64>,
    pub(super) outcome: Option<Result<(u64, usize), io::ErrorKind>>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) draws: Draws,
    pub(super) now: u64,
    next: u64,
    pub(super) coming: BTreeMap<(u64, u64), Event>,
    pub(super) hosts: Vec<HostState>,
    by_ip: BTreeMap<IpAddr, usize>,
    pub(super) routers: Vec<Router>,
    by_router: BTreeMap<IpAddr, usize>,
    link: Link,
    links: BTreeMap<(usize, usize), Link>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) held: BTreeSet<(usize, usize)>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) flows: Flows,
    pub(super) driver: Option<Waker>,
    pub(super) events: u64,
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn sorted(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

impl State {
    pub(super) fn new(draws: Draws, link: Link) -> Self {
        Self {
            draws,
            now: 0,
            next: 0,
            coming: BTreeMap::new(),
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            routers: Vec::new(),
            by_router: BTreeMap::new(),
            link,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            conns: BTreeMap::new(),
            dials: BTreeMap::new(),
            flows: Flows::default(),
            driver: None,
            events: 0,
        }
    }

    pub(super) fn add_host(&mut self, ip: IpAddr, host: &Host) -> Result<usize, Error> {
        let number = self.hosts.len();
        if self.by_ip.contains_key(&ip) || self.by_router.contains_key(&ip) {
            return Err(Error::Taken(ip));
        }
        let router = host.router.map(|router| self.router(router)).transpose()?;
        self.by_ip.insert(ip, number);
        self.hosts.push(HostState {
            ip,
            lines: (host.up, host.down),
            router,
            firewall: host.firewall,
            is_running: false,
            is_off: false,
            listeners: BTreeMap::new(),
            conns: BTreeSet::new(),
            dials: BTreeSet::new(),
            next_port: EPHEMERAL_FIRST,
        });
        Ok(number)
    }

    /// The number of a router, which is new where nobody stands behind it yet.
    fn router(&mut self, settings: nat::Settings) -> Result<usize, Error> {
        let outside = settings.outside;
        if self.by_ip.contains_key(&outside) {
            return Err(Error::Taken(outside));
        }
        if let Some(router) = self.by_router.get(&outside).copied() {
            let is_same = self.routers[router].settings() == settings;
            return is_same.then_some(router).ok_or(Error::Router(outside));
        }
        self.by_router.insert(outside, self.routers.len());
        self.routers.push(Router::new(settings));
        Ok(self.routers.len() - 1)
    }

    /// A host stands behind another router from now on.
    pub(super) fn move_behind(&mut self, host: usize, settings: nat::Settings) -> Result<(), Error> {
        self.hosts[host].router = Some(self.router(settings)?);
        Ok(())
    }

    pub(super) fn host_of(&self, ip: IpAddr) -> Option<usize> {
        self.by_ip.get(&ip).copied()
    }

    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        let key = (at.max(self.now), self.number());
        let is_next = self.coming.first_key_value().is_none_or(|(first, _)| key < *first);
        self.coming.insert(key, event);
        if is_next && let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(super) fn foretell(&mut self, foretold: impl IntoIterator<Item = Foretold>) {
        for Foretold { way: (conn, end), at, version } in foretold {
            self.at(at, Event::Sent { conn, end, version });
        }
    }

    pub(super) fn capacity(hosts: &[HostState]) -> impl Fn(Line) -> Option<u64> {
        |line| match line {
            Line::Up(host) => hosts[host].lines.0,
            Line::Down(host) => hosts[host].lines.1,
        }
    }

    pub(super) fn link(&self, one: usize, other: usize) -> Link {
        if one == other {
            return Link::default();
        }
        self.links.get(&sorted(one, other)).copied().unwrap_or(self.link)
    }

    pub(super) fn set_link(&mut self, one: usize, other: usize, link: Link) {
        self.links.insert(sorted(one, other), link);
    }

    pub(super) fn latency(&self, one: usize, other: usize) -> u64 {
        nanos(self.link(one, other).latency)
    }

    pub(super) fn round_trip(&self, one: usize, other: usize) -> Duration {
        self.link(one, other).latency * 2
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        from != to && (self.cut.contains(&(from, to)) || self.hosts[from].is_off || self.hosts[to].is_off)
    }

    pub(super) fn is_held(&self, one: usize, other: usize) -> bool {
        self.held.contains(&sorted(one, other))
    }

    pub(super) fn hold(&mut self, one: usize, other: usize) {
        self.held.insert(sorted(one, other));
    }

    pub(super) fn release(&mut self, one: usize, other: usize) {
        self.held.remove(&sorted(one, other));
        let between = |conn: &Conn| sorted(conn.ends[0].host, conn.ends[1].host) == sorted(one, other);
        let conns: Vec<u64> = self.hosts[one].conns.iter().copied().collect();
        for id in conns {
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| between(conn)) else { continue };
            let mut arriving = Vec::new();
            for (number, end) in conn.ends.iter_mut().enumerate() {
                while let Some(segment) = end.held.pop_back() {
                    end.flight.push_front(Segment { due: self.now, ..segment });
                    arriving.push(number);
                }
            }
            arriving.dedup();
            arriving.into_iter().for_each(|end| self.at(self.now, Event::Arrive { conn: id, end }));
        }
    }

    /// Where an address leads, for a host. Those behind one router reach each other inside; nobody else gets there.
    pub(super) fn route(&self, from: usize, to: SocketAddr) -> Option<Target> {
        if let Some(host) = self.by_ip.get(&to.ip()).copied() {
            let is_open = self.hosts[host].router.is_none() || self.is_inside(from, Target::Host(host));
            return is_open.then_some(Target::Host(host));
        }
        if to.ip().is_loopback() {
            return Some(Target::Host(from));
        }
        let router = self.by_router.get(&to.ip()).copied()?;
        let is_own = self.hosts[from].router == Some(router);
        (!is_own || self.routers[router].settings().hairpins).then_some(Target::Router(router))
    }

    /// Whether what a host sends there passes no router.
    pub(super) fn is_inside(&self, from: usize, to: Target) -> bool {
        let Target::Host(host) = to else { return false };
        let router = self.hosts[from].router;
        host == from || router.is_some() && router == self.hosts[host].router
    }

    /// The host that is meant, as far as it can be told before the router was asked; none where nobody is there.
    pub(super) fn meant(&self, to: Target, port: u16) -> Option<usize> {
        match to {
            Target::Host(host) => Some(host),
            Target::Router(router) => {
                let mapped = self.routers[router].inside(port).and_then(|inside| self.host_of(inside.ip()));
                let is_behind = |host: &usize| self.hosts[*host].router == Some(router);
                mapped.filter(is_behind).or_else(|| (0..self.hosts.len()).find(is_behind))
            }
        }
    }

    pub(super) fn add_dial(&mut self, dial: Dial) -> u64 {
        let id = self.number();
        self.hosts[dial.host].dials.insert(id);
        self.dials.insert(id, dial);
        id
    }

    pub(super) fn take_dial(&mut self, id: u64) -> Option<Dial> {
        let dial = self.dials.remove(&id)?;
        self.hosts[dial.host].dials.remove(&id);
        Some(dial)
    }

    /// The dials of a host.
    pub(super) fn dials_of(&self, host: usize) -> impl Iterator<Item = (u64, &Dial)> {
        self.hosts[host].dials.iter().filter_map(|id| Some((*id, self.dials.get(id)?)))
    }

    /// A port that nothing on the host uses.
    pub(super) fn free_port(&mut self, host: usize) -> Option<u16> {
        let used: BTreeSet<u16> = self.ports_in_use(host);
        let host = &mut self.hosts[host];
        let from = host.next_port;
        let port = (from..=u16::MAX).chain(EPHEMERAL_FIRST..from).find(|port| !used.contains(port))?;
        host.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
        Some(port)
    }

    fn ports_in_use(&self, number: usize) -> BTreeSet<u16> {
        let host = &self.hosts[number];
        let ends = host.conns.iter().filter_map(|id| self.conns.get(id)).flat_map(|conn| &conn.ends);
        let dials = self.dials_of(number).map(|(_, dial)| dial.local.port());
        let ends = ends.filter(|end| end.host == number).map(|end| end.local.port());
        ends.chain(dials).chain(host.listeners.keys().copied()).collect()
    }

    /// Whether a host has a connection, or a dial, between two sockets.
    pub(super) fn is_connected(&self, host: usize, local: SocketAddr, remote: SocketAddr) -> bool {
        let is_it = |end: &End| end.host == host && end.local == local && end.remote == remote;
        let conns = self.hosts[host].conns.iter().filter_map(|id| self.conns.get(id));
        let mut dials = self.dials_of(host);
        conns.flat_map(|conn| &conn.ends).any(is_it)
            || dials.any(|(_, dial)| dial.local == local && dial.to == remote)
    }

    /// A connection between two hosts, with the sockets that each end has and sees.
    pub(super) fn connect(
        &mut self,
        one: (usize, SocketAddr, SocketAddr),
        other: (usize, SocketAddr, SocketAddr),
    ) -> u64 {
        let id = self.number();
        let ends = [one, other].map(|(host, local, remote)| End::new(host, local, remote));
        for end in &ends {
            self.hosts[end.host].conns.insert(id);
        }
        self.conns.insert(id, Conn { ends, waits: None });
        id
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn forget(&mut self, id: u64) {
        let Some(conn) = self.conns.remove(&id) else { return };
        for (number, end) in conn.ends.iter().enumerate() {
            self.hosts[end.host].conns.remove(&id);
            self.end_flow((id, number));
        }
        if let Some((port, number)) = conn.waits {
            let listener = self.hosts[conn.ends[1].host].listeners.get_mut(&port);
            if let Some(listener) = listener.filter(|it| it.number == number) {
                listener.half_open.remove(&id);
                listener.ready.retain(|ready| *ready != id);
            }
        }
    }

    pub(super) fn end_flow(&mut self, way: (u64, usize)) {
        if self.flows.is_active(way) {
            self.share_soon();
            self.flows.end(way);
        }
    }

    /// Shares the lines again that change now, all of those of a moment at once.
    pub(super) fn share_soon(&mut self) {
        if !self.flows.is_changed() {
            self.at(self.now.saturating_add(1), Event::Share);
        }
    }

    pub(super) fn share(&mut self) {
        let Self { flows, hosts, .. } = self;
        let foretold = flows.share(self.now, Self::capacity(hosts));
        self.foretell(foretold);
    }

    /// The program of a host ends at once.
    pub(super) fn crash(&mut self, number: usize, how: Ended) {
        let host = &mut self.hosts[number];
        (host.is_running, host.is_off) = (false, how == Ended::PowerLost);
        host.listeners.clear();
        let dials: Vec<u64> = self.dials_of(number).map(|(id, _)| id).collect();
        dials.into_iter().for_each(|dial| self.give_up(dial));
        let conns: Vec<u64> = self.hosts[number].conns.iter().copied().collect();
        for id in conns {
            for end in 0..2 {
                if self.conns.get(&id).is_none_or(|conn| conn.ends[end].host != number) {
                    continue;
                }
                if how == Ended::PowerLost
                    && let Some(conn) = self.conns.get_mut(&id)
                {
                    conn.ends[end].is_gone = true;
                }
                self.close(id, end);
            }
        }
    }

    /// Segments in progress, by pair of hosts.
    pub(super) fn in_progress(&self) -> BTreeMap<(usize, usize), usize> {
        let mut all = BTreeMap::new();
        for conn in self.conns.values() {
            let [one, other] = &conn.ends;
            let segments = [one, other]
                .map(|end| end.flight.len() + end.held.len() + end.lost.len())
                .iter()
                .sum::<usize>();
            if segments > 0 && one.host != other.host {
                *all.entry(sorted(one.host, other.host)).or_insert(0) += segments;
            }
        }
        all
    }
}
