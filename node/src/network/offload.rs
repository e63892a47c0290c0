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

    /// Runs `work` and yields what it returns, or nothing where it panicked, or the runtime ended before it began.
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
                        Err(error) if error.is_panic() => {
                            tracing::error!(%error, "internal error: blocking work panicked");
                            None
                        }
                        // The runtime ends.
                        Err(_) => None,
                    }
                }
                .boxed()
            }
            Self::Inline => async move { Some(work()) }.boxed(),
        };
        future
    }

    /// Drops what takes long to drop, such as a folder with many files, and waits for nothing.
    pub fn discard<T: Send + 'static>(self, value: T) {
        match self {
            // Where no runtime is left there is nobody to hold up.
            Self::Threads if tokio::runtime::Handle::try_current().is_ok() => {
                drop(tokio::task::spawn_blocking(move || drop(value)));
            }
            Self::Threads | Self::Inline => drop(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Tells on which thread it is dropped.
    struct Told(mpsc::Sender<thread::ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn what_takes_long_to_drop_is_dropped_beside_the_runtime() {
        let own = thread::current().id();
        let dropped_on = |offload: Offload, runtime: bool| {
            let (sender, told) = mpsc::channel();
            let runtime = runtime.then(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
            let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
            offload.discard(Told(sender));
            told.recv().unwrap()
        };
        assert_ne!(dropped_on(Offload::Threads, true), own);
        assert_eq!(dropped_on(Offload::Threads, false), own);
        assert_eq!(dropped_on(Offload::Inline, true), own);
    }
}
