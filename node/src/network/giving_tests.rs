use futures::io::Cursor;

use super::*;
use crate::{content::Codec, limits::FETCH_IDS_MAX};

fn want(batch: u32) -> Ask {
    Ask::Want { batch, ids: vec![ContentId::of(Codec::Raw, &batch.to_be_bytes())] }
}

/// The batches that begin now.
fn begin(giving: &mut Giving) -> Vec<u32> {
    std::iter::from_fn(|| giving.next()).map(|(batch, _)| batch).collect()
}

/// A batch was read, or there is no room for it.
fn read_of(batch: u32, has_room: bool) -> Portion {
    Portion { batch, found: has_room.then(Vec::new) }
}

/// The batches that are written now.
fn written(giving: &mut Giving) -> Vec<u32> {
    std::iter::from_fn(|| giving.ready()).map(|portion| portion.batch).collect()
}

#[test]
fn a_stream_reads_no_more_than_it_may_hold_and_begins_a_few_at_once() {
    let mut giving = Giving::default();
    let mut asked = 0;
    while giving.has_room() {
        assert_eq!(giving.told(want(asked)), Ok(None));
        asked += 1;
    }
    assert_eq!(asked as usize, FETCH_SERVED_PER_PEER_MAX);
    assert_eq!(begin(&mut giving), [0, 1, 2, 3], "in the order in which they were asked");
    assert!(!giving.has_room(), "what has begun is held too");
    giving.read(read_of(0, true));
    assert_eq!(written(&mut giving), [0]);
    assert!(giving.has_room());
    assert_eq!(begin(&mut giving), [4]);
    let mut giving = Giving::default();
    let mut asked = 0;
    while giving.has_room() {
        let ids = vec![ContentId::of(Codec::Raw, b"a block"); FETCH_IDS_MAX];
        giving.told(Ask::Want { batch: asked, ids }).unwrap();
        asked += 1;
    }
    assert_eq!(asked as usize * FETCH_IDS_MAX, WAITING_IDS_MAX, "large batches count for what they are");
}

#[test]
fn batches_are_written_in_their_order_whichever_is_read_first() {
    let mut giving = Giving::default();
    (0..5).for_each(|batch| assert_eq!(giving.told(want(batch)), Ok(None)));
    begin(&mut giving);
    giving.read(read_of(2, true));
    giving.read(read_of(1, true));
    assert!(written(&mut giving).is_empty());
    giving.read(read_of(0, true));
    assert_eq!(written(&mut giving), [0, 1, 2]);
    assert_eq!(begin(&mut giving), [4]);
    giving.read(read_of(4, true));
    giving.read(read_of(3, true));
    assert_eq!(written(&mut giving), [3, 4]);
    assert!(giving.is_empty());
}

#[test]
fn what_waits_can_be_taken_back_and_what_has_begun_is_answered() {
    let mut giving = Giving::default();
    (0..8).for_each(|batch| assert_eq!(giving.told(want(batch)), Ok(None)));
    begin(&mut giving);
    let cancel = |giving: &mut Giving, batch| giving.told(Ask::Cancel { batch }).unwrap();
    assert_eq!(cancel(&mut giving, 0), None, "it has begun");
    assert_eq!(cancel(&mut giving, 6), Some(protocol::Told::Over.encode(6, 0)));
    assert_eq!(cancel(&mut giving, 6), None, "a flood of them costs nothing");
    assert_eq!(cancel(&mut giving, 99), None);
    (0..4).for_each(|batch| giving.read(read_of(batch, true)));
    assert_eq!(written(&mut giving), [0, 1, 2, 3]);
    assert_eq!(begin(&mut giving), [4, 5, 7]);
}

#[test]
fn what_finds_no_room_waits_for_its_own_kind_and_is_refused_alone() {
    let mut giving = Giving::default();
    (0..4).for_each(|batch| assert_eq!(giving.told(want(batch)), Ok(None)));
    begin(&mut giving);
    giving.read(read_of(2, false));
    giving.read(read_of(3, false));
    assert!(begin(&mut giving).is_empty(), "there is no room");
    giving.read(read_of(0, true));
    assert_eq!(written(&mut giving), [0]);
    assert_eq!(begin(&mut giving), [2, 3], "they are tried again, in their order");
    [2, 3].iter().for_each(|batch| giving.read(read_of(*batch, false)));
    giving.read(read_of(1, false));
    let refused: Vec<_> = std::iter::from_fn(|| giving.ready()).collect();
    assert!(matches!(refused[..], [Portion { batch: 1, found: None }]), "nothing else of it is in progress");
}

#[test]
fn a_batch_that_is_open_is_not_opened_again() {
    let mut giving = Giving::default();
    giving.told(want(1)).unwrap();
    assert!(giving.told(want(1)).is_err());
    begin(&mut giving);
    assert!(giving.told(want(1)).is_err());
    giving.read(read_of(1, true));
    written(&mut giving);
    assert_eq!(giving.told(want(1)), Ok(None));
}

#[tokio::test]
async fn messages_are_read_one_after_another_and_no_further_than_their_bounds() {
    let mut wire = Vec::new();
    (0..3).for_each(|batch| wire.extend(want(batch).encode()));
    wire.extend(Ask::Cancel { batch: 1 }.encode());
    let (mut reader, busy) = (Cursor::new(wire.clone()), AtomicBool::new(false));
    for batch in 0..3 {
        assert_eq!(read(&mut reader, &busy).await.unwrap(), Some(want(batch)));
    }
    assert_eq!(read(&mut reader, &busy).await.unwrap(), Some(Ask::Cancel { batch: 1 }));
    assert_eq!(read(&mut reader, &busy).await.unwrap(), None);
    assert!(read(&mut Cursor::new(&wire[..20]), &busy).await.is_err(), "cut short");
    let too_many = [&[1, 0][..], &(FETCH_IDS_MAX as u16 + 1).to_be_bytes(), &[0; 4]].concat();
    assert!(read(&mut Cursor::new(too_many), &busy).await.is_err());
}

#[test]
fn a_peer_follows_a_bounded_number_of_trees_each_once_and_is_told_of_them_until_it_leaves() {
    let (trees, tree) = (Trees::default(), ContentId::of(Codec::DagPb, b"tree"));
    let now = Instant::now();
    let mut following = Following::new((PeerId::random(), None), trees.clone(), now);
    assert_eq!(following.told(&Ask::Follow { follow: 1, tree }, now), Ok(Some(tree)));
    assert!(following.told(&Ask::Follow { follow: 1, tree }, now).is_err(), "under one name");
    let mut out = Vec::new();
    following.tell(&mut out, GATHER_BYTES);
    assert!(out.is_empty(), "nothing is known of it");
    let share = trees.share(tree).unwrap();
    share.has(&[tree]);
    following.tell(&mut out, GATHER_BYTES);
    assert_eq!(out.len(), TOLD_BYTES + 8);
    following.told(&Ask::Leave { follow: 1 }, now).unwrap();
    assert!(!share.is_followed());
    let other = |n: u32| if n == 0 { tree } else { ContentId::of(Codec::DagPb, &n.to_be_bytes()) };
    let most =
        (0..1_000).find(|n| following.told(&Ask::Follow { follow: *n, tree: other(*n) }, now).is_err());
    assert_eq!(most, Some(u32::try_from(SWARM_FOLLOWED_MAX).unwrap()));
    // Whoever begins and leaves again and again has nobody woken each time.
    let mut again = Following::new((PeerId::random(), None), trees.clone(), now);
    let begun = (0..10 * SWARM_FOLLOWS_MAX).filter(|_| {
        let begun = again.told(&Ask::Follow { follow: 1, tree }, now).unwrap().is_some();
        again.told(&Ask::Leave { follow: 1 }, now).unwrap();
        begun
    });
    assert_eq!(begun.count(), SWARM_FOLLOWS_MAX as usize);
    assert!(again.told(&Ask::Follow { follow: 1, tree }, now + SWARM_FOLLOWS_REFILL).unwrap().is_some());
    drop(again);
    drop(following);
    assert!(!share.is_followed(), "it ends with the stream");
}
