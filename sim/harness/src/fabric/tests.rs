//! A fabric as programs on its hosts see it.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use tokio::time::{sleep, timeout};

use super::{Host, Link, Settings, Started, Stream, World};
use crate::net::{Accept, Control, End, Net};

mod routers;

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(50);
const PORT: u16 = 4_001;

fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

fn at(number: u8) -> SocketAddr {
    (ip(number), PORT).into()
}

fn world() -> World {
    let link = Link { latency: LATENCY, ..Link::default() };
    World::new(Settings { seed: 1, link, step: Duration::from_millis(10) }).unwrap()
}

type Log = Rc<RefCell<Vec<(u128, String)>>>;

fn note(log: &Log, net: &super::HostNet, what: impl Into<String>) {
    log.borrow_mut().push((net.elapsed().as_millis(), what.into()));
}

fn noted(log: &Log) -> Vec<(u128, String)> {
    log.borrow().clone()
}

fn said(lines: &[(u128, &str)]) -> Vec<(u128, String)> {
    lines.iter().map(|(at, what)| (*at, (*what).to_owned())).collect()
}

fn add<F: Future<Output = io::Result<()>> + 'static>(
    world: &mut World,
    number: u8,
    host: &Host,
    program: impl Fn(Started) -> F + 'static,
) {
    let program =
        move |started| program(started).map(|ended| ended.map_err(|it| it.to_string())).boxed_local();
    world.host(ip(number), host, Rc::new(program)).unwrap();
}

/// Says what it reads, and when, until the stream ends.
async fn reads(mut stream: Stream, net: &super::HostNet, log: &Log) {
    let mut buffer = [0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return note(log, net, "end"),
            Ok(read) => note(log, net, format!("{read}")),
            Err(error) => return note(log, net, format!("{:?}", error.kind())),
        }
    }
}

/// A host that says what it reads of every stream.
fn reader(world: &mut World, number: u8, host: &Host, log: &Log) {
    let log = log.clone();
    add(world, number, host, move |Started { net, .. }| {
        let log = log.clone();
        async move {
            let mut listener = net.listen(at(number)).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                let (net, log) = (net.clone(), log.clone());
                tokio::task::spawn_local(async move { reads(stream, &net, &log).await });
            }
        }
    });
}

/// A host that dials another at a time and sends it bytes, all at once, and then says nothing.
fn writer(world: &mut World, number: u8, host: &Host, from: Duration, to: u8, bytes: usize, log: &Log) {
    let log = log.clone();
    add(world, number, host, move |Started { net, .. }| {
        let log = log.clone();
        async move {
            sleep(from.saturating_sub(net.elapsed())).await;
            let mut stream = match net.dial(at(to), None).await {
                Ok(stream) => stream,
                Err(error) => {
                    note(&log, &net, format!("{:?}", error.kind()));
                    return std::future::pending().await;
                }
            };
            note(&log, &net, "connected");
            stream.write_all(&vec![7; bytes]).await?;
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest).await;
            note(&log, &net, format!("{:?}", ended.map_err(|error| error.kind())));
            Ok(())
        }
    });
}

/// A world in which the second host dials the first after a second, and sends it five bytes.
fn speaking() -> (World, Log) {
    let (mut world, log) = (world(), Log::default());
    reader(&mut world, 1, &Host::default(), &log);
    writer(&mut world, 2, &Host::default(), SECOND, 1, 5, &log);
    (world, log)
}

#[test]
fn a_connection_takes_a_round_trip_and_bytes_half_of_one() {
    let (mut world, log) = speaking();
    world.run_for(SECOND * 3).unwrap();
    assert_eq!(noted(&log), said(&[(1_100, "connected"), (1_150, "5")]));
    assert_eq!(world.elapsed(), SECOND * 3);
}

#[test]
fn nobody_listens_is_told_after_a_round_trip() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), |_| std::future::pending());
    writer(&mut world, 2, &Host::default(), SECOND, 1, 5, &log);
    world.run_for(SECOND * 3).unwrap();
    assert_eq!(noted(&log), said(&[(1_100, "ConnectionRefused")]));
}

#[test]
fn a_dial_into_a_partition_waits_and_succeeds_with_the_next_request_after_it_heals() {
    let (mut world, log) = speaking();
    world.cut(ip(2), ip(1));
    world.run_for(SECOND * 5).unwrap();
    assert_eq!(noted(&log), []);
    world.mend(ip(2), ip(1));
    world.run_for(SECOND * 10).unwrap();
    // Requests left after 1, 2, 4 and 8 seconds of the run.
    assert_eq!(noted(&log), said(&[(8_100, "connected"), (8_150, "5")]));
}

#[test]
fn a_dial_into_a_partition_that_stays_is_given_up_after_two_minutes() {
    let (mut world, log) = speaking();
    world.cut(ip(1), ip(2));
    world.run_for(SECOND * 200).unwrap();
    assert_eq!(noted(&log), said(&[(128_000, "TimedOut")]));
    assert_eq!(world.connections(), 0);
}

#[test]
fn what_a_partition_lost_is_sent_again_with_the_backoff_of_a_kernel() {
    let (mut world, log) = speaking();
    world.run_for(Duration::from_millis(1_120)).unwrap();
    world.cut(ip(2), ip(1));
    world.run_for(SECOND * 20).unwrap();
    world.mend(ip(2), ip(1));
    world.run_for(SECOND * 60).unwrap();
    // It left at 1.1 s, and again 0.3, 0.9, 2.1, 4.5, 9.3, 18.9 and 38.1 s later.
    assert_eq!(noted(&log), said(&[(1_100, "connected"), (39_250, "5")]));
}

#[test]
fn a_connection_over_which_nothing_is_acknowledged_ends_after_a_quarter_of_an_hour() {
    let (mut world, log) = speaking();
    world.run_for(Duration::from_millis(1_120)).unwrap();
    world.cut(ip(2), ip(1));
    world.run_for(SECOND * 2_000).unwrap();
    let log = noted(&log);
    assert_eq!(log.last().unwrap().1, "Err(TimedOut)");
    assert!((925_000..1_100_000).contains(&log.last().unwrap().0), "{log:?}");
}

#[test]
fn a_killed_program_closes_its_connections_and_one_without_power_leaves_them_half_open() {
    for (end, expected) in [(End::Killed, Some((5_050, "end"))), (End::PowerLost, None)] {
        let (mut world, log) = (world(), Log::default());
        reader(&mut world, 1, &Host::default(), &log);
        writer(&mut world, 2, &Host::default(), SECOND, 1, 5, &log);
        world.run_for(SECOND * 5).unwrap();
        world.crash(ip(2), end);
        assert!(!world.is_running(ip(2)));
        world.run_for(SECOND * 55).unwrap();
        let mut expected =
            said(&[(1_100, "connected"), (1_150, "5")].into_iter().chain(expected).collect::<Vec<_>>());
        assert_eq!(noted(&log), expected);
        // It starts again and knows nothing of the connection.
        world.restart(ip(2));
        world.run_for(SECOND).unwrap();
        expected.extend(said(&[(60_100, "connected"), (60_150, "5")]));
        assert_eq!(noted(&log), expected);
    }
}

#[test]
fn what_is_sent_to_a_machine_that_lost_power_and_is_back_is_answered_by_a_reset() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), |Started { net, .. }| async move {
        let mut listener = net.listen(at(1)).await?;
        let _kept = listener.accept().await?;
        std::future::pending().await
    });
    let told = log.clone();
    add(&mut world, 2, &Host::default(), move |Started { net, .. }| {
        let log = told.clone();
        async move {
            let mut stream = net.dial(at(1), None).await?;
            sleep(SECOND * 10).await;
            stream.write_all(b"still there?").await?;
            note(&log, &net, format!("{:?}", stream.read(&mut [0; 8]).await.map_err(|it| it.kind())));
            Ok(())
        }
    });
    world.run_for(SECOND * 5).unwrap();
    world.crash(ip(1), End::PowerLost);
    world.run_for(SECOND).unwrap();
    world.restart(ip(1));
    world.run_for(SECOND * 10).unwrap();
    assert_eq!(noted(&log), said(&[(10_200, "Err(ConnectionReset)")]));
}

#[test]
fn bytes_that_nobody_read_are_lost_with_a_reset() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), |Started { net, .. }| async move {
        let mut listener = net.listen(at(1)).await?;
        let (stream, _) = listener.accept().await?;
        sleep(SECOND).await;
        drop(stream);
        std::future::pending().await
    });
    writer(&mut world, 2, &Host::default(), Duration::ZERO, 1, 5, &log);
    world.run_for(SECOND * 3).unwrap();
    assert_eq!(noted(&log), said(&[(100, "connected"), (1_200, "Err(ConnectionReset)")]));
    assert_eq!(world.connections(), 0);
}

#[test]
fn a_window_that_is_full_holds_the_writer_up_until_somebody_reads() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), |Started { net, .. }| async move {
        let mut listener = net.listen(at(1)).await?;
        let (mut stream, _) = listener.accept().await?;
        sleep(SECOND * 10).await;
        let mut all = vec![0; 3 << 20];
        stream.read_exact(&mut all).await?;
        std::future::pending().await
    });
    let told = log.clone();
    add(&mut world, 2, &Host::default(), move |Started { net, .. }| {
        let log = told.clone();
        async move {
            let mut stream = net.dial(at(1), None).await?;
            stream.write_all(&vec![1; 3 << 20]).await?;
            note(&log, &net, "written");
            std::future::pending().await
        }
    });
    world.run_for(SECOND * 20).unwrap();
    let log = noted(&log);
    assert_eq!(log.len(), 1);
    assert!((10_100..10_500).contains(&log[0].0), "{log:?}");
}

#[test]
fn a_full_backlog_lets_diallers_wait() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), |Started { net, .. }| async move {
        let _listener = net.listen(at(1)).await?;
        std::future::pending().await
    });
    let told = log.clone();
    add(&mut world, 2, &Host::default(), move |Started { net, .. }| {
        let log = told.clone();
        async move {
            let mut kept = Vec::new();
            for _ in 0..super::state::BACKLOG_MAX {
                kept.push(net.dial(at(1), None).await?);
            }
            let one_more = timeout(SECOND * 60, net.dial(at(1), None)).await;
            note(&log, &net, if one_more.is_err() { "waits" } else { "connected" });
            std::future::pending().await
        }
    });
    world.run_for(SECOND * 120).unwrap();
    assert_eq!(noted(&log)[0].1, "waits");
}

#[test]
fn thirty_one_readers_of_one_line_get_all_of_it_and_each_the_same() {
    const BYTES: usize = 1_250_000;
    let (mut world, log) = (world(), Log::default());
    let slow = Host { up: Some(1_250_000), ..Host::default() };
    for number in 1..=31 {
        let log = log.clone();
        add(&mut world, number, &Host::default(), move |Started { net, .. }| {
            let log = log.clone();
            async move {
                let mut listener = net.listen(at(number)).await?;
                let (mut stream, _) = listener.accept().await?;
                stream.read_exact(&mut vec![0; BYTES]).await?;
                note(&log, &net, "has it");
                std::future::pending().await
            }
        });
    }
    add(&mut world, 32, &slow, |Started { net, .. }| async move {
        let sending = (1..=31).map(|number| {
            let net = net.clone();
            async move {
                let mut stream = net.dial(at(number), None).await?;
                stream.write_all(&[0; BYTES]).await?;
                std::future::pending::<io::Result<()>>().await
            }
        });
        futures::future::join_all(sending).await;
        Ok(())
    });
    world.run_for(SECOND * 40).unwrap();
    let log = noted(&log);
    assert_eq!(log.len(), 31);
    // 31 times ten million bits at ten million bits a second, and what a connection and the way take.
    let expected = 31_000 + 150;
    assert!(log.iter().all(|(at, _)| at.abs_diff(expected) < expected / 50), "{log:?}");
}

#[test]
fn what_a_lossy_link_loses_costs_time_and_nothing_else() {
    let transfer = |loss_permille| {
        let (mut world, log) = (world(), Log::default());
        reader(&mut world, 1, &Host::default(), &log);
        writer(&mut world, 2, &Host::default(), Duration::ZERO, 1, 500_000, &log);
        world.set_link(ip(1), ip(2), Link { latency: LATENCY, loss_permille, ..Link::default() });
        world.run_for(SECOND * 100).unwrap();
        let log = noted(&log);
        let read: usize = log.iter().filter_map(|(_, what)| what.parse::<usize>().ok()).sum();
        assert_eq!(read, 500_000);
        log.last().unwrap().0
    };
    assert_eq!(transfer(0), 150);
    assert!((250..20_000).contains(&transfer(10)), "{}", transfer(10));
    assert_eq!(transfer(10), transfer(10));
}

#[test]
fn jitter_delays_and_never_reorders() {
    let (mut world, log) = (world(), Log::default());
    add(&mut world, 1, &Host::default(), {
        let log = log.clone();
        move |Started { net, .. }| {
            let log = log.clone();
            async move {
                let mut listener = net.listen(at(1)).await?;
                let (mut stream, _) = listener.accept().await?;
                for expected in 0..50_u8 {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await?;
                    assert_eq!(byte, [expected]);
                    note(&log, &net, "");
                }
                std::future::pending().await
            }
        }
    });
    add(&mut world, 2, &Host::default(), |Started { net, .. }| async move {
        let mut stream = net.dial(at(1), None).await?;
        for byte in 0..50 {
            stream.write_all(&[byte]).await?;
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending().await
    });
    world.set_link(ip(1), ip(2), Link { latency: LATENCY, jitter: LATENCY, loss_permille: 0 });
    world.run_for(SECOND * 10).unwrap();
    let late: Vec<u128> =
        noted(&log).iter().enumerate().map(|(n, (at, _))| at - 100 - 100 * n as u128).collect();
    assert_eq!(late.len(), 50);
    assert!(late.iter().all(|late| (50..=101).contains(late)), "{late:?}");
    assert!(late.iter().any(|late| *late < 60) && late.iter().any(|late| *late > 90), "{late:?}");
}

#[test]
fn a_held_link_keeps_what_is_sent_and_lets_it_go_at_once() {
    let (mut world, log) = speaking();
    world.run_for(Duration::from_millis(1_120)).unwrap();
    world.hold(ip(1), ip(2));
    world.run_for(SECOND * 5).unwrap();
    assert_eq!(world.in_progress().into_values().collect::<Vec<_>>(), [1]);
    world.release(ip(1), ip(2));
    world.run_for(SECOND).unwrap();
    assert_eq!(noted(&log), said(&[(1_100, "connected"), (6_120, "5")]));
}

#[test]
fn a_run_at_rest_costs_nothing() {
    let (mut world, log) = (world(), Log::default());
    reader(&mut world, 1, &Host::default(), &log);
    writer(&mut world, 2, &Host::default(), Duration::ZERO, 1, 5, &log);
    world.run_for(SECOND).unwrap();
    let before = world.events();
    world.run_for(SECOND * 3_600 * 24 * 365).unwrap();
    assert_eq!(world.events(), before);
}
