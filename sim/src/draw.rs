//! Draws of the harness itself, and publishers among them.

pub use ggen_harness::draw::Draws;
use ggen_marketplace::{identity::Publisher, time::Timestamp};

/// Publishers that are drawn.
pub trait Publishers {
    /// The publisher of a name, with a key that was made at `created`.
    fn publisher(self, name: &str, created: Timestamp) -> Publisher;
}

impl Publishers for Draws {
    fn publisher(self, name: &str, created: Timestamp) -> Publisher {
        Publisher::from_secret(self.secret("publisher-key", name, 0), created)
    }
}
