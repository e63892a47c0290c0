use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    code::Code,
    identity::Publisher,
    release::{
        Entry, Log,
        fixture::{NOW, draft, publisher, releases},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn versions(number: usize) -> Log {
    let versions: Vec<String> = (0..number).map(|n| format!("1.0.{n}")).collect();
    releases(&publisher(1), &versions.iter().map(String::as_str).collect::<Vec<_>>())
}

fn wanted(log: &Log) -> Wanted {
    let publisher = publisher(1);
    Wanted::of(&draft(&publisher, log).sign(&publisher).unwrap(), None)
}

fn gathering(log: &Log) -> Gathering {
    let mut gathering = Gathering::new(wanted(log)).unwrap();
    gathering.held(None).unwrap();
    gathering
}

fn bytes(entry: &SignedEntry) -> ByteBuf {
    ByteBuf::from(entry.block().bytes().to_vec())
}

/// What an honest peer that holds all of a log answers, so many entries a frame.
fn answer(log: &Log, request: &Request, a_frame: usize) -> Vec<Frame> {
    let from = log.entries().iter().position(|entry| entry.id() == request.newest).unwrap();
    let is_wanted = |entry: &&SignedEntry| request.above.is_none_or(|above| entry.entry().sequence > above);
    let entries: Vec<_> = log.entries()[..=from].iter().rev().take_while(is_wanted).map(bytes).collect();
    let mut frames: Vec<_> = entries
        .chunks(a_frame)
        .map(|part| Frame { entries: part.to_vec(), ..Frame::last(Then::More) })
        .collect();
    match frames.last_mut() {
        Some(last) => last.then = Then::Done,
        None => frames.push(Frame::last(Then::Done)),
    }
    frames
}

fn ask(gathering: &mut Gathering, now: Duration) -> Ask {
    gathering.next(now).expect("somebody can be asked")
}

#[test]
fn a_log_comes_in_one_answer() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let peer = PeerId::random();
    assert_eq!((gathering.next(SECOND), gathering.is_stuck(), gathering.missing()), (None, true, 10));
    gathering.peer(peer);
    let Ask { id, peer: asked, request } = ask(&mut gathering, SECOND);
    assert_eq!((asked, request.newest, request.above), (peer, log.newest().unwrap().id(), None));
    assert_eq!(gathering.next(SECOND), None, "one answer is all that is needed");
    let mut fresh = Vec::new();
    for frame in answer(&log, &request, 3) {
        let taken = gathering.frame(id, &frame, SECOND).unwrap();
        assert_eq!((taken.fault, taken.is_over), (None, frame.then == Then::Done));
        fresh.extend(taken.fresh);
        while gathering.sought().is_some() {
            gathering.held(None).unwrap();
        }
    }
    let blocks: Vec<_> = log.entries().iter().rev().map(|entry| entry.block().clone()).collect();
    assert_eq!(fresh, blocks);
    assert!(gathering.is_complete() && gathering.next(SECOND).is_none() && gathering.wake_at().is_none());
    assert_eq!(gathering.into_entries(), log.entries());
}

#[test]
fn what_is_held_is_not_asked_for() {
    let log = versions(10);
    let newer = Wanted { above: Some(Sequence::new(6)), ..wanted(&log) };
    let mut gathering = Gathering::new(newer).unwrap();
    gathering.peer(PeerId::random());
    gathering.held(None).unwrap();
    let Ask { id, request, .. } = ask(&mut gathering, SECOND);
    assert_eq!(request.above, Some(Sequence::new(6)));
    let frames = answer(&log, &request, 10);
    assert_eq!(frames[0].entries.len(), 3);
    assert!(gathering.frame(id, &frames[0], SECOND).unwrap().fault.is_none());
    // The rest is there, but for one that was lost.
    for entry in log.entries()[3..=6].iter().rev() {
        assert_eq!(gathering.sought(), Some(entry.id()));
        gathering.held(Some(entry.block())).unwrap();
    }
    gathering.held(None).unwrap();
    let Ask { id, request, .. } = ask(&mut gathering, SECOND);
    assert_eq!(
        (request.newest, request.above),
        (log.entries()[2].id(), None),
        "nothing is left out any more"
    );
    gathering.frame(id, &answer(&log, &request, 10)[0], SECOND).unwrap();
    assert_eq!(gathering.into_entries(), log.entries());
}

#[test]
fn an_answer_that_is_cut_off_is_continued_by_another_peer() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let [first, second] = [(); 2].map(|()| PeerId::random());
    gathering.peer(first);
    gathering.peer(second);
    let asked = ask(&mut gathering, SECOND);
    assert_eq!(asked.peer, first);
    let frames = answer(&log, &asked.request, 4);
    gathering.frame(asked.id, &frames[0], SECOND).unwrap();
    gathering.held(None).unwrap();
    assert_eq!(gathering.ended(asked.id, Err(&RequestFailure::Closed), SECOND), None);
    let again = ask(&mut gathering, SECOND);
    assert_eq!((again.peer, again.request.newest), (second, log.entries()[5].id()));
    assert!(gathering.frame(asked.id, &frames[1], SECOND).unwrap().is_over, "it was given up");
    assert_eq!(gathering.missing(), 6);
}

#[test]
fn whoever_breaks_the_protocol_is_charged_and_not_asked_again() {
    let log = versions(6);
    let other = releases(&publisher(1), &["9.0.0", "9.1.0"]);
    let entries: Vec<_> = log.entries().iter().rev().map(bytes).collect();
    let mut changed = entries[0].to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let id = |back: usize| log.entries()[5 - back].id();
    let frame = |entries: &[ByteBuf], then| Frame { entries: entries.to_vec(), ..Frame::last(then) };
    let too_many: Vec<_> = entries.iter().cloned().chain([bytes(&other.entries()[0])]).collect();
    for (what, frames, fault) in [
        ("a flipped bit", vec![frame(&[changed.into()], Then::More)], Some(Fault::Forged(id(0)))),
        (
            "of another log",
            vec![frame(&[bytes(&other.entries()[1])], Then::Done)],
            Some(Fault::Forged(id(0))),
        ),
        ("no entry", vec![frame(&[ByteBuf::new()], Then::More)], Some(Fault::Forged(id(0)))),
        (
            "one left out",
            vec![frame(&[entries[0].clone(), entries[2].clone()], Then::More)],
            Some(Fault::Forged(id(1))),
        ),
        (
            "one twice",
            vec![frame(&[entries[0].clone(), entries[0].clone()], Then::More)],
            Some(Fault::Forged(id(1))),
        ),
        ("oldest first", vec![frame(&[entries[5].clone()], Then::More)], Some(Fault::Forged(id(0)))),
        ("more than there is", vec![frame(&too_many, Then::Done)], Some(Fault::Unasked)),
        ("more is promised", vec![frame(&entries, Then::More)], Some(Fault::Unasked)),
        ("nothing, and more of it", vec![frame(&[], Then::More)], Some(Fault::Empty)),
        (
            "nothing after something",
            vec![frame(&entries[..2], Then::More), frame(&[], Then::More)],
            Some(Fault::Empty),
        ),
        ("done too early", vec![frame(&entries[..2], Then::Done)], Some(Fault::Cut)),
        ("done with nothing", vec![frame(&[], Then::Done)], Some(Fault::Cut)),
        ("missing", vec![frame(&entries[..2], Then::Missing)], None),
        ("busy", vec![frame(&[], Then::Busy)], None),
        ("all of it", vec![frame(&entries, Then::Done)], None),
    ] {
        let mut gathering = gathering(&log);
        gathering.peer(PeerId::random());
        let Ask { id, .. } = ask(&mut gathering, SECOND);
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            assert_eq!(gathering.frame(id, frame, SECOND).unwrap().fault, None, "{what}");
        }
        let taken = gathering.frame(id, last, SECOND).unwrap();
        assert_eq!((taken.fault, taken.is_over), (fault, true), "{what}");
        gathering.held(None).unwrap();
        if fault.is_some() {
            assert!(gathering.is_stuck() && gathering.next(1_000 * SECOND).is_none(), "{what}");
        }
    }
}

#[test]
fn more_than_was_asked_for_is_charged_although_it_is_in_the_log() {
    let log = versions(6);
    let mut gathering = Gathering::new(Wanted { above: Some(Sequence::new(3)), ..wanted(&log) }).unwrap();
    gathering.held(None).unwrap();
    gathering.peer(PeerId::random());
    let Ask { id, request, .. } = ask(&mut gathering, SECOND);
    let all = answer(&log, &Request { above: None, ..request }, 6);
    let taken = gathering.frame(id, &all[0], SECOND).unwrap();
    assert_eq!((taken.fault, taken.fresh.len()), (Some(Fault::Unasked), 2));
}

#[test]
fn others_are_asked_beside_a_slow_peer_which_is_charged_nothing() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
    peers.iter().for_each(|peer| gathering.peer(*peer));
    let mut now = SECOND;
    let first = ask(&mut gathering, now);
    // A byte a second, for as long as it likes.
    gathering.moved(first.id, 1, now + SECOND);
    assert_eq!(gathering.wake_at(), Some(now + FIRST_PATIENCE));
    assert_eq!(gathering.next(now + FIRST_PATIENCE - SECOND / 10), None);
    now += FIRST_PATIENCE;
    let second = ask(&mut gathering, now);
    assert_eq!((second.peer, second.request.newest), (peers[1], first.request.newest));
    now += FIRST_PATIENCE;
    let third = ask(&mut gathering, now);
    assert!([first.id, second.id, third.id].iter().all(|id| gathering.is_live(*id)));
    // The last one brings all of it; what the first one brings then is known, and right.
    for frame in answer(&log, &third.request, 5) {
        assert_eq!(gathering.frame(third.id, &frame, now).unwrap().fault, None);
        while gathering.sought().is_some() {
            gathering.held(None).unwrap();
        }
    }
    assert!(gathering.is_complete());
    let late = gathering.frame(first.id, &answer(&log, &first.request, 4)[0], now).unwrap();
    assert_eq!((late.fault, late.fresh.len(), late.is_proved), (None, 0, true));
}

#[test]
fn mute_peers_do_not_keep_others_from_being_asked() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let peers: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
    peers.iter().for_each(|peer| gathering.peer(*peer));
    let (mut now, mut asked) = (SECOND, Vec::new());
    for _ in 0..20 {
        asked.push(ask(&mut gathering, now));
        assert_eq!(gathering.next(now), None);
        let live = asked.iter().filter(|ask| gathering.is_live(ask.id)).count();
        assert_eq!(live, asked.len().min(STREAMS_MAX));
        now = now.max(gathering.wake_at().unwrap_or(now));
    }
    assert_eq!(asked.iter().map(|ask| ask.peer).collect::<Vec<_>>(), peers);
    assert!(now <= Duration::from_secs(30), "{now:?}");
    assert_eq!((gathering.next(1_000 * SECOND), gathering.wake_at()), (None, None), "each was asked");
}

#[test]
fn who_gets_on_is_waited_for() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    (0..2).for_each(|_| gathering.peer(PeerId::random()));
    let first = ask(&mut gathering, Duration::ZERO);
    for step in 1..100_u32 {
        let now = FIRST_PATIENCE * step - SECOND / 10;
        gathering.moved(first.id, 4 * MOVED_BYTES * u64::from(step), now);
        assert_eq!(gathering.next(now), None);
    }
}

/// Lets answers bring so many bytes a second each, until `until`; whom it asks meanwhile, and when.
fn go_on(
    gathering: &mut Gathering,
    asked: &mut Vec<(Duration, Ask)>,
    until: Duration,
    rate: impl Fn(usize) -> u64,
) {
    let from = asked.last().map_or(Duration::ZERO, |(at, _)| *at);
    for tenth in 1..=u32::try_from((until - from).as_millis() / 100).unwrap() {
        let now = from + Duration::from_millis(100) * tenth;
        for (number, (began, ask)) in asked.iter().enumerate() {
            let millis = u64::try_from((now - *began).as_millis()).unwrap();
            gathering.moved(ask.id, rate(number) * millis / 1_000, now);
        }
        asked.extend(gathering.next(now).map(|ask| (now, ask)));
    }
}

#[test]
fn a_source_that_drips_is_passed_by_when_a_faster_one_is_there() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    (0..3).for_each(|_| gathering.peer(PeerId::random()));
    let mut asked = vec![(Duration::ZERO, ask(&mut gathering, Duration::ZERO))];
    // Enough to be waited for, and a log of ten thousand entries would take a quarter of an hour so.
    go_on(&mut gathering, &mut asked, 12 * SECOND, |number| if number == 0 { 3_000 } else { 100_000 });
    assert_eq!(asked.len(), 2, "one is asked beside it");
    assert!(asked[1].0 >= LINGER && asked[1].0 <= LINGER + SECOND, "{:?}", asked[1].0);
    assert!(!gathering.is_live(asked[0].1.id) && gathering.is_live(asked[1].1.id));
}

#[test]
fn a_peer_that_was_asked_in_vain_is_asked_again_where_the_only_other_one_is_silent() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let (hasty, silent) = (PeerId::random(), PeerId::random());
    gathering.peer(hasty);
    gathering.peer(silent);
    let first = ask(&mut gathering, Duration::ZERO);
    assert_eq!(first.peer, hasty);
    gathering.ended(first.id, Err(&RequestFailure::Closed), Duration::ZERO);
    assert_eq!(ask(&mut gathering, Duration::ZERO).peer, silent);
    // It has taken long by now as well, and nobody is left who was not asked yet.
    let now = LINGER + SECOND;
    assert!(gathering.wake_at().is_some_and(|at| at <= now));
    assert_eq!(ask(&mut gathering, now).peer, hasty);
    assert_eq!(gathering.next(now), None);
    assert!(gathering.wake_at().is_none_or(|at| at > now), "{:?}", gathering.wake_at());
}

#[test]
fn where_our_own_line_is_slow_those_that_bring_no_more_are_given_up_again() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    (0..9).for_each(|_| gathering.peer(PeerId::random()));
    let mut asked = vec![(Duration::ZERO, ask(&mut gathering, Duration::ZERO))];
    go_on(&mut gathering, &mut asked, 60 * SECOND, |_| 3_000);
    assert_eq!(asked.len(), 1 + RACES_LOST_MAX as usize, "{asked:?}");
    let live: Vec<bool> = asked.iter().map(|(_, ask)| gathering.is_live(ask.id)).collect();
    assert_eq!(live, [true, false, false], "the one that has gone on longest stays");
}

#[test]
fn a_peer_that_lacks_an_entry_is_asked_again_when_that_came_from_elsewhere() {
    let log = versions(6);
    let mut gathering = gathering(&log);
    let [partial, other] = [(); 2].map(|()| PeerId::random());
    gathering.peer(partial);
    let lacks = ask(&mut gathering, SECOND);
    gathering.frame(lacks.id, &Frame::last(Then::Missing), SECOND).unwrap();
    assert!(gathering.is_stuck());
    gathering.peer(other);
    let asked = ask(&mut gathering, SECOND);
    assert_eq!(asked.peer, other);
    let some = Frame { then: Then::Missing, ..answer(&log, &asked.request, 1)[0].clone() };
    gathering.frame(asked.id, &some, SECOND).unwrap();
    gathering.held(None).unwrap();
    assert_eq!(ask(&mut gathering, SECOND).peer, partial);
}

#[test]
fn the_busy_are_asked_again_a_little_later_and_not_for_ever() {
    let log = versions(3);
    let mut gathering = gathering(&log);
    gathering.peer(PeerId::random());
    let mut now = Duration::ZERO;
    for _ in 0..TRIES_MAX {
        let asked = ask(&mut gathering, now);
        gathering.frame(asked.id, &Frame::last(Then::Busy), now).unwrap();
        assert_eq!(gathering.next(now), None);
        now += BUSY_PAUSE;
    }
    assert!(gathering.is_stuck());
}

#[test]
fn where_we_had_no_room_to_ask_it_does_not_count_as_asked() {
    let log = versions(3);
    let mut gathering = gathering(&log);
    gathering.peer(PeerId::random());
    let mut now = SECOND;
    for _ in 0..=2 * TRIES_MAX {
        let asked = ask(&mut gathering, now);
        assert_eq!(gathering.ended(asked.id, Err(&RequestFailure::Own), now), None);
        assert!(!gathering.is_stuck());
        now += BUSY_PAUSE;
    }
}

#[test]
fn what_the_publisher_signed_wrongly_is_nobodys_fault_but_its() {
    let publisher = publisher(1);
    let log = versions(2);
    let forced = |change: fn(&mut Entry)| {
        let mut entry = log.entries()[1].entry().clone();
        change(&mut entry);
        SignedEntry::sign(&entry, &publisher).unwrap()
    };
    let stranger = Publisher::from_secret([2; 32], NOW);
    let by_another = {
        let entry = Entry { publisher: stranger.id(), ..log.entries()[1].entry().clone() };
        SignedEntry::sign(&entry, &stranger).unwrap()
    };
    for (what, newest, code) in [
        ("another number", forced(|entry| entry.sequence = Sequence::new(7)), Code::Malformed),
        ("another package", forced(|entry| entry.name = "other".parse().unwrap()), Code::Malformed),
        (
            "a way back to no entry",
            forced(|entry| entry.previous = Some(ContentId::of(Codec::Raw, b"x"))),
            Code::Malformed,
        ),
        ("by another", by_another, Code::Signature),
    ] {
        let mut gathering = Gathering::new(Wanted { newest: newest.id(), ..wanted(&log) }).unwrap();
        gathering.held(None).unwrap();
        gathering.peer(PeerId::random());
        let Ask { id, .. } = ask(&mut gathering, SECOND);
        let frame = Frame { entries: vec![bytes(&newest)], ..Frame::last(Then::More) };
        assert_eq!(gathering.frame(id, &frame, SECOND).unwrap_err().code(), code, "{what}");
    }
    let first = Gathering::new(Wanted { sequence: Sequence::new(0), ..wanted(&log) });
    let mut first = first.unwrap();
    assert_eq!(first.held(Some(log.newest().unwrap().block())).unwrap_err().code(), Code::Malformed);
    let raw = Wanted { newest: ContentId::of(Codec::Raw, b"x"), ..wanted(&log) };
    assert_eq!(Gathering::new(raw).unwrap_err().code(), Code::Malformed);
}

/// What a peer of the property does with one frame of an honest answer.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Honest,
    Flip(usize),
    Drop(usize),
    Swap,
    Cut,
    Lack,
    Empty,
    Close,
    Wait,
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        6 => Just(Manner::Honest),
        1 => any::<usize>().prop_map(Manner::Flip),
        1 => any::<usize>().prop_map(Manner::Drop),
        1 => Just(Manner::Swap),
        1 => Just(Manner::Cut),
        1 => Just(Manner::Lack),
        1 => Just(Manner::Empty),
        1 => Just(Manner::Close),
        2 => Just(Manner::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever peers send, in whatever order: nothing is taken that is not the log, each entry is fresh once, nobody honest is
    /// charged, and one honest peer is enough.
    #[test]
    fn only_the_log_is_taken_whatever_comes(
        length in 1_usize..12,
        held in prop::collection::btree_set(0_usize..12, 0..4),
        a_frame in 1_usize..5,
        manners in prop::collection::vec(manner(), 0..60),
    ) {
        let log = versions(length);
        let mut gathering = Gathering::new(wanted(&log)).unwrap();
        let look = |gathering: &mut Gathering| {
            while let Some(id) = gathering.sought() {
                let at = log.entries().iter().position(|entry| entry.id() == id).unwrap();
                let there = held.contains(&at).then(|| log.entries()[at].block());
                gathering.held(there).unwrap();
            }
        };
        look(&mut gathering);
        let honest = PeerId::random();
        (0..4).for_each(|_| gathering.peer(PeerId::random()));
        let (mut now, mut manners, mut fresh) = (Duration::ZERO, manners.into_iter(), Vec::new());
        let mut streams: Vec<(Ask, Vec<Frame>, bool)> = Vec::new();
        for step in 0..400 {
            if step == 100 {
                gathering.peer(honest);
            }
            now += SECOND;
            while let Some(ask) = gathering.next(now) {
                let mut frames = answer(&log, &ask.request, a_frame);
                frames.reverse();
                streams.push((ask, frames, true));
            }
            if gathering.is_complete() {
                break;
            }
            // Who waits until a time that is over asks again at once, for ever.
            prop_assert!(gathering.wake_at().is_none_or(|at| at > now), "{:?} at {now:?}", gathering.wake_at());
            if streams.is_empty() {
                continue;
            }
            let at = step % streams.len();
            let (ask, frames, is_honest) = &mut streams[at];
            let id = ask.id;
            let manner = if ask.peer == honest { Manner::Honest } else { manners.next().unwrap_or(Manner::Wait) };
            let Some(mut frame) = frames.pop() else {
                gathering.ended(id, Ok(()), now);
                streams.remove(at);
                continue;
            };
            match manner {
                Manner::Honest => {}
                Manner::Flip(bit) => {
                    let entry = &mut frame.entries[0];
                    let bit = bit % (entry.len() * 8);
                    entry[bit / 8] ^= 1 << (bit % 8);
                    *is_honest = false;
                }
                Manner::Drop(which) => {
                    frame.entries.remove(which % frame.entries.len());
                    // A frame that became shorter may be an honest one that lacks the rest.
                    frame.then = Then::Missing;
                }
                Manner::Swap => frame.entries.reverse(),
                Manner::Cut => frame.then = Then::Done,
                Manner::Lack => frame = Frame::last(Then::Missing),
                Manner::Empty => frame = Frame::last(Then::More),
                Manner::Wait => {
                    frames.push(frame);
                    continue;
                }
                Manner::Close => {
                    gathering.ended(id, Err(&RequestFailure::Closed), now);
                    streams.remove(at);
                    continue;
                }
            }
            let is_given_up = !gathering.streams.contains_key(&id);
            let taken = gathering.frame(id, &frame, now).unwrap();
            prop_assert!(!is_given_up || taken.is_over && taken.fresh.is_empty(), "it is not looked at");
            if matches!(manner, Manner::Honest) && *is_honest {
                prop_assert_eq!(taken.fault, None);
            }
            if matches!(manner, Manner::Flip(_)) && !is_given_up {
                prop_assert!(taken.fault.is_some());
            }
            fresh.extend(taken.fresh);
            if taken.is_over {
                streams.remove(at);
            }
            look(&mut gathering);
        }
        let mut places: Vec<_> = fresh.iter().map(|block: &Block| {
            log.entries().iter().position(|entry| entry.block() == block).unwrap()
        }).collect();
        places.sort_unstable();
        let once: std::collections::BTreeSet<_> = places.iter().copied().collect();
        prop_assert_eq!(once.len(), places.len(), "each is fresh once");
        prop_assert!(gathering.is_complete(), "one honest peer is enough");
        prop_assert_eq!(gathering.into_entries(), log.entries());
    }
}

#[test]
fn older_places_that_peers_hold_are_remembered_the_newest_first_and_within_bounds() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let held = |sequence: u64, bytes: &[u8]| UpTo {
        sequence: Sequence::new(sequence),
        entry: ContentId::of(Codec::DagCbor, bytes),
    };
    let raw = UpTo { entry: ContentId::of(Codec::Raw, b"no entry"), ..held(3, b"") };
    let said = [
        held(2, b"2"),
        held(5, b"5"),
        held(2, b"2"),
        held(9, b"not older"),
        held(u64::MAX, b"lie"),
        raw,
        held(3, b"3"),
    ];
    for held in said.into_iter().chain((0..20).map(|n| held(0, &[n]))) {
        gathering.peer(PeerId::random());
        let asked = ask(&mut gathering, SECOND);
        let frame = Frame { held: Some(held), ..Frame::last(Then::Missing) };
        assert!(gathering.frame(asked.id, &frame, SECOND).unwrap().is_over);
    }
    let older: Vec<u64> = gathering.older().iter().map(|it| it.sequence.get()).collect();
    assert_eq!(older, [&[5, 3, 2][..], &[0; 20]].concat());
}

#[test]
fn those_that_lie_about_older_places_do_not_crowd_out_an_honest_one() {
    let log = versions(10);
    let mut gathering = gathering(&log);
    let say = |gathering: &mut Gathering, peer, sequence, bytes: &[u8]| {
        let entry = ContentId::of(Codec::DagCbor, bytes);
        gathering.note_older(peer, UpTo { sequence: Sequence::new(sequence), entry });
    };
    for n in 0..20 {
        let liar = PeerId::random();
        (0..9).for_each(|again| say(&mut gathering, liar, 8, &[n, again]));
    }
    say(&mut gathering, PeerId::random(), 4, b"honest");
    let older = gathering.older();
    assert_eq!(older.len(), 21, "one a peer");
    assert_eq!(older.last().map(|it| it.sequence.get()), Some(4));
    (0..200).for_each(|n| say(&mut gathering, PeerId::random(), 7, &[n]));
    assert_eq!(gathering.older().len(), OLDER_MAX);
    assert_eq!(gathering.older().last().map(|it| it.sequence.get()), Some(4), "who spoke first stays");
}
