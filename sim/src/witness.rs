//! Who is told of a run as it happens, besides the trace: those who measure it.

use std::{fmt, sync::Arc, time::Duration};

use ggen_marketplace::network::Event;

type Told = dyn Fn(Duration, usize, &Event) + Send + Sync;

/// Is told every event of every node, with the time of the run and the node's number; by default there is nobody.
///
/// It cannot change what happens.
#[derive(Clone, Default)]
pub struct Witness(Option<Arc<Told>>);

impl Witness {
    /// A witness that calls `told`.
    pub fn new(told: impl Fn(Duration, usize, &Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells, at the time of the host that the caller runs on.
    pub(crate) fn tell(&self, node: usize, event: &Event) {
        if let Some(told) = &self.0 {
            told(crate::engine::elapsed().unwrap_or_default(), node, event);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Witness" } else { "no witness" })
    }
}
