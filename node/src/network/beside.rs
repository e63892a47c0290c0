//! What runs beside the loop: whatever reads or writes the store, and whatever takes more than a moment.

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{Offload, serve::Work};
use crate::{store::Store, sync::Verified};

/// The store, and the work that uses it.
pub(super) struct Beside {
    store: Store,
    /// Heads that need not be verified again before they are served.
    verified: Verified,
    offload: Offload,
    work: FuturesUnordered<BoxFuture<'static, Work>>,
}

impl Beside {
    pub(super) fn new(store: Store, offload: Offload) -> Self {
        Self { store, verified: Verified::default(), offload, work: FuturesUnordered::new() }
    }

    /// Runs `job`, and has the loop told of what it yields; of nothing where it panicked. How many jobs of a kind there are at
    /// once is up to its caller.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Store, &Verified) -> T + Send + 'static,
        ended: impl FnOnce(Option<T>) -> Work + Send + 'static,
    ) {
        let (store, verified) = (self.store.clone(), self.verified.clone());
        let job = self.offload.run(move || job(&store, &verified));
        self.work.push(Box::pin(async move { ended(job.await) }));
    }

    /// Whether anything runs.
    pub(super) fn is_busy(&self) -> bool {
        !self.work.is_empty()
    }

    /// The work that ends next; none where none runs.
    ///
    /// # Cancel safety
    /// Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Work> {
        self.work.next().await
    }
}
