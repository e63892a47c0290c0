//! libp2p's [mDNS](https://github.com/libp2p/specs/blob/master/discovery/mdns.md), on a thread of its own with an allowance of CPU time.
//!
//! It keeps everything that anyone on the local network answers, without a bound, and reads on while nobody takes what it has: a machine
//! in the same Wi-Fi could fill the memory of a node, and hold up its loop. So it runs beside the loop. What it may use of a second is
//! bounded: beyond that it is ended, with all that it holds, and rests.

use std::{collections::BTreeSet, future::poll_fn, io, thread, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    mdns,
    swarm::{
        FromSwarm, NetworkBehaviour, ToSwarm,
        behaviour::{ExpiredListenAddr, NewListenAddr},
    },
};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use super::Seen;
use crate::limits::{MDNS_CPU_PER_SECOND_MAX, MDNS_RECORDS_MAX, MDNS_REST};

/// How often the use of the CPU is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a search is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What is listened on.
    pub(super) listens: BTreeSet<Multiaddr>,
    /// Counts how often all is to begin again.
    pub(super) renewed: u64,
}

/// Why a search ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The node stopped.
    Node,
    /// More came than there is room for.
    Flood,
    /// It is to begin again.
    Renewed,
}

/// Looks for peers on the local network for as long as somebody holds the other end of `told`.
pub(super) fn start(local: PeerId, told: watch::Receiver<Told>, seen: mpsc::Sender<Seen>) {
    let search = move || {
        if let Err(error) = search(local, told, &seen) {
            tracing::warn!(%error, "peers on the local network are not looked for");
        }
    };
    if let Err(error) = thread::Builder::new().name("ggen-mdns".to_owned()).spawn(search) {
        tracing::warn!(%error, "peers on the local network are not looked for");
    }
}

fn search(local: PeerId, mut told: watch::Receiver<Told>, seen: &mpsc::Sender<Seen>) -> io::Result<()> {
    loop {
        // With the runtime all goes that was read and that nobody took.
        match runtime()?.block_on(look(local, &mut told, seen))? {
            Ended::Node => return Ok(()),
            Ended::Renewed => {}
            Ended::Flood => {
                let minutes = MDNS_REST.as_secs() / 60;
                tracing::warn!(
                    minutes,
                    "too much is answered on the local network: nobody is looked for there for a while"
                );
                let stopped = async { while told.changed().await.is_ok() {} };
                if runtime()?.block_on(async { timeout(MDNS_REST, stopped).await }).is_ok() {
                    return Ok(());
                }
            }
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn look(
    local: PeerId,
    told: &mut watch::Receiver<Told>,
    seen: &mpsc::Sender<Seen>,
) -> io::Result<Ended> {
    let mut mdns = mdns::tokio::Behaviour::new(mdns::Config::default(), local)?;
    let mut known = told.borrow_and_update().clone();
    let listener_id = ListenerId::next();
    for addr in &known.listens {
        mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
    }
    let mut used = cpu_time();
    let mut again = interval(LOOK_INTERVAL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! { biased;
            changed = told.changed() => {
                if changed.is_err() {
                    return Ok(Ended::Node);
                }
                let now = told.borrow_and_update().clone();
                if now.renewed != known.renewed {
                    return Ok(Ended::Renewed);
                }
                for addr in now.listens.difference(&known.listens) {
                    mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
                }
                for addr in known.listens.difference(&now.listens) {
                    mdns.on_swarm_event(FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }));
                }
                known = now;
                continue;
            }
            _ = again.tick() => {
                let now = cpu_time();
                if now.saturating_sub(used) > MDNS_CPU_PER_SECOND_MAX {
                    return Ok(Ended::Flood);
                }
                used = now;
                continue;
            }
            event = poll_fn(|cx| mdns.poll(cx)) => event,
        };
        if mdns.discovered_nodes().len() > MDNS_RECORDS_MAX {
            return Ok(Ended::Flood);
        }
        // Where the loop has too much to do, they are found once more when they are asked again.
        let told = match event {
            ToSwarm::GenerateEvent(mdns::Event::Discovered(found)) => Seen::Found(found),
            ToSwarm::GenerateEvent(mdns::Event::Expired(lost)) => Seen::Lost(lost),
            _ => continue,
        };
        let _ = seen.try_send(told);
    }
}

/// The time of the CPU that this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, UdpSocket},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    /// An answer of some peers that do not exist, each under some addresses, without the compression of names.
    fn answer(peers: u8) -> Vec<u8> {
        fn name(labels: &[&[u8]]) -> Vec<u8> {
            let mut name = Vec::new();
            for label in labels {
                name.push(u8::try_from(label.len()).unwrap());
                name.extend(*label);
            }
            name.push(0);
            name
        }
        fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
            let length = u16::try_from(data.len()).unwrap();
            let fixed = [&kind.to_be_bytes()[..], &[0, 1, 0, 0, 1, 0], &length.to_be_bytes()].concat();
            [name, &fixed, data].concat()
        }
        let service = name(&[b"_p2p", b"_udp", b"local"]);
        let (mut pointers, mut texts) = (Vec::new(), Vec::new());
        for n in 0..peers {
            let own = name(&[&[b'a', 7, 27, n], b"_p2p", b"_udp", b"local"]);
            let text = format!("dnsaddr=/ip4/192.0.2.1/tcp/{n}1/p2p/{}", PeerId::random());
            let text = [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            pointers.extend(record(&service, 12, &own));
            texts.extend(record(&own, 16, &text));
        }
        [&[0, 0, 0x84, 0, 0, 0, 0, peers, 0, 0, 0, peers][..], &pointers, &texts].concat()
    }

    /// An address of this machine under which multicasts come back to it; none on a machine without a network.
    fn own_address() -> Option<Ipv4Addr> {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("224.0.0.251:5353").ok()?;
        match socket.local_addr().ok()?.ip() {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            _ => None,
        }
    }

    #[test]
    fn a_flood_of_answers_ends_the_search_and_frees_what_it_brought() {
        let Some(own) = own_address() else { return };
        let is_over = Arc::new(AtomicBool::new(false));
        let flood = {
            let is_over = is_over.clone();
            thread::spawn(move || {
                let socket = UdpSocket::bind((own, 0)).unwrap();
                // It does not leave this machine.
                socket.set_multicast_ttl_v4(0).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&answer(20), "224.0.0.251:5353");
                }
            })
        };
        let (_tell, mut told) = watch::channel(Told::default());
        let (seen, mut received) = mpsc::channel(4);
        let ended = runtime().unwrap().block_on(async {
            let looking = look(PeerId::random(), &mut told, &seen);
            timeout(Duration::from_secs(60), looking).await.unwrap().unwrap()
        });
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        assert_eq!(ended, Ended::Flood);
        assert!(matches!(received.try_recv(), Ok(Seen::Found(_))), "answers were read");
        assert!(received.len() < 4, "and no more than there is room for was kept");
    }

    #[test]
    fn a_search_ends_with_its_node_and_begins_again_where_it_is_told_to() {
        let (tell, mut told) = watch::channel(Told::default());
        let (seen, _received) = mpsc::channel(4);
        let (ended, ()) = runtime().unwrap().block_on(async {
            tokio::join!(look(PeerId::random(), &mut told, &seen), async {
                tokio::task::yield_now().await;
                tell.send_modify(|told| told.renewed += 1);
            })
        });
        assert_eq!(ended.unwrap(), Ended::Renewed);
        drop(tell);
        let ended = runtime().unwrap().block_on(look(PeerId::random(), &mut told, &seen)).unwrap();
        assert_eq!(ended, Ended::Node);
    }
}
