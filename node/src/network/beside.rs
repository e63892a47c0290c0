//! What runs beside the loop: whatever reads or writes the store, and whatever takes more than a moment.
//!
//! The store is in no other hands of the loop: nothing in the loop can wait for the database.

use std::collections::VecDeque;

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{Offload, serve::Work};
use crate::{
    limits::JOBS_AT_ONCE_MAX,
    store::Store,
    sync::{Verified, ahead::Ahead},
};

/// Work that has not begun.
type Job = Box<dyn FnOnce(Offload) -> BoxFuture<'static, Work> + Send>;

/// The store, and the work that uses it.
pub(super) struct Beside {
    store: Store,
    /// Heads that need not be verified again before they are served.
    verified: Verified,
    offload: Offload,
    running: FuturesUnordered<BoxFuture<'static, Work>>,
    waiting: VecDeque<Job>,
    /// Work that waits for others between its jobs, and so takes no place from those that run.
    following: FuturesUnordered<BoxFuture<'static, Work>>,
}

impl Beside {
    pub(super) fn new(store: Store, offload: Offload) -> Self {
        let verified = Verified::default();
        let (running, waiting, following) = Default::default();
        Self { store, verified, offload, running, waiting, following }
    }

    /// What was met of our own packages that is ahead of the clock.
    pub(super) fn ahead(&self) -> &Ahead {
        self.verified.ahead()
    }

    /// Runs `job` when it is its turn, and has the loop told of what it yields; of nothing where it panicked.
    ///
    /// Not more than [`JOBS_AT_ONCE_MAX`] run at once. How many jobs of a kind wait is up to its caller.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Store, &Verified) -> T + Send + 'static,
        ended: impl FnOnce(Option<T>) -> Work + Send + 'static,
    ) {
        let (store, verified) = (self.store.clone(), self.verified.clone());
        self.waiting.push_back(Box::new(move |offload| {
            let job = offload.run(move || job(&store, &verified));
            Box::pin(async move { ended(job.await) })
        }));
        self.begin();
    }

    /// Begins what waits, as far as there is room.
    fn begin(&mut self) {
        while self.running.len() < JOBS_AT_ONCE_MAX
            && let Some(job) = self.waiting.pop_front()
        {
            self.running.push(job(self.offload));
        }
    }

    /// Follows work that does several jobs on the store, and waits between them for somebody else than the loop. How much of it
    /// there is at once is up to its caller.
    pub(super) fn follow<W>(&self, work: impl FnOnce(Store, Offload) -> W)
    where
        W: Future<Output = Work> + Send + 'static,
    {
        self.following.push(Box::pin(work(self.store.clone(), self.offload)));
    }

    /// Whether anything runs.
    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.following.is_empty()
    }

    /// The work that ends next; none where none runs.
    ///
    /// # Cancel safety
    /// Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Work> {
        let ended = tokio::select! { biased;
            Some(work) = self.running.next(), if !self.running.is_empty() => Some(work),
            Some(work) = self.following.next(), if !self.following.is_empty() => Some(work),
            else => None,
        };
        self.begin();
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn no_more_jobs_run_at_once_than_may_and_all_of_them_end() {
        let mut beside = Beside::new(Store::in_memory().unwrap(), Offload::Threads);
        let (most, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (begun, has_begun) = mpsc::channel();
        let gate = Arc::new(std::sync::Barrier::new(JOBS_AT_ONCE_MAX + 1));
        for n in 0..3 * JOBS_AT_ONCE_MAX {
            let (most, running, begun) = (most.clone(), running.clone(), begun.clone());
            let gate = (n < JOBS_AT_ONCE_MAX).then(|| gate.clone());
            let job = move |_: &Store, _: &Verified| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.send(()).unwrap();
                if let Some(gate) = gate {
                    gate.wait();
                }
                running.fetch_sub(1, Ordering::SeqCst);
                n
            };
            beside.run(job, |heads| Work::Written { heads: heads.unwrap() });
        }
        // All that may have begun, and stand at the gate.
        (0..JOBS_AT_ONCE_MAX).for_each(|_| has_begun.recv().unwrap());
        gate.wait();
        let mut ended = Vec::new();
        while let Some(work) = beside.next().await {
            let Work::Written { heads } = work else { panic!("another job") };
            ended.push(heads);
        }
        ended.sort_unstable();
        assert!(ended.iter().copied().eq(0..3 * JOBS_AT_ONCE_MAX));
        assert_eq!(most.load(Ordering::SeqCst), JOBS_AT_ONCE_MAX);
        assert!(!beside.is_busy());
    }
}
