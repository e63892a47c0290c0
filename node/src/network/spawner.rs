//! Where the tasks of a node run.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use libp2p::swarm::Executor;

type Spawn = dyn Fn(BoxFuture<'static, ()>) + Send + Sync;

/// Starts the tasks of a node: on tokio by default, or wherever the program that embeds it wants them, such as a simulator that ends all
/// of them at once.
#[derive(Clone)]
pub struct Spawner(Arc<Spawn>);

impl Spawner {
    /// Hands every task to `spawn`, which must run it on tokio.
    pub fn new(spawn: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(spawn))
    }

    /// Starts a task.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.0)(task.boxed());
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Self::new(|task| drop(tokio::spawn(task)))
    }
}

impl Executor for Spawner {
    fn exec(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (self.0)(task);
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}
