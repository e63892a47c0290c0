//! Whose task runs: each is polled, and dropped, as one of a host.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
    /// Futures of each host that were made and not dropped yet.
    static ALIVE: RefCell<BTreeMap<usize, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// How many futures there are of a host.
pub(crate) fn alive(host: usize) -> usize {
    ALIVE.with_borrow(|alive| alive.get(&host).copied().unwrap_or(0))
}

/// The host whose task runs on this thread; none where none does.
pub fn current() -> Option<usize> {
    // Where the thread is ending its locals are gone.
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// Sets the current host until it is dropped.
struct Entered(Option<usize>);

impl Entered {
    fn new(host: Option<usize>) -> Self {
        Self(CURRENT.replace(host))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.0));
    }
}

/// A future that is polled and dropped as one of a host.
#[derive(Debug)]
pub struct OnHost<F> {
    host: Option<usize>,
    /// None while it is dropped.
    inner: Option<Pin<Box<F>>>,
}

/// Makes a future one of this host.
pub fn on_host<F: Future>(host: Option<usize>, future: F) -> OnHost<F> {
    if let Some(host) = host {
        ALIVE.with_borrow_mut(|alive| *alive.entry(host).or_default() += 1);
    }
    OnHost { host, inner: Some(Box::pin(future)) }
}

impl<F: Future> Future for OnHost<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = Entered::new(self.host);
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for OnHost<F> {
    fn drop(&mut self) {
        let _entered = Entered::new(self.host);
        self.inner = None;
        let _ = ALIVE.try_with(|alive| {
            let mut alive = alive.borrow_mut();
            if let Some(alive) = self.host.and_then(|host| alive.get_mut(&host)) {
                *alive = alive.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Noted<'a>(&'a Cell<Option<usize>>);

    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.set(current());
        }
    }

    #[test]
    fn a_future_is_polled_and_dropped_as_one_of_its_host() {
        let (polled, dropped) = (Cell::new(None), Cell::new(None));
        let noted = Noted(&dropped);
        let mut future = on_host(Some(7), async {
            let _noted = noted;
            polled.set(current());
            std::future::pending::<()>().await;
        });
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        assert_eq!((polled.get(), current(), alive(7)), (Some(7), None, 1));
        drop(future);
        assert_eq!((dropped.get(), current(), alive(7)), (Some(7), None, 0));
    }
}
