//! What it costs two nodes to find out what the other has, for catalogues of 100 000 and of 1 000 000 heads: the time of both sides for
//! one comparison, and its bytes in the name of the bench. The baseline is what finding the same out costs page by page: to look each
//! head up in an index of those that are known, and the bytes of all heads.

use std::{collections::BTreeSet, hint::black_box};

use criterion::{BatchSize, BenchmarkId, Criterion};
use ggen_marketplace::heads::{
    Id, Item,
    compare::{self, newer, view},
};

/// Bytes of a signed head as most are.
const HEAD_BYTES: usize = 500;
const SIZES: [u64; 2] = [100_000, 1_000_000];
const SIZE_IN_TEST: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let sizes = if is_test { &[SIZE_IN_TEST][..] } else { &SIZES };
    for size in sizes {
        compared(&mut criterion, *size);
    }
    criterion.final_summary();
}

fn item(n: u64) -> Item {
    let mut id = [0; 32];
    for (at, part) in id.chunks_exact_mut(8).enumerate() {
        // The finaliser of SplitMix64: ids look drawn, and are the same in every run.
        let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(at as u64 + 1));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    Item { released: 1_700_000_000 + n, id: Id(id) }
}

fn compared(criterion: &mut Criterion, size: u64) {
    let all: Vec<Item> = (0..size).map(item).collect();
    let one_less: Vec<Item> =
        all.iter().copied().filter(|it| it.released != 1_700_000_000 + size / 3).collect();
    let older = &all[..all.len() - (all.len() / 2).min(1_000)];
    let every = (size / 1_000).max(2);
    let scattered: Vec<Item> = all.iter().copied().filter(|it| it.released % every != 0).collect();
    let cases: [(&str, &[Item]); 4] = [
        ("same", &all),
        ("one-less", &one_less),
        ("newest-1000-less", older),
        ("scattered-1000-less", &scattered),
    ];
    let mut group = criterion.benchmark_group(format!("reconcile/{size}"));
    for (name, mine) in cases {
        let (bytes, turns, need) = run(mine, &all);
        let id = BenchmarkId::new(name, format!("{need}-listed-{turns}-turns-{bytes}-bytes"));
        group.bench_function(id, |bencher| bencher.iter(|| run(black_box(mine), black_box(&all))));
    }
    let known: BTreeSet<Id> = one_less.iter().map(|item| item.id).collect();
    let id = BenchmarkId::new("by-pages", format!("{}-bytes", all.len() * HEAD_BYTES));
    group.bench_function(id, |bencher| {
        bencher.iter(|| black_box(&all).iter().filter(|item| !known.contains(&item.id)).count());
    });
    let id = BenchmarkId::new("baseline", "copy-of-all-items");
    group.bench_function(id, |bencher| {
        bencher.iter_batched(|| (), |()| black_box(&all).clone(), BatchSize::PerIteration);
    });
    group.finish();
}

/// Compares to the end as two nodes do; yields bytes both ways, turns, and how many heads were found to be lacking.
fn run(mine: &[Item], theirs: &[Item]) -> (usize, usize, usize) {
    let newest = |items: &[Item]| items.last().map_or(0, |item| item.released);
    let until = newest(mine).min(newest(theirs));
    let (mine, theirs_until) = (view(mine, until, &[]), view(theirs, until, &[]));
    let mut need = newer(theirs, until).map_or(0, |newer| newer.heads as usize);
    let mut message = compare::open(&mine).expect("a first message");
    let (mut bytes, mut turns) = (0, 0);
    loop {
        let answer = compare::answer(&theirs_until, &message).expect("an answer");
        bytes += message.len() + answer.len();
        turns += 1;
        let turn = compare::advance(&mine, &answer).expect("a turn");
        need += turn.need.len();
        match turn.message {
            Some(next) => message = next,
            None => return (bytes, turns, need),
        }
    }
}
