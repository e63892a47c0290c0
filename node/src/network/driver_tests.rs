use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::future::{Pending, pending};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts as Dialled, ListenerId, TransportEvent},
};

use super::*;
use crate::{
    config::Role,
    hello::{Run, Runs},
    identity::Publisher,
    limits::JOBS_AT_ONCE_MAX,
    network::{FirstContact, Load, Machine, transport},
    package::PackageId,
    peers::trim::Marks,
};

/// What a test does with the one listener.
#[derive(Default)]
struct Script {
    listened: usize,
    bound: Option<ListenerId>,
    listener: Option<ListenerId>,
    /// Whether it has an error to tell whenever it is asked.
    is_noisy: bool,
    is_closing: bool,
    waker: Option<Waker>,
}

/// A transport on which nobody is reached.
struct Scripted(Arc<Mutex<Script>>);

type Stream = futures::io::Cursor<Vec<u8>>;

impl Transport for Scripted {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Stream>>;
    type Dial = Pending<io::Result<Stream>>;

    fn listen_on(&mut self, id: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let mut script = self.0.lock().unwrap();
        script.listened += 1;
        script.bound = Some(id);
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, _: Multiaddr, _: Dialled) -> Result<Self::Dial, TransportError<io::Error>> {
        Ok(pending())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let mut script = self.0.lock().unwrap();
        if let Some(listener_id) = script.bound.take() {
            script.listener = Some(listener_id);
            let listen_addr = "/ip4/127.0.0.1/tcp/7".parse().unwrap();
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr });
        }
        if let Some(listener_id) = script.listener {
            if std::mem::take(&mut script.is_closing) {
                script.listener = None;
                return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) });
            }
            if script.is_noisy {
                let error = io::ErrorKind::ConnectionAborted.into();
                return Poll::Ready(TransportEvent::ListenerError { listener_id, error });
            }
        }
        script.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn start(script: &Arc<Mutex<Script>>, store: Store, observer: Observer) -> Handle {
    let settings = Settings {
        topic: "/ggen/test".to_owned(),
        dht_server: true,
        reach: crate::config::Reach::Auto,
        listens: true,
        relay_server: true,
        query_timeout: Duration::from_secs(5),
        role: Role::Peer,
        entry_points: Vec::new(),
        connections_max: 10,
        connections: Marks { low: 4, high: 8 },
        first_contact: FirstContact::default(),
        runs: Runs::new(Run::from_bytes([1; 16]), []),
        line: Line::default(),
        spawner: Spawner::default(),
        machine: Machine::default(),
    };
    let base = transport::base(Scripted(script.clone()));
    let key = Keypair::generate_ed25519();
    spawn(base, &key, settings, store, Offload::Threads, observer, &Metrics::default()).unwrap().0
}

fn address() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/7".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_that_always_has_an_event_holds_up_nothing() {
    let script = Arc::new(Mutex::new(Script { is_noisy: true, ..Script::default() }));
    let pulses = Arc::new(Mutex::new(Vec::<Load>::new()));
    let seen = pulses.clone();
    let handle = start(
        &script,
        Store::in_memory().unwrap(),
        Observer::new(move |event| {
            if let Event::Loaded(load) = event {
                seen.lock().unwrap().push(*load);
            }
        }),
    );
    let listened = tokio::time::timeout(Duration::from_secs(5), handle.listen(address())).await;
    let pulsed = tokio::time::timeout(Duration::from_secs(10), async {
        while pulses.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let pulsed = pulsed.await;
    script.lock().unwrap().is_noisy = false;
    assert_eq!(listened.expect("the listener is told of").unwrap(), [address()]);
    pulsed.expect("what is due is done");
}

#[tokio::test]
async fn a_listener_that_closes_is_opened_again() {
    let script = Arc::new(Mutex::new(Script::default()));
    let handle = start(&script, Store::in_memory().unwrap(), Observer::default());
    handle.listen(address()).await.unwrap();
    {
        let mut script = script.lock().unwrap();
        script.is_closing = true;
        script.waker.take().unwrap().wake();
    }
    let again = async {
        while script.lock().unwrap().listened < 2 || handle.snapshot().await.unwrap().listening.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("it listens again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_busy_holds_up_nothing_in_the_loop() {
    let store = Store::in_memory().unwrap();
    let handle = start(&Arc::default(), store.clone(), Observer::default());
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        store.write(|_| {
            locked.send(()).unwrap();
            is_released.recv().unwrap();
            Ok(())
        })
    });
    is_locked.recv().unwrap();
    let package = PackageId {
        publisher: Publisher::from_secret([1; 32], Timestamp::from_secs(1)).id(),
        name: "pack".parse().unwrap(),
    };
    let lookups: Vec<_> = (0..2 * JOBS_AT_ONCE_MAX)
        .map(|_| {
            let (handle, package) = (handle.clone(), package.clone());
            tokio::spawn(async move { handle.get_head(package, Duration::from_secs(60)).await })
        })
        .collect();
    for _ in 0..3 {
        let answered = tokio::time::timeout(Duration::from_secs(5), handle.snapshot()).await;
        answered.expect("the loop answers").unwrap();
    }
    assert!(lookups.iter().all(|lookup| !lookup.is_finished()), "they wait for the database");
    release.send(()).unwrap();
    holder.join().unwrap().unwrap();
    for lookup in lookups {
        assert!(lookup.await.unwrap().is_err(), "nobody was asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lookup_found_is_none_where_it_cannot_be_compared_with_what_was_seen() {
    let store = Store::in_memory().unwrap();
    let handle = start(&Arc::default(), store.clone(), Observer::default());
    let head = crate::release::fixture::head(&crate::release::fixture::publisher(1), &["1.0.0"]);
    let minute = Duration::from_secs(60);
    handle.put_head(head.clone(), minute).await.unwrap();
    let found = handle.get_head(head.package_id(), minute).await;
    assert_eq!(found.unwrap(), Some(head.clone()), "this node's own copy");
    store.write(|tx| Ok(tx.execute_batch("ALTER TABLE catalog_seen RENAME TO unreadable")?)).unwrap();
    let found = handle.get_head(head.package_id(), minute).await;
    assert!(matches!(found, Err(Error::CutOff { .. })), "{found:?}");
}
