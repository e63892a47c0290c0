//! Greeting peers: what time it is for them, and whether two nodes speak with one key.
//!
//! Whoever is connected is greeted once it has said who it is, and again from time to time. What a peer says of its run is kept for
//! each of its connections, as long as that stands: where two connections of one peer are of two runs, each is told of the other, and
//! again with what each has said since: only that shows that both still run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use libp2p::{
    PeerId,
    identity::Keypair,
    request_response::{self, ResponseChannel},
    swarm::ConnectionId,
};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use super::{
    Event,
    codec::Cbor,
    driver::Driver,
    pace::Budget,
    paced::{Paced, Weighed},
    peers::{Peers, ip_of},
};
use crate::{
    hello::{Hello, Other, Run, Runs, Word},
    limits::{HELLO_INTERVAL, HELLO_REFILL, HELLO_WORDS_MAX, HELLOS_PER_PEER_MAX, RUN_UNSETTLED},
    time::Timestamp,
};

/// How long this node's own word is good for, before it is signed again: one that is asked for shows that this run goes on.
const WORD_RENEWED_AFTER: Duration = Duration::from_secs(1);
/// How often everybody is greeted again while it is not known whether an earlier run has ended.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// Hellos of one peer that are looked at.
const HEARD: Budget = Budget::new(HELLOS_PER_PEER_MAX, HELLO_REFILL);
/// How often a peer of several runs is told of them, and the log.
const TOLD: Budget = Budget::new(4, Duration::from_secs(60));

pub(super) type HelloEvent = request_response::Event<Hello, Hello>;
/// What carries greetings.
type Hellos = request_response::Behaviour<Cbor<Hello, Hello>>;

/// What one run is to know of another one of the same peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It is there.
    Run,
    /// It has spoken again.
    GoesOn,
}

/// What peers said of their runs, and what this node says of its own.
pub(super) struct Greetings {
    key: Keypair,
    runs: Runs,
    own: Option<(Instant, Word)>,
    /// What was said on each connection.
    said: BTreeMap<ConnectionId, (PeerId, Word)>,
    heard: Paced,
    told: Paced,
    next_round: Option<Instant>,
    /// When this run began.
    began: Instant,
    /// Earlier runs that were told of since.
    earlier: BTreeSet<Run>,
    /// Until when it is asked whether the last of those has ended.
    settles: Option<Instant>,
}

impl Greetings {
    pub(super) fn new(key: Keypair, runs: Runs) -> Self {
        let (heard, told) = (Paced::new(HEARD, HEARD), Paced::new(TOLD, TOLD));
        Self {
            key,
            runs,
            own: None,
            said: BTreeMap::new(),
            heard,
            told,
            next_round: None,
            began: Instant::now(),
            earlier: BTreeSet::new(),
            settles: None,
        }
    }

    /// Whether one more hello of a peer is looked at, be it a greeting or an answer to one.
    fn admits(&mut self, peer: PeerId, now: Instant) -> bool {
        self.heard.weigh(peer, now) == Weighed::Within
    }

    /// Whether a peer of several runs is told of them now.
    fn is_to_be_told(&mut self, peer: PeerId, now: Instant) -> bool {
        self.told.weigh(peer, now) == Weighed::Within
    }

    /// Notes what was said on a connection; says whether it is news for another connection of the peer, which is of another run.
    fn note(&mut self, connection: ConnectionId, peer: PeerId, word: Word) -> Option<News> {
        let news = match self.said.get(&connection) {
            Some((_, before)) if before.run() == word.run() => {
                (before.at() < word.at()).then_some(News::GoesOn)
            }
            _ => Some(News::Run),
        };
        self.said.insert(connection, (peer, word));
        news.filter(|_| self.several(&peer).len() > 1)
    }

    /// The words of the runs of a peer, where it has several.
    fn several(&self, peer: &PeerId) -> Vec<&Word> {
        let of_peer = self.said.values().filter(|(of, _)| of == peer);
        let runs: BTreeMap<Run, &Word> = of_peer.map(|(_, word)| (word.run(), word)).collect();
        if runs.len() > 1 { runs.into_values().take(HELLO_WORDS_MAX).collect() } else { Vec::new() }
    }

    /// Notes that an earlier run was told of; says whether this is the first time. Then it is asked again for a while.
    fn note_earlier(&mut self, run: Run, now: Instant) -> bool {
        let is_news = self.earlier.insert(run);
        if is_news {
            self.settles = Some(now + RUN_UNSETTLED);
            self.next_round = Some(now + SETTLE_INTERVAL);
        }
        is_news
    }

    /// Forgets what was said on a connection that is gone.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.said.remove(&connection);
    }

    fn hello(&mut self, to: &PeerId, now: Instant) -> Option<Hello> {
        let time = Timestamp::now();
        if self.own.as_ref().is_none_or(|(signed, _)| *signed + WORD_RENEWED_AFTER <= now) {
            self.own = Word::sign(&self.key, self.runs.own(), time).map(|word| (now, word));
        }
        let word = ByteBuf::from(self.own.as_ref()?.1.to_bytes());
        let others = self.several(to).into_iter().map(|word| ByteBuf::from(word.to_bytes())).collect();
        Some(Hello { time, word, others })
    }
}

impl Greetings {
    /// Greets a peer, as one that has just said who it is.
    pub(super) fn greet(&mut self, peer: &PeerId, hellos: &mut Hellos, now: Instant) {
        if let Some(hello) = self.hello(peer, now) {
            hellos.send_request(peer, hello);
        }
    }

    /// Greets a peer that greeted this node.
    fn greet_back(
        &mut self,
        peer: &PeerId,
        channel: ResponseChannel<Hello>,
        hellos: &mut Hellos,
        now: Instant,
    ) {
        if let Some(hello) = self.hello(peer, now) {
            // Where it fails, the peer is gone.
            let _ = hellos.send_response(channel, hello);
        }
    }

    /// Has everybody greeted again at once.
    pub(super) fn greet_soon(&mut self, now: Instant) {
        self.next_round = Some(now);
    }

    /// Greets everybody again, when it is time.
    pub(super) fn greet_again(&mut self, peers: &Peers, hellos: &mut Hellos, now: Instant) {
        let next = *self.next_round.get_or_insert(now + HELLO_INTERVAL);
        if now < next {
            return;
        }
        let is_settled = self.settles.is_none_or(|until| until <= now);
        self.next_round = Some(now + if is_settled { HELLO_INTERVAL } else { SETTLE_INTERVAL });
        let speaks = |protocols: &[String]| protocols.iter().any(|it| it == crate::hello::PROTOCOL);
        let peers = peers.iter().filter(|(_, peer)| speaks(&peer.protocols));
        peers.for_each(|(peer, _)| self.greet(peer, hellos, now));
    }
}

impl Driver {
    pub(super) fn hello_event(&mut self, event: HelloEvent) {
        let request_response::Event::Message { peer, connection_id, message } = event else { return };
        // What is not answered ends as a failure of the request.
        if !self.greetings.admits(peer, Instant::now()) {
            return;
        }
        match message {
            request_response::Message::Request { request, channel, .. } => {
                self.met(peer, connection_id, request);
                let hellos = &mut self.swarm.behaviour_mut().hello;
                self.greetings.greet_back(&peer, channel, hellos, Instant::now());
            }
            request_response::Message::Response { response, .. } => self.met(peer, connection_id, response),
        }
    }

    /// Takes what a peer said.
    fn met(&mut self, peer: PeerId, connection: ConnectionId, hello: Hello) {
        self.heard(&peer);
        let known = self.peers.get(&peer).and_then(|it| it.connections.get(&connection));
        let Some((address, is_dialled)) = known else { return };
        let (ip, is_dialled): (Option<IpAddr>, bool) = (ip_of(address), *is_dialled);
        self.outbox.tell(Event::Greeted { peer, ip, is_dialled, time: hello.time });
        let (now, key) = (Timestamp::now(), self.greetings.key.public());
        let words = hello.others.iter().take(HELLO_WORDS_MAX).filter_map(|word| Word::from_bytes(word));
        let (own, running) = (self.greetings.runs.own(), self.greetings.began.elapsed());
        let others = words.filter_map(|word| self.greetings.runs.other(&word, &key, now, running));
        for other in others.collect::<Vec<_>>() {
            match other {
                Other::Twin(run) => {
                    self.outbox.tell(Event::Twin { told_by: peer, is_first: run < own });
                }
                Other::Earlier(run) if self.greetings.note_earlier(run, Instant::now()) => {
                    self.outbox.tell(Event::EarlierRun { told_by: peer });
                }
                Other::Earlier(_) => {}
            }
        }
        let Some(word) = Word::from_bytes(&hello.word) else { return };
        if let Some(news) = self.greetings.note(connection, peer, word)
            && self.greetings.is_to_be_told(peer, Instant::now())
        {
            if news == News::Run {
                tracing::warn!(%peer, "two nodes speak with one node key; both are told");
            }
            // libp2p deals requests out among the connections of a peer in turn: so each of them gets one.
            let connections = self.peers.get(&peer).map_or(0, |peer| peer.connections.len());
            let hellos = &mut self.swarm.behaviour_mut().hello;
            (0..connections).for_each(|_| self.greetings.greet(&peer, hellos, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greetings() -> Greetings {
        let key = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        Greetings::new(key, Runs::new(Run::from_bytes([1; 16]), []))
    }

    fn word(n: u8) -> Word {
        let key = Keypair::ed25519_from_bytes([2; 32]).unwrap();
        Word::sign(&key, Run::from_bytes([n; 16]), Timestamp::from_secs(1_800_000_000)).unwrap()
    }

    #[test]
    fn two_runs_of_one_peer_are_told_of_each_other_once() {
        let (mut greetings, peer, other) = (greetings(), PeerId::random(), PeerId::random());
        let [first, second, third] = [1, 2, 3].map(ConnectionId::new_unchecked);
        assert_eq!(greetings.note(first, peer, word(1)), None);
        assert_eq!(greetings.note(third, other, word(3)), None, "of another peer");
        let later = |n: u8| {
            let key = Keypair::ed25519_from_bytes([2; 32]).unwrap();
            Word::sign(&key, Run::from_bytes([n; 16]), Timestamp::from_secs(1_800_000_002)).unwrap()
        };
        assert_eq!(greetings.note(first, peer, word(1)), None, "the same again");
        assert_eq!(greetings.note(second, peer, word(2)), Some(News::Run));
        assert_eq!(greetings.note(second, peer, word(2)), None, "known");
        assert_eq!(greetings.several(&peer), [&word(1), &word(2)]);
        assert_eq!(greetings.note(first, peer, later(1)), Some(News::GoesOn));
        assert_eq!(greetings.note(first, peer, later(1)), None);
        assert_eq!(greetings.note(third, other, later(3)), None, "nobody is to know of it");
        assert_eq!(greetings.several(&peer), [&later(1), &word(2)]);
        assert!(greetings.several(&other).is_empty());
        greetings.closed(first);
        assert!(greetings.several(&peer).is_empty(), "it is gone");
        greetings.closed(second);
        assert_eq!(greetings.said.len(), 1);
    }

    #[test]
    fn an_earlier_run_is_asked_about_for_a_while_once() {
        let (mut greetings, now) = (greetings(), Instant::now());
        assert!(greetings.note_earlier(Run::from_bytes([3; 16]), now));
        assert_eq!(greetings.next_round, Some(now + SETTLE_INTERVAL));
        greetings.next_round = None;
        assert!(!greetings.note_earlier(Run::from_bytes([3; 16]), now), "whoever tells of it again");
        assert_eq!(greetings.next_round, None);
    }

    #[test]
    fn a_peer_that_greets_without_end_is_not_listened_to() {
        let (mut greetings, peer, now) = (greetings(), PeerId::random(), Instant::now());
        let admitted = (0..1_000).filter(|_| greetings.admits(peer, now)).count();
        assert_eq!(admitted, HELLOS_PER_PEER_MAX as usize);
        let told = (0..1_000).filter(|_| greetings.is_to_be_told(peer, now)).count();
        assert_eq!(told, 4, "though it says another run each time");
        greetings.closed(ConnectionId::new_unchecked(1));
        assert!(!greetings.admits(peer, now), "one that comes back is the same");
        assert!(greetings.admits(PeerId::random(), now), "others are");
        assert!(greetings.admits(peer, now + HELLO_REFILL * 2 * HELLOS_PER_PEER_MAX));
    }
}
