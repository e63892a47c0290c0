//! Where work that takes long runs.

use std::future::Future;

use futures::{FutureExt, future::BoxFuture};

/// Threads that one publication may take.
const WORKERS_MAX: usize = 4;

/// Runs blocking work beside the loop, or, in a simulation, in its place in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// On tokio's blocking threads.
    Threads,
    /// At once, on the thread that polls: no other thread may exist in a simulation.
    Inline,
}

impl Offload {
    /// Threads that may work beside one that packs: none in a simulation.
    pub fn workers(self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Threads => cores().min(WORKERS_MAX),
            Self::Inline => 0,
        }
    }

    /// Runs `work` and yields what it returns, or nothing where it panicked.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun.
    pub fn run<T, F>(self, work: F) -> impl Future<Output = Option<T>> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let future: BoxFuture<'static, Option<T>> = match self {
            Self::Threads => {
                let task = tokio::task::spawn_blocking(work);
                async move {
                    match task.await {
                        Ok(value) => Some(value),
                        Err(error) => {
                            tracing::error!(%error, "blocking work came to nothing");
                            None
                        }
                    }
                }
                .boxed()
            }
            Self::Inline => async move { Some(work()) }.boxed(),
        };
        future
    }
}
