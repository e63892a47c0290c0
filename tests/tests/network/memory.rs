//! What those who neither read nor say anything to its end may cost: the memory of a node in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncWriteExt, future::poll_fn};
use ggen_marketplace::{
    content::ContentId,
    fetch::protocol::{Ask, PROTOCOL},
    limits::{FETCH_ANSWER_BYTES, FETCH_IDS_MAX, FETCH_SERVED_PER_PEER_MAX},
};
use libp2p::{
    Multiaddr, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
        upgrade,
    },
    identity::Keypair,
    noise, tcp, yamux,
};
use tokio::task::JoinHandle;

use crate::node::{noise as bytes_of, package, start};

/// Bytes by which a node may grow under any one attack.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Connections that attack together.
const ATTACKERS: usize = 100;
/// Streams that each of them opens; not so many that the node closes the connection.
const STREAMS: usize = 150;

/// Stands in the environment of the process that is to be the node.
const BURDENED: &str = "GGEN_TEST_BURDENED";

/// Not a test, but the node of the tests below where it is started by them: it says where it listens and which blocks it has, and lives until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_to_be_burdened() {
    if std::env::var_os(BURDENED).is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let node = start(&[]).await;
    let files = (0..8).map(|n| (format!("{n}.bin"), bytes_of(n, FETCH_ANSWER_BYTES))).collect::<Vec<_>>();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, it)| (name.as_str(), it.clone())).collect();
    node.publish_dir(&package(temp.path(), "heavy", "1.0.0", &files)).await;
    drop(files);
    let mut out = std::io::stdout();
    writeln!(out, "\nlistening on {}", node.address()).unwrap();
    out.flush().unwrap();
    std::future::pending().await
}

struct Burdened {
    child: Child,
    address: Multiaddr,
    at_rest: u64,
}

impl Drop for Burdened {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Burdened {
    /// Starts a node in a process of its own.
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::a_node_to_be_burdened", "--nocapture"])
            .env(BURDENED, "1")
            // What the allocator keeps of what was given back to it grows with the cores of the machine.
            .env("MALLOC_ARENA_MAX", "2")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = lines.map(Result::unwrap);
        let address = said.find_map(|line| line.strip_prefix("listening on ").map(|it| it.parse().unwrap()));
        let mut node = Self { child, address: address.expect("the node runs"), at_rest: 0 };
        node.at_rest = node.resident();
        node
    }

    /// Bytes that the process holds.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// The most by which it grows while it is watched.
    async fn growth(&self, watched: Duration) -> u64 {
        let mut most = 0;
        let end = tokio::time::Instant::now() + watched;
        while tokio::time::Instant::now() < end {
            most = most.max(self.resident().saturating_sub(self.at_rest));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most
    }
}

/// A connection whose streams this test writes to as it likes.
struct Attacker {
    muxer: Arc<Mutex<StreamMuxerBox>>,
    driver: JoinHandle<()>,
    streams: Vec<SubstreamBox>,
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn with<T>(muxer: &Mutex<StreamMuxerBox>, work: impl FnOnce(&mut StreamMuxerBox) -> T) -> T {
    work(&mut muxer.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Attacker {
    async fn connect(address: &Multiaddr) -> Self {
        let key = Keypair::generate_ed25519();
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(upgrade::Version::V1Lazy)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, muxer) = transport.dial(address.clone(), options).unwrap().await.unwrap();
        let muxer = Arc::new(Mutex::new(StreamMuxerBox::new(muxer)));
        let driven = muxer.clone();
        // What the node opens is let go at once.
        let drive = move |cx: &mut Context<'_>| {
            with(&driven, |muxer| {
                while let Poll::Ready(inbound) = muxer.poll_inbound_unpin(cx) {
                    if inbound.is_err() {
                        return Poll::Ready(());
                    }
                }
                match muxer.poll_unpin(cx) {
                    Poll::Ready(Err(_)) => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
        };
        let driver = tokio::spawn(poll_fn(drive));
        Self { muxer, driver, streams: Vec::new() }
    }

    /// Opens streams that carry these bytes and stay open, as far as the node lets it.
    async fn open(&mut self, streams: usize, bytes: &[u8]) {
        for _ in 0..streams {
            let muxer = self.muxer.clone();
            let opened = poll_fn(move |cx| with(&muxer, |muxer| muxer.poll_outbound_unpin(cx)));
            let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(1), opened).await else {
                return;
            };
            let written = async {
                stream.write_all(bytes).await?;
                stream.flush().await
            };
            // A stream that the node does not read takes no more.
            let _ = tokio::time::timeout(Duration::from_millis(200), written).await;
            self.streams.push(stream);
        }
    }
}

/// The beginning of a stream: what multistream-select agrees on, both steps at once.
fn negotiated(protocol: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in ["/multistream/1.0.0", protocol] {
        bytes.push(u8::try_from(step.len() + 1).unwrap());
        bytes.extend_from_slice(step.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// By how much a node grows while all attackers open streams that begin so.
async fn growth_under(what: &str, streams: usize, bytes: &[u8]) -> u64 {
    let node = Burdened::start();
    let mut attackers = Vec::new();
    for _ in 0..ATTACKERS {
        attackers.push(Attacker::connect(&node.address).await);
    }
    let connected = node.resident().saturating_sub(node.at_rest);
    let attack = futures::future::join_all(attackers.iter_mut().map(|it| it.open(streams, bytes)));
    let (_, grown) = tokio::join!(attack, node.growth(Duration::from_secs(6)));
    eprintln!("{what}: {} MiB, of which {} MiB for connections", grown >> 20, connected >> 20);
    grown
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_cost_a_bounded_amount_of_memory() {
    let block = ContentId::of(ggen_marketplace::content::Codec::Raw, &bytes_of(1, FETCH_ANSWER_BYTES));
    // As many at once as are read, and then more.
    let wants = (0..4 * FETCH_SERVED_PER_PEER_MAX).map(|n| Ask::Want { batch: n as u32, ids: vec![block] });
    let wants: Vec<u8> = wants.flat_map(|want| want.encode()).collect();
    let request = [negotiated(PROTOCOL), wants].concat();
    let grown = growth_under("answers that nobody reads", 16, &request).await;
    assert!(grown > 4 << 20, "those are there whose turn it was: {grown}");
    assert!(grown < GROWTH_BYTES_MAX, "it grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_wants_that_are_taken_back_cost_a_bounded_amount_of_memory() {
    let id = ContentId::of(ggen_marketplace::content::Codec::Raw, b"nobody has it");
    let wants: Vec<u8> = (0..400_u32)
        .flat_map(|batch| {
            let want = Ask::Want { batch, ids: vec![id; FETCH_IDS_MAX] }.encode();
            [want, Ask::Cancel { batch }.encode().repeat(10)].concat()
        })
        .collect();
    let flood = [negotiated(PROTOCOL), wants].concat();
    let grown = growth_under("a flood of wants and cancellations", 1, &flood).await;
    assert!(grown < GROWTH_BYTES_MAX, "it grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_sent_to_their_end_cost_a_bounded_amount_of_memory() {
    let id = ContentId::of(ggen_marketplace::content::Codec::Raw, b"a block");
    let want = Ask::Want { batch: 0, ids: vec![id; FETCH_IDS_MAX] }.encode();
    let half = [negotiated(PROTOCOL), want[..want.len() - 1].to_vec()].concat();
    let grown = growth_under("requests that are not sent to their end", STREAMS, &half).await;
    assert!(grown < GROWTH_BYTES_MAX, "it grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_agree_on_no_protocol_cost_a_bounded_amount_of_memory() {
    // A line of the greatest length is promised, and nothing of it comes.
    let half = [negotiated(PROTOCOL)[..20].to_vec(), vec![0xff, 0x7f]].concat();
    let grown = growth_under("streams that agree on no protocol", STREAMS, &half).await;
    assert!(grown < GROWTH_BYTES_MAX, "it grew by {grown} bytes");
}
