//! What a search costs in a catalogue of 100 000 packages, asked through the control socket of a node without peers, so that nothing
//! but the search is measured. Prints the median and the 99th percentile of each kind of query, and of all.
//!
//! Environment: `GGEN_BENCH_PACKAGES=1000000` makes so many.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    catalog::{self, Source},
    content::{Codec, ContentId},
    control::{api::SearchRequest, client::Client, server::Server},
    identity::Publisher,
    network::{Metrics, Observer, Offload, Spawner, transport},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    store::Store,
    time::Timestamp,
};

/// Packages of the catalogue, and how many of them one transaction takes.
const PACKAGES: (u64, usize) = (100_000, 2_000);
/// Queries of each kind.
const QUERIES: usize = 200;
/// Words that the packages are described with; the first are used most.
const WORDS: u64 = 30_000;
const PUBLISHERS: u64 = 200;
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Numbers that look drawn, and are the same in each run ([SplitMix64](https://prng.di.unimi.it/splitmix64.c)).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The rank of a word: as in real text, half of all words are among a few hundred.
    fn rank(&mut self) -> u64 {
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (((WORDS as f64).ln() * part).exp() as u64).min(WORDS - 1)
    }

    fn word(&mut self) -> String {
        word(self.rank())
    }

    fn words(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.word()).collect()
    }
}

/// Word number `rank`, two to five syllables.
fn word(rank: u64) -> String {
    let mut numbers = Numbers(rank);
    let syllables = 2 + numbers.next() % 4;
    let mut word = String::new();
    for _ in 0..syllables {
        let number = numbers.next() as usize;
        word.push(char::from(b"bcdfghklmnprstvz"[number % 16]));
        word.push(char::from(b"aeiou"[number / 16 % 5]));
    }
    word
}

fn head(publisher: &Publisher, number: u64) -> VerifiedHead {
    let mut numbers = Numbers(number);
    let name = format!("{}-{}-{number}", numbers.word(), numbers.word());
    let mut log =
        Log::empty(PackageId { publisher: publisher.id(), name: name.parse().expect("a valid name") });
    let release = Release {
        version: "1.0.0".parse().expect("a valid version"),
        manifest: ContentId::of(Codec::Raw, &number.to_be_bytes()),
        root: ContentId::of(Codec::DagPb, &number.to_be_bytes()),
        size: 1,
        files: 1,
    };
    let entry = log.next(Kind::Release(release), publisher, NOW).expect("a log can begin");
    log.push(entry).expect("its own next entry");
    let labels = Labels {
        description: numbers.words(12).join(" "),
        tags: numbers.words(3),
        categories: numbers.words(1),
        ..Labels::default()
    };
    Head::of(&log, labels, publisher).expect("the log has an entry").sign(publisher).expect("a valid head")
}

/// A node that knows so many packages and nobody else.
async fn node(folder: &std::path::Path, packages: u64, at_once: usize) -> P2PRegistry {
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|number| Publisher::from_secret([u8::try_from(number).expect("few"); 32], NOW))
        .collect();
    let (store, _) = Store::open(folder, NOW).expect("a new store");
    let began = Instant::now();
    let (mut inserting, mut entering_cpu) = (Duration::ZERO, 0.0);
    let numbers: Vec<u64> = (0..packages).collect();
    for chunk in numbers.chunks(at_once) {
        let heads: Vec<VerifiedHead> = chunk
            .iter()
            .map(|number| head(&publishers[usize::try_from(number % PUBLISHERS).expect("few")], *number))
            .collect();
        let (began, before) = (Instant::now(), cpu_secs());
        store
            .write(|tx| {
                Ok(heads
                    .iter()
                    .try_for_each(|head| catalog::insert(tx, head, &Source::own(), NOW).map(drop))?)
            })
            .expect("the heads are taken");
        inserting += began.elapsed();
        entering_cpu += cpu_secs() - before;
    }
    println!(
        "search: {packages} packages made in {:.1} s, of which entering them took {:.1} s and {entering_cpu:.1} CPU-seconds",
        began.elapsed().as_secs_f64(),
        inserting.as_secs_f64()
    );
    let parts = Parts {
        transport: transport::tcp_without_dns(),
        node_key: libp2p::identity::Keypair::generate_ed25519(),
        publisher: publishers[0].clone(),
        store,
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: Observer::default(),
        metrics: Metrics::default(),
    };
    P2PRegistry::with_parts(P2PConfig::with_state_dir(folder), parts).await.expect("a node")
}

/// A kind of queries: its name, and one of them.
type Asked = (&'static str, fn(&mut Numbers) -> String);

/// The kinds that are measured.
const KINDS: [Asked; 9] = [
    ("one word", |numbers| numbers.word()),
    ("a frequent word", |numbers| word(numbers.next() % 20)),
    ("two words", |numbers| numbers.words(2).join(" ")),
    ("three words", |numbers| numbers.words(3).join(" ")),
    ("a beginning", |numbers| {
        let word = numbers.word();
        word[..1 + numbers.next() as usize % (word.len() - 1)].to_owned()
    }),
    ("one typo", |numbers| {
        let mut letters: Vec<char> = numbers.word().chars().collect();
        let at = numbers.next() as usize % (letters.len() - 1);
        letters.swap(at, at + 1);
        letters.into_iter().collect()
    }),
    ("a phrase", |numbers| format!("\"{}\"", numbers.words(2).join(" "))),
    ("with a tag", |numbers| format!("{} tag:{}", numbers.word(), numbers.word())),
    ("without a word", |numbers| format!("{} -{}", numbers.word(), numbers.word())),
];

#[tokio::main]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let asked = std::env::var("GGEN_BENCH_PACKAGES").ok().map(|packages| packages.parse().expect("a number"));
    let (packages, queries) = if is_test { (2_000, 5) } else { (PACKAGES.0, QUERIES) };
    let packages = asked.unwrap_or(packages);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Arc::new(node(folder.path(), packages, PACKAGES.1).await);
    let server = Server::bind(folder.path()).expect("a socket");
    let (_stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(Arc::clone(&registry), async {
        let _ = stopped.await;
    }));
    let client = Client::new(folder.path());
    let mut all = Vec::new();
    for (kind, query) in KINDS {
        let mut numbers = Numbers(42);
        let mut took = Vec::new();
        let mut matches = 0;
        let before = cpu_secs();
        for _ in 0..queries {
            let request = SearchRequest { text: query(&mut numbers), ..SearchRequest::default() };
            let began = Instant::now();
            let results = client.search(&request).await.expect("an answer");
            took.push(began.elapsed());
            matches += results.total;
        }
        let cpu_ms = (cpu_secs() - before) * 1000.0 / queries as f64;
        println!(
            "search/{kind}: {}, {cpu_ms:.2} ms of a processor and {} matches on average",
            figures(&mut took),
            matches / queries
        );
        all.extend(took);
    }
    println!("search/all: {}", figures(&mut all));
    serving.abort();
}

/// Seconds of the processors that this process has had.
fn cpu_secs() -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("the name of the program").1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_A_SECOND
}

fn figures(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(50), at(99), at(100))
}
