//! The first connection since the start: it stands only once it is written down that there is one.
//!
//! What was signed while this machine was alone has not left it for certain, and can be taken back. From the first connection
//! on that is over, and a crash must not make the node forget it: so the note is on the disk before a byte can be asked for.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

/// What is written before the first connection stands; says whether it is on the disk.
type Write = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

/// Knows whether there has been a connection since the start. All clones are the same one.
#[derive(Clone, Default)]
pub struct FirstContact(Arc<State>);

#[derive(Default)]
struct State {
    begun: AtomicBool,
    written: OnceCell<()>,
    write: Option<Box<Write>>,
}

impl fmt::Debug for FirstContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstContact").field("has_begun", &self.has_begun()).finish_non_exhaustive()
    }
}

impl FirstContact {
    /// Has `write` run before the first connection stands. Where it fails, that connection is given up, and the next one tries.
    pub fn new(write: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(State { write: Some(Box::new(write)), ..State::default() }))
    }

    /// Whether a connection stands, or is about to: what is signed from now on may be asked for at once.
    ///
    /// Read within the transaction that lists what was signed: the note of a later contact is written after it.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Whether a connection may stand by now: what is to be written before it is on the disk.
    pub fn is_over(&self) -> bool {
        self.0.written.initialized() || (self.0.write.is_none() && self.has_begun())
    }

    /// Lets a connection stand.
    pub(super) async fn pass(&self) -> io::Result<()> {
        self.0.begun.store(true, Ordering::SeqCst);
        let Some(write) = &self.0.write else { return Ok(()) };
        let written = self.0.written.get_or_try_init(|| async {
            if write().await {
                Ok(())
            } else {
                Err(io::Error::other("the first contact was not written down"))
            }
        });
        written.await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn no_connection_stands_before_the_first_one_is_written_down() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        let contact = FirstContact::new(move || {
            let succeeds = counted.fetch_add(1, Ordering::SeqCst) == 1;
            Box::pin(async move { succeeds })
        });
        assert!(!contact.has_begun());
        assert!(contact.pass().await.is_err(), "the disk is full");
        assert!(contact.has_begun(), "to be on the safe side");
        assert!(!contact.is_over());
        for _ in 0..3 {
            contact.pass().await.unwrap();
            assert!(contact.is_over());
        }
        assert_eq!(tries.load(Ordering::SeqCst), 2, "once is enough");
    }
}
