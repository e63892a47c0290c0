//! A router with UPnP of our own, in a namespace of the network, and nodes that ask it to map ports.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::world::{Namespaces, Node, eventually, text, texts};

const SOON: Duration = Duration::from_secs(30);
/// The inner address of the first NAT of `nat.sh`.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const DEVICE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// What the router was asked for, in its order: the action, and the ports outside and inside.
type Asked = Arc<Mutex<Vec<(String, u16, u16)>>>;

/// Begins to answer on the router of the first NAT, which has `map` do what it is asked for.
fn router(lab: &Namespaces, map: impl Fn(u16, u16) + Send + 'static) -> Asked {
    let namespace = File::open(format!("/run/netns/{}", lab.name("na"))).unwrap();
    let sockets = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let search = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 1900)).unwrap();
        search.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &INSIDE).unwrap();
        (search, TcpListener::bind((INSIDE, 5000)).unwrap())
    });
    let (search, http) = sockets.join().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = search.recv_from(&mut bytes) {
            if bytes[..length].starts_with(b"M-SEARCH ") {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nST: {DEVICE}\r\nLOCATION: http://{INSIDE}:5000/root.xml\r\n\r\n"
                );
                search.send_to(answer.as_bytes(), from).unwrap();
            }
        }
    });
    let asked = Asked::default();
    let heard = asked.clone();
    thread::spawn(move || http.incoming().for_each(|stream| answer(stream.unwrap(), &heard, &map)));
    asked
}

fn answer(mut stream: TcpStream, asked: &Asked, map: &impl Fn(u16, u16)) {
    let mut reader = BufReader::new(&mut stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap() > 2 {}
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let mut body = vec![0; header("content-length:").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let port = |name: &str| {
        let value =
            body.split_once(&format!("<{name}>")).map_or("0", |(_, rest)| rest.split('<').next().unwrap());
        value.parse::<u16>().unwrap()
    };
    let action =
        header("soapaction:").and_then(|it| Some(it.trim_matches('"').split_once('#')?.1.to_owned()));
    let told = match action.as_deref() {
        None => format!(
            "<root><device><serviceList><service><serviceType>{SERVICE}</serviceType><controlURL>/ctl</controlURL></service>\
             </serviceList></device></root>"
        ),
        Some("getexternalipaddress") => "<u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.21\
             </NewExternalIPAddress></u:GetExternalIPAddressResponse>"
            .to_owned(),
        Some(action) => {
            let ports = (port("NewExternalPort"), port("NewInternalPort"));
            if action == "addportmapping" {
                map(ports.0, ports.1);
            }
            asked.lock().unwrap().push((action.to_owned(), ports.0, ports.1));
            "<u:AddPortMappingResponse/><u:DeletePortMappingResponse/>".to_owned()
        }
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len()).unwrap();
}

/// What a node says of the ports that its router maps.
fn mapping(node: &Node, state: &str) -> u16 {
    eventually(state, SOON, || {
        let status = node.json(&["status"]);
        (status["port_mapping"]["state"] == state)
            .then(|| u16::try_from(status["port_mapping"]["tcp_port"].as_u64().unwrap_or_default()).unwrap())
    })
}

/// Whether a node knows an address of another one.
fn knows(node: &Node, other: &Node, address: &str) -> bool {
    let list = node.json(&["peer-list"]);
    let peer = list["peers"].as_array().unwrap().iter().find(|it| it["peer_id"] == other.peer.as_str());
    peer.is_some_and(|peer| texts(&peer["addresses"]).iter().any(|it| it.starts_with(address)))
}

#[test]
fn a_node_whose_router_maps_a_port_is_connected_to_directly() {
    // Without it, nothing would come between these two but over the relay.
    let Some(lab) = Namespaces::new("nat.sh", &["symmetric", "symmetric"]) else { return };
    let asked = router(&lab, lab.mapper("a"));
    let relay = lab.node("r", &["--no-mdns"]);
    let relay_at = format!("/ip4/203.0.113.10/tcp/4001/p2p/{}", relay.peer);
    let mut a = lab.start("a", &["--no-mdns", "--bootstrap", &relay_at]);
    let port = mapping(&a, "works");
    assert_ne!(port, 4001);
    assert_eq!(a.json(&["status"])["port_mapping"]["udp_port"], port, "over QUIC too");
    let status = a.json(&["status"]);
    assert_eq!(text(&status["reach"]), "direct");
    assert!(text(&status["reach_reason"]).contains("peers got through"), "{status}");
    let at = format!("/ip4/203.0.113.21/tcp/{port}");
    assert!(
        texts(&status["bootstrap_lines"]).contains(&format!("--bootstrap {at}/p2p/{}", a.peer)),
        "{status}"
    );
    eventually("the relay tells others of it", SOON, || knows(&relay, &a, &at).then_some(()));
    let b = lab.node("b", &["--no-mdns", "--no-upnp", "--bootstrap", &format!("{at}/p2p/{}", a.peer)]);
    eventually("a direct connection", SOON, || {
        let list = b.json(&["peer-list"]);
        let peer = list["peers"].as_array().unwrap().iter().find(|it| it["peer_id"] == a.peer.as_str())?;
        (text(&peer["reached"]) == "direct").then_some(())
    });
    a.stop();
    let asked = asked.lock().unwrap().clone();
    let expected = [
        ("addportmapping", 4001),
        ("addportmapping", 4001),
        ("deleteportmapping", 0),
        ("deleteportmapping", 0),
    ];
    assert_eq!(asked, expected.map(|(action, inner)| (action.to_owned(), port, inner)));
    [&relay, &b].into_iter().for_each(Node::is_well);
}

#[test]
fn a_router_that_only_says_that_it_maps_a_port_is_not_believed() {
    let Some(lab) = Namespaces::new("nat.sh", &["home", "home"]) else { return };
    router(&lab, |_, _| {});
    let relay = lab.node("r", &["--no-mdns"]);
    let relay_at = format!("/ip4/203.0.113.10/tcp/4001/p2p/{}", relay.peer);
    let a = lab.node("a", &["--no-mdns", "--bootstrap", &relay_at]);
    let port = mapping(&a, "untrue");
    let status = a.json(&["status"]);
    assert_eq!(text(&status["reach"]), "relay");
    assert!(text(&status["reach_reason"]).contains("peers do not get through"), "{status}");
    a.run(&["doctor"]).says("peers do not get through");
    assert!(!knows(&relay, &a, &format!("/ip4/203.0.113.21/tcp/{port}")));
    [&relay, &a].into_iter().for_each(Node::is_well);
}
