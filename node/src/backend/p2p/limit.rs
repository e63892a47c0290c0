//! A limit of the store that cannot be met, because what is never evicted is larger.

use std::time::Duration;

use tokio::time::Instant;

use super::{evict, failure::fail, node::Node, view::View};
use crate::{
    control::api::Failure,
    store::{self, Stats, Store},
    time::Timestamp,
};

/// How long the last look is good for, as long as the store has the same size: `status` may be asked every second, and every block is
/// looked at.
const LOOKED_FRESH: Duration = Duration::from_secs(60);

/// The last look at a store that is over its limit.
#[derive(Debug)]
pub(super) struct Looked {
    at: Instant,
    most: u64,
    bytes: u64,
    found: Option<String>,
}

impl Node {
    /// What to say of a limit that cannot be met.
    pub(super) async fn limit_warning(&self, stats: Stats) -> Result<Option<String>, Failure> {
        let Some(most) = self.config().store_bytes_max.filter(|most| *most < stats.bytes) else {
            return Ok(None);
        };
        let is_fresh =
            |it: &&Looked| (it.most, it.bytes) == (most, stats.bytes) && it.at.elapsed() < LOOKED_FRESH;
        if let Some(looked) = self.looked_at_limit().as_ref().filter(is_fresh) {
            return Ok(looked.found.clone());
        }
        let now = self.now();
        let found = self.with_store(move |store| unmet(store, most, now)).await?;
        let looked = Looked { at: Instant::now(), most, bytes: stats.bytes, found: found.clone() };
        *self.looked_at_limit() = Some(looked);
        Ok(found)
    }
}

impl View {
    /// What to say of a limit of so many bytes, where it cannot be met: what is never evicted is larger.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn unmet_limit(&self, most: u64) -> Result<Option<String>, Failure> {
        self.with(move |store| unmet(store, most, Timestamp::now()).map_err(fail)).await
    }
}

fn unmet(store: &Store, most: u64, now: Timestamp) -> Result<Option<String>, store::Error> {
    let held = store.stats()?.bytes;
    let lacking = held.saturating_sub(most);
    if lacking == 0 {
        return Ok(None);
    }
    let evictable: u64 = evict::evictable(store, now)?.iter().map(|item| item.bytes).sum();
    Ok((evictable < lacking).then(|| {
        let needed = held.saturating_sub(evictable);
        format!(
            "limits.store_bytes_max is {most} bytes and cannot be met: {needed} bytes are installed, published or pinned, or wait in the \
             outbox, and are never evicted. Nothing more can be published or installed. Raise it: ggen marketplace p2p config set \
             limits.store_bytes_max <bytes>; or remove what you do not need: ggen marketplace p2p list"
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::publish::tests::{package, published},
        identity::Publisher,
    };

    #[test]
    fn a_limit_below_what_is_published_is_told_and_one_that_eviction_meets_is_not() {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let now = Timestamp::now();
        std::fs::write(folder.path().join("data"), vec![7; 100_000]).unwrap();
        published(&store, &Publisher::from_secret([1; 32], now), &package(folder.path(), "1.0.0")).unwrap();
        let held = store.stats().unwrap().bytes;
        assert_eq!(unmet(&store, held, now).unwrap(), None);
        let told = unmet(&store, held - 1, now).unwrap().unwrap();
        assert!(told.contains(&format!("{} bytes and cannot be met: {held} bytes", held - 1)), "{told}");
        // What nobody needs does not count.
        let block = crate::content::Block::new(crate::content::Codec::Raw, vec![1; 5_000]);
        let mut batch = store.batch();
        batch.put(block).unwrap();
        batch.commit(|_| Ok(())).unwrap();
        assert_eq!(unmet(&store, held, now).unwrap(), None);
    }
}
