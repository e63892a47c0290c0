//! Counts that libp2p keeps of itself, for whoever asks for them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::metrics::Registry;

/// Where libp2p's counters are registered; by default there is no such place, and nothing is counted.
///
/// The names and labels are libp2p's own. No label holds a peer id or anything else that a peer can make up without bound:
/// Gossipsub bounds the topics that it counts.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Mutex<Registry>>>);

impl Metrics {
    /// Counts from now on.
    pub fn counting() -> Self {
        Self(Some(Arc::default()))
    }

    /// All counts, in the text form of [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/); empty where
    /// nothing is counted.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(registry) = &self.0 {
            let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text takes all text");
        }
        text
    }

    /// Hands the registry to something that counts, where anything is to be counted.
    pub(super) fn register<T>(&self, part: &str, register: impl FnOnce(&mut Registry) -> T) -> Option<T> {
        let mut registry = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(register(registry.sub_registry_with_prefix(part)))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Metrics" } else { "no metrics" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_counted_unless_it_was_asked_for() {
        assert!(Metrics::default().register("gossip", |_| ()).is_none());
        assert_eq!(Metrics::default().text(), "");
        let metrics = Metrics::counting();
        let counter: prometheus_client::metrics::counter::Counter = Default::default();
        metrics.register("gossip", |registry| registry.register("told", "How often", counter.clone()));
        counter.inc_by(7);
        assert!(metrics.text().contains("gossip_told_total 7\n"), "{}", metrics.text());
    }
}
