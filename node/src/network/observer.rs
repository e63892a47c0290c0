//! Watching a node from the outside, as a simulation does.

use std::{fmt, sync::Arc, time::Duration};

use libp2p::kad::{QueryResult, QueryStats};

use super::Event;

type Watch = dyn Fn(&Event) + Send + Sync;

/// Is told every [`Event`] the moment it happens, on the loop's thread; by default there is none.
///
/// It must not block, and cannot change what the node does.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Watch>>);

impl Observer {
    /// An observer that calls `watch`.
    pub fn new(watch: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    pub(crate) fn tell(&self, event: &Event) {
        if let Some(watch) = &self.0 {
            watch(event);
        }
    }

    /// Tells what is made only where somebody watches.
    pub(super) fn tell_of(&self, event: impl FnOnce() -> Event) {
        if let Some(watch) = &self.0 {
            watch(&event());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer" } else { "no observer" })
    }
}

/// What a lookup in the DHT cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// What it was for.
    pub kind: LookupKind,
    /// Requests that were sent.
    pub requests: u32,
    /// Requests that were answered.
    pub successes: u32,
    /// Requests that failed: the peer was not reached, or did not answer in time.
    pub failures: u32,
    /// From the first request to the end; zero where there was nobody to ask.
    pub duration: Duration,
}

/// What a lookup in the DHT is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LookupKind {
    /// Filling the routing table: one of the places that are asked for.
    Bootstrap,
    /// Finding a peer.
    ClosestPeers,
    /// Getting a head.
    GetHead,
    /// Storing a head: finding the nearest nodes, and sending it to them.
    PutHead,
    /// Finding who provides a tree.
    GetProviders,
    /// Telling that this node provides a tree.
    Provide,
}

impl LookupKind {
    /// Its name, as in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::ClosestPeers => "closest-peers",
            Self::GetHead => "get-head",
            Self::PutHead => "put-head",
            Self::GetProviders => "get-providers",
            Self::Provide => "provide",
        }
    }
}

impl Lookup {
    /// What libp2p counted.
    pub(super) fn of(result: &QueryResult, stats: &QueryStats) -> Self {
        let kind = match result {
            QueryResult::Bootstrap(_) => LookupKind::Bootstrap,
            QueryResult::GetClosestPeers(_) => LookupKind::ClosestPeers,
            QueryResult::GetRecord(_) => LookupKind::GetHead,
            QueryResult::PutRecord(_) | QueryResult::RepublishRecord(_) => LookupKind::PutHead,
            QueryResult::GetProviders(_) => LookupKind::GetProviders,
            QueryResult::StartProviding(_) | QueryResult::RepublishProvider(_) => LookupKind::Provide,
        };
        Self {
            kind,
            requests: stats.num_requests(),
            successes: stats.num_successes(),
            failures: stats.num_failures(),
            duration: stats.duration().unwrap_or_default(),
        }
    }
}
