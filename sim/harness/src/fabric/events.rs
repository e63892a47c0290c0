//! What happens next: requests, segments, acknowledgements and resets as they arrive, and what follows from each.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use super::{
    backoff,
    state::{BACKLOG_MAX, Event, Load, SEGMENT_BYTES_MAX, Segment, State, Target, WINDOW_BYTES, nanos},
};

/// Bytes of a packet, by which losses are counted.
const PACKET_BYTES: usize = 1_400;
/// Segments behind a lost one that tell the sender of it before its time is over.
const FAST_RESEND_SEGMENTS: usize = 3;

/// What routers make of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    Free,
    Dropped,
    /// It reaches a socket that knows nothing of its connection.
    Elsewhere,
}

impl State {
    /// Carries out everything that is due.
    pub(super) fn run_until(&mut self, now: u64) {
        while let Some(entry) = self.coming.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.events += 1;
            self.happen(event);
        }
        self.now = self.now.max(now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { conn, end } => self.arrive(conn, end),
            Event::Resend { conn, end } => self.resend(conn, end),
            Event::Sent { conn, end, version } => self.sent(conn, end, version),
            Event::Share => self.share(),
            Event::Credit { conn, end, bytes, attempt } => self.credit(conn, end, bytes, attempt),
            Event::Reset { conn, end } => self.reset(conn, end, io::ErrorKind::ConnectionReset),
            Event::Syn { dial, from } => self.syn(dial, from),
            Event::SynAck { dial } => self.syn_ack(dial),
            Event::Accept { conn, attempt } => self.accept(conn, attempt),
            Event::Refused { dial } => self.fail(dial, io::ErrorKind::ConnectionRefused),
            Event::Redial { dial } => self.redial(dial),
        }
    }

    /// Sends a request for a connection.
    pub(super) fn request(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let (host, local, to, attempt) = (dial.host, dial.local, dial.to, dial.attempt);
        if let Some(wait) = backoff::redial(attempt) {
            self.at(self.now.saturating_add(nanos(wait)), Event::Redial { dial: id });
        }
        let Some(way) = self.route(host, to) else { return };
        // A router sees what leaves, wherever it is lost then.
        let from = if self.is_inside(host, way) { Some(local) } else { self.translate(host, local, to) };
        let Some(target) = self.meant(way, to.port()) else { return };
        let Some(from) = from.filter(|_| !self.is_cut(host, target)) else { return };
        self.at(self.now + self.latency(host, target), Event::Syn { dial: id, from });
    }

    /// What the world sees of a socket that sends to `to`.
    fn translate(&mut self, host: usize, local: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let now = Duration::from_nanos(self.now);
        match self.hosts[host].router {
            Some(router) => self.routers[router].outbound(now, local, to),
            None => Some(local),
        }
    }

    /// Which host gets what `from` sends `to` it, and at which socket.
    fn admit(&mut self, way: Target, to: SocketAddr, from: SocketAddr) -> Option<(usize, SocketAddr)> {
        match way {
            Target::Host(host) => Some((host, SocketAddr::new(self.hosts[host].ip, to.port()))),
            Target::Router(router) => {
                let now = Duration::from_nanos(self.now);
                let inside = self.routers[router].inbound(now, to.port(), from)?;
                let host = self.host_of(inside.ip())?;
                (self.hosts[host].router == Some(router)).then_some((host, inside))
            }
        }
    }

    fn syn(&mut self, id: u64, from: SocketAddr) {
        let Some(dial) = self.dials.get(&id).filter(|dial| dial.outcome.is_none()) else { return };
        let (host, local, to, connected) = (dial.host, dial.local, dial.to, dial.conn);
        let Some(way) = self.route(host, to) else { return };
        if self.meant(way, to.port()).is_none_or(|target| self.is_cut(host, target)) {
            return;
        }
        let Some((target, at)) = self.admit(way, to, from) else { return };
        if self.is_cut(host, target) || self.hosts[target].firewall && !self.is_inside(host, way) {
            return;
        }
        let back = self.now + self.latency(host, target);
        let is_answered = !self.is_cut(target, host);
        if connected.is_none() {
            let crossing = self
                .dials_of(target)
                .find(|(_, other)| other.local == at && other.to == from && other.outcome.is_none())
                .map(|(other, _)| other)
                .filter(|other| *other != id);
            if let Some(other) = crossing {
                // Both dialled from where the other one dials to: one connection, and nobody accepts it.
                let conn = self.connect((host, local, to), (target, at, from));
                self.settle(other, Ok((conn, 1)));
                if let Some(dial) = self.dials.get_mut(&id) {
                    dial.conn = Some(conn);
                }
                self.at(back, Event::SynAck { dial: id });
                return;
            }
            let Some(listener) = self.hosts[target].listeners.get(&at.port()) else {
                if is_answered {
                    self.at(back, Event::Refused { dial: id });
                }
                return;
            };
            if listener.ready.len() + listener.half_open.len() >= BACKLOG_MAX {
                return;
            }
            let number = listener.number;
            let conn = self.connect((host, local, to), (target, at, from));
            if let Some(made) = self.conns.get_mut(&conn) {
                made.waits = Some((at.port(), number));
            }
            if let Some(listener) = self.hosts[target].listeners.get_mut(&at.port()) {
                listener.half_open.insert(conn);
            }
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.conn = Some(conn);
            }
        }
        if is_answered {
            self.at(back, Event::SynAck { dial: id });
        }
    }

    fn syn_ack(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id).filter(|dial| dial.outcome.is_none()) else { return };
        let Some(conn) = dial.conn else { return };
        let Some(made) = self.conns.get(&conn) else {
            // Whoever listened is no more.
            return self.fail(id, io::ErrorKind::ConnectionReset);
        };
        let [one, other] = [made.ends[0].host, made.ends[1].host];
        // The answer of a host that was cut off meanwhile does not arrive; the request will be sent again.
        if self.is_cut(other, one) {
            return;
        }
        let waits = made.waits.is_some();
        self.settle(id, Ok((conn, 0)));
        if waits {
            self.at(self.now + self.latency(one, other), Event::Accept { conn, attempt: 0 });
        }
    }

    fn accept(&mut self, id: u64, attempt: u32) {
        let Some(conn) = self.conns.get(&id) else { return };
        let [one, other] = [conn.ends[0].host, conn.ends[1].host];
        if self.is_cut(one, other) {
            let wait = nanos(backoff::resend(self.round_trip(one, other), attempt));
            return self.at(self.now + wait, Event::Accept { conn: id, attempt: attempt + 1 });
        }
        let Some((port, number)) = conn.waits else { return };
        let listener = self.hosts[other].listeners.get_mut(&port).filter(|it| it.number == number);
        let Some(listener) = listener else { return };
        if listener.half_open.remove(&id) {
            listener.ready.push_back(id);
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
    }

    fn redial(&mut self, id: u64) {
        let Some(dial) = self.dials.get_mut(&id).filter(|dial| dial.outcome.is_none()) else { return };
        if backoff::is_last_dial(dial.attempt) {
            return self.fail(id, io::ErrorKind::TimedOut);
        }
        dial.attempt += 1;
        self.request(id);
    }

    fn fail(&mut self, id: u64, error: io::ErrorKind) {
        if let Some(conn) = self.dials.get(&id).and_then(|dial| dial.conn) {
            self.forget(conn);
        }
        self.settle(id, Err(error));
    }

    fn settle(&mut self, id: u64, outcome: Result<(u64, usize), io::ErrorKind>) {
        let Some(dial) = self.dials.get_mut(&id).filter(|dial| dial.outcome.is_none()) else { return };
        dial.outcome = Some(outcome);
        if let Some(waker) = dial.waker.take() {
            waker.wake();
        }
    }

    /// Nobody waits for a dial any more.
    pub(super) fn give_up(&mut self, id: u64) {
        let Some(dial) = self.take_dial(id) else { return };
        match dial.outcome {
            Some(Ok((conn, end))) => self.close(conn, end),
            Some(Err(_)) => {}
            None => {
                if let Some(conn) = dial.conn {
                    self.forget(conn);
                }
            }
        }
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn write(&mut self, id: u64, end: usize, bytes: &[u8]) -> Option<usize> {
        let sender = &mut self.conns.get_mut(&id)?.ends[end];
        let room = WINDOW_BYTES.saturating_sub(sender.outstanding).min(bytes.len()).min(SEGMENT_BYTES_MAX);
        if room == 0 {
            return None;
        }
        sender.outstanding += room;
        sender.queue.push_back(Load::Data(bytes::Bytes::copy_from_slice(&bytes[..room])));
        self.pump(id, end);
        Some(room)
    }

    /// Sends what waits, as far as the line lets it.
    pub(super) fn pump(&mut self, id: u64, end: usize) {
        loop {
            if self.flows.is_active((id, end)) {
                return;
            }
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let other = conn.ends[1 - end].host;
            let sender = &mut conn.ends[end];
            if sender.is_gone || !sender.lost.is_empty() {
                return;
            }
            let host = sender.host;
            let Some(bytes) = sender.queue.front().map(size_of) else { return };
            let (up, down) = (self.hosts[host].lines.0, self.hosts[other].lines.1);
            let is_bounded = host != other && (up.is_some() || down.is_some());
            if is_bounded && bytes > 0 {
                let bytes = gather(&mut sender.queue);
                self.share_soon();
                let Self { flows, hosts, now, .. } = self;
                flows.begin(*now, (id, end), (host, other), bytes, Self::capacity(hosts));
                return;
            }
            if let Some(load) = sender.queue.pop_front() {
                self.depart(id, end, load);
            }
        }
    }

    fn sent(&mut self, id: u64, end: usize, version: u64) {
        if !self.flows.is_newest((id, end), version) {
            return;
        }
        let sender = self.conns.get_mut(&id).map(|conn| &mut conn.ends[end]);
        let Some(load) = sender.and_then(|sender| sender.queue.pop_front()) else {
            return self.end_flow((id, end));
        };
        self.depart(id, end, load);
        let sender = self.conns.get_mut(&id).map(|conn| &mut conn.ends[end]);
        let next = sender.filter(|sender| sender.lost.is_empty()).map_or(0, |it| gather(&mut it.queue));
        if next > 0 {
            let foretold = self.flows.next(self.now, (id, end), next);
            self.foretell(foretold);
        } else {
            self.end_flow((id, end));
            self.pump(id, end);
        }
    }

    /// A segment leaves its host.
    fn depart(&mut self, id: u64, end: usize, load: Load) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        let number = conn.ends[end].segments;
        let is_lost = self.is_cut(host, other) || self.is_unlucky(id, end, number, size_of(&load));
        let link = self.link(host, other);
        let jitter = if link.jitter.is_zero() {
            0
        } else {
            let way = self.way(host, other, id);
            nanos(self.draws.duration(&(Duration::ZERO..=link.jitter), "jitter", &way, number))
        };
        let due = self.now + nanos(link.latency) + jitter;
        let (now, Some(conn)) = (self.now, self.conns.get_mut(&id)) else { return };
        let sender = &mut conn.ends[end];
        sender.segments += 1;
        let due = sender.flight.back().map_or(due, |last| due.max(last.due));
        sender.flight.push_back(Segment { load, departed: now, due, is_lost });
        self.at(due, Event::Arrive { conn: id, end });
    }

    /// The key of what is drawn for a way: who sends to whom, and the port of who dialled.
    fn way(&self, from: usize, to: usize, id: u64) -> String {
        let port = self.conns.get(&id).map_or(0, |conn| conn.ends[0].local.port());
        format!("{}>{} {port}", self.hosts[from].ip, self.hosts[to].ip)
    }

    fn is_unlucky(&self, id: u64, end: usize, number: u64, bytes: usize) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        let loss = u64::from(self.link(host, other).loss_permille.min(999));
        if loss == 0 {
            return false;
        }
        const ALL: u64 = 1 << 32;
        let packets = bytes.div_ceil(PACKET_BYTES).max(1);
        let arrives = (0..packets).fold(ALL, |arrives, _| arrives * (1_000 - loss) / 1_000);
        self.draws.below(ALL, "loss", &self.way(host, other, id), number) >= arrives
    }

    fn arrive(&mut self, id: u64, end: usize) {
        loop {
            let now = self.now;
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
            let sender = &mut conn.ends[end];
            if sender.flight.front().is_none_or(|first| first.due > now) {
                return;
            }
            let Some(segment) = sender.flight.pop_front() else { return };
            if self.is_held(host, other) && host != other {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.ends[end].held.push_back(segment);
                }
                continue;
            }
            let mut is_lost = segment.is_lost || self.is_cut(host, other);
            if !is_lost {
                match self.passes(id, end) {
                    Passage::Free => {}
                    Passage::Dropped => is_lost = true,
                    // Whoever gets it knows of no such connection, and says so.
                    Passage::Elsewhere => {
                        let at = self.now + self.latency(host, other);
                        self.at(at, Event::Reset { conn: id, end });
                        continue;
                    }
                }
            }
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if is_lost || !conn.ends[end].lost.is_empty() {
                self.lose(id, end, segment);
                continue;
            }
            conn.ends[end].attempt = 0;
            if !self.deliver(id, end, segment) {
                return;
            }
        }
    }

    /// What the routers on its way make of what this end sends.
    fn passes(&mut self, id: u64, end: usize) -> Passage {
        let Some(conn) = self.conns.get(&id) else { return Passage::Dropped };
        let (sender, receiver) = (&conn.ends[end], &conn.ends[1 - end]);
        let (host, other) = (sender.host, receiver.host);
        if self.hosts[host].router.is_none() && self.hosts[other].router.is_none() || host == other {
            return Passage::Free;
        }
        let (local, remote) = (sender.local, sender.remote);
        let (expected, inside) = (receiver.remote, receiver.local);
        let Some(way) = self.route(host, remote) else { return Passage::Dropped };
        let from = if self.is_inside(host, way) { Some(local) } else { self.translate(host, local, remote) };
        let Some(from) = from else { return Passage::Dropped };
        match self.admit(way, remote, from) {
            None => Passage::Dropped,
            Some(at) if at == (other, inside) && from == expected => Passage::Free,
            Some(_) => Passage::Elsewhere,
        }
    }

    fn lose(&mut self, id: u64, end: usize, segment: Segment) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        let sender = &mut conn.ends[end];
        // A machine without power sends nothing again, and what tells of a reset is sent once.
        if sender.is_gone || segment.load == Load::Rst {
            return;
        }
        let (departed, is_first) = (segment.departed, sender.lost.is_empty());
        let attempt = sender.attempt;
        if is_first && attempt == 0 {
            sender.lost_since = departed;
        }
        let is_told = segment.is_lost && attempt == 0 && sender.flight.len() >= FAST_RESEND_SEGMENTS;
        sender.lost.push_back(segment);
        if is_first {
            let round_trip = self.round_trip(host, other);
            let wait = if is_told && !self.is_cut(host, other) && !self.is_cut(other, host) {
                round_trip
            } else {
                backoff::resend(round_trip, attempt)
            };
            self.at(departed + nanos(wait), Event::Resend { conn: id, end });
        }
    }

    fn resend(&mut self, id: u64, end: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get(&id) else { return };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        if conn.ends[end].lost.is_empty() {
            return;
        }
        if now.saturating_sub(conn.ends[end].lost_since) > nanos(backoff::GIVE_UP) {
            return self.reset(id, end, io::ErrorKind::TimedOut);
        }
        let is_cut = self.is_cut(host, other);
        let latency = self.latency(host, other);
        let round_trip = self.round_trip(host, other);
        let number = conn.ends[end].segments;
        let first = conn.ends[end].lost.front().map_or(0, |first| size_of(&first.load));
        let is_lost = is_cut || self.is_unlucky(id, end, number, first);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let sender = &mut conn.ends[end];
        sender.segments += 1;
        sender.attempt += 1;
        if is_lost {
            let wait = nanos(backoff::resend(round_trip, sender.attempt));
            return self.at(now + wait, Event::Resend { conn: id, end });
        }
        let due = now + latency;
        sender.flight.iter_mut().for_each(|behind| behind.due = behind.due.max(due));
        while let Some(segment) = sender.lost.pop_back() {
            sender.flight.push_front(Segment { departed: now, due, is_lost: false, ..segment });
        }
        self.at(due, Event::Arrive { conn: id, end });
        self.pump(id, end);
    }

    /// A segment reaches the other end; false where the connection is no more.
    fn deliver(&mut self, id: u64, end: usize, segment: Segment) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        let receiver = &mut conn.ends[1 - end];
        if segment.load == Load::Rst {
            self.reset(id, 1 - end, io::ErrorKind::ConnectionReset);
            return true;
        }
        if !receiver.is_open {
            if self.is_cut(other, host) {
                // It is not told, and sends again.
                self.lose(id, end, segment);
            } else {
                self.at(self.now + self.latency(host, other), Event::Reset { conn: id, end });
            }
            return true;
        }
        match segment.load {
            Load::Data(bytes) => receiver.inbox.push_back(bytes),
            Load::Fin => receiver.is_eof = true,
            Load::Rst => {}
        }
        if let Some(waker) = receiver.reader.take() {
            waker.wake();
        }
        true
    }

    /// A reader took bytes: its peer may send more, once it hears of that.
    pub(super) fn read(&mut self, id: u64, end: usize, bytes: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        let sender = &mut conn.ends[1 - end];
        // Nobody can tell when a window that is wide open grows.
        if sender.writer.is_none() && sender.outstanding <= WINDOW_BYTES / 2 && host != other {
            sender.outstanding = sender.outstanding.saturating_sub(bytes);
            return;
        }
        let at = self.now + self.latency(host, other);
        self.at(at, Event::Credit { conn: id, end: 1 - end, bytes, attempt: 0 });
    }

    fn credit(&mut self, id: u64, end: usize, bytes: usize, attempt: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (host, other) = (conn.ends[end].host, conn.ends[1 - end].host);
        if self.is_cut(other, host) {
            let wait = nanos(backoff::resend(self.round_trip(host, other), attempt));
            let attempt = attempt + 1;
            return self.at(self.now + wait, Event::Credit { conn: id, end, bytes, attempt });
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let sender = &mut conn.ends[end];
        sender.outstanding = sender.outstanding.saturating_sub(bytes);
        if let Some(waker) = sender.writer.take() {
            waker.wake();
        }
    }

    /// An end hears that its connection is no more.
    pub(super) fn reset(&mut self, id: u64, end: usize, error: io::ErrorKind) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let own = &mut conn.ends[end];
        own.error.get_or_insert(error);
        own.queue.clear();
        own.lost.clear();
        own.wake();
        self.end_flow((id, end));
    }

    /// An end will send nothing more.
    pub(super) fn finish(&mut self, id: u64, end: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let own = &mut conn.ends[end];
        if !own.is_finished {
            own.is_finished = true;
            own.queue.push_back(Load::Fin);
            self.pump(id, end);
        }
    }

    /// Nobody holds an end any more.
    pub(super) fn close(&mut self, id: u64, end: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.ends[end].is_open {
            return;
        }
        conn.ends[end].is_open = false;
        (conn.ends[end].reader, conn.ends[end].writer) = (None, None);
        if !conn.ends[1 - end].is_open {
            return self.forget(id);
        }
        let own = &mut conn.ends[end];
        if own.is_gone || own.error.is_some() {
            own.queue.clear();
            own.lost.clear();
            return self.end_flow((id, end));
        }
        if own.inbox.is_empty() {
            return self.finish(id, end);
        }
        // What was sent to it and not read is lost: its peer is told.
        own.inbox.clear();
        own.queue.clear();
        self.end_flow((id, end));
        self.depart(id, end, Load::Rst);
    }
}

fn size_of(load: &Load) -> usize {
    match load {
        Load::Data(bytes) => bytes.len(),
        Load::Fin | Load::Rst => 0,
    }
}

/// Makes one segment of the small writes at the front; yields its bytes.
fn gather(queue: &mut VecDeque<Load>) -> usize {
    let Some(Load::Data(first)) = queue.front() else { return 0 };
    let size = |load: Option<&Load>| match load {
        Some(Load::Data(bytes)) => Some(bytes.len()),
        _ => None,
    };
    let first = first.len();
    if size(queue.get(1)).is_none_or(|next| first + next > SEGMENT_BYTES_MAX) {
        return first;
    }
    let mut joined = bytes::BytesMut::with_capacity(first);
    while let Some(Load::Data(bytes)) = queue.front() {
        if !joined.is_empty() && joined.len() + bytes.len() > SEGMENT_BYTES_MAX {
            break;
        }
        joined.extend_from_slice(bytes);
        queue.pop_front();
    }
    let size = joined.len();
    queue.push_front(Load::Data(joined.freeze()));
    size
}
