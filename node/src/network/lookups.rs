//! The lookups of this node that are in progress: between [`Lookup`], which says whom to ask, and the swarm, which asks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    kad::{KadPeer, QueryId, RecordKey, store::RecordStore},
    swarm::dial_opts::DialOpts,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Event, LookupKind, Settings,
    behaviour::{Behaviour, answer_timeout},
    command::Sought,
    driver::{Driver, PENDING_MAX},
    found::{Unread, Wanted},
    handle::Provider,
    kademlia::{self, Answer, Gift, Question, Said},
    observer,
    sighted::Sighted,
};
use crate::{
    heads::{
        copies::Copies,
        handing::{self, Handing},
        lookup::{self, CANDIDATES_MAX, Ended, Goal, Lookup, NAMED_MAX, Step},
    },
    identity::PublisherId,
    limits::DHT_ADDRESSES_PER_PROVIDER_MAX,
    package::PackageId,
    peers::limits::HANDSHAKE_TIMEOUT,
    release::{
        VerifiedConfirmation, confirmation,
        head::{VerifiedHead, dht_key},
    },
};

/// Providers whose addresses are kept after the lookup that found them.
const WHEREABOUTS_MAX: usize = 256;

/// Chains of a publisher's keys of which a confirmation is kept: as many as peers may bring at once.
const CHAINS_MAX: usize = 64;

/// What this node looks for.
pub(super) struct Lookups {
    /// How long one lookup may take.
    time_max: Duration,
    /// How long one peer may take, its dial included.
    answer_max: Duration,
    running: BTreeMap<u64, Running>,
    numbers: HashMap<QueryId, u64>,
    last: u64,
    /// Where providers are that lookups found, the latest last.
    whereabouts: VecDeque<(PeerId, Vec<Multiaddr>)>,
}

/// One lookup.
pub(super) struct Running {
    id: QueryId,
    question: Question,
    pub(super) lookup: Lookup,
    /// The record that goes to those who were found, where there is one.
    handing: Option<Handing>,
    deadline: Instant,
    /// Those who are to be asked, or given it, once they are connected.
    dialled: BTreeSet<PeerId>,
    /// Where those are that somebody named.
    addresses: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub(super) purpose: Purpose,
    /// What it was given, and is not verified yet.
    pub(super) unread: Unread,
    /// How it ended, where some of that is still to be read.
    ended: Option<Ended>,
}

/// What a lookup is for, what it has found, and who waits for it.
pub(super) enum Purpose {
    Head(Box<Heads>),
    Confirmation(Box<Confirmed>),
    Peer(Box<Sighted>),
    Providers {
        found: mpsc::Sender<Provider>,
        told: BTreeSet<PeerId>,
    },
    /// A record of ours, or that we provide something, goes to those who are found; tells how many took it.
    Give(Gift, oneshot::Sender<usize>),
}

/// The heads that were found of a package.
pub(super) struct Heads {
    pub(super) package: PackageId,
    pub(super) copies: Copies<VerifiedHead>,
    pub(super) reply: oneshot::Sender<Sought>,
}

/// The confirmations that count of those that were found of a publisher.
pub(super) struct Confirmed {
    publisher: PublisherId,
    found: ByChain,
    reply: oneshot::Sender<(Vec<VerifiedConfirmation>, Ended)>,
}

/// The confirmation that counts of each chain of keys: which chain is the publisher's is for those to say who know what was seen of it.
#[derive(Debug, Default)]
struct ByChain(Vec<VerifiedConfirmation>);

impl ByChain {
    /// Takes one that was verified, where it counts more than what was found before under its chain.
    fn take(&mut self, read: VerifiedConfirmation) {
        let goes_on = |it: &VerifiedConfirmation| it.key_log().agrees_with(read.key_log());
        match self.0.iter().position(goes_on) {
            Some(at) if confirmation::judge(&read, Some(&self.0[at])).is_kept() => self.0[at] = read,
            Some(_) => {}
            None if self.0.len() < CHAINS_MAX => self.0.push(read),
            None => tracing::debug!(publisher = %read.publisher(), "there are too many chains of its keys"),
        }
    }
}

impl Confirmed {
    /// Takes one that was verified.
    pub(super) fn take(&mut self, read: VerifiedConfirmation) {
        self.found.take(read);
    }
}

impl Lookups {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            time_max: settings.query_timeout,
            answer_max: HANDSHAKE_TIMEOUT + 2 * answer_timeout(settings),
            running: BTreeMap::new(),
            numbers: HashMap::new(),
            last: 0,
            whereabouts: VecDeque::new(),
        }
    }

    /// How long one may take.
    pub(super) fn time_max(&self) -> Duration {
        self.time_max
    }

    /// How many are in progress.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Where a provider is that a lookup found.
    pub(super) fn whereabouts(&self, peer: &PeerId) -> &[Multiaddr] {
        self.whereabouts.iter().find(|(met, _)| met == peer).map_or(&[], |(_, at)| at)
    }

    /// Keeps where a provider is: those that are no servers are found by no other lookup.
    fn met(&mut self, provider: &KadPeer) {
        let mut addresses = provider.multiaddrs.clone();
        addresses.truncate(DHT_ADDRESSES_PER_PROVIDER_MAX);
        self.whereabouts.retain(|(known, _)| *known != provider.node_id);
        self.whereabouts.push_back((provider.node_id, addresses));
        if self.whereabouts.len() > WHEREABOUTS_MAX {
            self.whereabouts.pop_front();
        }
    }

    /// A lookup in progress.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Running> {
        self.running.get_mut(&number)
    }

    /// The lookups that wait for a peer.
    fn awaiting(&self, peer: &PeerId) -> Vec<u64> {
        self.running.iter().filter(|(_, it)| it.awaits(peer)).map(|(number, _)| *number).collect()
    }

    /// How many peers have taken this record so far, where it is still on its way.
    pub(super) fn taken(&self, value: &[u8]) -> usize {
        let taken = self.running.values().filter_map(|it| match &it.purpose {
            Purpose::Give(Gift::Record(record), _) if record.value == value => it.handing.as_ref(),
            _ => None,
        });
        taken.map(|handing| handing.taken() as usize).max().unwrap_or(0)
    }
}

impl Running {
    /// Whether an answer of this peer is waited for.
    fn awaits(&self, peer: &PeerId) -> bool {
        match &self.handing {
            _ if self.ended.is_some() => false,
            Some(handing) => handing.awaits(peer),
            None => self.lookup.awaits(peer),
        }
    }

    /// Asks a connected peer, or gives it what it is to hold.
    fn send(&mut self, kad: &mut kademlia::Behaviour, peer: PeerId, now: Instant) {
        let (Some(handing), Purpose::Give(gift, _)) = (&mut self.handing, &self.purpose) else {
            return kad.ask(self.id, peer, self.question.clone());
        };
        kad.give(self.id, peer, gift.clone());
        if matches!(gift, Gift::Provided(..)) {
            // Nobody answers that.
            handing.handle(handing::Event::Taken(peer), now);
        }
    }

    /// Notes that a peer was not reached, or did not answer.
    fn missed(&mut self, peer: PeerId, now: Instant) {
        self.dialled.remove(&peer);
        match &mut self.handing {
            Some(handing) => handing.handle(handing::Event::Failed(peer), now),
            None => self.lookup.handle(lookup::Event::Failed { peer }, now),
        }
    }

    /// What to do now.
    fn poll(&mut self, now: Instant) -> Step {
        if self.handing.is_none() {
            match self.lookup.poll(now) {
                Step::Over(_) if matches!(self.purpose, Purpose::Give(..)) => {
                    // Those who are dialled have what was asked left out.
                    self.dialled.clear();
                    self.handing = Some(Handing::new(self.lookup.nearest(), now, self.deadline));
                }
                step => return step,
            }
        }
        match self.handing.as_mut().map(|handing| handing.poll(now)) {
            Some(handing::Step::Give(peer)) => Step::Ask(peer),
            Some(handing::Step::Wait(until)) => Step::Wait(until),
            Some(handing::Step::Over) | None => Step::Over(Ended::Complete),
        }
    }

    fn cost(&self) -> lookup::Cost {
        let mut cost = self.lookup.cost();
        if let Some(handing) = &self.handing {
            cost.asked += handing.tried();
            cost.answered += handing.taken();
            cost.failed += handing.failed();
        }
        cost
    }
}

impl Lookups {
    /// A connection with a peer stands: those lookups ask it that wait for that.
    pub(super) fn reached(&mut self, kad: &mut kademlia::Behaviour, peer: PeerId) {
        let now = Instant::now();
        for running in self.running.values_mut() {
            if running.dialled.remove(&peer) && running.ended.is_none() {
                running.send(kad, peer, now);
            }
        }
    }

    /// Takes what a peer has under the key; none is this node.
    fn found(
        &mut self,
        swarm: &Swarm<Behaviour>,
        running: &mut Running,
        peer: Option<PeerId>,
        said: Said,
        now: Instant,
    ) {
        let has_found = match &mut running.purpose {
            purpose @ (Purpose::Head(_) | Purpose::Confirmation(_)) => said.record.is_some_and(|record| {
                let repeats = purpose.repeats(peer, &record.value);
                if !repeats {
                    running.unread.add(peer, &record.value);
                }
                repeats
            }),
            Purpose::Providers { found, told } => {
                let mut any = false;
                for provider in said.providers {
                    let id = provider.node_id;
                    let own = id == *swarm.local_peer_id();
                    let is_gone = !own && !swarm.behaviour().kad.is_there(&id, now);
                    any |= !is_gone;
                    self.met(&provider);
                    // A reader that does not keep up has enough providers already.
                    if told.len() < CANDIDATES_MAX && told.insert(id) {
                        let _ = found.try_send(Provider::Found { peer: id, is_gone });
                    }
                }
                any
            }
            Purpose::Peer(_) | Purpose::Give(..) => false,
        };
        if has_found {
            running.lookup.handle(lookup::Event::Found, now);
        }
    }

    /// Asks a peer, once it is connected.
    fn ask(&mut self, swarm: &mut Swarm<Behaviour>, number: u64, peer: PeerId, now: Instant) {
        let Some(running) = self.running.get_mut(&number) else { return };
        if swarm.is_connected(&peer) {
            running.send(&mut swarm.behaviour_mut().kad, peer, now);
            return;
        }
        let named = running.addresses.get(&peer).cloned().unwrap_or_default();
        let options = DialOpts::peer_id(peer).addresses(named).extend_addresses_through_behaviour().build();
        match swarm.dial(options) {
            // Somebody dials it already: that dial counts for this lookup too.
            Ok(()) | Err(libp2p::swarm::DialError::DialPeerConditionFalse(_)) => {
                running.dialled.insert(peer);
            }
            Err(_) => running.missed(peer, now),
        }
    }
}

/// Those of the peers somebody named that may be asked, with their addresses noted.
fn named(swarm: &Swarm<Behaviour>, running: &mut Running, closer: Vec<KadPeer>, now: Instant) -> Vec<PeerId> {
    let own = *swarm.local_peer_id();
    let kad = &swarm.behaviour().kad;
    let may_be_asked = |peer: &KadPeer| peer.node_id != own && !kad.is_gone(&peer.node_id, now);
    let mut named = Vec::new();
    for peer in closer.into_iter().take(NAMED_MAX).filter(may_be_asked) {
        named.push(peer.node_id);
        if running.addresses.len() < CANDIDATES_MAX {
            running.addresses.entry(peer.node_id).or_insert(peer.multiaddrs);
        }
    }
    named
}

impl Driver {
    pub(super) fn room_for_query(&self) -> bool {
        self.queries.len() + self.lookups.len() + self.settling < PENDING_MAX
    }

    /// Looks a head up, until `deadline` at the latest.
    pub(super) fn get_head(&mut self, package: PackageId, deadline: Instant, reply: oneshot::Sender<Sought>) {
        let question = Question::Record(dht_key(&package).to_vec().into());
        let heads = Heads { package, copies: Copies::default(), reply };
        self.begin_lookup(question, deadline, Purpose::Head(Box::new(heads)));
    }

    /// Looks up what a publisher confirmed last, until `deadline` at the latest.
    pub(super) fn get_confirmation(
        &mut self,
        publisher: PublisherId,
        deadline: Instant,
        reply: oneshot::Sender<(Vec<VerifiedConfirmation>, Ended)>,
    ) {
        let question = Question::Record(confirmation::dht_key(publisher).to_vec().into());
        let confirmed = Confirmed { publisher, found: ByChain::default(), reply };
        self.begin_lookup(question, deadline, Purpose::Confirmation(Box::new(confirmed)));
    }

    /// Looks up where a peer is, until `deadline` at the latest.
    pub(super) fn find_peer(
        &mut self,
        peer: PeerId,
        deadline: Instant,
        reply: oneshot::Sender<(Vec<Multiaddr>, Ended)>,
    ) {
        let question = Question::Nearest(RecordKey::new(&peer.to_bytes()));
        self.begin_lookup(question, deadline, Purpose::Peer(Box::new(Sighted::new(peer, reply))));
    }

    /// Begins a lookup. Where there is no room for it, whoever waits is told so by being told nothing.
    pub(super) fn begin_lookup(&mut self, question: Question, deadline: Instant, purpose: Purpose) {
        if !self.room_for_query() {
            return;
        }
        let now = Instant::now();
        let answer_max = self.lookups.answer_max;
        let deadline = deadline.min(now + self.lookups.time_max);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let known: Vec<PeerId> = kad.routed().into_iter().filter(|peer| !kad.is_gone(peer, now)).collect();
        let own = kad.store_mut().get(question.key()).map(|record| record.into_owned());
        let providing = kad.store_mut().providers(question.key());
        let id = kad.begin();
        let goal = purpose.goal();
        let lookup = Lookup::new(goal, question.key().clone(), known, now, deadline, answer_max);
        self.lookups.last += 1;
        let number = self.lookups.last;
        self.lookups.numbers.insert(id, number);
        let (dialled, addresses, unread) = Default::default();
        let (handing, ended) = (None, None);
        let mut running =
            Running { id, question, lookup, handing, deadline, dialled, addresses, purpose, unread, ended };
        let providers = providing.into_iter().map(|it| KadPeer {
            node_id: it.provider,
            multiaddrs: it.addresses,
            connection_ty: libp2p::kad::ConnectionType::NotConnected,
        });
        let said = Said { record: own, providers: providers.collect(), ..Said::default() };
        self.lookups.found(&self.swarm, &mut running, None, said, now);
        self.lookups.running.insert(number, running);
        self.go_on(number);
    }

    /// Looks at what has become due.
    pub(super) fn lookups_due(&mut self) {
        let numbers: Vec<u64> = self.lookups.running.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.go_on(number));
    }

    /// What a peer answered, or that it did not.
    pub(super) fn lookup_answered(&mut self, Answer { lookup, peer, said }: Answer) {
        let Some(number) = self.lookups.numbers.get(&lookup).copied() else { return };
        let Some(mut running) = self.lookups.running.remove(&number) else { return };
        let now = Instant::now();
        if let Some(handing) = &mut running.handing {
            match said {
                Some(said) if said.has_taken => handing.handle(handing::Event::Taken(peer), now),
                // What was asked before, and answered late.
                Some(_) => {}
                None => handing.handle(handing::Event::Failed(peer), now),
            }
        } else if running.ended.is_none() && running.lookup.awaits(&peer) {
            let event = match said {
                Some(mut said) => {
                    let closer = std::mem::take(&mut said.closer);
                    if let Purpose::Peer(sighted) = &mut running.purpose {
                        sighted.named(&closer);
                    }
                    let closer = named(&self.swarm, &mut running, closer, now);
                    self.lookups.found(&self.swarm, &mut running, Some(peer), said, now);
                    lookup::Event::Answered { peer, closer }
                }
                None => lookup::Event::Failed { peer },
            };
            running.lookup.handle(event, now);
        }
        self.lookups.running.insert(number, running);
        self.go_on(number);
    }

    /// A peer cannot be reached, or its last connection closed.
    pub(super) fn lookups_missed(&mut self, peer: PeerId) {
        let now = Instant::now();
        for number in self.lookups.awaiting(&peer) {
            if let Some(running) = self.lookups.running.get_mut(&number) {
                running.missed(peer, now);
            }
            self.go_on(number);
        }
    }

    /// Does what a lookup says, until it has to wait.
    pub(super) fn go_on(&mut self, number: u64) {
        self.read_found(number);
        let now = Instant::now();
        loop {
            let Some(running) = self.lookups.running.get_mut(&number) else { return };
            let step = match running.ended {
                Some(ended) => Step::Over(ended),
                None if running.purpose.is_given_up() => Step::Over(Ended::CutOff),
                None => running.poll(now),
            };
            match step {
                Step::Ask(peer) => self.lookups.ask(&mut self.swarm, number, peer, now),
                Step::AskAbout { peer, about } if self.swarm.is_connected(&peer) => {
                    let question = Question::Nearest(RecordKey::new(&about.to_bytes()));
                    self.swarm.behaviour_mut().kad.ask(running.id, peer, question);
                }
                Step::AskAbout { peer, .. } => running.missed(peer, now),
                Step::Wait(_) => return,
                Step::Over(ended) if running.unread.is_empty() => return self.lookup_over(number, ended),
                // What was given last may be what is looked for.
                Step::Over(ended) => {
                    running.ended = Some(ended);
                    return;
                }
            }
        }
    }

    fn lookup_over(&mut self, number: u64, ended: Ended) {
        let Some(running) = self.lookups.running.remove(&number) else { return };
        self.lookups.numbers.remove(&running.id);
        self.swarm.behaviour_mut().kad.end(&running.id);
        // Not all that was given was looked at.
        let ended = match ended {
            Ended::Complete if running.unread.has_dropped() => Ended::CutOff,
            ended => ended,
        };
        let (cost, duration) = (running.cost(), running.lookup.took(Instant::now()));
        let kind = match &running.purpose {
            Purpose::Head(_) | Purpose::Confirmation(_) => LookupKind::GetHead,
            Purpose::Peer(_) => LookupKind::ClosestPeers,
            Purpose::Providers { .. } => LookupKind::GetProviders,
            Purpose::Give(Gift::Record(_), _) => LookupKind::PutHead,
            Purpose::Give(Gift::Provided(..), _) => LookupKind::Provide,
        };
        tracing::debug!(?kind, ?ended, ?cost, ?duration, "a lookup is over");
        self.outbox.observer.tell(&Event::LookedUp(observer::Lookup {
            kind,
            requests: cost.asked,
            successes: cost.answered,
            failures: cost.failed,
            duration,
        }));
        match running.purpose {
            Purpose::Head(heads) => self.sought(*heads, ended, cost),
            Purpose::Confirmation(confirmed) => {
                let Confirmed { found, reply, .. } = *confirmed;
                let _ = reply.send((found.0, ended));
            }
            Purpose::Peer(sighted) => sighted.tell(ended),
            Purpose::Providers { found, .. } => {
                let _ = found.try_send(Provider::End(ended));
            }
            Purpose::Give(_, reply) => {
                let taken = running.handing.map_or(0, |handing| handing.taken());
                let _ = reply.send(taken as usize);
            }
        }
    }
}

impl Purpose {
    /// Whether nobody waits any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Head(heads) => heads.reply.is_closed(),
            Self::Confirmation(confirmed) => confirmed.reply.is_closed(),
            Self::Peer(sighted) => sighted.is_given_up(),
            Self::Providers { found, .. } => found.is_closed(),
            // It goes on where nobody waits any longer.
            Self::Give(..) => false,
        }
    }

    fn goal(&self) -> Goal {
        match self {
            Self::Head(_) | Self::Confirmation(_) | Self::Providers { .. } => Goal::Held,
            Self::Peer(_) | Self::Give(..) => Goal::Nearest,
        }
    }

    /// Which record is looked for; none where none is.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        match self {
            Self::Head(heads) => Some(Wanted::Head(heads.package.clone())),
            Self::Confirmation(confirmed) => Some(Wanted::Confirmation(confirmed.publisher)),
            Self::Peer(_) | Self::Providers { .. } | Self::Give(..) => None,
        }
    }

    /// Notes that a peer holds what was verified before; false where it was not. Most copies are the same.
    fn repeats(&mut self, peer: Option<PeerId>, value: &[u8]) -> bool {
        match self {
            Self::Head(heads) => heads.copies.repeats(peer, value),
            Self::Confirmation(it) => it.found.0.iter().any(|found| found.bytes() == value),
            Self::Peer(_) | Self::Providers { .. } | Self::Give(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::Publisher,
        release::{
            Confirmation,
            confirmation::Heads,
            fixture::{DAY, NOW, head, publisher, rotated},
        },
    };

    #[test]
    fn of_each_chain_of_keys_the_newest_confirmation_is_kept_whichever_comes_first() {
        let old = publisher(1);
        let (owner, thief) = (rotated(&old, 2), rotated(&old, 3));
        let made = |by: &Publisher, last| {
            let heads = Heads::of([&head(&old, &["1.0.0"])]);
            Confirmation::make(by, &heads, last, NOW, DAY).unwrap().0
        };
        let first = made(&owner, None);
        let second = made(&owner, Some(first.confirmation().number));
        let (stolen, before) = (made(&thief, None), made(&old, None));
        let mut expected = [second.bytes(), stolen.bytes()];
        expected.sort_unstable();
        for order in [
            [&before, &stolen, &first, &second],
            [&second, &first, &stolen, &before],
            [&stolen, &second, &before, &first],
        ] {
            let mut found = ByChain::default();
            order.into_iter().for_each(|read| found.take(read.clone()));
            let mut kept: Vec<&[u8]> = found.0.iter().map(VerifiedConfirmation::bytes).collect();
            kept.sort_unstable();
            assert_eq!(kept, expected);
        }
    }
}
