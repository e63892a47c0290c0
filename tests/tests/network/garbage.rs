//! What arrives at an open port and is not libp2p.

use std::time::Duration;

use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    SOON, eventually,
    node::{Node, noise, start},
};

fn socket(address: &Multiaddr) -> (String, u16) {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    ("127.0.0.1".to_owned(), port.unwrap())
}

async fn connected(node: &Node) -> TcpStream {
    TcpStream::connect(socket(&node.bound[0])).await.unwrap()
}

/// Reads until the other side closes; how long that took.
async fn closed(mut stream: TcpStream) -> Duration {
    let started = Instant::now();
    let mut bytes = Vec::new();
    // A reset is a way of closing too.
    let ended = timeout(Duration::from_secs(15), stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "still open after 15 s");
    assert!(bytes.len() < 1024, "it was told more than it deserves: {} bytes", bytes.len());
    started.elapsed()
}

const TLS_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x2f, 0x01, 0x00, 0x00, 0x2b, 0x03, 0x03, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55,
    0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55,
    0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x00, 0x00, 0x04, 0x13, 0x01, 0x13, 0x02, 0x01,
    0x00,
];

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_closed_and_counted_while_honest_peers_connect() {
    let node = start(&[]).await;
    let mut endless = vec![b'\xff'; 4096];
    endless.fill(0xff);
    let openings: [&[u8]; 6] = [
        &noise(7, 4096),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        TLS_HELLO,
        // A length that never ends, and a name of a megabyte.
        &endless,
        &[0x80, 0x80, 0x40, b'/'],
        // The right greeting, and then nothing sensible.
        b"\x13/multistream/1.0.0\n\x05nope\n\x00\x00\x00",
    ];
    let mut streams = Vec::new();
    for opening in openings {
        let mut stream = connected(&node).await;
        stream.write_all(opening).await.unwrap();
        streams.push(stream);
    }
    // One that says nothing, and one that leaves at once.
    streams.push(connected(&node).await);
    drop(connected(&node).await);
    // Many more of the silent kind, while the first ones hang.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connected(&node).await);
    }
    let honest = start(&[]).await;
    let started = Instant::now();
    honest.dial(&[node.address().to_string()], 10).await.unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "an honest peer waited {took:?}");
    let all = futures::future::join_all(streams.into_iter().map(closed)).await;
    for took in all {
        assert!(took < Duration::from_millis(12_500), "it stayed open for {took:?}");
    }
    let counted = eventually("every one of them is counted", SOON, async || {
        let failed = node.net().await.inbound_failed;
        (failed >= 8).then_some(failed)
    })
    .await;
    assert!(counted <= 8 + 40, "{counted}");
    assert_eq!(node.status().await.connected_peers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_connections_and_says_nothing_keeps_nobody_out() {
    let node = start(&[]).await;
    let (_, port) = socket(&node.bound[0]);
    let mut silent = Vec::new();
    for _ in 0..700 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
    }
    let honest = start(&[]).await;
    let started = Instant::now();
    honest.dial(&[node.address().to_string()], 5).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "it waited {:?}", started.elapsed());
    assert!(node.net().await.inbound_failed >= 600, "most of them were refused at once");
}

/// Sends a message of multistream-select: its length, the text, a line feed.
async fn say(stream: &mut TcpStream, text: &str) {
    let mut message = vec![u8::try_from(text.len() + 1).unwrap()];
    message.extend(text.as_bytes());
    message.push(b'\n');
    stream.write_all(&message).await.unwrap();
}

async fn heard(stream: &mut TcpStream) -> String {
    let length = stream.read_u8().await.unwrap();
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_noise_is_spoken() {
    let node = start(&[]).await;
    let mut stream = connected(&node).await;
    say(&mut stream, "/multistream/1.0.0").await;
    for protocol in ["/plaintext/2.0.0", "/plaintext/1.0.0", "/tls/1.0.0", "/secio/1.0.0", "/yamux/1.0.0"] {
        say(&mut stream, protocol).await;
        let mut answer = heard(&mut stream).await;
        if answer == "/multistream/1.0.0" {
            answer = heard(&mut stream).await;
        }
        assert_eq!(answer, "na", "{protocol}");
    }
    // The same connection shows that the question was understood.
    say(&mut stream, "/noise").await;
    assert_eq!(heard(&mut stream).await, "/noise");
}
