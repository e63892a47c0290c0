//! Hosts behind routers.

use super::{
    super::nat::{self, Kind},
    *,
};

const OUTSIDE: [u8; 4] = [100, 64, 0, 1];

fn behind(kind: Kind) -> Host {
    Host { router: Some(nat::Settings::new(kind, OUTSIDE.into())), ..Host::default() }
}

/// A host that dials this socket at a time, says whether it is answered, and reads what comes.
fn dialler(world: &mut World, number: u8, host: &Host, from: Duration, to: SocketAddr, log: &Log) {
    let log = log.clone();
    add(world, number, host, move |Started { net, .. }| {
        let log = log.clone();
        async move {
            let _listener = net.listen(super::at(number)).await?;
            sleep(from).await;
            match timeout(SECOND * 10, net.dial(to, Some(PORT))).await {
                Ok(Ok(mut stream)) => {
                    note(&log, &net, "connected");
                    stream.write_all(&[7; 5]).await?;
                    reads(stream, &net, &log).await;
                }
                _ => note(&log, &net, "nothing"),
            }
            std::future::pending().await
        }
    });
}

fn what(log: &Log) -> Vec<String> {
    noted(log).into_iter().map(|(_, what)| what).collect()
}

#[test]
fn those_behind_one_router_reach_each_other_inside_and_by_its_outside_where_it_hairpins() {
    for hairpins in [false, true] {
        let settings = nat::Settings { hairpins, ..nat::Settings::new(Kind::Symmetric, OUTSIDE.into()) };
        let host = Host { router: Some(settings), ..Host::default() };
        let (mut world, log) = (world(), Log::default());
        add(&mut world, 1, &host, |Started { net, .. }| async move {
            let mut listener = net.listen(at(1)).await?;
            net.forward(80, PORT);
            let mut kept = Vec::new();
            loop {
                kept.push(listener.accept().await?);
            }
        });
        dialler(&mut world, 2, &host, SECOND, at(1), &log);
        dialler(&mut world, 3, &host, SECOND * 3, (OUTSIDE, 80).into(), &log);
        dialler(&mut world, 4, &Host::default(), SECOND * 5, (OUTSIDE, 80).into(), &log);
        dialler(&mut world, 5, &Host::default(), SECOND * 7, at(1), &log);
        world.run_for(SECOND * 30).unwrap();
        let [inside, outside] = ["connected", if hairpins { "connected" } else { "nothing" }];
        let mut expected = vec![inside, outside, "connected", "nothing"];
        if !hairpins {
            // It gives up after the others are there.
            expected = vec![inside, "connected", outside, "nothing"];
        }
        assert_eq!(what(&log), expected, "{hairpins}");
    }
}

#[test]
fn two_hosts_have_one_address_outside_and_two_routers_do_not() {
    let mut world = world();
    let mut host = |number, host: &Host| {
        let program: super::super::Program = Rc::new(|_| std::future::pending().boxed_local());
        world.host(ip(number), host, program).map_err(|error| error.to_string())
    };
    assert_eq!(host(1, &behind(Kind::Symmetric)), Ok(()));
    assert_eq!(host(2, &behind(Kind::Symmetric)), Ok(()));
    assert!(host(3, &behind(Kind::AddressDependent)).unwrap_err().contains("100.64.0.1"));
    let taken = Some(nat::Settings::new(Kind::Symmetric, ip(1)));
    assert!(host(4, &Host { router: taken, ..Host::default() }).is_err());
}

#[test]
fn a_firewall_lets_in_nothing_but_answers() {
    for firewall in [false, true] {
        let (mut world, log) = (world(), Log::default());
        let closed = Host { firewall, ..Host::default() };
        // Each dials the other from its open port: in the middle of the way the requests cross.
        dialler(&mut world, 1, &closed, SECOND, at(2), &log);
        dialler(&mut world, 2, &closed, SECOND, at(1), &log);
        // Whom it dials itself, answers.
        reader(&mut world, 4, &Host::default(), &log);
        dialler(&mut world, 3, &closed, SECOND * 20, at(4), &log);
        world.run_for(SECOND * 40).unwrap();
        let met = if firewall { ["nothing"; 2] } else { ["connected"; 2] };
        let log: Vec<String> = what(&log).into_iter().filter(|it| it.parse::<u32>().is_err()).collect();
        assert_eq!(log, [met[0], met[1], "connected"], "{firewall}");
    }
}

#[test]
fn a_port_that_is_open_in_any_router_carries_bytes_both_ways() {
    for kind in Kind::ALL {
        let (mut world, log) = (world(), Log::default());
        add(&mut world, 1, &behind(kind), |Started { net, .. }| async move {
            let mut listener = net.listen(at(1)).await?;
            net.forward(80, PORT);
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(&[1; 9]).await?;
            stream.read_exact(&mut [0; 5]).await?;
            drop(stream);
            std::future::pending().await
        });
        dialler(&mut world, 2, &Host::default(), SECOND, (OUTSIDE, 80).into(), &log);
        world.run_for(SECOND * 30).unwrap();
        assert_eq!(what(&log), ["connected", "9", "end"], "{kind:?}");
    }
}

#[test]
fn who_comes_to_stand_behind_another_router_is_not_known_any_more() {
    let (mut world, log) = (world(), Log::default());
    reader(&mut world, 1, &Host::default(), &Log::default());
    let told = log.clone();
    add(&mut world, 2, &behind(Kind::EndpointIndependent), move |Started { net, .. }| {
        let log = told.clone();
        async move {
            let mut stream = net.dial(at(1), None).await?;
            sleep(SECOND * 5).await;
            stream.write_all(&[1; 5]).await?;
            reads(stream, &net, &log).await;
            let again = net.dial(at(1), None).await;
            note(&log, &net, format!("{}", again.is_ok()));
            std::future::pending().await
        }
    });
    world.run_for(SECOND * 2).unwrap();
    let other = nat::Settings::new(Kind::Symmetric, [100, 64, 0, 2].into());
    Control::move_behind(&mut world, ip(2), other).unwrap();
    assert!(world.move_behind(ip(2), nat::Settings::new(Kind::Symmetric, ip(1))).is_err());
    world.run_for(SECOND * 20).unwrap();
    assert_eq!(noted(&log), said(&[(5_200, "ConnectionReset"), (5_300, "true")]));
}

/// Two hosts behind such routers, each with an open port, learn of each other through a third, and then dial at the same time.
fn meet(kinds: [Option<Kind>; 2]) -> Vec<bool> {
    let (mut world, log) = (world(), Log::default());
    // What a server in the world saw of each.
    let seen: Rc<RefCell<std::collections::BTreeMap<IpAddr, SocketAddr>>> = Rc::default();
    let told = seen.clone();
    add(&mut world, 9, &Host::default(), move |Started { net, .. }| {
        let seen = told.clone();
        async move {
            let mut listener = net.listen(at(9)).await?;
            let mut kept = Vec::new();
            loop {
                let (mut stream, remote) = listener.accept().await?;
                let mut name = [0; 1];
                stream.read_exact(&mut name).await?;
                seen.borrow_mut().insert(ip(name[0]), remote);
                kept.push(stream);
            }
        }
    });
    for (number, kind) in (1_u8..).zip(kinds) {
        let router = kind.map(|kind| nat::Settings::new(kind, [100, 64, 0, number].into()));
        let host = Host { router, ..Host::default() };
        let (seen, log) = (seen.clone(), log.clone());
        add(&mut world, number, &host, move |Started { net, .. }| {
            let (seen, log) = (seen.clone(), log.clone());
            async move {
                let mut listener = net.listen(at(number)).await?;
                let mut server = net.dial(at(9), Some(PORT)).await?;
                server.write_all(&[number]).await?;
                sleep(SECOND * 5).await;
                let other = seen.borrow()[&ip(3 - number)];
                let dialling = timeout(SECOND * 20, net.dial(other, Some(PORT)));
                let accepting = timeout(SECOND * 20, listener.accept());
                let (dialled, accepted) = futures::join!(dialling, accepting);
                let is_connected = matches!(dialled, Ok(Ok(_))) || matches!(accepted, Ok(Ok(_)));
                note(&log, &net, format!("{is_connected}"));
                std::future::pending().await
            }
        });
    }
    world.run_for(SECOND * 60).unwrap();
    noted(&log).into_iter().map(|(_, is)| is == "true").collect()
}

#[test]
fn hosts_behind_routers_meet_where_the_table_says_so() {
    let kinds: Vec<_> = std::iter::once(None).chain(Kind::ALL.map(Some)).collect();
    let demanding = [Some(Kind::AddressAndPortDependent), Some(Kind::Symmetric)];
    for one in kinds.iter().copied() {
        for other in kinds.iter().copied() {
            let is_symmetric = one == Some(Kind::Symmetric) || other == Some(Kind::Symmetric);
            let is_hopeless = is_symmetric && demanding.contains(&one) && demanding.contains(&other);
            assert_eq!(meet([one, other]), [!is_hopeless; 2], "{one:?} {other:?}");
        }
    }
}

#[test]
fn the_inside_of_a_router_is_not_reached_from_outside_but_by_an_open_port() {
    for is_open in [false, true] {
        let (mut world, log) = (world(), Log::default());
        let outside = [100, 64, 0, 1].into();
        let router = Some(nat::Settings::new(Kind::Symmetric, outside));
        add(&mut world, 1, &Host { router, ..Host::default() }, move |Started { net, .. }| async move {
            let mut listener = net.listen(at(1)).await?;
            if is_open {
                net.forward(80, PORT);
            }
            let _stream = listener.accept().await?;
            std::future::pending().await
        });
        let told = log.clone();
        add(&mut world, 2, &Host::default(), move |Started { net, .. }| {
            let log = told.clone();
            async move {
                sleep(SECOND).await;
                for to in [at(1), (outside, 80).into()] {
                    let dialled = timeout(SECOND * 10, net.dial(to, None)).await;
                    note(&log, &net, format!("{}", dialled.is_ok()));
                }
                std::future::pending().await
            }
        });
        world.run_for(SECOND * 30).unwrap();
        let log: Vec<String> = noted(&log).into_iter().map(|(_, is)| is).collect();
        assert_eq!(log, ["false".to_owned(), is_open.to_string()]);
    }
}
