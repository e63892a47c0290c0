use super::*;
use crate::{
    code::Code,
    fetch::{
        memory::{Manner, Memory, Peer},
        swarm::Mark,
    },
    limits::CHUNK_BYTES,
    package::unixfs,
};

fn id(content: &[u8]) -> ContentId {
    ContentId::of(Codec::Raw, content)
}

/// Fetches a block from one peer that holds it and has these manners.
async fn fetched(manner: Manner, time: Duration) -> (Result<(), Error>, bool) {
    let block = Block::new(Codec::Raw, b"wanted".to_vec());
    let (theirs, ours) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    theirs.put_blocks(std::slice::from_ref(&block)).unwrap();
    let peer = PeerId::random();
    let network = Memory::new([(peer, Peer { store: theirs, manner })], Duration::from_millis(1));
    let (found, deadline) = (Memory::found(&[peer]), Instant::now() + time);
    let mut session = Session::new(network, ours.clone(), Offload::Inline, deadline, found);
    let told = std::sync::Arc::new(std::sync::Mutex::new(0));
    let tell = told.clone();
    session.tell(Box::new(move |_| *tell.lock().unwrap() += 1));
    let outcome = session.get(vec![Wanted::Block { id: block.id(), bytes_max: 6 }], &mut |_| {}).await;
    let is_here = ours.has(&block.id()).unwrap();
    assert_eq!(*told.lock().unwrap(), u32::from(is_here), "whoever writes it elsewhere is told of each once");
    (outcome, is_here)
}

#[tokio::test]
async fn a_provider_that_is_gone_for_a_moment_is_waited_for_as_long_as_there_is_time() {
    let (outcome, is_here) = fetched(Manner::Restarting(2), Duration::from_secs(20)).await;
    assert!(outcome.is_ok() && is_here, "{outcome:?}");
    let (outcome, is_here) = fetched(Manner::Restarting(usize::MAX), Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(Error::Timeout { missing: 1 })) && !is_here, "{outcome:?}");
}

#[tokio::test]
async fn a_provider_that_forges_is_not_waited_for() {
    let (outcome, is_here) = fetched(Manner::Forging, Duration::from_secs(20)).await;
    assert!(matches!(outcome, Err(Error::Forged)) && !is_here, "{outcome:?}");
}

#[tokio::test]
async fn who_fetches_the_same_is_asked_for_what_it_has_told_of_what_comes_and_not_believed() {
    let blocks: Vec<Block> = (0..24).map(|n| Block::new(Codec::Raw, vec![n; 100_000])).collect();
    let [whole, partial, liar] = [(); 3].map(|()| PeerId::random());
    let holding = |blocks: &[Block]| {
        let store = Store::in_memory().unwrap();
        store.put_blocks(blocks).unwrap();
        Peer { store, manner: Manner::Honest }
    };
    let peers = [(whole, holding(&blocks)), (partial, holding(&blocks)), (liar, holding(&[]))];
    let mut network = Memory::new(peers, Duration::from_millis(1));
    let marks = |blocks: &[Block]| News::Has(blocks.iter().map(|block| Mark::of(&block.id())).collect());
    network.tells.insert(partial, vec![marks(&blocks)]);
    network.tells.insert(liar, vec![marks(&blocks)]);
    let tree = id(b"tree");
    let mut follow = network.trees.follow(tree, (whole, None), std::sync::Arc::default()).unwrap();
    let (found, ours) = (Memory::found(&[partial, liar, whole]), Store::in_memory().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut session = Session::new(network, ours.clone(), Offload::Inline, deadline, found).of_tree(tree);
    let wanted = blocks.iter().map(|block| Wanted::Block { id: block.id(), bytes_max: 100_000 }).collect();
    session.get(wanted, &mut |_| {}).await.unwrap();
    let brought = |peer| session.report().peers.get(&peer).map_or(0, |served| served.blocks);
    assert!(brought(partial) > 0 && brought(liar) == 0, "{:?}", session.report());
    assert_eq!(brought(partial) + brought(whole), 24);
    assert!(blocks.iter().all(|block| ours.has(&block.id()).unwrap()));
    let told = std::iter::from_fn(|| follow.tell());
    let told = told.filter_map(|news| if let News::Has(marks) = news { Some(marks.len()) } else { None });
    assert_eq!(told.sum::<usize>(), 24, "who follows it here knows all that came");
}

#[test]
fn held_nodes_are_followed_no_further_than_what_was_signed() {
    let store = Store::in_memory().unwrap();
    let chunk = CHUNK_BYTES as u64;
    let node = |n: u8| {
        let leaf = |at: u8| (ContentId::of(Codec::Raw, &[n, at]), chunk, chunk);
        unixfs::any_file_node(&(0..2).map(leaf).collect::<Vec<_>>())
    };
    let below: Vec<Block> = (0..3).map(node).collect();
    let links: Vec<_> = below.iter().map(|node| (node.id(), 2 * chunk, 2 * chunk)).collect();
    let root = unixfs::any_file_node(&links);
    store.put_blocks(&[below, vec![root.clone()]].concat()).unwrap();
    let refused = |wanted| look(&store, vec![wanted]).unwrap_err();
    let manifest = Wanted::File { id: root.id(), bytes_max: 6 * chunk - 1 };
    assert_eq!(refused(manifest).code(), Code::Size);
    let unlike = Wanted::File { id: root.id(), bytes_max: 6 * chunk };
    assert_eq!(refused(unlike).code(), Code::Malformed, "nodes where leaves belong");
    let file = Wanted::Part(FilePart::whole(root.id(), 4 * chunk).unwrap());
    assert_eq!(refused(file).code(), Code::Size);
}

#[test]
fn late_answers_acquit_those_who_brought_something_and_convict_forgers() {
    let [honest, forger, mute, charged, called_off] = [(); 5].map(|()| PeerId::random());
    let (mut report, mut late) = (Report::default(), Late::default());
    let asked = Instant::now();
    late.silent.extend([honest, forger, mute, charged, called_off].map(|peer| (peer, asked)));
    let have = Found::Have(Block::new(Codec::Raw, b"true".to_vec()));
    for (peer, found) in [(honest, have), (forger, Found::Forged), (forger, Found::Forged)] {
        let answer = Answer { blocks: vec![found], busy: None };
        late.note(peer, &[id(b"true")], &answer, report.peers.entry(peer).or_default());
    }
    report.peers.entry(charged).or_default().fault(Attempt::Timeout);
    // Our own time ran out first, and then its.
    report.peers.entry(called_off).or_default().fault(Attempt::CalledOff);
    late.acquit(&report);
    assert_eq!(late.silent, BTreeMap::from([(mute, asked), (called_off, asked)]));
    assert_eq!(late.forged, BTreeMap::from([(forger, id(b"true"))]));
}

#[tokio::test]
async fn a_node_of_a_file_that_was_damaged_on_the_disk_is_fetched_again() {
    let chunk = CHUNK_BYTES as u64;
    let leaves: Vec<Block> = (0..2).map(|n| Block::new(Codec::Raw, vec![n; CHUNK_BYTES])).collect();
    let node =
        unixfs::any_file_node(&leaves.iter().map(|leaf| (leaf.id(), chunk, chunk)).collect::<Vec<_>>());
    let (theirs, ours) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    theirs.put_blocks(&[leaves.clone(), vec![node.clone()]].concat()).unwrap();
    ours.put_blocks(std::slice::from_ref(&node)).unwrap();
    let damage = "UPDATE blocks SET data = zeroblob(length(data))";
    ours.write(|tx| Ok::<_, store::Error>(tx.execute(damage, [])?)).unwrap();
    let peer = PeerId::random();
    let network =
        Memory::new([(peer, Peer { store: theirs, manner: Manner::Honest })], Duration::from_millis(1));
    let (found, deadline) = (Memory::found(&[peer]), Instant::now() + Duration::from_secs(20));
    let mut session = Session::new(network, ours.clone(), Offload::Inline, deadline, found);
    session.get(vec![Wanted::File { id: node.id(), bytes_max: 2 * chunk }], &mut |_| {}).await.unwrap();
    assert!(ours.missing(&[node.id(), leaves[0].id(), leaves[1].id()]).unwrap().is_empty());
}
