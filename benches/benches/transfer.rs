//! What it costs to publish, install and verify between two real nodes, beside plain copying and hashing of the same files.
//!
//! Two trees: a hundred files of a megabyte, and five thousand of two kilobytes. Every sample has content of its own, so that
//! nothing is there already. The nodes share this process and its threads; between them is TCP over loopback with Noise and
//! Yamux, below them a store on disk that syncs what it acknowledges. A plain copy syncs nothing.

mod real;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use criterion::{Criterion, SamplingMode, Throughput};
use ggen_marketplace::{
    backend::p2p::P2PRegistry,
    control::{
        api::{InstallRequest, PublishRequest, VerifyRequest},
        service::{Cancel, ProgressSender, Service},
    },
};
use real::{Outcome, PAUSE, Shape, failed, listed, node, now, write_tree};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

/// How long the nodes may take to meet.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// What is measured.
const SHAPES: [Shape; 2] = [
    Shape { name: "large-files", files: 100, file_bytes: 1_000_000 },
    Shape { name: "small-files", files: 5_000, file_bytes: 2_000 },
];
/// Where it is only seen whether all of this runs.
const SHAPES_IN_TEST: [Shape; 2] = [
    Shape { name: "large-files", files: 3, file_bytes: 1_000_000 },
    Shape { name: "small-files", files: 30, file_bytes: 2_000 },
];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut pair = runtime.block_on(Pair::start())?;
    let mut criterion = Criterion::default().configure_from_args();
    for shape in if is_test { SHAPES_IN_TEST } else { SHAPES } {
        measure(&mut criterion, &runtime, &mut pair, shape);
    }
    criterion.final_summary();
    runtime.block_on(pair.stop());
    Ok(())
}

/// One group for a shape: first what plain tools would take, then the node.
fn measure(criterion: &mut Criterion, runtime: &Runtime, pair: &mut Pair, shape: Shape) {
    let mut group = criterion.benchmark_group(format!("transfer/{}", shape.name));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Bytes((shape.files * shape.file_bytes) as u64));
    for kind in [Kind::Copy, Kind::Hash, Kind::Publish, Kind::Install, Kind::Verify] {
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|iterations| {
                let samples = (0..iterations).map(|_| pair.sample(runtime, shape, kind));
                samples.sum::<Outcome<Duration>>().expect("it is published, found, installed and verified")
            });
        });
    }
    group.finish();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All files are read and written into another folder.
    Copy,
    /// All files are read and hashed.
    Hash,
    Publish,
    Install,
    Verify,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "plain-copy",
            Self::Hash => "plain-sha256",
            Self::Publish => "publish",
            Self::Install => "install",
            Self::Verify => "verify",
        }
    }
}

/// Two nodes that are connected with one another.
struct Pair {
    author: P2PRegistry,
    reader: P2PRegistry,
    folder: TempDir,
    /// Trees that were made.
    made: u64,
}

impl Pair {
    async fn start() -> Outcome<Self> {
        let folder = TempDir::with_prefix("ggen-bench-")?;
        let (author, address) = node(&folder.path().join("author"), None).await?;
        let (reader, _) = node(&folder.path().join("reader"), Some(address)).await?;
        let met = async {
            while reader.snapshot().await.map_or(0, |it| it.heads_complete) < 1 {
                sleep(PAUSE).await;
            }
        };
        timeout(JOIN_TIMEOUT, met).await.map_err(|_| "the nodes did not meet")?;
        Ok(Self { author, reader, folder, made: 0 })
    }

    /// One sample: makes a tree that nobody has seen, does what leads up to the measured part, and times that alone.
    fn sample(&mut self, runtime: &Runtime, shape: Shape, kind: Kind) -> Outcome<Duration> {
        self.made += 1;
        let name = format!("{}-{}", shape.name, self.made);
        let source = self.folder.path().join("source");
        let target = self.folder.path().join("target");
        for folder in [&source, &target] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        write_tree(&source, &name, shape, self.made)?;
        match kind {
            Kind::Copy => timed(|| copy(&source, &target)),
            Kind::Hash => timed(|| hash(&source)),
            Kind::Publish => timed(|| runtime.block_on(self.publish(&source))),
            Kind::Install => {
                runtime.block_on(self.publish(&source))?;
                runtime.block_on(listed(&self.reader, &name))?;
                timed(|| runtime.block_on(self.install(&name, &target)))
            }
            Kind::Verify => {
                runtime.block_on(self.publish(&source))?;
                runtime.block_on(listed(&self.reader, &name))?;
                runtime.block_on(self.install(&name, &target))?;
                timed(|| runtime.block_on(self.verify(&name)))
            }
        }
    }

    async fn publish(&self, source: &Path) -> Outcome<()> {
        let request = PublishRequest { path: text(source), ..PublishRequest::default() };
        Service::publish(&self.author, request, ProgressSender::discard(), Cancel::default())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn install(&self, name: &str, target: &Path) -> Outcome<()> {
        let request = InstallRequest {
            package: name.to_owned(),
            to: text(target),
            timeout_secs: None,
            ..InstallRequest::default()
        };
        Service::install(&self.reader, request, ProgressSender::discard()).await.map_err(failed)?;
        Ok(())
    }

    async fn verify(&self, name: &str) -> Outcome<()> {
        let request = VerifyRequest { package: name.to_owned(), ..VerifyRequest::default() };
        let verified = Service::verify(&self.reader, request).await.map_err(failed)?;
        if verified.ok { Ok(()) } else { Err("what was installed does not verify".into()) }
    }

    async fn stop(self) {
        self.author.shutdown().await;
        self.reader.shutdown().await;
    }
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    Ok(found)
}

fn copy(source: &Path, target: &Path) -> Outcome<()> {
    for file in files(source)? {
        let to = target.join(file.strip_prefix(source)?);
        fs::create_dir_all(to.parent().ok_or("a file is in a folder")?)?;
        fs::copy(&file, to)?;
    }
    Ok(())
}

fn hash(source: &Path) -> Outcome<()> {
    for file in files(source)? {
        std::hint::black_box(Sha256::digest(fs::read(file)?));
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let began = now();
    work()?;
    Ok(began.elapsed())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
