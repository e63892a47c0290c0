//! What this node listens on, who waits to hear what was bound, what is to be listened on again, and where others see it. Pure: what the swarm says and
//! `now` are arguments.

use std::{io, time::Duration};

use libp2p::{Multiaddr, TransportError, core::transport::ListenerId};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Error,
    dialling::innermost,
    listeners::{Listeners, Lost},
    observed::Observed,
    peers::ip_of,
};

/// After this time what was bound is told, also where the swarm never comes to rest.
const BOUND_WAIT: Duration = Duration::from_millis(500);

/// Somebody who waits for a listener to be bound.
struct Waiting {
    listener: ListenerId,
    address: Multiaddr,
    bound: Vec<Multiaddr>,
    began: Instant,
    /// Since when there is one.
    bound_since: Option<Instant>,
    reply: oneshot::Sender<Result<Vec<Multiaddr>, Error>>,
}

/// The listeners of this node, and who waits for them.
#[derive(Default)]
pub(super) struct Listening {
    waiting: Vec<Waiting>,
    listeners: Listeners,
    /// Under which addresses peers see this node.
    pub(super) observed: Observed,
    inbound_failed: u64,
}

impl Listening {
    /// Counts an inbound connection that failed: refused, broken off, or not in time.
    pub(super) fn refused_inbound(&mut self) {
        self.inbound_failed = self.inbound_failed.saturating_add(1);
    }

    /// Inbound connections since the start that failed.
    pub(super) fn inbound_failed(&self) -> u64 {
        self.inbound_failed
    }

    /// Notes what the swarm said when it was asked to listen on `address`, and who wants to hear of it.
    pub(super) fn begin(
        &mut self,
        opened: Result<ListenerId, TransportError<io::Error>>,
        address: Multiaddr,
        reply: oneshot::Sender<Result<Vec<Multiaddr>, Error>>,
        now: Instant,
    ) {
        match opened {
            Ok(listener) => {
                self.listeners.opened(listener, address.clone(), 0);
                let (bound, bound_since) = (Vec::new(), None);
                self.waiting.push(Waiting { listener, address, bound, began: now, bound_since, reply });
            }
            Err(error) => {
                let source = listen_error(error);
                let _ = reply.send(Err(Error::Listen { address, source }));
            }
        }
    }

    /// Notes an address under which a listener was bound.
    pub(super) fn bound(&mut self, listener: ListenerId, address: Multiaddr, now: Instant) {
        self.listeners.bound(listener);
        if let Some(waiting) = self.waiting.iter_mut().find(|it| it.listener == listener) {
            waiting.bound.push(address);
            waiting.bound_since.get_or_insert(now);
        }
    }

    /// Notes that a listener ended, and tells who still waits for it.
    pub(super) fn closed(&mut self, listener: ListenerId, source: io::Error, now: Instant) {
        self.listeners.closed(listener, now);
        if let Some(at) = self.waiting.iter().position(|it| it.listener == listener) {
            let Waiting { address, reply, .. } = self.waiting.swap_remove(at);
            let _ = reply.send(Err(Error::Listen { address, source }));
        }
    }

    /// Whether somebody waits for what is bound already.
    pub(super) fn has_bound(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.bound_since.is_some())
    }

    /// Tells what was bound: all of it or, where `now` is given, what was bound [`BOUND_WAIT`] ago or longer. A listener on every
    /// address of a family that this machine has none of stays open, since one may come, and after that time has nothing to tell.
    pub(super) fn reply_bound(&mut self, now: Option<Instant>) {
        let is_due = |waiting: &mut Waiting| match (waiting.bound_since, now) {
            (Some(since), now) => now.is_none_or(|now| now >= since + BOUND_WAIT),
            (None, Some(now)) => is_unspecified(&waiting.address) && now >= waiting.began + BOUND_WAIT,
            (None, None) => false,
        };
        for Waiting { bound, reply, .. } in self.waiting.extract_if(.., is_due) {
            let _ = reply.send(Ok(bound));
        }
    }

    /// Takes what is to be listened on again now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Lost> {
        self.listeners.due(now)
    }

    /// Notes what the swarm said when it was asked to listen again.
    pub(super) fn opened_again(
        &mut self,
        lost: Lost,
        opened: Result<ListenerId, TransportError<io::Error>>,
        now: Instant,
    ) {
        match opened {
            Ok(listener) => self.listeners.opened(listener, lost.address, lost.failures),
            Err(error) => {
                tracing::warn!(address = %lost.address, %error, "still not listening");
                self.listeners.failed(lost.address, lost.failures, now);
            }
        }
    }
}

fn is_unspecified(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_unspecified())
}

/// What the system said when an address was to be listened on.
fn listen_error(error: TransportError<io::Error>) -> io::Error {
    match error {
        TransportError::MultiaddrNotSupported(address) => {
            io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not an address to listen on"))
        }
        // The kind of the innermost error says whether the port is taken.
        TransportError::Other(error) => {
            let chain = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |error| {
                error.source()
            });
            let kind = chain
                .filter_map(|error| error.downcast_ref::<io::Error>())
                .last()
                .map_or(error.kind(), io::Error::kind);
            io::Error::new(kind, innermost(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a layer of the transport")]
    struct Layer(#[source] io::Error);

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    type Heard = oneshot::Receiver<Result<Vec<Multiaddr>, Error>>;

    fn listening(listening: &mut Listening, port: u16) -> (ListenerId, Heard) {
        let (id, (reply, heard)) = (ListenerId::next(), oneshot::channel());
        listening.begin(Ok(id), address(port), reply, Instant::now());
        (id, heard)
    }

    #[test]
    fn all_that_was_bound_is_told_at_rest_and_after_a_moment_without_it() {
        let (mut all, now) = (Listening::default(), Instant::now());
        let (first, mut heard) = listening(&mut all, 1);
        let (_, mut unbound) = listening(&mut all, 2);
        assert!(!all.has_bound());
        all.bound(first, address(10), now);
        all.bound(first, address(11), now + BOUND_WAIT / 2);
        all.reply_bound(Some(now + BOUND_WAIT / 2));
        assert!(all.has_bound() && heard.try_recv().is_err(), "there may be more");
        all.reply_bound(Some(now + BOUND_WAIT));
        assert_eq!(heard.try_recv().unwrap().unwrap(), [address(10), address(11)]);
        assert!(!all.has_bound());
        all.reply_bound(None);
        assert!(unbound.try_recv().is_err(), "nothing was bound for it");
        let (third, mut heard) = listening(&mut all, 3);
        all.bound(third, address(12), now);
        all.reply_bound(None);
        assert_eq!(heard.try_recv().unwrap().unwrap(), [address(12)]);
    }

    #[test]
    fn a_machine_without_an_address_of_a_family_listens_when_it_gets_one() {
        let (mut all, now) = (Listening::default(), Instant::now());
        let (id, (reply, mut heard)) = (ListenerId::next(), oneshot::channel());
        all.begin(Ok(id), "/ip6/::/tcp/4001".parse().unwrap(), reply, now);
        all.reply_bound(Some(now + BOUND_WAIT / 2));
        assert!(heard.try_recv().is_err(), "one may be in progress");
        all.reply_bound(Some(now + BOUND_WAIT));
        assert_eq!(heard.try_recv().unwrap().unwrap(), []);
        all.bound(id, "/ip6/::1/tcp/4001".parse().unwrap(), now + 9 * BOUND_WAIT);
        all.closed(id, io::ErrorKind::NetworkDown.into(), now + 10 * BOUND_WAIT);
        assert_eq!(all.due(now + 100 * BOUND_WAIT).len(), 1, "it is a listener like any other");
    }

    #[test]
    fn who_waits_for_a_listener_hears_that_it_ended_or_was_never_opened() {
        let (mut all, now) = (Listening::default(), Instant::now());
        let (id, mut heard) = listening(&mut all, 1);
        all.closed(id, io::ErrorKind::AddrInUse.into(), now);
        let error = heard.try_recv().unwrap().unwrap_err();
        assert_eq!(error.code(), crate::code::Code::AddressInUse);
        assert!(all.due(now + Duration::from_secs(3600)).is_empty(), "it never stood");
        let (reply, mut heard) = oneshot::channel();
        let taken = TransportError::Other(io::Error::other(Layer(io::ErrorKind::AddrInUse.into())));
        all.begin(Err(taken), address(2), reply, Instant::now());
        assert_eq!(heard.try_recv().unwrap().unwrap_err().code(), crate::code::Code::AddressInUse);
    }

    #[test]
    fn what_was_bound_and_ended_is_listened_on_again() {
        let (mut all, now) = (Listening::default(), Instant::now());
        let (id, _heard) = listening(&mut all, 1);
        all.bound(id, address(1), now);
        all.closed(id, io::ErrorKind::NetworkDown.into(), now);
        let later = now + Duration::from_secs(2);
        let lost = all.due(later).pop().unwrap();
        assert_eq!(lost.address, address(1));
        all.opened_again(lost, Err(TransportError::Other(io::ErrorKind::NetworkDown.into())), later);
        let lost = all.due(later + Duration::from_secs(4)).pop().unwrap();
        all.opened_again(lost, Ok(ListenerId::next()), later);
        assert!(all.due(later + Duration::from_secs(3600)).is_empty());
    }
}
