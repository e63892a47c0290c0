//! Every door and every situation, as tables; and what holds for heads in any order.

use std::time::Duration;

use proptest::{prelude::*, sample::select};
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    identity::{self, KeyDocument, KeyLog, PublicKey, Publisher, SecretKey, publisher::Change},
    limits::CLOCK_SKEW_MAX,
    release::{
        Head,
        fixture::{DAY, NOW, draft, head, publisher, releases, rotated},
    },
};

const DOORS: [Door; 4] = [Door::Gossip, Door::Record, Door::Answer, Door::Exchange];

/// What a node knows that lists this head.
fn lists(head: &VerifiedHead) -> Known {
    Known { seen: Some(head.seen()), listed: Some(head.clone()), ..Known::default() }
}

/// A head of these versions, made at this time.
fn made(publisher: &Publisher, versions: &[&str], released_at: Timestamp) -> VerifiedHead {
    let draft = draft(publisher, &releases(publisher, versions));
    Head { released_at, ..draft }.sign(publisher).unwrap()
}

/// Two states that were signed for one place.
fn contested() -> [VerifiedHead; 2] {
    ["1.1.0", "2.0.0"].map(|version| head(&publisher(1), &["1.0.0", version]))
}

/// A head of these versions that says that [`contested`] was resolved.
fn resolved(by: &Publisher, versions: &[&str]) -> VerifiedHead {
    let mut names: Vec<Vec<u8>> = contested().map(|head| head.head().entry.digest()[..8].to_vec()).into();
    names.sort_unstable();
    let draft = draft(by, &releases(&publisher(1), versions));
    Head { resolved: ByteBuf::from(names.concat()), ..draft }.sign(by).unwrap()
}

/// Every way in which a head can stand to what is known, by name.
fn situations() -> Vec<(&'static str, VerifiedHead, Known, Standing)> {
    let (owner, old) = (rotated(&publisher(1), 2), publisher(1));
    let [one, two] = [&["1.0.0"][..], &["1.0.0", "1.1.0"]].map(|versions| head(&old, versions));
    let other = head(&old, &["1.0.0", "2.0.0"]);
    let early = NOW.plus(CLOCK_SKEW_MAX * 2);
    let mut worded = [NOW, NOW.minus(DAY)].map(|at| made(&old, &["1.0.0"], at));
    worded.sort_by(|a, b| a.bytes().cmp(b.bytes()));
    let [lesser, greater] = worded;
    let long_ago = NOW.minus(DAY * 400);
    let by = |publisher: &Publisher| draft(publisher, &releases(&old, &["1.0.0"])).sign(publisher).unwrap();
    let thief = by(&rotated(&old, 9));
    let frozen = |listed: &VerifiedHead| Known { is_frozen: true, ..lists(listed) };
    let remembered = |head: &VerifiedHead| Known { listed: None, ..lists(head) };
    let full = Known { is_full: true, ..Known::default() };
    let [kept, withdrawn] = contested();
    let disputed = after_all([&kept, &withdrawn]).known;
    let unproven = Known { proofs: Vec::new(), ..disputed.clone() };
    let resolve = resolved(&owner, &["1.0.0", "3.0.0"]);
    let revoked = Change {
        secret: Some(SecretKey::from_bytes(&[2; 32])),
        revoked: vec![old.public_key()],
        ..Change::default()
    };
    let revoker = old.changed(revoked, &[], NOW).unwrap();
    let beside = |by: &Publisher| {
        let other = draft(by, &releases(&old, &["1.0.0"]));
        let other = Head { name: "another".parse().unwrap(), ..other }.sign(by).unwrap();
        Known { other_keys: Some(other), ..Known::default() }
    };
    let beside_listed =
        |head: &VerifiedHead| Known { other_keys: beside(&revoker).other_keys, ..lists(head) };
    let unsaid = Head { resolved: ByteBuf::new(), ..resolve.head().clone() }.sign(&owner).unwrap();
    let [stolen, further] =
        [&["1.0.0", "3.0.0"][..], &["1.0.0", "1.1.0", "3.0.0"]].map(|versions| resolved(&old, versions));
    use Standing as S;
    vec![
        ("new", one.clone(), Known::default(), S::New),
        ("new again", one.clone(), remembered(&one), S::New),
        ("newer", two.clone(), lists(&one), S::Newer),
        ("newer keys", by(&owner), lists(&two), S::Newer),
        (
            "newer where there is no room for others",
            two.clone(),
            Known { is_full: true, ..lists(&one) },
            S::Newer,
        ),
        ("in other words", greater.clone(), lists(&lesser), S::Reworded),
        ("in other words, of a frozen one", greater.clone(), frozen(&lesser), S::Reworded),
        ("the same", one.clone(), lists(&one), S::Same),
        ("the same of a frozen one", one.clone(), frozen(&one), S::Same),
        ("in words that come after", lesser.clone(), lists(&greater), S::Superseded),
        ("no room", one.clone(), full.clone(), S::Full),
        ("older", one.clone(), lists(&two), S::Older),
        ("older than what is remembered", one.clone(), remembered(&two), S::Older),
        ("older, no room", one.clone(), Known { is_full: true, ..remembered(&two) }, S::Older),
        ("older keys", two.clone(), lists(&by(&owner)), S::Older),
        ("a contradiction with proof", other.clone(), lists(&two), S::DoubleSigned),
        ("what says falsely that it was resolved", resolved(&old, &["1.0.0"]), lists(&one), S::DoubleSigned),
        ("the same, of what is remembered", resolved(&old, &["1.0.0"]), remembered(&one), S::Contradicts),
        ("the proof again", other.clone(), frozen(&two), S::DoubleSigned),
        ("a contradiction of what is remembered", other.clone(), remembered(&two), S::Contradicts),
        ("a contradiction by a replaced key", thief.clone(), lists(&by(&owner)), S::Contradicts),
        ("the same, of what is remembered", thief, remembered(&by(&owner)), S::Contradicts),
        ("beyond a frozen place", two.clone(), frozen(&one), S::Frozen),
        ("a resolve under a later key", resolve.clone(), disputed.clone(), S::Newer),
        ("a resolve of what is no longer proven", resolve.clone(), unproven.clone(), S::Newer),
        ("a resolve by the key that signed twice", stolen, disputed.clone(), S::DoubleSigned),
        ("the same, further on", further.clone(), disputed.clone(), S::Frozen),
        ("the same, of what is no longer proven", further, unproven, S::Frozen),
        ("a later key that resolves nothing", unsaid, disputed, S::Newer),
        ("what was resolved", withdrawn, lists(&resolve), S::Older),
        ("from the future", made(&old, &["1.0.0"], early), Known::default(), S::Early),
        ("newer, from the future", made(&old, &["1.0.0", "1.1.0"], early), lists(&one), S::Early),
        ("older, from the future", made(&old, &["1.0.0"], early), lists(&two), S::Older),
        ("a contradiction from the future", made(&old, &["2.0.0"], early), lists(&one), S::DoubleSigned),
        (
            "beyond a frozen place, from the future",
            made(&old, &["1.0.0", "1.1.0"], early),
            frozen(&one),
            S::Frozen,
        ),
        ("by a key that another package shows as revoked", one.clone(), beside(&revoker), S::Revoked),
        ("the same, newer than what is listed", two.clone(), beside_listed(&one), S::Revoked),
        ("the same, in other words", greater.clone(), beside_listed(&lesser), S::Revoked),
        ("the same, and listed before", one.clone(), beside_listed(&one), S::Same),
        ("the same, a contradiction", other.clone(), beside_listed(&two), S::DoubleSigned),
        ("the same, from the future", made(&old, &["1.0.0"], early), beside(&revoker), S::Revoked),
        ("by the key that followed a revoked one", by(&revoker), beside(&revoker), S::New),
        ("by a key that was only replaced", one.clone(), beside(&owner), S::New),
        (
            "newer, by a key that was only replaced",
            two.clone(),
            Known { other_keys: beside(&owner).other_keys, ..lists(&one) },
            S::Newer,
        ),
        ("of last year", made(&old, &["1.0.0"], long_ago), Known::default(), S::New),
        ("a contradiction of last year", made(&old, &["2.0.0"], long_ago), lists(&one), S::DoubleSigned),
    ]
}

/// What follows: whether it is listed, what is forwarded, whether the record is kept, whether there is a proof.
type Row = (bool, Forward, bool, bool);

/// What follows at each door where the head stands so, in the order of [`DOORS`].
fn expected(standing: Standing, is_frozen: bool) -> [Row; 4] {
    use Forward::{Both, Head, Nothing};
    let nothing = (false, Nothing, false, false);
    match standing {
        Standing::New | Standing::Newer | Standing::Reworded => [
            (true, Head, false, false),
            (true, Nothing, true, false),
            (true, Nothing, false, false),
            (true, Nothing, false, false),
        ],
        Standing::Same | Standing::Full => {
            [(false, Head, false, false), (false, Nothing, true, false), nothing, nothing]
        }
        Standing::DoubleSigned if is_frozen => [(false, Nothing, false, true); 4],
        Standing::DoubleSigned => {
            let told = (false, Both, false, true);
            [told, told, told, (false, Nothing, false, true)]
        }
        Standing::Superseded
        | Standing::Older
        | Standing::Contradicts
        | Standing::Frozen
        | Standing::Revoked
        | Standing::Early => [nothing; 4],
    }
}

#[test]
fn every_situation_stands_alike_at_every_door_and_is_answered_by_the_table() {
    for (situation, head, known, standing) in situations() {
        let rows = match known.other_chain(&head) {
            Some(_) => of_two_chains(),
            None => expected(standing, known.is_frozen),
        };
        for (door, row) in DOORS.into_iter().zip(rows) {
            let Verdict { standing: stands, list, forward, keep_record, proof } =
                offer(door, &head, &known, NOW);
            assert_eq!(stands, standing, "{situation}");
            assert_eq!((list, forward, keep_record, proof), row, "{situation}, {door:?}");
        }
    }
}

/// What follows from a head that shows a second chain of keys, and is not listed for that.
fn of_two_chains() -> [Row; 4] {
    let told = (false, Forward::Both, false, true);
    [told, told, told, (false, Forward::Nothing, false, true)]
}

#[test]
fn a_second_chain_of_keys_is_told_once_also_where_another_package_shows_it() {
    let old = publisher(1);
    let of = |publisher: &Publisher, name: &str| {
        let draft = draft(publisher, &releases(&old, &["1.0.0"]));
        Head { name: name.parse().unwrap(), ..draft }.sign(publisher).unwrap()
    };
    let (owner, thief) = (rotated(&old, 2), rotated(&old, 9));
    let (listed, stolen) = (of(&owner, "pack"), of(&thief, "other"));
    let known = Known { other_keys: Some(listed.clone()), ..Known::default() };
    assert_eq!(known.against(&stolen), Some(&listed));
    for door in DOORS {
        let verdict = offer(door, &stolen, &known, NOW);
        assert!(verdict.list && verdict.proof, "{door:?}");
        assert_ne!(verdict.forward, Forward::Both, "it is passed on as it is");
        assert!(!offer(door, &of(&owner, "other"), &known, NOW).proof, "the same chain");
        let told = Known { is_disputed: true, ..lists(&of(&owner, "other")) };
        let again = offer(door, &stolen, &told, NOW);
        assert_eq!((again.proof, again.forward, again.list), (false, Forward::Nothing, false), "{door:?}");
    }
}

#[test]
fn the_situations_are_all_there_are() {
    use Standing as S;
    let met: Vec<Standing> = situations().into_iter().map(|(.., standing)| standing).collect();
    for standing in [
        S::New,
        S::Newer,
        S::Reworded,
        S::Same,
        S::Superseded,
        S::Full,
        S::Older,
        S::DoubleSigned,
        S::Contradicts,
        S::Frozen,
        S::Revoked,
        S::Early,
    ] {
        assert!(met.contains(&standing), "{standing:?}");
    }
}

#[test]
fn what_is_no_head_is_charged_to_the_peer_that_cannot_have_verified_it() {
    let newer = Error::Identity(identity::Error::Newer { what: "a head", version: 9, known: 1 });
    let forged = Error::Scope { name: "pack".to_owned() };
    let malformed = Error::Malformed { what: "a head", why: "of no form".to_owned() };
    use Blame::{Announcement, Ban, Fault, Nothing};
    for (error, expected) in [
        (newer, [Nothing; 4]),
        (forged, [Announcement, Ban, Ban, Ban]),
        (malformed, [Announcement, Nothing, Nothing, Fault]),
    ] {
        assert_eq!(DOORS.map(|door| blame(door, &error)), expected, "{error}");
    }
}

#[test]
fn a_proof_that_is_held_is_not_kept_again() {
    let [kept, other] = contested();
    let disputed = after_all([&kept, &other]).known;
    let third = head(&publisher(1), &["1.0.0", "3.0.0"]);
    for door in DOORS {
        let verdict = |head| offer(door, head, &disputed, NOW);
        assert_eq!((verdict(&other).standing, verdict(&other).proof), (Standing::DoubleSigned, false));
        assert!(verdict(&third).proof, "another one");
        assert_eq!(verdict(&third).forward, Forward::Nothing, "others know that it is frozen");
    }
}

#[test]
fn two_heads_prove_something_of_keys_that_still_count_only() {
    let old = publisher(1);
    let owner = rotated(&old, 2);
    let [a, b, c] = ["1.0.0", "2.0.0", "3.0.0"].map(|version| head(&old, &[version]));
    let after = draft(&owner, &releases(&old, &["1.0.0"])).sign(&owner).unwrap();
    let proves = |a: &VerifiedHead, b: &VerifiedHead, known: &Known| proves(a, b, known).is_some();
    let none = Known::default();
    assert!(proves(&a, &b, &none) && proves(&b, &a, &none) && proves(&a, &b, &lists(&c)));
    let remembered = Known { listed: None, ..lists(&after) };
    assert!(!proves(&a, &b, &remembered), "anybody may have stolen the key that was replaced");
    assert!(!proves(&a, &a, &none) && !proves(&a, &head(&old, &["1.0.0", "1.1.0"]), &none));
    assert!(!proves(&a, &head(&publisher(3), &["2.0.0"]), &none), "another package");
}

/// A node, as far as it takes heads: what it knows of the package, and the pairs of heads that it keeps as proofs.
#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    known: Known,
    pairs: Vec<[VerifiedHead; 2]>,
}

impl Node {
    /// Carries out what follows from one more head.
    fn take(mut self, head: &VerifiedHead) -> Self {
        let verdict = offer(Door::Exchange, head, &self.known, NOW);
        if verdict.list {
            if self.known.is_thawed_by(head) {
                self = Self::default();
            }
            self.known = Known { seen: Some(head.seen()), listed: Some(head.clone()), ..self.known };
        }
        match self.known.listed.clone().filter(|_| verdict.proof) {
            Some(listed) => self.convict([listed, head.clone()]),
            None => self,
        }
    }

    /// Keeps two heads where they prove something.
    fn convict(mut self, pair: [VerifiedHead; 2]) -> Self {
        if let Some(proof) = proves(&pair[0], &pair[1], &self.known) {
            self.known.is_frozen = true;
            if !self.known.proofs.contains(&proof) {
                self.known.proofs.push(proof);
                self.pairs.push(pair);
            }
        }
        self
    }

    /// Reads from another node: what that one lists, with its proofs.
    fn merged(self, other: &Self) -> Self {
        let read = other.known.listed.iter().fold(self, Self::take);
        other.pairs.iter().cloned().fold(read, Self::convict)
    }

    /// What every node must agree on: the head that counts and, where two states of one place are contested, which place it is.
    fn agreed(&self) -> (bool, Option<(u64, u64)>, Option<Vec<u8>>) {
        let listed = self.known.listed.as_ref();
        let place = listed.map(|head| (head.seen().key_n, head.head().sequence.get()));
        (self.known.is_frozen, place, listed.filter(|_| !self.known.is_frozen).map(|it| it.bytes().to_vec()))
    }
}

fn after_all<'a>(heads: impl IntoIterator<Item = &'a VerifiedHead>) -> Node {
    heads.into_iter().fold(Node::default(), Node::take)
}

/// Heads of one log: every length, each in several wordings, also by a clock that runs ahead.
fn of_one_log() -> Vec<VerifiedHead> {
    let publisher = publisher(1);
    let versions = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"];
    let times = [NOW.minus(DAY / 2), NOW, NOW.plus(Duration::from_secs(60))];
    let lengths = 1..=versions.len();
    lengths.flat_map(|n| times.map(|at| made(&publisher, &versions[..n], at))).collect()
}

/// The same, with a key that was replaced on the way.
fn across_a_rotation() -> Vec<VerifiedHead> {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let later = draft(&new, &releases(&old, &["1.0.0"])).sign(&new).unwrap();
    let longer = draft(&new, &releases(&old, &["1.0.0", "1.1.0"])).sign(&new).unwrap();
    [of_one_log(), vec![later, longer]].concat()
}

/// Stale heads, two states that were signed for the newest place and, behind them, what resolved that.
fn contested_and_resolved(is_resolved: bool) -> Vec<VerifiedHead> {
    let stale = [NOW.minus(DAY / 2), NOW].map(|at| made(&publisher(1), &["1.0.0"], at));
    let resolve = resolved(&rotated(&publisher(1), 2), &["1.0.0", "3.0.0"]);
    stale.into_iter().chain(contested()).chain(is_resolved.then_some(resolve)).collect()
}

/// Heads under two chains of keys that recovery keys named apart from each other and, behind them, one under a chain that ends the
/// other. Without recovery keys, the publisher's own key names them.
fn keys_twice(is_recovered: bool) -> Vec<VerifiedHead> {
    let key = |seed| SecretKey::from_bytes(&[seed; 32]);
    let recovery = is_recovered.then(|| key(9));
    let genesis = KeyDocument {
        recovery: recovery.iter().map(SecretKey::public_key).collect(),
        recovery_threshold: u32::from(is_recovered),
        ..KeyDocument::genesis(key(1).public_key(), NOW)
    };
    let chain = KeyLog::verify(&[genesis.sign(&[&key(1)]).unwrap()]).unwrap();
    let first = Publisher::new(key(1), chain).unwrap();
    let signers: Vec<SecretKey> = recovery.into_iter().collect();
    let change = |publisher: &Publisher, seed, revoked: &[PublicKey]| {
        let change = Change { secret: Some(key(seed)), revoked: revoked.to_vec(), ..Change::default() };
        publisher.changed(change, &signers, NOW).unwrap()
    };
    let [one, other] = [2, 3].map(|seed| change(&first, seed, &[]));
    let end = change(&one, 4, &[other.public_key()]);
    let log = releases(&first, &["1.0.0"]);
    [&first, &one, &other, &end].map(|by| draft(by, &log).sign(by).unwrap()).into()
}

/// Two heads of one entry that say different things of what was resolved, and, behind them, one under later keys.
fn worded_falsely(is_ended: bool) -> Vec<VerifiedHead> {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let honest = head(&old, &["1.0.0", "1.1.0"]);
    let end = draft(&new, &releases(&old, &["1.0.0", "1.1.0"])).sign(&new).unwrap();
    let heads = [head(&old, &["1.0.0"]), honest, resolved(&old, &["1.0.0", "1.1.0"])];
    heads.into_iter().chain(is_ended.then_some(end)).collect()
}

fn shuffled(heads: Vec<VerifiedHead>) -> impl Strategy<Value = Vec<VerifiedHead>> + Clone {
    let most = heads.len() * 2;
    prop::collection::vec(select(heads), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn choosing_is_commutative_and_idempotent(heads in shuffled(across_a_rotation())) {
        for a in &heads {
            prop_assert_eq!(choice::compare(a, a), Choice::Same);
            for b in &heads {
                let reverse = match choice::compare(b, a) {
                    Choice::First => Choice::Second,
                    Choice::Second => Choice::First,
                    same => same,
                };
                prop_assert_eq!(choice::compare(a, b), reverse);
            }
        }
    }

    #[test]
    fn choosing_is_associative(heads in shuffled(across_a_rotation())) {
        let newer = |a: VerifiedHead, b: &VerifiedHead| {
            if choice::compare(&a, b) == Choice::Second { b.clone() } else { a }
        };
        let first = heads[0].clone();
        let forwards = heads.iter().fold(first.clone(), newer);
        let backwards = heads.iter().rev().fold(first, newer);
        prop_assert_eq!(forwards.bytes(), backwards.bytes());
    }

    #[test]
    fn nodes_that_heard_the_same_heads_in_any_order_list_the_same(
        (heads, again) in shuffled(across_a_rotation())
            .prop_flat_map(|heads| (Just(heads.clone()), Just(heads).prop_shuffle()))
    ) {
        let node = after_all(&heads);
        prop_assert_eq!(&node, &after_all(&again));
        prop_assert_eq!(&node, &after_all(heads.iter().chain(&again)), "hearing all of it again changes nothing");
        prop_assert!(!node.known.is_frozen);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        heads in prop_oneof![
            prop::array::uniform3(shuffled(across_a_rotation())),
            prop::array::uniform3(shuffled(contested_and_resolved(false))),
            prop::array::uniform3(shuffled(contested_and_resolved(true))),
            prop::array::uniform3(shuffled(worded_falsely(false))),
            prop::array::uniform3(shuffled(worded_falsely(true))),
            prop::array::uniform3(shuffled(keys_twice(true))),
        ]
    ) {
        let [a, b, c] = heads.map(|heads| after_all(&heads));
        prop_assert_eq!(a.clone().merged(&b).agreed(), b.clone().merged(&a).agreed());
        let left = a.clone().merged(&b).merged(&c);
        prop_assert_eq!(left.agreed(), a.clone().merged(&b.merged(&c)).agreed());
        prop_assert_eq!(a.clone().merged(&a), a);
    }

    #[test]
    fn keys_that_were_replaced_twice_freeze_the_package_until_recovery_keys_revoke_those_of_one_side(
        heads in Just(keys_twice(true)).prop_shuffle()
    ) {
        let told = keys_twice(true);
        let node = after_all(&told[..3]);
        prop_assert!(node.known.is_frozen && node.pairs.len() == 1);
        let ended = after_all(&heads);
        prop_assert!(!ended.known.is_frozen && ended.pairs.is_empty());
        prop_assert_eq!(ended.known.listed.as_ref(), told.last());
        prop_assert_eq!(&ended.clone().merged(&node), &ended, "its proof counts no more");
        prop_assert_eq!(&node.merged(&ended), &ended);
    }

    #[test]
    fn a_false_list_of_what_was_resolved_freezes_the_package_in_any_order_until_keys_are_replaced(
        heads in Just(worded_falsely(false)).prop_shuffle(), at in 0..4usize
    ) {
        let node = after_all(&heads);
        prop_assert!(node.known.is_frozen && node.pairs.len() == 1);
        let [.., honest, lie, end] = &worded_falsely(true)[..] else { unreachable!() };
        for told in [honest, lie] {
            let verdict = offer(Door::Gossip, told, &node.known, NOW);
            let is_listed = node.known.listed.as_ref() == Some(told);
            prop_assert_eq!(verdict.standing == Standing::DoubleSigned, !is_listed);
            prop_assert!(verdict.forward == Forward::Nothing || is_listed, "only what is listed is passed on as such");
        }
        let mut all = heads;
        all.insert(at.min(all.len()), end.clone());
        let ended = after_all(&all);
        prop_assert!(!ended.known.is_frozen && ended.pairs.is_empty());
        prop_assert_eq!(&ended.known.listed, &Some(end.clone()));
    }

    #[test]
    fn two_states_for_the_newest_place_freeze_the_package_in_any_order_until_they_are_resolved(
        heads in Just(contested_and_resolved(false)).prop_shuffle(), at in 0..5usize
    ) {
        let node = after_all(&heads);
        prop_assert!(node.known.is_frozen && node.pairs.len() == 1);
        let beyond = head(&publisher(1), &["1.0.0", "1.1.0", "1.2.0"]);
        let stale = head(&publisher(1), &["1.0.0"]);
        prop_assert_eq!(&node.clone().take(&stale), &node);
        prop_assert_eq!(&node.clone().take(&beyond), &node, "nothing beyond the contested place is listed");
        let resolve = resolved(&rotated(&publisher(1), 2), &["1.0.0", "3.0.0"]);
        let mut all = heads;
        all.insert(at.min(all.len()), resolve.clone());
        let ended = after_all(&all);
        prop_assert!(!ended.known.is_frozen && ended.pairs.is_empty());
        prop_assert_eq!(&ended.known.listed, &Some(resolve));
        prop_assert_eq!(&ended.clone().merged(&node), &ended, "its proof counts no more");
    }
}

#[test]
fn without_recovery_keys_the_chain_that_was_seen_first_stays() {
    let told = keys_twice(false);
    let [first, one, other, end] = &told[..] else { unreachable!() };
    let node = after_all([first, other, one, end]);
    assert_eq!(
        node.known.listed.as_ref(),
        Some(other),
        "anyone who stole the key could revoke the owner's next one"
    );
    let node = after_all([first, one, other, end]);
    assert_eq!(node.known.listed.as_ref(), Some(end));
    assert!(!node.known.is_frozen);
}
