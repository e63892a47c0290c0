use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 1 << 20;

fn block(n: u64) -> ContentId {
    ContentId::of(Codec::Raw, &n.to_be_bytes())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A batch that is sent: its blocks, its bytes, and those of them that came.
type Sent = (u32, Vec<ContentId>, u64, u64);

/// Peers that read what they are given over one line, which they share evenly; those of `dead` read nothing.
struct World {
    turns: Turns,
    start: Instant,
    now: Instant,
    /// Bytes a second of the line, and of each peer's.
    rate: u64,
    each: u64,
    dead: Vec<u64>,
    /// What each stream is sent, in order.
    sent: BTreeMap<u64, VecDeque<Sent>>,
    came: BTreeMap<u64, u64>,
    whole: Vec<(Duration, u64, Vec<ContentId>)>,
    most: usize,
}

impl World {
    fn new(rate: u64, each: u64) -> Self {
        let (turns, start) = (Turns::new(), Instant::now());
        let (sent, came, whole, dead) = Default::default();
        Self { turns, start, now: start, rate, each, dead, sent, came, whole, most: 0 }
    }

    fn peer(&mut self, stream: u64, wants: impl IntoIterator<Item = u64>) {
        self.turns.opened(stream, PeerId::random(), self.now);
        (0..)
            .zip(wants)
            .for_each(|(batch, n)| assert!(self.turns.wants(stream, batch, vec![block(n)], self.now)));
    }

    /// Runs for a while, ten milliseconds at a time.
    fn run(&mut self, time: Duration, bytes: u64) {
        let end = self.now + time;
        while self.now < end {
            while let Some(turn) = self.turns.next(self.now) {
                self.turns.read(turn.stream, turn.batch, bytes, 0);
                self.sent.entry(turn.stream).or_default().push_back((turn.batch, turn.ids, bytes, 0));
            }
            self.turns.left_waiting();
            let dead = self.dead.clone();
            let reading =
                self.sent.iter_mut().filter(|(stream, it)| !dead.contains(stream) && !it.is_empty());
            let reading: Vec<_> = reading.collect();
            self.most = self.most.max(reading.len());
            let share = (self.rate / reading.len().max(1) as u64).min(self.each) / 100;
            self.now += ms(10);
            for (stream, queue) in reading {
                let mut left = share;
                while left > 0
                    && let Some((batch, ids, bytes, came)) = queue.front_mut()
                {
                    let more = left.min(*bytes - *came);
                    (*came, left) = (*came + more, left - more);
                    *self.came.entry(*stream).or_default() += more;
                    if came == bytes {
                        self.turns.written(*stream, *batch, *bytes);
                        self.whole.push((self.now - self.start, *stream, std::mem::take(ids)));
                        queue.pop_front();
                    }
                }
                let came = (self.came[stream] & u64::from(u32::MAX)) as u32;
                self.turns.came(*stream, came, self.now);
            }
        }
    }
}

#[test]
fn all_of_a_tree_leaves_once_before_any_of_it_does_so_twice_and_soon() {
    let mut world = World::new(1_250_000, 12_500_000);
    for stream in 0..11 {
        // Each begins with another one.
        world.peer(stream, (0..4).map(|n| (n + stream) % 4));
    }
    world.run(ms(9_000), BLOCK);
    let first: std::collections::BTreeSet<_> = world.whole[..4].iter().map(|it| it.2[0]).collect();
    assert_eq!(first.len(), 4, "{:?}", world.whole);
    assert!(world.whole[3].0 < ms(4_500), "little later than one copy takes: {:?}", world.whole[3].0);
    assert!(world.whole[0].0 < ms(1_400) && world.most <= 3, "{:?} {}", world.whole[0].0, world.most);
    let streams: std::collections::BTreeSet<_> = world.whole[..8].iter().map(|it| it.1).collect();
    assert!(streams.len() >= 6, "everybody in turn: {:?}", world.whole);
}

#[test]
fn a_line_that_carries_more_than_one_peer_takes_is_filled() {
    // Thirty that read two megabits a second each, from one that sends a hundred.
    let mut world = World::new(12_500_000, 250_000);
    (0..30).for_each(|stream| world.peer(stream, 0..16));
    world.run(ms(60_000), BLOCK);
    let came: u64 = world.came.values().sum();
    assert!(came as f64 > 0.7 * 30.0 * 250_000.0 * 60.0, "{came}");
}

#[test]
fn fast_peers_are_all_given_something_at_once() {
    let mut world = World::new(1_000_000_000, 100_000_000);
    (0..8).for_each(|stream| world.peer(stream, 0..16));
    world.run(ms(3_000), BLOCK);
    assert_eq!(world.whole.len(), 8 * 16);
    assert!(world.whole.last().unwrap().0 < ms(1_500), "{:?}", world.whole.last());
}

#[test]
fn a_single_peer_waits_for_nobody() {
    let mut world = World::new(1_000_000_000, 100_000_000);
    world.peer(0, 0..16);
    world.run(ms(1_000), BLOCK);
    assert_eq!(world.whole.len(), 16);
    assert!(world.whole[15].0 < ms(400), "{:?}", world.whole[15]);
}

#[test]
fn those_who_read_nothing_hold_nobody_up_for_long() {
    let mut world = World::new(1_250_000, 12_500_000);
    for stream in 0..6 {
        world.peer(stream, 0..4);
        world.dead.push(stream);
    }
    world.run(ms(100), BLOCK);
    world.peer(9, 0..4);
    world.run(ms(12_000), BLOCK);
    assert_eq!(world.whole.len(), 4, "{:?}", world.whole);
    assert!(world.whole[3].0 < ms(10_000), "{:?}", world.whole[3]);
}

/// What becomes of a newcomer that wants four blocks while so many peers on two streams each say every few seconds that a little came.
fn beside_those_that_hardly_read(peers: u64, little: u32) -> World {
    let mut world = World::new(10_000_000, 10_000_000);
    for stream in 0..2 * peers {
        world.turns.opened(stream, peer_of(stream / 2), world.now);
        (0..4).for_each(|batch| {
            assert!(world.turns.wants(stream, batch, vec![block(u64::from(batch))], world.now))
        });
        world.dead.push(stream);
    }
    world.run(ms(10), BLOCK);
    world.peer(1_000, 0..4);
    for turn in 1..8 {
        world.run(ms(3_900), BLOCK);
        (0..2 * peers).for_each(|stream| world.turns.came(stream, turn * little, world.now));
    }
    world
}

fn peer_of(n: u64) -> PeerId {
    let key = libp2p::identity::Keypair::ed25519_from_bytes([u8::try_from(n).unwrap() + 1; 32]).unwrap();
    key.public().to_peer_id()
}

#[test]
fn who_says_every_few_seconds_that_a_little_came_holds_nobody_up_for_long() {
    for (peers, little, within) in [(1, 1, 5_000), (1, 70_000, 12_000), (8, 1, 14_000), (8, 70_000, 27_000)] {
        let world = beside_those_that_hardly_read(peers, little);
        let whole: Vec<_> = world.whole.iter().filter(|it| it.1 == 1_000).collect();
        assert_eq!(whole.len(), 4, "{peers} {little}: {whole:?}");
        assert!(whole[3].0 < ms(within), "{peers} {little}: {whole:?}");
    }
}

#[test]
fn who_looks_for_what_is_not_there_is_given_no_more_turns_than_others() {
    let (mut turns, now) = (Turns::new(), Instant::now());
    turns.opened(0, peer_of(0), now);
    turns.opened(1, peer_of(1), now);
    let absent: Vec<_> =
        (0..FETCH_IDS_MAX as u64).map(|n| ContentId::of(Codec::DagPb, &n.to_be_bytes())).collect();
    let (mut batch, mut had) = (0, [0, 0]);
    (0..100).for_each(|n| assert!(turns.wants(1, n, vec![block(n.into())], now)));
    for round in 0..200 {
        let mut stream = 0;
        if round % 3 == 2 {
            // Whoever opens another stream for the next has had what it had.
            turns.ended(0);
            turns.opened(0, peer_of(0), now);
        }
        while turns.streams[&0].waiting.len() < 8 {
            turns.wants(0, batch, absent.clone(), now);
            batch += 1;
        }
        let Some(turn) = turns.next(now) else { break };
        stream += turn.stream as usize;
        had[stream] += 1;
        let (bytes, missing) = if stream == 0 { (0, absent.len()) } else { (BLOCK, 0) };
        turns.read(turn.stream, turn.batch, bytes, missing);
        turns.written(turn.stream, turn.batch, bytes);
        turns.came(turn.stream, (turns.streams[&turn.stream].handed & u64::from(u32::MAX)) as u32, now);
    }
    assert!(had[1] >= 95, "{had:?}");
}

#[test]
fn what_waits_is_bounded_and_everybody_has_a_part_of_it() {
    let (mut turns, now) = (Turns::new(), Instant::now());
    let many: Vec<_> = (0..FETCH_IDS_MAX as u64).map(block).collect();
    let mut taken = 0;
    for peer in 0..100 {
        for stream in [2 * peer, 2 * peer + 1] {
            turns.opened(stream, peer_of(peer), now);
            taken += (0..8).filter(|batch| turns.wants(stream, *batch, many.clone(), now)).count();
        }
    }
    assert_eq!(taken * FETCH_IDS_MAX, turns.ids);
    assert_eq!(
        taken,
        WAITING_IDS_MAX / 2 / FETCH_IDS_MAX + 100 - 8,
        "the first eight have all that they ask for"
    );
    (0..200).for_each(|stream| turns.ended(stream));
    assert_eq!(turns.ids, 0);
}

#[test]
fn who_takes_back_again_and_again_what_was_read_for_it_is_told_to_come_later() {
    let (mut turns, mut now) = (Turns::new(), Instant::now());
    turns.opened(0, peer_of(0), now);
    let mut read = 0;
    for batch in 0..1_000 {
        if turns.wants(0, batch, vec![block(0)], now) {
            assert!(turns.next(now).is_some() && !turns.cancel(0, batch, now));
            turns.read(0, batch, BLOCK, 0);
            turns.written(0, batch, 0);
            read += 1;
        }
    }
    assert_eq!(read, 256);
    now += ms(3_000);
    assert!(turns.wants(0, 1_000, vec![block(0)], now), "not for long");
}

#[test]
fn who_asks_for_much_is_given_as_much_as_who_asks_for_little() {
    let mut world = World::new(1_250_000, 12_500_000);
    world.peer(0, 0..16);
    world.run(ms(500), BLOCK);
    // What one asks for was given before, and what the other asks for was not.
    world.peer(1, 0..4);
    world.peer(2, 100..116);
    world.run(ms(16_000), BLOCK);
    let of = |stream| world.whole.iter().filter(|it| it.1 == stream).count();
    assert_eq!(of(1), 4, "{:?}", world.whole);
    assert!(of(0).abs_diff(of(2)) <= 4, "{} and {}", of(0), of(2));
}

#[test]
fn what_is_taken_back_has_no_turn_and_what_has_begun_is_not_taken_back() {
    let (mut turns, now) = (Turns::new(), Instant::now());
    turns.opened(0, PeerId::random(), now);
    turns.opened(1, PeerId::random(), now);
    assert!(turns.wants(0, 0, vec![block(0)], now));
    assert!(turns.next(now).is_some() && turns.next(now).is_none());
    assert!(turns.wants(1, 0, vec![block(1)], now));
    assert!(turns.wants(1, 1, vec![block(2)], now));
    assert_eq!((turns.next(now), turns.left_waiting()), (None, vec![(1, 0), (1, 1)]));
    assert!(turns.left_waiting().is_empty(), "it is told once");
    let cancelled = [(0, 0), (1, 0), (1, 0), (7, 0)].map(|(stream, batch)| turns.cancel(stream, batch, now));
    assert_eq!(cancelled, [false, true, false, false]);
    turns.read(0, 0, BLOCK, 0);
    turns.written(0, 0, 0);
    let next = turns.next(now).map(|turn| (turn.stream, turn.batch));
    assert_eq!(next, Some((1, 1)), "what was not sent is not on its way");
    turns.ended(1);
    turns.ended(0);
    assert!(turns.streams.is_empty() && turns.had.is_empty());
}

#[test]
fn how_often_blocks_were_given_is_remembered_of_a_bounded_number() {
    let mut turns = Turns::new();
    (0..2 * GIVEN_MAX as u64).for_each(|n| turns.remember(&[block(n)]));
    assert_eq!((turns.given.len(), turns.remembered.len()), (GIVEN_MAX, GIVEN_MAX));
}

proptest! {
    /// Whatever peers say, everything that waits has its turn, in a bounded time after the last thing was heard.
    #[test]
    fn whatever_is_said_every_batch_has_its_turn(
        said in prop::collection::vec((0_u64..5, 0_u32..8, 0_u8..6, any::<u32>()), 1..200),
    ) {
        let (mut turns, mut now) = (Turns::new(), Instant::now());
        (0..5).for_each(|stream| turns.opened(stream, PeerId::random(), now));
        let mut open: std::collections::BTreeSet<(u64, u32)> = Default::default();
        let mut begun: VecDeque<(u64, u32)> = VecDeque::new();
        for (stream, batch, what, number) in said {
            now += ms(u64::from(number % 50));
            match what {
                0 | 1 if open.insert((stream, batch)) => {
                    prop_assert!(turns.wants(stream, batch, vec![block(u64::from(number % 9))], now));
                }
                2 if turns.cancel(stream, batch, now) => drop(open.remove(&(stream, batch))),
                3 => turns.came(stream, number, now),
                4 => {
                    if let Some((stream, batch)) = begun.pop_front() {
                        turns.written(stream, batch, u64::from(number) % BLOCK);
                        open.remove(&(stream, batch));
                    }
                }
                _ => {}
            }
            while let Some(turn) = turns.next(now) {
                turns.read(turn.stream, turn.batch, BLOCK, 0);
                prop_assert!(open.contains(&(turn.stream, turn.batch)));
                begun.push_back((turn.stream, turn.batch));
            }
        }
        for _ in 0..200 {
            while let Some(turn) = turns.next(now) {
                turns.read(turn.stream, turn.batch, BLOCK, 0);
                begun.push_back((turn.stream, turn.batch));
            }
            if let Some((stream, batch)) = begun.pop_front() {
                turns.written(stream, batch, BLOCK);
            }
            now = turns.wake_at().unwrap_or(now + ms(1));
        }
        prop_assert!(turns.streams.values().all(|it| it.waiting.is_empty() && it.begun.is_empty()));
    }
}
