use proptest::prelude::*;

use super::*;
use crate::{
    content::{Codec, ID_BYTES},
    fetch::swarm::{Mark, Member},
    limits::FETCH_IDS_MAX,
};

fn block(n: u32, bytes: usize) -> Block {
    let mut content = vec![7; bytes];
    content.extend(n.to_be_bytes());
    Block::new(Codec::Raw, content)
}

fn told(told: Told, batch: u32, place: u16) -> Vec<u8> {
    told.encode(batch, place).to_vec()
}

fn sent(block: &Block, batch: u32, place: u16) -> Vec<u8> {
    encode_block(batch, place, block.bytes())
}

/// Asks for these blocks, in batch 0.
fn asking(blocks: &[Block]) -> Asking {
    let mut asking = Asking::default();
    assert_eq!(asking.ask(blocks.iter().map(Block::id).collect()).0, 0);
    asking
}

fn take(asking: &mut Asking, came: &[u8]) -> Result<Vec<(u32, Answer)>, Broken> {
    let mut answered = Vec::new();
    asking.take(came, &mut answered).map(|()| answered)
}

fn have(block: &Block) -> Found {
    Found::Have(block.clone())
}

#[test]
fn the_bytes_on_the_wire_stay_what_they_are() {
    let id = ContentId::of(Codec::Raw, b"hello\n");
    let want = Ask::Want { batch: 0x0102_0304, ids: vec![id] }.encode();
    assert_eq!(want[..ASK_BYTES], [1, 0, 0, 1, 1, 2, 3, 4]);
    assert_eq!(want[ASK_BYTES..], id.to_bytes());
    assert_eq!(Ask::Cancel { batch: 5 }.encode(), [2, 0, 0, 0, 0, 0, 0, 5]);
    let follow = Ask::Follow { follow: 6, tree: id }.encode();
    assert_eq!(
        (&follow[..ASK_BYTES], &follow[ASK_BYTES..]),
        (&[3, 0, 0, 1, 0, 0, 0, 6][..], &id.to_bytes()[..])
    );
    assert_eq!(Ask::Leave { follow: 6 }.encode(), [4, 0, 0, 0, 0, 0, 0, 6]);
    let has = encode_news(6, &News::Has(vec![Mark::of(&id)]));
    assert_eq!(
        (&has[..TOLD_BYTES], &has[TOLD_BYTES..]),
        (&[6, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 8][..], &id.digest()[..8])
    );
    assert_eq!(encode_news(6, &News::Members(vec![]))[0], 7);
    assert_eq!(Told::Block(0x0506).encode(9, 3), [1, 0, 0, 3, 0, 0, 0, 9, 0, 0, 5, 6]);
    assert_eq!(Told::Part(0x0506).encode(9, 3), [8, 0, 0, 3, 0, 0, 0, 9, 0, 0, 5, 6]);
    assert_eq!(Told::Waits.encode(9, 0), [9, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!(Ask::Came { bytes: 0x0102 }.encode(), [5, 0, 0, 0, 0, 0, 1, 2]);
    let parts = encode_block(9, 3, &[7; PART_BYTES + 1]);
    let second = &parts[TOLD_BYTES + PART_BYTES..];
    assert_eq!(second, [&Told::Part(1).encode(9, 3)[..], &[7]].concat());
    assert_eq!(Told::Missing.encode(9, 3), [2, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!(Told::Later.encode(9, 3), [3, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!(Told::Busy(250).encode(9, 0), [4, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 250]);
    assert_eq!(Told::Over.encode(9, 3), [5, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0]);
}

#[test]
fn wants_are_bounded_and_nothing_else_is_read_as_one() {
    let id = ContentId::of(Codec::DagCbor, b"a block");
    let most = Ask::Want { batch: 1, ids: vec![id; FETCH_IDS_MAX] };
    let bytes = most.encode();
    let (head, rest) = bytes.split_first_chunk().unwrap();
    assert_eq!(Ask::rest_bytes(head), Ok(rest.len()));
    assert_eq!(Ask::decode(head, rest), Ok(most));
    // A hundred thousand do not even fit into the number of a message; of fewer, none is read.
    for ids in [0, FETCH_IDS_MAX as u16 + 1, u16::MAX] {
        let head = [&[1, 0][..], &ids.to_be_bytes(), &[0; 4]].concat();
        assert!(Ask::rest_bytes(head.first_chunk().unwrap()).is_err(), "{ids}");
    }
    assert!(Ask::decode(head, &rest[1..]).is_err());
    assert!(Ask::decode(&[1, 0, 0, 1, 0, 0, 0, 0], &[0xff; ID_BYTES]).is_err(), "no content id");
    assert!(Ask::rest_bytes(&[3, 0, 0, 2, 0, 0, 0, 0]).is_err(), "two trees at once");
    assert!(Ask::rest_bytes(&[9, 0, 0, 0, 0, 0, 0, 0]).is_err(), "another kind");
}

#[test]
fn each_place_is_answered_in_its_own_way() {
    let blocks = [block(0, 10), block(1, 0), block(2, 5_000), block(3, 1)];
    let mut asking = asking(&blocks);
    let came =
        [sent(&blocks[0], 0, 0), told(Told::Missing, 0, 1), sent(&blocks[2], 0, 2), told(Told::Later, 0, 3)];
    let blocks = vec![have(&blocks[0]), Found::Missing, have(&blocks[2]), Found::Later];
    assert_eq!(take(&mut asking, &came.concat()), Ok(vec![(0, Answer { blocks, busy: None })]));
    assert_eq!(asking.open(), 0);
}

#[test]
fn batches_are_answered_in_any_order_and_between_one_another() {
    let [one, other, third] = [block(0, 10), block(1, 20), block(2, 30)];
    let mut asking = asking(&[one.clone(), third.clone()]);
    assert_eq!(asking.ask(vec![other.id()]).0, 1);
    let came = [sent(&one, 0, 0), sent(&other, 1, 0), sent(&third, 0, 1)].concat();
    let answered = take(&mut asking, &came).unwrap();
    let answer =
        |blocks: &[&Block]| Answer { blocks: blocks.iter().map(|it| have(it)).collect(), busy: None };
    assert_eq!(answered, [(1, answer(&[&other])), (0, answer(&[&one, &third]))]);
}

#[test]
fn a_busy_peer_says_for_how_long_and_not_for_ever() {
    for (said, heard) in [(250, Duration::from_millis(250)), (u32::MAX, BUSY_MAX)] {
        let mut asking = asking(&[block(0, 1), block(1, 1)]);
        let came = [sent(&block(0, 1), 0, 0), told(Told::Busy(said), 0, 1)].concat();
        let answered = take(&mut asking, &came).unwrap();
        assert_eq!(answered, [(0, Answer { blocks: vec![have(&block(0, 1))], busy: Some(heard) })]);
    }
}

#[test]
fn a_batch_that_is_taken_back_is_open_until_the_peer_says_that_it_is_over() {
    let mut asking = asking(&[block(0, 1)]);
    assert_eq!(asking.cancel(0), Some(Ask::Cancel { batch: 0 }.encode()));
    assert_eq!((asking.cancel(1), asking.open()), (None, 1));
    let answered = take(&mut asking, &told(Told::Over, 0, 0)).unwrap();
    assert_eq!((answered, asking.open()), (vec![(0, Answer::default())], 0));
    assert_eq!(asking.cancel(0), None);
}

#[test]
fn other_bytes_end_the_batch_and_are_told_even_where_worse_follows() {
    let blocks = [block(0, 10), block(1, 10)];
    for wrong in [block(2, 10), block(2, 0), Block::new(Codec::Raw, Vec::new())] {
        let mut asking = asking(&blocks);
        let came = [sent(&wrong, 0, 0), sent(&blocks[1], 0, 1)].concat();
        let mut answered = Vec::new();
        assert!(asking.take(&came, &mut answered).is_err(), "nothing more was asked");
        assert_eq!(answered, [(0, Answer { blocks: vec![Found::Forged], busy: None })]);
    }
}

#[test]
fn what_was_not_asked_for_is_not_even_read() {
    let blocks = [block(0, 10), block(1, 10)];
    let huge = |length: usize| told(Told::Block(u32::try_from(length).unwrap()), 0, 0);
    let cases = [
        ("of another batch", told(Told::Missing, 1, 0)),
        ("reordered", sent(&blocks[1], 0, 1)),
        ("twice", [sent(&blocks[0], 0, 0), sent(&blocks[0], 0, 0)].concat()),
        (
            "more than was wanted",
            [told(Told::Missing, 0, 0), told(Told::Missing, 0, 1), told(Told::Missing, 0, 2)].concat(),
        ),
        ("too long by a byte", huge(BLOCK_BYTES_MAX + 1)),
        ("endless", huge(u32::MAX as usize)),
        ("an unknown kind", vec![99; TOLD_BYTES]),
        ("a part of nothing", told(Told::Part(10), 0, 0)),
        ("waits, and has begun", [sent(&blocks[0], 0, 0), told(Told::Waits, 0, 0)].concat()),
        ("waits for ever", told(Told::Waits, 0, 0).repeat(WAITS_MAX as usize + 1)),
        ("over, for what is over", [told(Told::Over, 0, 0), told(Told::Over, 0, 0)].concat()),
    ];
    for (what, came) in cases {
        let mut asking = asking(&blocks);
        assert!(take(&mut asking, &came).is_err(), "{what}");
    }
}

#[test]
fn an_answer_has_no_more_bytes_than_its_bound_and_one_block() {
    // Small blocks were asked for, as far as anybody knew, and they are what was signed: large ones.
    let blocks: Vec<Block> = (0..3).map(|n| block(n, FETCH_ANSWER_BYTES / 2 - 4)).collect();
    let mut asking = asking(&blocks);
    let two: Vec<u8> = (0..2).flat_map(|n| sent(&blocks[usize::from(n)], 0, n)).collect();
    assert_eq!(take(&mut asking, &two), Ok(vec![]));
    assert!(take(&mut asking, &sent(&blocks[2], 0, 2)).is_err());
    let mut first = self::asking(&[block(0, BLOCK_BYTES_MAX - 4)]);
    assert_eq!(take(&mut first, &sent(&block(0, BLOCK_BYTES_MAX - 4), 0, 0)).unwrap().len(), 1);
}

#[test]
fn a_block_of_many_parts_may_end_in_the_middle_and_nothing_else_comes_between_them_but_what_is_short() {
    let (large, other) = (block(0, 3 * PART_BYTES), block(1, 10));
    let whole = sent(&large, 0, 0);
    let first = &whole[..TOLD_BYTES + PART_BYTES];
    let begin = || {
        let mut asking = asking(std::slice::from_ref(&large));
        assert_eq!(asking.ask(vec![other.id()]).0, 1);
        assert_eq!(take(&mut asking, first), Ok(vec![]));
        assert_eq!((asking.current(), asking.bytes_of(0)), (Some(0), PART_BYTES as u64));
        asking
    };
    let mut asking = begin();
    assert_eq!(take(&mut asking, &told(Told::Waits, 1, 0)), Ok(vec![]));
    assert_eq!((asking.waits(), asking.waits()), (vec![1], vec![]));
    assert_eq!(take(&mut asking, &told(Told::Missing, 1, 0)).unwrap()[0].0, 1);
    let answered = take(&mut asking, &whole[first.len()..]).unwrap();
    assert_eq!(answered, [(0, Answer { blocks: vec![have(&large)], busy: None })]);
    assert_eq!(asking.came(), large.bytes().len() as u64);
    let mut asking = begin();
    assert_eq!(take(&mut asking, &told(Told::Over, 0, 0)), Ok(vec![(0, Answer::default())]));
    assert_eq!((asking.current(), asking.came()), (None, PART_BYTES as u64));
    assert_eq!(take(&mut asking, &sent(&other, 1, 0)).unwrap().len(), 1, "the next one begins");
    for wrong in [
        sent(&other, 1, 0),
        told(Told::Missing, 0, 0),
        told(Told::Busy(1), 0, 0),
        told(Told::Waits, 0, 0),
        told(Told::Part(0), 0, 0),
        told(Told::Part(PART_BYTES as u32 - 1), 0, 0),
        told(Told::Part(PART_BYTES as u32), 1, 0),
        told(Told::Part(PART_BYTES as u32), 0, 1),
    ] {
        assert!(take(&mut begin(), &wrong).is_err(), "{:?}", &wrong[..TOLD_BYTES]);
    }
}

#[test]
fn a_block_that_stops_in_the_middle_answers_nothing() {
    let mut asking = asking(&[block(0, 10)]);
    let came = sent(&block(0, 10), 0, 0);
    assert_eq!(take(&mut asking, &came[..came.len() - 1]), Ok(vec![]));
    assert_eq!(asking.open(), 1);
}

/// What an honest peer may send for batches of blocks of these sizes, and what comes of it.
fn batches() -> impl Strategy<Value = Vec<Vec<(usize, u8)>>> {
    prop::collection::vec(prop::collection::vec((0_usize..3_000, 0_u8..3), 1..9), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However the bytes are cut on their way, the answers are the same.
    #[test]
    fn cuts_do_not_matter(batches in batches(), cuts in prop::collection::vec(1_usize..700, 1..40)) {
        let (mut asking, mut bytes, mut expected) = (Asking::default(), Vec::new(), Vec::new());
        for (batch, places) in (0_u32..).zip(&batches) {
            let blocks: Vec<Block> =
                (0_u32..).zip(places).map(|(n, (size, _))| block(batch * 100 + n, *size)).collect();
            asking.ask(blocks.iter().map(Block::id).collect());
            let mut found = Vec::new();
            for ((place, block), (_, kind)) in (0_u16..).zip(&blocks).zip(places) {
                let (part, it) = match kind {
                    0 => (sent(block, batch, place), have(block)),
                    1 => (told(Told::Missing, batch, place), Found::Missing),
                    _ => (told(Told::Later, batch, place), Found::Later),
                };
                bytes.extend(part);
                found.push(it);
            }
            expected.push((batch, Answer { blocks: found, busy: None }));
        }
        let (mut rest, mut answered) = (&bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            asking.take(now, &mut answered).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(answered, expected);
        prop_assert_eq!(asking.open(), 0);
    }

    /// Whatever comes, nothing is taken for a block but the block, no more is answered than was asked, and memory is bounded.
    #[test]
    fn hostile_bytes_are_never_a_block(
        frames in prop::collection::vec((0_u8..10, 0_u16..5, 0_u32..3, prop_oneof![0_u32..40, any::<u32>()]), 1..40),
        noise in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let blocks: Vec<Block> = (0..4).map(|n| block(n, 20)).collect();
        let mut asking = asking(&blocks);
        let mut answered = Vec::new();
        let mut noise = noise.into_iter().cycle();
        for (kind, place, batch, number) in frames {
            let mut bytes = vec![kind, 0];
            bytes.extend(place.to_be_bytes());
            bytes.extend(batch.to_be_bytes());
            bytes.extend(number.to_be_bytes());
            bytes.extend((0..number.min(64)).filter_map(|_| noise.next()));
            if asking.take(&bytes, &mut answered).is_err() {
                break;
            }
            let room = asking.coming.as_ref().map_or(0, |coming| coming.bytes.capacity());
            prop_assert!(room <= BLOCK_BYTES_MAX && asking.head.len() < TOLD_BYTES);
        }
        prop_assert!(answered.len() <= 1);
        for (_, answer) in answered {
            prop_assert!(answer.blocks.len() <= blocks.len());
            prop_assert!(!answer.blocks.iter().any(|found| matches!(found, Found::Have(_))));
        }
    }
}

fn has(follow: u32, ids: &[ContentId]) -> Vec<u8> {
    encode_news(follow, &News::Has(ids.iter().map(Mark::of).collect()))
}

#[test]
fn what_is_told_of_a_tree_comes_between_the_blocks() {
    let blocks = [block(0, 100), block(1, 100)];
    let mut asking = asking(&blocks);
    let (follow, _) = asking.follow(blocks[0].id()).unwrap();
    let member = Member { peer: libp2p::PeerId::random(), addresses: Vec::new() };
    let members = News::Members(vec![member]);
    let came = [
        sent(&blocks[0], 0, 0),
        has(follow, &[]),
        encode_news(follow, &members),
        has(follow, &[blocks[1].id()]),
        sent(&blocks[1], 0, 1),
    ];
    // In pieces, as it may come.
    let mut answered = Vec::new();
    for piece in came.concat().chunks(7) {
        asking.take(piece, &mut answered).unwrap();
    }
    assert_eq!(answered, [(0, Answer { blocks: blocks.iter().map(have).collect(), busy: None })]);
    let heard = asking.heard();
    let marks = News::Has(vec![Mark::of(&blocks[1].id())]);
    assert_eq!(heard, [(follow, News::Has(vec![])), (follow, members), (follow, marks)]);
    assert!(asking.leave(follow).is_some() && asking.leave(follow).is_none());
    assert!(take(&mut asking, &has(follow, &[blocks[1].id()])).is_ok(), "it was on its way");
    assert_eq!(asking.heard(), []);
}

#[test]
fn nobody_tells_more_of_a_tree_than_there_is() {
    let id = block(0, 10).id();
    let refused = |told: &dyn Fn(u32, usize) -> Vec<u8>| {
        let mut asking = Asking::default();
        let (follow, _) = asking.follow(id).unwrap();
        (0..100_000).find(|n| take(&mut asking, &told(follow, *n)).is_err())
    };
    let marks = vec![id; crate::limits::SWARM_MARKS_AT_ONCE_MAX];
    assert_eq!(refused(&|follow, _| has(follow, &marks)), Some(SWARM_MARKS_MAX / marks.len()));
    assert_eq!(refused(&|follow, _| has(follow, &[])), Some(1), "that it fetches is said once");
    let members = |count| {
        let member = || Member { peer: libp2p::PeerId::random(), addresses: Vec::new() };
        News::Members((0..count).map(|_| member()).collect())
    };
    assert_eq!(refused(&|follow, _| encode_news(follow, &members(1))), Some(SWARM_MEMBERS_MAX));
    assert_eq!(refused(&|follow, _| encode_news(follow, &members(0))), Some(0));
    assert_eq!(refused(&|follow, _| has(follow + 1, &[id])), Some(0), "nobody asked");
    assert_eq!(refused(&|follow, _| Told::Has(17_000).encode(follow, 0).to_vec()), Some(0));
    let mut asking = Asking::default();
    let (follow, _) = asking.follow(id).unwrap();
    asking.leave(follow);
    let stale = (0..100_000).find(|_| take(&mut asking, &has(follow, &[id])).is_err());
    assert_eq!(stale, Some(STALE_MAX));
    let mut asking = Asking::default();
    for _ in 0..4 {
        let (follow, _) = asking.follow(id).unwrap();
        asking.leave(follow);
        let late = (0..STALE_MAX).find(|_| take(&mut asking, &has(follow, &[id])).is_err());
        assert_eq!(late, None, "of each tree that was left some is on its way");
    }
    let mut asking = Asking::default();
    assert_eq!((0..200).filter(|_| asking.follow(id).is_some()).count(), SWARM_FOLLOWED_MAX);
}
