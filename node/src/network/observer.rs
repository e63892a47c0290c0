//! Watching a node from the outside, as a simulation does.

use std::{fmt, sync::Arc};

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

    pub(super) fn tell(&self, event: &Event) {
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
