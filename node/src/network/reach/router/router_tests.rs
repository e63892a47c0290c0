use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const PORTS: Ports = Ports { tcp: Some(4001), udp: Some(4002) };

/// How a router of these tests answers what comes over HTTP: what is asked, to what is sent.
type Says = fn(&str) -> Vec<u8>;

fn with(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn described() -> Vec<u8> {
    with(
        "200 OK",
        "<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
         <controlURL>/ctl</controlURL></service></root>",
    )
}

/// One that maps what it is asked for.
fn honest(asked: &str) -> Vec<u8> {
    match asked {
        _ if asked.starts_with("GET /") => described(),
        _ if asked.contains("#GetExternalIPAddress") => with(
            "200 OK",
            "<u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.21</NewExternalIPAddress></u:GetExternalIPAddressResponse>",
        ),
        _ if asked.contains("#AddPortMapping") => with("200 OK", "<u:AddPortMappingResponse/>"),
        _ => with("200 OK", "<u:DeletePortMappingResponse/>"),
    }
}

/// Starts a router on loopback, which answers searches too; where that is, and how many requests came.
async fn router(says: Says) -> (Places, Arc<AtomicUsize>) {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let search = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(group) = search.local_addr().unwrap() else { panic!("IPv4") };
    let at = http.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 2048];
        loop {
            let (_, from) = search.recv_from(&mut bytes).await.unwrap();
            let device = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
            let answer = format!("HTTP/1.1 200 OK\r\nST: {device}\r\nLOCATION: http://{at}/root.xml\r\n\r\n");
            search.send_to(b"\xff garbage", from).await.unwrap();
            search.send_to(answer.as_bytes(), from).await.unwrap();
        }
    });
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                let length = stream.read(&mut asked).await.unwrap_or_default();
                let answer = says(&String::from_utf8_lossy(&asked[..length]));
                // Who has read enough closes.
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    (Places { gateway: None, group, link: None }, count)
}

async fn mapped(says: Says) -> (Told, Option<Held>, usize) {
    let (places, count) = router(says).await;
    let mut held = None;
    let (told, _) = map(&PeerId::random(), PORTS, places, &mut held).await;
    (told, held, count.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_router_maps_ports_and_is_asked_for_the_same_again() {
    let (places, count) = router(honest).await;
    let (local, mut held) = (PeerId::random(), None);
    let (told, lease) = map(&local, PORTS, places, &mut held).await;
    let port = Some(outer_port(&local, 4001, 0));
    let outer = Ipv4Addr::new(203, 0, 113, 21);
    let ports = Ports { tcp: port, udp: port };
    assert_eq!(told, Told::Mapped { by: By::Upnp, outer, ports });
    assert_eq!(lease, Some(LEASE));
    let before = count.load(Ordering::Relaxed);
    assert_eq!(map(&local, PORTS, places, &mut held).await.0, told);
    assert_eq!(count.load(Ordering::Relaxed) - before, 3, "it was not searched for again");
    held.unwrap().release().await;
    assert_eq!(count.load(Ordering::Relaxed) - before, 5);
}

#[tokio::test]
async fn who_answers_from_elsewhere_than_the_link_of_the_gateway_is_asked_nothing() {
    let (places, count) = router(honest).await;
    let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let (everywhere, gateway) = (hex([0; 4]), hex([192, 168, 1, 1]));
    let routes = format!("\neth0 {everywhere} {gateway} 0003 0 0 0 {everywhere}\n");
    let link = Some(routes::gateway(&routes).unwrap().link);
    let (told, _) = map(&PeerId::random(), PORTS, Places { link, ..places }, &mut None).await;
    assert_eq!((told, count.load(Ordering::Relaxed)), (Told::Nobody, 0));
}

#[tokio::test]
async fn a_port_that_somebody_has_is_left_to_them() {
    let (told, held, _) =
        mapped(|asked| match asked.contains("#AddPortMapping") && asked.contains(">TCP<") {
            true => with(
                "500 Internal Server Error",
                "<errorCode>718</errorCode><errorDescription>Taken</errorDescription>",
            ),
            false => honest(asked),
        })
        .await;
    assert!(matches!(told, Told::Mapped { ports: Ports { tcp: None, udp: Some(_) }, .. }), "{told:?}");
    assert_eq!(held.unwrap().carried.len(), 1);
    let (told, held, requests) = mapped(|asked| match asked.contains("#AddPortMapping") {
        true => with(
            "500 Internal Server Error",
            "<errorCode>725</errorCode><errorDescription>Only\u{7}Permanent</errorDescription>",
        ),
        false => honest(asked),
    })
    .await;
    assert_eq!(told, Told::Refused("OnlyPermanent (725)".to_owned()));
    assert!(held.is_none() && requests == 4, "each port was asked for once: {requests}");
}

#[tokio::test]
async fn garbage_and_what_never_ends_is_bounded_and_maps_nothing() {
    fn endless(head: &str) -> Vec<u8> {
        let mut answer = head.as_bytes().to_vec();
        answer.extend(std::iter::repeat_n(b'x', 4 * ROUTER_ANSWER_BYTES_MAX));
        answer
    }
    let garbage: [Says; 9] = [
        |_| b"\xff\xfe\x00 garbage\r\n\r\n".to_vec(),
        |_| Vec::new(),
        |_| with("404 Not Found", ""),
        |_| with("302 Found\r\nLocation: http://203.0.113.1/", ""),
        |_| endless("HTTP/1.1 200 OK\r\n\r\n<service>"),
        |_| endless("HTTP/1.1 200 OK\r\nX: "),
        |_| endless("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        |asked| if asked.starts_with("GET") { described() } else { with("200 OK", "<html>Welcome</html>") },
        |asked| {
            if asked.contains("#AddPortMapping") { endless("HTTP/1.1 200 OK\r\n\r\n") } else { honest(asked) }
        },
    ];
    let all = futures::future::join_all(garbage.map(mapped)).await;
    for (n, (told, held, _)) in all.into_iter().enumerate() {
        assert!(matches!(told, Told::Nobody | Told::Refused(_)), "{n}: {told:?}");
        assert!(held.is_none(), "{n}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let at = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(address) = at.local_addr().unwrap() else { panic!("IPv4") };
    let slow = tokio::spawn(async move {
        let (mut stream, _) = at.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // Each byte is one more sign of life.
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let began = Instant::now();
    let place = Place { at: address, path: "/".to_owned() };
    assert!(exchange(&place, Request::new(String::new())).await.is_err());
    assert!((ROUTER_ANSWER_TIME_MAX..2 * ROUTER_ANSWER_TIME_MAX).contains(&began.elapsed()));
    slow.abort();
}

#[tokio::test]
async fn a_gateway_with_nat_pmp_is_asked_first_and_nobody_else_is_heard() {
    let gateway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(at) = gateway.local_addr().unwrap() else { panic!("IPv4") };
    tokio::spawn(async move {
        let mut bytes = [0; 64];
        for n in 0.. {
            let (length, from) = gateway.recv_from(&mut bytes).await.unwrap();
            let asked = &bytes[..length];
            let mut answer = vec![0, asked[1] + 128, 0, 0, 0, 0, 0, 9];
            match asked[1] {
                0 => answer.extend([203, 0, 113, 21]),
                _ => answer.extend([asked[4], asked[5], 0x30, asked[1], 0, 0, 0, 120]),
            }
            let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            other.send_to(&[0, asked[1] + 128, 0, 3, 0, 0, 0, 9], from).await.unwrap();
            gateway.send_to(b"x", from).await.unwrap();
            // The first question gets lost.
            if n > 0 {
                gateway.send_to(&answer, from).await.unwrap();
            }
        }
    });
    let mut held = None;
    let places = Places { gateway: Some(at), group: at, link: None };
    let (told, lease) = map(&PeerId::random(), PORTS, places, &mut held).await;
    let ports = Ports { tcp: Some(0x3002), udp: Some(0x3001) };
    assert_eq!(told, Told::Mapped { by: By::NatPmp, outer: Ipv4Addr::new(203, 0, 113, 21), ports });
    assert_eq!(lease, Some(Duration::from_secs(120)));
}

#[test]
fn the_outer_port_is_the_same_after_a_restart_and_never_the_one_that_is_listened_on() {
    for _ in 0..1_000 {
        let local = PeerId::random();
        let port = outer_port(&local, 4001, 0);
        assert!(OUTER_PORTS.contains(&port) && port == outer_port(&local, 4001, 0));
        assert_ne!(outer_port(&local, port, 0), port);
    }
}
