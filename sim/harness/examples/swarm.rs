//! A plain libp2p program on simulated hosts: ping, gossipsub and kad. A partition splits it; what one side says meanwhile must reach the
//! other after it heals.
//!
//! `cargo run -p ggen-harness --example swarm -- SEED` prints what came of it and the hash over everything that reached a host; with `prove`
//! in the place of a seed it runs itself in two processes and compares, and with `shrink` it looks for the shortest partition that a
//! message does not survive.

use std::{env, error::Error, net::IpAddr, process::Command, rc::Rc, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use ggen_harness::{
    draw::Draws,
    fabric::{Host, Link, Settings, Started, World},
    net::Control,
    trace::{Lines, Trace},
    transport::{NetTransport, Open, Tap, Wire, multiaddr},
    virtualise,
};
use libp2p::{
    Multiaddr, Swarm, Transport,
    core::upgrade::Version,
    gossipsub, identify, kad, noise, ping,
    swarm::{self, NetworkBehaviour, SwarmEvent},
    yamux,
};
use tokio::time::{Instant, sleep_until};

type Fallible<T> = Result<T, Box<dyn Error>>;
/// Who has heard how many messages, and what happened.
type Seen = Arc<std::sync::Mutex<(Vec<usize>, Trace)>>;

const HOSTS: u8 = 8;
/// When the first host speaks: while the network is split.
const SPEAKS: Duration = Duration::from_secs(30);

#[derive(NetworkBehaviour)]
struct Behaviour {
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
}

fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number + 1].into()
}

/// What runs on a host: nothing here knows of a simulation but the transport and the executor.
async fn program(number: u8, draws: Draws, started: Started, seen: Seen) -> Fallible<()> {
    let key = draws.node_key(&number.to_string());
    let id = key.public().to_peer_id();
    let told = seen.clone();
    let tap = Tap::new(move |from, wire| {
        let Wire::Delivered(bytes) = wire else { return };
        if let (Some(at), Ok(mut seen)) = (ggen_harness::fabric::elapsed(), told.lock()) {
            seen.1.deliver(at, &number.to_string(), from, bytes);
        }
    });
    let transport = NetTransport::new(started.net.clone(), tap, Arc::new(Open), Arc::new(()))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key)?)
        .multiplex(yamux::Config::default())
        .boxed();
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    let behaviour = Behaviour {
        ping: ping::Behaviour::default(),
        gossip: gossipsub::Behaviour::new(signed, gossipsub::Config::default())?,
        kad: kad::Behaviour::new(id, kad::store::MemoryStore::new(id)),
        identify: identify::Behaviour::new(identify::Config::new("/example/1".to_owned(), key.public())),
    };
    let spawner = started.spawner.clone();
    let config = swarm::Config::with_executor(move |task: BoxFuture<'static, ()>| spawner.spawn(task));
    let mut swarm = Swarm::new(transport, behaviour, id, config);
    let topic = gossipsub::IdentTopic::new("words");
    swarm.behaviour_mut().gossip.subscribe(&topic)?;
    swarm.listen_on("/ip4/0.0.0.0/tcp/4001".parse()?)?;
    for other in 0..number {
        let address: Multiaddr = multiaddr((ip(other), 4_001).into());
        swarm
            .behaviour_mut()
            .kad
            .add_address(&draws.node_key(&other.to_string()).public().to_peer_id(), address.clone());
        swarm.dial(address)?;
    }
    let speaks = sleep_until(Instant::now() + SPEAKS);
    tokio::pin!(speaks);
    let mut has_spoken = number > 0;
    loop {
        tokio::select! { biased;
            () = &mut speaks, if !has_spoken => {
                has_spoken = true;
                swarm.behaviour_mut().gossip.publish(topic.clone(), "hello")?;
            }
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { .. })) = event
                    && let Ok(mut seen) = seen.lock()
                {
                    seen.0[usize::from(number)] += 1;
                }
            }
        }
    }
}

/// Splits the network into halves for a while; yields how many hosts did not hear the message, and the hash.
fn run(seed: u64, split: Duration) -> Fallible<(usize, String)> {
    // A fresh thread: nothing on it has been seeded yet.
    let simulation = std::thread::spawn(move || simulate(seed, split).map_err(|error| error.to_string()));
    Ok(simulation.join().map_err(|_| "the simulation panicked")??)
}

fn simulate(seed: u64, split: Duration) -> Fallible<(usize, String)> {
    let draws = Draws::new(seed);
    let _virtual = virtualise::enter(draws.secret("entropy", "", 0));
    let link =
        Link { latency: Duration::from_millis(40), jitter: Duration::from_millis(10), loss_permille: 1 };
    let mut world = World::new(Settings { seed, link, step: Duration::from_secs(1) })?;
    let seen = Seen::new((vec![0; HOSTS.into()], Trace::new(Lines::default())).into());
    for number in 0..HOSTS {
        let seen = seen.clone();
        let program = move |started| {
            let running = program(number, draws, started, seen.clone());
            running.map(|ended| ended.map_err(|error| error.to_string())).boxed_local()
        };
        world.host(ip(number), &Host { up: Some(1_250_000), ..Host::default() }, Rc::new(program))?;
    }
    let halves = || {
        (0..HOSTS)
            .flat_map(|one| (0..HOSTS).map(move |other| (one, other)))
            .filter(|(one, other)| one % 2 != other % 2)
    };
    world.run_for(SPEAKS - Duration::from_secs(1))?;
    halves().for_each(|(one, other)| world.cut(ip(one), ip(other)));
    world.run_for(split)?;
    halves().for_each(|(one, other)| world.mend(ip(one), ip(other)));
    world.run_for(Duration::from_secs(60))?;
    let seen = seen.lock().map_err(|_| "a host panicked")?;
    let deaf = seen.0.iter().skip(1).filter(|heard| **heard == 0).count();
    Ok((deaf, seen.1.hash()))
}

#[expect(clippy::print_stdout, reason = "a program")]
fn main() -> Fallible<()> {
    let said = env::args().nth(1).unwrap_or_else(|| "1".to_owned());
    match said.as_str() {
        "prove" => {
            let child = || Command::new(env::current_exe()?).arg("7").output();
            let (one, other) = (child()?, child()?);
            if one.stdout != other.stdout || one.stdout.is_empty() {
                return Err("NOT the same in two processes".into());
            }
            println!("the same in two processes: {}", String::from_utf8_lossy(&one.stdout).trim());
        }
        "shrink" => {
            // The shortest one that fails, by halves, to a second.
            let fails = |secs: u64| run(7, Duration::from_secs(secs)).map(|(deaf, _)| deaf > 0);
            let (mut holds, mut breaks) = (0, 600);
            if !fails(breaks)? {
                return Err("nothing fails".into());
            }
            while breaks - holds > 1 {
                let middle = (holds + breaks) / 2;
                if fails(middle)? { breaks = middle } else { holds = middle }
            }
            println!("a partition of {breaks} s loses the message, one of {holds} s does not");
        }
        seed => {
            let (deaf, hash) = run(seed.parse()?, Duration::from_secs(20))?;
            println!("{deaf} of {HOSTS} hosts did not hear the message; trace {hash}");
        }
    }
    Ok(())
}
