//! The engines that run a world: turmoil's, which moves in ticks, and the fabric, which moves from event to event.
//!
//! Both stand behind [`Control`] for the world and behind `Net` for a node.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use ggen_harness::{
    fabric::{self, nat},
    net::{Accept, Control, End, Net},
    transport::{Gate, NetTransport, Resolve, Tap},
};
use ggen_marketplace::network::{Spawner, transport};
use serde::{Deserialize, Serialize};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use turmoil::{
    Sim,
    net::{TcpListener, TcpStream},
};

/// What runs a world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A runtime a host, moved in ticks: the reference for sockets.
    #[default]
    Turmoil,
    /// One runtime for all hosts, moved from event to event.
    Fabric,
}

impl Engine {
    /// As scenarios and the command line have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turmoil => "turmoil",
            Self::Fabric => "fabric",
        }
    }
}

/// How long the run has lasted, for whoever runs on a host; none outside of one.
pub(crate) fn elapsed() -> Option<Duration> {
    fabric::elapsed().or_else(turmoil::sim_elapsed)
}

/// Where a node is, as its engine has it.
#[derive(Debug, Clone)]
pub(crate) enum Seat {
    Turmoil,
    Fabric {
        started: fabric::Started,
        /// Whether dials come from the port that is listened on, as they do in life.
        reuses_ports: bool,
    },
}

impl Seat {
    /// The base transport of a node at this address.
    pub(crate) fn transport(
        &self,
        host: IpAddr,
        tap: Tap,
        gate: impl Gate + 'static,
        names: impl Resolve + 'static,
    ) -> transport::Base {
        let (gate, names) = (Arc::new(gate), Arc::new(names));
        match self {
            Self::Turmoil => transport::base(NetTransport::new(Socket(host), tap, gate, names)),
            Self::Fabric { started, reuses_ports } => {
                let transport = NetTransport::new(started.net.clone(), tap, gate, names);
                transport::base(if *reuses_ports { transport.reusing_ports() } else { transport })
            }
        }
    }

    /// Where the tasks of the node run.
    pub(crate) fn spawner(&self) -> Spawner {
        match self {
            Self::Turmoil => Spawner::default(),
            Self::Fabric { started, .. } => {
                let spawner = started.spawner.clone();
                Spawner::new(move |task| spawner.spawn(task))
            }
        }
    }
}

/// A host of turmoil, which is the one that polls.
#[derive(Debug, Clone)]
struct Socket(IpAddr);

impl Net for Socket {
    type Stream = Compat<TcpStream>;
    type Listener = Listener;

    fn host(&self) -> IpAddr {
        self.0
    }

    fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Listener>> {
        async move { Ok(Listener(TcpListener::bind(at).await?)) }.boxed()
    }

    /// Turmoil gives out the ports itself.
    fn dial(&self, to: SocketAddr, _: Option<u16>) -> BoxFuture<'static, io::Result<Compat<TcpStream>>> {
        async move { Ok(TcpStream::connect(to).await?.compat()) }.boxed()
    }
}

struct Listener(TcpListener);

impl Accept for Listener {
    type Stream = Compat<TcpStream>;

    fn port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    async fn accept(&mut self) -> io::Result<(Compat<TcpStream>, SocketAddr)> {
        let (stream, remote) = self.0.accept().await?;
        Ok((stream.compat(), remote))
    }
}

/// A world of turmoil.
pub(crate) struct Turmoil<'a>(pub(crate) Sim<'a>);

impl Control for Turmoil<'_> {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn step(&mut self) -> Result<(), String> {
        self.0.step().map(drop).map_err(|error| error.to_string())
    }

    /// What loses power is cut off before.
    fn crash(&mut self, host: IpAddr, _: End) {
        self.0.crash(host);
    }

    fn restart(&mut self, host: IpAddr) {
        self.0.bounce(host);
    }

    fn is_running(&mut self, host: IpAddr) -> bool {
        self.0.is_host_running(host)
    }

    fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.0.partition_oneway(from, to);
    }

    fn mend(&mut self, from: IpAddr, to: IpAddr) {
        self.0.repair_oneway(from, to);
    }

    fn hold(&mut self, one: IpAddr, other: IpAddr) {
        self.0.hold(one, other);
    }

    fn release(&mut self, one: IpAddr, other: IpAddr) {
        self.0.release(one, other);
    }

    fn set_latency(&mut self, one: IpAddr, other: IpAddr, latency: Duration) {
        self.0.set_link_latency(one, other, latency);
    }

    fn move_behind(&mut self, _: IpAddr, _: nat::Settings) -> Result<(), String> {
        Err("turmoil has no routers".to_owned())
    }

    fn in_progress(&self) -> BTreeMap<(IpAddr, IpAddr), usize> {
        let mut in_progress = BTreeMap::new();
        self.0.links(|links| {
            for link in links {
                let (one, other) = link.pair();
                let segments = link.count();
                if segments > 0 {
                    in_progress.insert((one.min(other), one.max(other)), segments);
                }
            }
        });
        in_progress
    }
}
