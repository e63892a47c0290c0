//! Whole networks of exchanges over sets in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    heads::compare::{self, Broken, Turn, newer, view},
    limits::{HEADS_IDS_MAX, HEADS_PAGE_MAX, HEADS_STRETCH},
    sync::protocol::{Answer, Page, Position, Standing},
};

const STEP: Duration = Duration::from_millis(50);

fn item(released: u64, n: u64) -> Item {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_le_bytes());
    id[8..16].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id.rotate_left(8);
    Item { released, id: Id(id) }
}

/// How a node misbehaves, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Lists heads and does not give them.
    GivesNothing,
    /// Answers each turn with another list of ids that nobody has.
    ListsForever,
    /// Says nothing.
    Mute,
    /// Has no room.
    Full,
    /// Gives one head of a stretch at a time, and moves on by as little as it can.
    Drips,
    /// Sends bytes that follow no rule.
    Garbles,
}

struct Node {
    exchange: Exchange<usize>,
    items: BTreeSet<Item>,
    began_with: BTreeSet<Item>,
    /// In the order in which they came.
    changes: Vec<Item>,
    refuses: BTreeSet<Item>,
    manner: Manner,
    /// Heads that came, each with from whom.
    came: Vec<(usize, Item)>,
    blamed: Vec<(usize, Fault)>,
    lies: u64,
}

impl Node {
    fn new(items: impl IntoIterator<Item = Item>) -> Self {
        let changes: Vec<Item> = items.into_iter().collect();
        Self {
            exchange: Exchange::default(),
            items: changes.iter().copied().collect(),
            began_with: changes.iter().copied().collect(),
            changes,
            refuses: BTreeSet::new(),
            manner: Manner::Honest,
            came: Vec::new(),
            blamed: Vec::new(),
            lies: 0,
        }
    }

    fn sorted(&self) -> Vec<Item> {
        self.items.iter().copied().collect()
    }

    fn add(&mut self, item: Item) -> bool {
        let is_new = self.items.insert(item);
        if is_new {
            self.changes.push(item);
        }
        is_new
    }

    fn position(&self) -> Position {
        Position { epoch: 7, after: self.changes.len() as u64 }
    }

    fn newest(&self) -> u64 {
        self.items.last().map_or(0, |item| item.released)
    }

    /// What it answers, and what the question said.
    fn answer(&mut self, from: usize, request: &Request) -> (Option<Answer>, Vec<Asked>) {
        let mut asked = Vec::new();
        let answer = match request {
            Request::Page(Position { epoch, after }, most) => {
                let after = if *epoch == 7 { usize::try_from(*after).unwrap() } else { 0 };
                if after > 0 {
                    asked.push(Asked::ReadsOn);
                }
                let new = &self.changes[after.min(self.changes.len())..];
                if new.len() > *most as usize {
                    Answer::Behind
                } else {
                    let heads: Vec<ByteBuf> = new.iter().take(HEADS_PAGE_MAX).map(bytes).collect();
                    let next = (after + heads.len()) as u64;
                    let done = next as usize == self.changes.len();
                    Answer::Page(Page { epoch: 7, next, done, heads })
                }
            }
            Request::Compare(message, until, began) => {
                let declined = self.exchange.declined(&from);
                let items = self.sorted();
                let answer = compare::answer(&view(&items, *until, &declined), message).unwrap();
                if let Some(position) = began {
                    asked.push(Asked::Began(*position));
                }
                let is_all = newer(&items, *until).is_none();
                asked.push(match *began {
                    Some(position) if compare::is_same(&answer) => Asked::Same { position, is_all },
                    _ => Asked::WentOn,
                });
                let standing = began.map(|_| Standing {
                    position: self.position(),
                    newest: self.newest(),
                    newer: newer(&items, *until),
                });
                Answer::Compared(ByteBuf::from(answer), standing)
            }
            Request::Heads(ids) => {
                assert!(ids.0.len() <= HEADS_IDS_MAX);
                let heads = ids.0.iter().filter_map(|id| self.items.iter().find(|item| item.id == *id));
                Answer::Given(heads.map(bytes).collect(), ids.0.len() as u32, None)
            }
            Request::Stretch(after, until) => {
                let within =
                    self.items.iter().filter(|it| *it > after && until.is_none_or(|end| **it <= end));
                let all: Vec<Item> = within.copied().collect();
                let most = if self.manner == Manner::Drips { 1 } else { HEADS_PAGE_MAX };
                let part = &all[..all.len().min(most)];
                let next = (part.len() < all.len()).then(|| part[part.len() - 1]);
                Answer::Given(part.iter().map(bytes).collect(), 0, next)
            }
            Request::Have(ids, newer, rest) => {
                asked.push(Asked::Lacked(ids.0.clone(), newer.clone(), *rest));
                Answer::Noted
            }
            Request::News => {
                asked.push(Asked::News);
                Answer::Noted
            }
        };
        match (self.manner, answer) {
            (Manner::Mute, _) => (None, Vec::new()),
            (Manner::Full, _) => (Some(Answer::Busy), Vec::new()),
            (Manner::Garbles, Answer::Compared(_, standing)) => {
                (Some(Answer::Compared(ByteBuf::from([0x61, 0, 0, 9]), standing)), asked)
            }
            (Manner::GivesNothing | Manner::ListsForever, Answer::Given(_, looked_at, _)) => {
                (Some(Answer::Given(Vec::new(), looked_at, None)), asked)
            }
            (Manner::ListsForever, Answer::Compared(_, standing)) => {
                // Ids that nobody has before a bound, and a fingerprint of what is after it that never fits.
                let mut message = vec![0x61, 0x85, 0x00, 0x00, 0x02, 60];
                for _ in 0..60 {
                    self.lies += 1;
                    message.extend(item(1, u64::MAX - self.lies).id.0);
                }
                message.extend([0, 0, 1]);
                message.extend([self.lies as u8; 16]);
                let standing = standing.map(|it| Standing { newest: 600, newer: None, ..it });
                (Some(Answer::Compared(ByteBuf::from(message), standing)), asked)
            }
            (_, answer) => (Some(answer), asked),
        }
    }

    fn turn(
        &self,
        answer: Option<&[u8]>,
        until: Option<u64>,
        newest: Option<u64>,
        declined: &[Item],
    ) -> Result<Ours, Broken> {
        let items = self.sorted();
        let view = view(&items, until.unwrap_or(self.newest()), declined);
        let mut turn = match answer {
            None => Turn { message: Some(compare::open(&view)?), ..Turn::default() },
            Some(answer) => compare::advance(&view, answer)?,
        };
        let is_declined = |id: &Id| declined.iter().any(|item| item.id == *id);
        let gone = turn.have.iter().copied().filter(|id| is_declined(id)).collect();
        turn.have.retain(|id| !is_declined(id));
        let newer = newest.and_then(|newest| newer(&items, newest));
        Ok(Ours { turn, newest: self.newest(), position: self.position(), newer, gone })
    }

    fn check(&mut self, from: usize, heads: &[ByteBuf]) -> Checked {
        let mut checked = Checked::default();
        for head in heads {
            let item: Item = serde_ipld_dagcbor::from_slice(head).unwrap();
            self.came.push((from, item));
            checked.given.insert(item.id);
            if self.refuses.contains(&item) {
                checked.declined.push(item);
            } else {
                checked.new += usize::from(self.add(item));
            }
        }
        checked.is_barren = checked.new == 0;
        checked
    }
}

fn bytes(item: &Item) -> ByteBuf {
    ByteBuf::from(serde_ipld_dagcbor::to_vec(item).unwrap())
}

fn length(message: &impl serde::Serialize) -> usize {
    4 + serde_ipld_dagcbor::to_vec(message).unwrap().len()
}

/// Something that arrives.
enum Arrival {
    Request(usize, usize, Ticket, Request),
    Answer(usize, usize, Ticket, Option<Answer>),
}

/// Nodes, all connected, with one step from each to each.
struct Network {
    nodes: Vec<Node>,
    now: Duration,
    in_progress: VecDeque<(Duration, Arrival)>,
    /// Bytes on the wire, other than those of heads.
    bytes: usize,
    /// Bytes of turns of comparisons, one a turn and its answer.
    turns: usize,
    agreed: usize,
    messages: usize,
    generator: StdRng,
}

impl Network {
    fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            now: Duration::ZERO,
            in_progress: VecDeque::new(),
            bytes: 0,
            turns: 0,
            agreed: 0,
            messages: 0,
            generator: StdRng::seed_from_u64(1),
        }
    }

    fn of(sets: &[&[Item]]) -> Self {
        Self::new(sets.iter().map(|items| Node::new(items.iter().copied())).collect())
    }

    fn send(&mut self, at: Duration, arrival: Arrival) {
        let place = self.in_progress.partition_point(|(other, _)| *other <= at);
        self.in_progress.insert(place, (at, arrival));
    }

    fn connect(&mut self, one: usize, other: usize) {
        for (node, peer) in [(one, other), (other, one)] {
            self.tell(node, Event::Joined { peer, begins: node < peer });
        }
    }

    fn connect_all(&mut self) {
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                self.connect(one, other);
            }
        }
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        let apart = |a: usize, b: usize| (a, b) == (one, other) || (b, a) == (one, other);
        self.in_progress.retain(|(_, arrival)| match arrival {
            Arrival::Request(from, to, ..) | Arrival::Answer(from, to, ..) => !apart(*from, *to),
        });
        self.tell(one, Event::Gone(other));
        self.tell(other, Event::Gone(one));
    }

    fn tell(&mut self, node: usize, event: Event<usize>) {
        self.nodes[node].exchange.handle(event, self.now);
        self.carry_out(node);
    }

    fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].exchange.poll() {
            let now = self.now;
            match output {
                Output::Ask(peer, ticket, request) => {
                    self.bytes += length(&request);
                    self.messages += 1;
                    self.turns += usize::from(matches!(request, Request::Compare(..)));
                    self.send(now + STEP, Arrival::Request(node, peer, ticket, request));
                }
                Output::Compare { peer, ticket, answer, until, newest, declined } => {
                    let ours = self.nodes[node].turn(answer.as_deref(), until, newest, &declined);
                    self.nodes[node].exchange.handle(Event::Compared(peer, ticket, Some(ours)), now);
                }
                Output::Check(peer, ticket, heads) => {
                    let checked = self.nodes[node].check(peer, &heads);
                    self.nodes[node].exchange.handle(Event::Checked(peer, ticket, Some(checked)), now);
                }
                Output::HasAll(peer) => {
                    let (here, there) = (&self.nodes[node].began_with, &self.nodes[peer]);
                    assert!(!there.refuses.is_empty() || here.is_subset(&there.items), "{peer}");
                    self.agreed += 1;
                }
                Output::Blame(peer, fault) => self.nodes[node].blamed.push((peer, fault)),
            }
        }
    }

    /// Goes on until nothing is in progress and nothing is due within a second.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            let due = self.nodes.iter().filter_map(|node| node.exchange.deadline()).min();
            let due = due.filter(|due| *due <= self.now + Duration::from_secs(61));
            let Some(next) = self.in_progress.front().map(|it| it.0).into_iter().chain(due).min() else {
                return;
            };
            self.now = self.now.max(next);
            for node in 0..self.nodes.len() {
                self.nodes[node].exchange.tick(self.now);
                self.carry_out(node);
            }
            while self.in_progress.front().is_some_and(|(at, _)| *at <= self.now) {
                let Some((_, arrival)) = self.in_progress.pop_front() else { break };
                self.arrive(arrival);
            }
        }
        panic!("it never ends");
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Request(from, to, ticket, request) => {
                let costs = matches!(request, Request::Compare(..) | Request::Have(..));
                let (answer, asked) = if costs && !self.nodes[to].exchange.admits_turn(from, self.now) {
                    (Some(Answer::Busy), Vec::new())
                } else {
                    self.nodes[to].answer(from, &request)
                };
                let heads: usize = match &answer {
                    Some(Answer::Given(heads, ..)) => heads.iter().map(|head| head.len() + 1).sum(),
                    Some(Answer::Page(page)) => page.heads.iter().map(|head| head.len() + 1).sum(),
                    _ => 0,
                };
                self.bytes += answer.as_ref().map_or(0, length).saturating_sub(heads);
                // Silence is noticed after a while.
                let at = self.now + if answer.is_some() { STEP } else { Duration::from_secs(20) };
                self.send(at, Arrival::Answer(to, from, ticket, answer));
                asked.into_iter().for_each(|asked| self.tell(to, Event::Asked(from, asked)));
            }
            Arrival::Answer(from, to, ticket, answer) => self.tell(
                to,
                match answer {
                    Some(answer) => Event::Answered(from, ticket, answer),
                    None => Event::Failed(from, ticket, Outcome::TimedOut),
                },
            ),
        }
    }

    fn round(&mut self) {
        self.now += Duration::from_secs(60);
        for node in 0..self.nodes.len() {
            self.nodes[node].exchange.round(self.now, &mut self.generator);
            self.carry_out(node);
        }
    }

    fn assert_same(&self) {
        for node in &self.nodes[1..] {
            assert_eq!(node.items, self.nodes[0].items);
        }
        for node in &self.nodes {
            assert_eq!(node.exchange.complete(), self.nodes.len() - 1, "{:?}", node.exchange.failed());
            assert_eq!(node.exchange.settled(), self.nodes.len() - 1);
            assert!(node.blamed.is_empty(), "{:?}", node.blamed);
        }
    }
}

/// So many items, one a second.
fn items(range: std::ops::Range<u64>) -> Vec<Item> {
    range.map(|n| item(1_800_000_000 + n, n)).collect()
}

#[test]
fn those_who_have_the_same_know_it_after_one_round_trip() {
    let all = items(0..100_000);
    let mut network = Network::of(&[&all, &all]);
    network.connect(0, 1);
    network.settle_for(JOINED_WAIT / 2);
    network.assert_same();
    assert_eq!((network.messages, network.turns, network.agreed), (1, 1, 2));
    assert!(network.bytes <= 400, "{} bytes", network.bytes);
    // What came meanwhile by gossip, before both were in its mesh, is asked for once.
    network.bytes = 0;
    network.nodes[1].add(item(1_900_000_000, 7));
    network.settle();
    network.assert_same();
    assert!(network.bytes <= 200, "{} bytes", network.bytes);
    // From now on, the order of changes tells.
    network.bytes = 0;
    network.nodes[0].exchange.refresh(network.now);
    network.carry_out(0);
    network.settle();
    assert!(network.bytes <= 60, "{} bytes", network.bytes);
}

#[test]
fn one_difference_costs_three_turns_at_most_wherever_it_is() {
    let all = items(0..100_000);
    let mut without = all.clone();
    without.remove(61_803);
    for sets in [[&all, &without], [&without, &all]] {
        let mut network = Network::of(&[sets[0], sets[1]]);
        network.connect(0, 1);
        network.settle();
        network.assert_same();
        assert!(network.turns <= 3, "{} turns", network.turns);
        assert!(network.bytes <= 2_400, "{} bytes", network.bytes);
    }
}

#[test]
fn what_was_released_while_one_was_away_costs_hardly_more_than_its_heads() {
    let (all, before) = (items(0..100_000), items(0..99_000));
    for sets in [[&all, &before], [&before, &all]] {
        let mut network = Network::of(&[sets[0], sets[1]]);
        network.connect(0, 1);
        network.settle();
        network.assert_same();
        assert!(network.bytes <= 4_000, "{} bytes", network.bytes);
    }
    // And where both went on meanwhile.
    let here: Vec<Item> =
        all.iter().copied().filter(|it| it.released % 2 == 0 || it.released < 1_800_099_000).collect();
    let there: Vec<Item> =
        all.iter().copied().filter(|it| it.released % 2 == 1 || it.released < 1_800_099_000).collect();
    let mut network = Network::of(&[&here, &there]);
    network.connect(0, 1);
    network.settle();
    network.assert_same();
    assert!(network.bytes <= 70_000, "{} bytes", network.bytes);
}

#[test]
fn scattered_differences_cost_less_than_reading_everything() {
    let all = items(0..20_000);
    for nth in [2, 10, 100] {
        let here: Vec<Item> = all.iter().copied().filter(|it| it.released % nth != 0).collect();
        let there: Vec<Item> = all.iter().copied().filter(|it| it.released % nth != 1).collect();
        let mut network = Network::of(&[&here, &there]);
        network.connect(0, 1);
        network.settle();
        network.assert_same();
        let pages = 500 * all.len();
        assert!(network.bytes * 2 < pages, "{} bytes, and pages have {pages}", network.bytes);
    }
}

#[test]
fn a_newcomer_takes_each_head_once_and_from_several_peers() {
    let all = items(0..20_000);
    let mut network = Network::of(&[&all, &all, &[], &all]);
    network.connect_all();
    network.settle();
    network.assert_same();
    let came = &network.nodes[2].came;
    assert_eq!(came.len(), all.len(), "each once");
    for peer in [0, 1, 3] {
        let of_peer = came.iter().filter(|(from, _)| *from == peer).count();
        assert!(of_peer > HEADS_STRETCH, "peer {peer} gave {of_peer}");
    }
    assert!(network.nodes[0].came.is_empty());
}

#[test]
fn what_several_have_comes_from_one_of_them() {
    let all = items(0..5_000);
    let without: Vec<Item> = all.iter().copied().filter(|it| it.released % 50 != 0).collect();
    let mut network = Network::of(&[&without, &all, &all, &all]);
    network.connect_all();
    network.settle();
    network.assert_same();
    assert_eq!(network.nodes[0].came.len(), 100);
}

#[test]
fn one_that_comes_back_is_read_on_or_compared_with_where_much_has_changed() {
    let all = items(0..3_000);
    let mut network = Network::of(&[&all, &all, &all]);
    network.connect_all();
    network.settle();
    network.disconnect(0, 1);
    network.disconnect(0, 2);
    network.nodes[1].add(item(1_800_003_000, 3_000));
    network.connect(0, 1);
    network.settle();
    assert_eq!(network.nodes[0].came.len(), 1);
    network.connect(0, 2);
    network.settle();
    network.disconnect(0, 1);
    network.disconnect(0, 2);
    for n in 3_001..4_000 {
        network.nodes[1].add(item(1_800_000_000 + n, n));
    }
    network.round();
    network.settle();
    network.bytes = 0;
    network.connect(0, 1);
    network.connect(0, 2);
    network.settle();
    network.assert_same();
    // One may come from both, where both are read on at the same moment.
    let came = network.nodes[0].came.len();
    assert!((1_000..=1_001).contains(&came), "{came}: each once, though both peers have them");
    assert!(network.bytes < 8_000, "{} bytes", network.bytes);
}

#[test]
fn news_that_one_peer_brings_reaches_the_others_within_seconds() {
    let mut network = Network::of(&[&[], &[], &[]]);
    network.connect(0, 1);
    network.connect(0, 2);
    network.settle();
    network.disconnect(0, 1);
    network.nodes[1].add(item(5, 5));
    network.connect(0, 1);
    let began = network.now;
    network.settle();
    assert_eq!(network.nodes[2].items.len(), 1, "from the hub, without a round");
    assert!(network.now - began < Duration::from_secs(5), "{:?}", network.now - began);
}

#[test]
fn what_is_declined_is_listed_once() {
    let all = items(0..2_000);
    let without: Vec<Item> = all.iter().copied().filter(|it| it.released % 100 != 0).collect();
    let mut network = Network::of(&[&without, &all]);
    network.nodes[0].refuses = all.iter().copied().filter(|it| it.released % 100 == 0).collect();
    network.connect(0, 1);
    network.settle();
    assert_eq!(network.nodes[0].came.len(), 20);
    assert_eq!(network.nodes[0].exchange.complete(), 1);
    for _ in 0..5 {
        network.bytes = 0;
        network.round();
        network.settle();
        assert!(network.bytes < 1_000, "{} bytes", network.bytes);
    }
    assert_eq!(network.nodes[0].came.len(), 20);
    // After it was away, too.
    network.disconnect(0, 1);
    network.connect(0, 1);
    network.round();
    network.settle();
    assert_eq!(network.nodes[0].came.len(), 20);
}

#[test]
fn those_that_lie_hang_or_break_the_rules_end_and_hold_nobody_up() {
    let all = items(0..4_000);
    let some: Vec<Item> = all.iter().copied().filter(|it| it.released % 40 != 0).collect();
    for manner in [
        Manner::GivesNothing,
        Manner::ListsForever,
        Manner::Mute,
        Manner::Full,
        Manner::Drips,
        Manner::Garbles,
    ] {
        for mine in [&some[..], &[]] {
            let mut network = Network::of(&[mine, &all, &all]);
            network.nodes[1].manner = manner;
            network.connect(0, 1);
            network.settle_for(Duration::from_secs(2));
            network.connect(0, 2);
            // One that says it has much and gives a head now and then is not waited for as one that gives much.
            let secs = if manner == Manner::Drips { 12 } else { 90 };
            network.settle_for(Duration::from_secs(secs));
            let node = &network.nodes[0];
            assert_eq!(node.items.len(), all.len(), "{manner:?}: an honest one has it all");
            let is_broken = node.blamed.iter().any(|(peer, _)| *peer == 1);
            assert_eq!(is_broken, manner == Manner::Garbles, "{manner:?}: {:?}", node.blamed);
            assert!(node.came.iter().filter(|(from, _)| *from == 2).count() <= all.len());
        }
    }
}

#[test]
fn a_helper_that_fails_midway_leaves_nobody_waiting() {
    let all = items(0..6_000);
    for manner in [Manner::Mute, Manner::Garbles, Manner::GivesNothing] {
        for arrivals in (1..80).step_by(9) {
            let mut network = Network::of(&[&all[..1], &all, &all]);
            network.connect(0, 1);
            network.connect(0, 2);
            for _ in 0..arrivals {
                let Some((at, arrival)) = network.in_progress.pop_front() else { break };
                network.now = network.now.max(at);
                network.arrive(arrival);
            }
            network.nodes[2].manner = manner;
            network.settle_for(Duration::from_secs(120));
            let node = &network.nodes[0];
            assert!(!node.exchange.is_outstanding(), "{manner:?} after {arrivals}: {:?}", node.exchange);
            assert_eq!(node.items.len(), all.len(), "{manner:?} after {arrivals}");
        }
    }
}

#[test]
fn what_somebody_listed_who_left_comes_from_the_others() {
    let all = items(0..600);
    let some: Vec<Item> = all.iter().copied().filter(|it| it.released % 5 != 0).collect();
    for arrivals in 1..60 {
        let mut network = Network::of(&[&some, &all, &all, &all]);
        (1..4).for_each(|peer| network.connect(0, peer));
        for _ in 0..arrivals {
            let Some((at, arrival)) = network.in_progress.pop_front() else { break };
            network.now = network.now.max(at);
            network.arrive(arrival);
        }
        // In this order the second is the next one to be asked for what the first does not give.
        network.disconnect(0, 2);
        network.disconnect(0, 1);
        network.settle_for(Duration::from_secs(5));
        network.round();
        network.settle();
        let node = &network.nodes[0];
        assert_eq!(node.items.len(), all.len(), "after {arrivals}");
        assert!(node.exchange.wanted.is_empty(), "after {arrivals}: {:?}", node.exchange.wanted);
    }
}

#[test]
fn a_guest_that_begins_again_and_again_is_not_waited_for() {
    let mut exchange = Exchange::default();
    let position = Position { epoch: 7, after: 3 };
    exchange.handle(Event::Joined { peer: 1, begins: false }, Duration::ZERO);
    for second in 1..=300 {
        let now = Duration::from_secs(second);
        exchange.handle(Event::Asked(1, Asked::Began(position)), now);
        if let Some(Output::Compare { peer, ticket, .. }) = exchange.poll() {
            exchange.handle(Event::Compared(peer, ticket, None), now);
            // What failed counts as settled, however often it begins again.
            exchange.handle(Event::Asked(1, Asked::Began(position)), now);
            assert!(!exchange.is_outstanding());
            assert_eq!(exchange.settled(), 1);
            return;
        }
    }
    panic!("a guest is waited for without end");
}

#[test]
fn one_that_asks_again_and_again_has_a_budget() {
    let mut network = Network::of(&[&items(0..100), &items(0..100)]);
    network.connect(0, 1);
    network.settle();
    let admitted = (0..1_000).filter(|_| network.nodes[0].exchange.admits_turn(1, network.now)).count();
    assert!(admitted <= crate::limits::HEADS_TURNS_PER_PEER_MAX as usize);
    let later = network.now + Duration::from_secs(1);
    assert_eq!((0..1_000).filter(|_| network.nodes[0].exchange.admits_turn(1, later)).count(), 4);
}

#[test]
fn an_answer_that_is_none_to_its_question_is_its_senders_fault() {
    let mut exchange = Exchange::default();
    exchange.handle(Event::Joined { peer: 1, begins: true }, Duration::ZERO);
    let Some(Output::Compare { peer, ticket, .. }) = exchange.poll() else { panic!() };
    let ours = Ours { turn: Turn { message: Some(vec![0x61]), ..Turn::default() }, ..Ours::default() };
    exchange.handle(Event::Compared(peer, ticket, Some(Ok(ours))), Duration::ZERO);
    let Some(Output::Ask(1, ticket, _)) = exchange.poll() else { panic!() };
    exchange.handle(Event::Answered(1, ticket, Answer::Noted), Duration::ZERO);
    assert!(matches!(exchange.poll(), Some(Output::Blame(1, Fault::Broken(_)))));
    assert_eq!((exchange.settled(), exchange.complete()), (1, 0));
    // What it says afterwards is nothing that was asked.
    exchange.handle(Event::Answered(1, ticket, Answer::Noted), Duration::ZERO);
    assert_eq!(exchange.poll(), None);
}

#[test]
fn one_that_hangs_up_is_charged_with_what_it_forged_and_what_it_brought_is_told() {
    let mut exchange = Exchange::default();
    exchange.handle(Event::Joined { peer: 1, begins: true }, Duration::ZERO);
    let Some(Output::Compare { ticket, .. }) = exchange.poll() else { panic!() };
    exchange.handle(Event::Gone(1), Duration::ZERO);
    let checked = Checked { new: 2, is_forged: true, ..Checked::default() };
    exchange.handle(Event::Checked(1, ticket, Some(checked)), Duration::ZERO);
    assert_eq!(exchange.poll(), Some(Output::Blame(1, Fault::Forged)));
    assert!(exchange.deadline().is_some(), "others are told of what is new");
}

impl Network {
    /// Goes on for so long, whatever is in progress.
    fn settle_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..400_000 {
            let due = self.nodes.iter().filter_map(|node| node.exchange.deadline()).min();
            let next = self.in_progress.front().map(|it| it.0).into_iter().chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for node in 0..self.nodes.len() {
                self.nodes[node].exchange.tick(self.now);
                self.carry_out(node);
            }
            while self.in_progress.front().is_some_and(|(at, _)| *at <= self.now) {
                let Some((_, arrival)) = self.in_progress.pop_front() else { break };
                self.arrive(arrival);
            }
        }
        panic!("it never ends");
    }
}

fn sets() -> impl Strategy<Value = Vec<BTreeMap<u16, u8>>> {
    prop::collection::vec(prop::collection::btree_map(0_u16..600, any::<u8>(), 0..300), 2..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the sets, whatever comes and goes meanwhile, and whoever is declined what: everybody ends with everything that
    /// anybody has and it does not decline.
    #[test]
    fn all_come_to_have_what_any_of_them_has(
        sets in sets(),
        declined in prop::collection::btree_set(0_u16..600, 0..20),
        meanwhile in prop::collection::vec((0_usize..5, 600_u16..700, 0_usize..40, 0_usize..12), 0..20),
        liar in prop::option::of(0_usize..5),
        spread in prop::sample::select(vec![1_u64, 7, 1_000]),
    ) {
        let at = |n: u16| item(1_000 + u64::from(n) / spread, u64::from(n));
        let nodes: Vec<Node> = sets.iter().map(|set| Node::new(set.keys().map(|n| at(*n)))).collect();
        let count = nodes.len();
        let mut network = Network::new(nodes);
        let refuses: BTreeSet<Item> = declined.iter().map(|n| at(*n)).collect();
        let had: BTreeSet<Item> = network.nodes[0].items.clone();
        network.nodes[0].refuses = refuses.clone();
        let liar = liar.filter(|liar| *liar < count && *liar > 0 && count > 2);
        if let Some(liar) = liar {
            network.nodes[liar].manner = Manner::GivesNothing;
        }
        network.connect_all();
        let mut away = Vec::new();
        for (node, n, steps, leaves) in meanwhile {
            for _ in 0..steps {
                if let Some((at, arrival)) = network.in_progress.pop_front() {
                    network.now = network.now.max(at);
                    network.arrive(arrival);
                }
            }
            network.nodes[node % count].add(at(n));
            if leaves < count && leaves != node % count {
                network.disconnect(node % count, leaves);
                away.push((node % count, leaves));
            } else if let Some((one, other)) = away.pop() {
                network.connect(one, other);
            }
        }
        away.into_iter().for_each(|(one, other)| network.connect(one, other));
        network.settle();
        for _ in 0..2 {
            network.round();
            network.settle();
        }
        let honest = (0..count).filter(|node| Some(*node) != liar);
        let mut all: BTreeSet<Item> = BTreeSet::new();
        for node in honest.clone() {
            all.extend(&network.nodes[node].items);
        }
        for node in honest {
            let mut expected = all.clone();
            if node == 0 {
                expected.retain(|it| !refuses.contains(it) || had.contains(it) || it.released == u64::MAX);
            }
            prop_assert_eq!(&network.nodes[node].items, &expected, "node {}", node);
            prop_assert!(network.nodes[node].blamed.is_empty());
            prop_assert!(network.nodes[node].exchange.wanted.is_empty(), "node {}", node);
        }
    }
}
