use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// How long one peer may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);

fn key() -> RecordKey {
    RecordKey::new(&[7; 32])
}

/// Peers, the nearest to the key first; always the same.
fn peers(number: u64) -> Vec<PeerId> {
    let id = |n: u64| {
        let hash = libp2p::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap();
        PeerId::from_multihash(hash).unwrap()
    };
    let target = KBucketKey::new(key());
    let mut peers: Vec<PeerId> = (0..number).map(id).collect();
    peers.sort_by_key(|peer| target.distance(&KBucketKey::from(*peer)));
    peers
}

/// How a peer of the simulated network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Answers after this many milliseconds with those that are nearest of those it knows.
    Honest(u64),
    /// Its connection fails after this many milliseconds.
    Dead(u64),
    /// Never says anything.
    Silent,
    /// Answers at once with others that do not exist, nearer than any.
    Liar,
}

struct Network {
    peers: Vec<PeerId>,
    kinds: Vec<Kind>,
    /// Who holds the record.
    holders: Vec<usize>,
    /// Each knows every so many-th of the others, beside its own neighbours.
    sparse: usize,
    goal: Goal,
}

struct Outcome {
    ended: Ended,
    found: bool,
    nearest: Vec<PeerId>,
    cost: Cost,
    took: Duration,
    asked: Vec<PeerId>,
}

impl Network {
    fn new(kinds: Vec<Kind>, holders: Vec<usize>) -> Self {
        Self { peers: peers(kinds.len() as u64), kinds, holders, sparse: 1, goal: Goal::Held }
    }

    /// Whom the peer with this number names: the nearest that it knows, dead or alive.
    fn closer(&self, number: usize) -> Vec<PeerId> {
        let knows = |other: &usize| *other != number && (*other + number).is_multiple_of(self.sparse);
        let near = (0..self.peers.len()).filter(|other| other.abs_diff(number) <= 8 && *other != number);
        let mut known: Vec<usize> = (0..self.peers.len()).filter(knows).chain(near).collect();
        known.sort();
        known.dedup();
        known.into_iter().take(NAMED_MAX).map(|at| self.peers[at]).collect()
    }

    /// Whom the peer with this number names as the neighbours of another one.
    fn around(&self, number: usize, about: PeerId) -> Vec<PeerId> {
        let of = KBucketKey::from(about);
        let mut known: Vec<PeerId> =
            self.peers.iter().copied().filter(|it| *it != self.peers[number]).collect();
        known.sort_by_key(|peer| of.distance(&KBucketKey::from(*peer)));
        known.truncate(NAMED_MAX);
        known
    }

    fn run(&self, known: &[usize], time: Duration) -> Outcome {
        let start = Instant::now();
        let mut now = start;
        let known = known.iter().map(|at| self.peers[*at]);
        let mut lookup = Lookup::new(self.goal, key(), known, start, start + time, ANSWER_MAX);
        let (mut coming, mut asked, mut found) = (Vec::new(), Vec::new(), false);
        let ended = loop {
            match lookup.poll(now) {
                Step::Ask(peer) => {
                    assert!(!asked.contains(&peer), "nobody is asked twice");
                    asked.push(peer);
                    match self.peers.iter().position(|it| *it == peer).map(|at| (at, self.kinds[at])) {
                        Some((at, Kind::Honest(after))) => {
                            coming.push((
                                now + Duration::from_millis(after),
                                peer,
                                Some(self.closer(at)),
                                at,
                            ));
                        }
                        Some((_, Kind::Dead(after))) => {
                            coming.push((now + Duration::from_millis(after), peer, None, usize::MAX));
                        }
                        Some((_, Kind::Liar)) => {
                            let no_one = (0..NAMED_MAX).map(|_| PeerId::random()).collect();
                            coming.push((now, peer, Some(no_one), usize::MAX));
                        }
                        Some((_, Kind::Silent)) | None => {}
                    }
                }
                Step::AskAbout { peer, about } => {
                    assert!(asked.contains(&peer), "who answered is asked about others");
                    if let Some((at, Kind::Honest(after))) =
                        self.peers.iter().position(|it| *it == peer).map(|at| (at, self.kinds[at]))
                    {
                        let near = Some(self.around(at, about));
                        coming.push((now + Duration::from_millis(after), peer, near, usize::MAX));
                    }
                }
                Step::Wait(until) => {
                    assert!(until > now, "time goes on");
                    assert!(
                        lookup.cost().asked - lookup.cost().answered - lookup.cost().failed
                            <= WAITING_MAX as u32
                    );
                    coming.sort_by_key(|(at, ..)| *at);
                    if coming.first().is_none_or(|(at, ..)| *at > until) {
                        now = until;
                        continue;
                    }
                    let (at, peer, closer, number) = coming.remove(0);
                    now = now.max(at);
                    let Some(closer) = closer else {
                        lookup.handle(Event::Failed { peer }, now);
                        continue;
                    };
                    if lookup.awaits(&peer) && self.holders.contains(&number) {
                        found = true;
                        lookup.handle(Event::Found, now);
                    }
                    lookup.handle(Event::Answered { peer, closer }, now);
                }
                Step::Over(ended) => break ended,
            }
        };
        Outcome {
            ended,
            found,
            nearest: lookup.nearest().collect(),
            cost: lookup.cost(),
            took: now - start,
            asked,
        }
    }
}

fn healthy(number: usize) -> Vec<Kind> {
    vec![Kind::Honest(100); number]
}

#[test]
fn a_holder_is_found_that_nobody_names_for_all_the_dead_before_it() {
    for holder in [WANTED, WANTED + 1] {
        let mut kinds = vec![Kind::Honest(100); 64];
        kinds[..holder].fill(Kind::Dead(4_000));
        let network = Network::new(kinds, vec![holder]);
        let known: Vec<usize> = (WANTED + 2..WANTED + 20).collect();
        let outcome = network.run(&known, 30 * SECOND);
        assert!(outcome.found && outcome.ended == Ended::Complete, "{holder}: {:?}", outcome.ended);
        // The dead, the nearest that live, and the widening.
        assert!(outcome.cost.asked as usize <= holder + WANTED + 2 * WIDENED_MAX, "{:?}", outcome.cost);
    }
    // Where all who are nearest live, nobody is asked twice for what is not there.
    let outcome = Network::new(vec![Kind::Honest(100); 64], vec![]).run(&[40, 50], 30 * SECOND);
    assert!(!outcome.found && outcome.cost.asked as usize <= WANTED + 8, "{:?}", outcome.cost);
}

#[test]
fn the_twenty_nearest_are_asked_and_few_others() {
    let network = Network { sparse: 3, ..Network::new(healthy(200), vec![3]) };
    let known: Vec<usize> = (60..200).step_by(7).collect();
    let outcome = network.run(&known, 20 * SECOND);
    assert_eq!((outcome.ended, outcome.found), (Ended::Complete, true));
    assert!(network.peers[..WANTED].iter().all(|peer| outcome.asked.contains(peer)));
    assert!(outcome.cost.asked <= 60, "{:?}", outcome.cost);
    assert!(outcome.took <= SECOND, "{:?}", outcome.took);
}

#[test]
fn a_large_routing_table_is_not_asked_as_long_as_the_nearest_answer() {
    let outcome = Network::new(healthy(300), vec![0]).run(&Vec::from_iter(0..300), 20 * SECOND);
    assert_eq!(outcome.cost.asked, WANTED as u32);
}

#[test]
fn the_nearest_are_found_without_asking_them_all() {
    // Where each knows a third of the others, beside eight on either side, some of the twenty are not heard of.
    for (sparse, asked_max, known_min) in [(1, 12, WANTED), (3, 24, 15)] {
        let network = Network { goal: Goal::Nearest, sparse, ..Network::new(healthy(200), vec![]) };
        let outcome = network.run(&Vec::from_iter((60..200).step_by(7)), 20 * SECOND);
        assert_eq!(outcome.ended, Ended::Complete);
        assert!(outcome.cost.asked <= asked_max, "{sparse}: {:?}", outcome.cost);
        assert_eq!(outcome.nearest[..WANTED_NEAREST], network.peers[..WANTED_NEAREST]);
        let named = network.peers[..WANTED].iter().filter(|peer| outcome.nearest.contains(peer)).count();
        assert!(named >= known_min, "{sparse}: {named} of the nearest are known");
    }
}

#[test]
fn the_dead_are_none_of_the_nearest_and_the_silent_are_not_waited_for() {
    for dead in [Kind::Dead(200), Kind::Silent] {
        let mut kinds = healthy(64);
        kinds[..10].fill(dead);
        let network = Network { goal: Goal::Nearest, ..Network::new(kinds, vec![]) };
        let outcome = network.run(&Vec::from_iter(0..64), 60 * SECOND);
        assert!(outcome.took <= 8 * SECOND, "{dead:?} {:?} {:?}", outcome.took, outcome.cost);
        assert!(outcome.nearest.contains(&network.peers[10]));
        assert!(!outcome.nearest.contains(&network.peers[0]), "nothing is given to it");
    }
}

#[test]
fn where_the_nearest_are_dead_those_behind_them_are_asked() {
    let (quick, slow) = (Kind::Dead(200), Kind::Dead(4_000));
    for dead in [quick, slow, Kind::Silent] {
        let mut kinds = healthy(64);
        kinds[..20].fill(dead);
        // One of them lives, and holds the record. Whoever looks knows only some of the dead; or all of them, and some others.
        kinds[19] = Kind::Honest(100);
        for known in [Vec::from_iter(0..19), Vec::from_iter([2, 3, 4, 25, 50]), Vec::from_iter(0..45)] {
            let outcome = Network::new(kinds.clone(), vec![19]).run(&known, 20 * SECOND);
            let knows_any_living = known.iter().any(|at| *at >= 19);
            assert_eq!(outcome.found, knows_any_living, "{dead:?} {known:?} {:?}", outcome.cost);
            assert!(!outcome.found || outcome.took <= 10 * SECOND, "{dead:?} {:?}", outcome.took);
        }
    }
}

/// Nobody of the twenty nearest that are known lives: the lookup is not over with them.
#[test]
fn a_lookup_goes_on_past_twenty_that_are_dead() {
    for dead in [Kind::Dead(200), Kind::Dead(4_000), Kind::Silent] {
        let mut kinds = healthy(64);
        kinds[..WANTED + 4].fill(dead);
        let holder = WANTED + 4;
        for known in [Vec::from_iter(0..=holder), Vec::from_iter(0..64)] {
            let outcome = Network::new(kinds.clone(), vec![holder]).run(&known, 30 * SECOND);
            assert!(outcome.found, "{dead:?} {known:?} {:?}", outcome.cost);
        }
    }
}

#[test]
fn nobody_who_answers_is_told_from_nobody_who_has_it() {
    let alone = Network::new(healthy(30), vec![0]).run(&[], SECOND);
    assert_eq!((alone.ended, alone.took), (Ended::Unanswered, Duration::ZERO));
    let dead = Network::new(vec![Kind::Dead(100); 30], vec![0]).run(&[1, 2, 3], 20 * SECOND);
    assert_eq!((dead.ended, dead.cost.failed), (Ended::Unanswered, 3));
    let silent = Network::new(vec![Kind::Silent; 30], vec![0]).run(&[1, 2, 3], 20 * SECOND);
    assert_eq!((silent.ended, silent.took), (Ended::Unanswered, ANSWER_MAX));
    let nothing = Network::new(healthy(30), vec![]).run(&[1, 2, 3], 20 * SECOND);
    assert_eq!((nothing.ended, nothing.found), (Ended::Complete, false));
}

#[test]
fn what_is_cut_off_is_not_complete() {
    let slow = Network::new(vec![Kind::Honest(800); 100], vec![]);
    let outcome = slow.run(&[90, 95], SECOND);
    assert_eq!((outcome.ended, outcome.took), (Ended::CutOff, SECOND));
    let mut kinds = healthy(100);
    kinds[0] = Kind::Silent;
    let outcome = Network::new(kinds.clone(), vec![]).run(&[50], 10 * SECOND);
    assert_eq!(outcome.ended, Ended::CutOff, "the silent one may have it");
    let outcome = Network::new(kinds.clone(), vec![]).run(&[50], 60 * SECOND);
    assert_eq!(outcome.ended, Ended::Complete, "it had all the time that one peer has");
    let outcome = Network::new(kinds, vec![5]).run(&[50], 60 * SECOND);
    assert_eq!((outcome.ended, outcome.found), (Ended::Silent, true));
    assert!(outcome.took <= 4 * SECOND, "{:?}", outcome.took);
}

#[test]
fn slow_links_are_waited_for() {
    let slow = Network::new(vec![Kind::Honest(5_000); 64], vec![2]);
    let outcome = slow.run(&[30, 40, 50], 60 * SECOND);
    assert_eq!((outcome.ended, outcome.found), (Ended::Complete, true));
}

#[test]
fn liars_do_not_keep_the_honest_from_being_asked() {
    let mut kinds = healthy(100);
    // They stand before the key, and name twenty each that nobody is.
    kinds[..10].fill(Kind::Liar);
    let outcome = Network::new(kinds, vec![12]).run(&[30, 60, 90], 20 * SECOND);
    assert!(outcome.found, "{:?}", outcome.cost);
    assert!(outcome.cost.asked <= ASKED_MAX);
}

#[test]
fn answers_of_strangers_and_late_ones_change_nothing() {
    let (start, known) = (Instant::now(), peers(5));
    let mut lookup =
        Lookup::new(Goal::Held, key(), known[..3].to_vec(), start, start + 20 * SECOND, ANSWER_MAX);
    let Step::Ask(first) = lookup.poll(start) else { panic!("nobody is asked") };
    lookup.handle(Event::Answered { peer: known[4], closer: vec![known[3]] }, start);
    assert_eq!(lookup.cost().answered, 0, "it was not asked");
    lookup.handle(Event::Failed { peer: first }, start);
    lookup.handle(Event::Answered { peer: first, closer: vec![known[3]] }, start);
    assert_eq!((lookup.cost().answered, lookup.cost().failed), (0, 1), "it was given up");
    assert!(!lookup.awaits(&known[3]) && lookup.of(&known[3]).is_none());
}

#[test]
fn no_more_are_known_than_there_is_room_for() {
    let (start, all) = (Instant::now(), peers(2 * CANDIDATES_MAX as u64));
    let far_first = all.iter().rev().copied();
    let lookup = Lookup::new(Goal::Held, key(), far_first, start, start + SECOND, ANSWER_MAX);
    assert_eq!(lookup.candidates.len(), CANDIDATES_MAX);
    assert!(all[..CANDIDATES_MAX].iter().all(|peer| lookup.of(peer).is_some()), "the nearest are kept");
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (20u64..3_000).prop_map(Kind::Honest),
        2 => (20u64..10_000).prop_map(Kind::Dead),
        1 => Just(Kind::Silent),
        1 => Just(Kind::Liar),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_lookup_ends_in_its_time_within_its_bounds(
        kinds in prop::collection::vec(kind(), 1..90),
        known in prop::collection::btree_set(0usize..90, 0..40),
        secs in 1u32..60,
    ) {
        let known: Vec<usize> = known.into_iter().filter(|at| *at < kinds.len()).collect();
        let outcome = Network::new(kinds, vec![0]).run(&known, secs * SECOND);
        prop_assert!(outcome.took <= secs * SECOND);
        prop_assert!(outcome.cost.asked <= ASKED_MAX);
        prop_assert!(outcome.cost.answered + outcome.cost.failed <= outcome.cost.asked);
        prop_assert!(!outcome.found || outcome.ended != Ended::Unanswered);
    }

    /// Half of the network has died, the author's neighbours among them: as long as one holder lives, it is found.
    #[test]
    fn a_living_holder_is_found_whoever_else_has_died(
        dead in prop::collection::vec(any::<bool>(), 64),
        holder in 0usize..20,
        after in 20u64..4_000,
        known in prop::collection::btree_set(0usize..64, 1..30),
    ) {
        let kinds: Vec<Kind> = dead
            .iter()
            .enumerate()
            .map(|(at, dead)| if *dead && at != holder { Kind::Dead(after) } else { Kind::Honest(100) })
            .collect();
        let known: Vec<usize> = known.into_iter().collect();
        let knows_any_living = known.iter().any(|at| kinds[*at] == Kind::Honest(100));
        let outcome = Network::new(kinds, vec![holder]).run(&known, 60 * SECOND);
        prop_assert_eq!(outcome.found, knows_any_living);
    }
}

#[test]
fn whom_a_peer_names_as_the_neighbours_of_others_stay_on_its_path() {
    let (now, known, named) = (Instant::now(), peers(2), PeerId::random());
    let mut lookup = Lookup::new(Goal::Held, key(), known.clone(), now, now + 30 * SECOND, ANSWER_MAX);
    for peer in &known {
        assert_eq!(lookup.poll(now), Step::Ask(*peer));
        lookup.handle(Event::Answered { peer: *peer, closer: Vec::new() }, now);
    }
    lookup.widening.insert(known[1], now);
    lookup.handle(Event::Answered { peer: known[1], closer: vec![named] }, now);
    assert_eq!(
        lookup.of(&named).map(|it| it.paths),
        Some(1 << 1),
        "the second one was asked on the second path"
    );
}
