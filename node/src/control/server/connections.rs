//! The connections of a server: one that does nothing gives way where there are too many, so that a command always gets in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::HttpBody, extract::Request, http::header, middleware::Next, response::Response};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer::NDJSON;

/// All connections that are served.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts what happened: what is lower was earlier.
    last: u64,
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    /// Since when it has done nothing: nothing is read, or only a part of a request.
    idle_since: Option<u64>,
    close: CancellationToken,
}

impl Open {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// One of them; gives its place back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Set where others need the place.
    pub(super) close: CancellationToken,
    activity: Activity,
}

/// Says whether a connection does something.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    id: u64,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default(), left: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place: where there is none, that of the connection which has done nothing for longest, and otherwise waits for one.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        loop {
            let left = self.left.notified();
            if let Some(place) = self.try_enter() {
                return place;
            }
            left.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.connections.len() >= self.max {
            let idle = open.connections.iter().filter_map(|(id, it)| Some((it.idle_since?, *id))).min();
            let (_, longest) = idle?;
            if let Some(connection) = open.connections.remove(&longest) {
                connection.close.cancel();
            }
        }
        let (id, close) = (open.next(), CancellationToken::new());
        open.connections.insert(id, Connection { idle_since: Some(id), close: close.clone() });
        Some(Place { close, activity: Activity { id, connections: Arc::clone(self) } })
    }
}

impl Place {
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.activity.connections;
        connections.open().connections.remove(&self.activity.id);
        connections.left.notify_one();
    }
}

impl Activity {
    /// A whole request was read.
    pub(super) fn begin(&self) {
        if let Some(connection) = self.connections.open().connections.get_mut(&self.id) {
            connection.idle_since = None;
        }
    }

    /// It was answered.
    fn end(&self) {
        let mut open = self.connections.open();
        let now = open.next();
        if let Some(connection) = open.connections.get_mut(&self.id) {
            connection.idle_since = Some(now);
            drop(open);
            self.connections.left.notify_one();
        }
    }

    /// Notes of a request when it is whole, and when it is answered; an answer that goes on is at work as long as its connection stands.
    pub(super) async fn watch(self, mut request: Request, next: Next) -> Response {
        if request.body().is_end_stream() {
            self.begin();
        }
        request.extensions_mut().insert(self.clone());
        let response = next.run(request).await;
        if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != NDJSON) {
            self.end();
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_connection_that_has_done_nothing_for_longest_gives_way_and_no_other() {
        let connections = Connections::new(3);
        let enter = || connections.enter().now_or_never();
        let [first, second, third] = [(); 3].map(|()| enter().unwrap());
        first.activity().begin();
        second.activity().begin();
        second.activity().end();
        let fourth = enter().unwrap();
        let closed = || [&first, &second, &third].map(|place| place.close.is_cancelled());
        assert_eq!(
            closed(),
            [false, false, true],
            "the third has waited since before the second was answered"
        );
        let fifth = enter().unwrap();
        assert_eq!(closed(), [false, true, true]);
        fourth.activity().begin();
        fifth.activity().begin();
        assert!(enter().is_none(), "all of them are at work");
        // What was closed gives no place back twice.
        drop(third);
        assert!(enter().is_none());
        drop(first);
        let sixth = enter().unwrap();
        assert!(!fourth.close.is_cancelled() && !fifth.close.is_cancelled());
        drop(sixth);
    }
}
