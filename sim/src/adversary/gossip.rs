//! Gossip by hand: messages of authors that nobody has ever met, with whatever numbers. The gossip of libp2p signs with one key for
//! ever and counts upwards, and whoever wants to be many, or somebody else, has no such scruples.
//!
//! What is written here is the wire format of [pubsub](https://github.com/libp2p/specs/blob/master/pubsub/README.md), and no
//! more of it than the scripts need: whoever reads it sees a peer that publishes without end, and keeps no mesh.

use std::{collections::BTreeMap, io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ggen_marketplace::limits::GOSSIP_BYTES_MAX;
use libp2p::{PeerId, StreamProtocol, identity::Keypair, request_response};
use tokio::sync::mpsc;

use super::{Bite, Stage};
use crate::ledger::Shared;

/// The protocol that a node's gossip speaks as well.
pub(super) const PROTOCOL: &str = "/meshsub/1.1.0";
/// What every signature begins with.
const SIGNED_PREFIX: &[u8] = b"libp2p-pubsub:";
/// Frames that wait for one peer; a peer that reads more slowly misses the rest.
const FRAMES_QUEUED_MAX: usize = 8_192;
/// Messages that were overheard and wait to be looked at; of more, the rest is missed.
pub(super) const OVERHEARD_QUEUED_MAX: usize = 1_024;
/// Bytes of one frame of a peer: many messages, or control. Whoever sends more is listened to no longer.
const FRAME_BYTES_MAX: usize = 64 * GOSSIP_BYTES_MAX;

/// The number under which a message goes, which libp2p demands and counts upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// As it has to be: eight bytes.
    Plain(u64),
    /// In nine bytes: the one after the last that eight can hold.
    Overflowed,
}

impl Number {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(number) => number.to_be_bytes().to_vec(),
            Self::Overflowed => [&[1][..], &[0; 8]].concat(),
        }
    }
}

/// A message that somebody else published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its author, as it says.
    pub(super) from: Vec<u8>,
    /// What it brings.
    pub(super) data: Vec<u8>,
    /// The number under which its author sent it.
    pub(super) number: u64,
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// One message of an author in a frame of its own, signed by it as libp2p demands.
pub(super) fn frame(author: &Keypair, topic: &str, number: Number, data: &[u8]) -> Arc<[u8]> {
    let from = author.public().to_peer_id().to_bytes();
    let message = unsigned(&from, topic, number, data);
    let signature = author.sign(&[SIGNED_PREFIX, &message].concat()).expect("such a key can sign");
    enclosed(message, Some(&signature))
}

/// One message that says of itself that it is of `from`, with any signature or none.
pub(super) fn forged(
    from: &[u8],
    topic: &str,
    number: u64,
    data: &[u8],
    signature: Option<&[u8]>,
) -> Arc<[u8]> {
    enclosed(unsigned(from, topic, Number::Plain(number), data), signature)
}

/// A frame that says that its sender wants the messages of a topic.
fn subscription(topic: &str) -> Arc<[u8]> {
    let mut wish = vec![1 << 3, 1];
    field(&mut wish, 2, topic.as_bytes());
    let mut rpc = Vec::new();
    field(&mut rpc, 1, &wish);
    framed(rpc)
}

fn unsigned(from: &[u8], topic: &str, number: Number, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    field(&mut message, 1, from);
    field(&mut message, 2, data);
    field(&mut message, 3, &number.bytes());
    field(&mut message, 4, topic.as_bytes());
    message
}

fn enclosed(mut message: Vec<u8>, signature: Option<&[u8]>) -> Arc<[u8]> {
    if let Some(signature) = signature {
        field(&mut message, 5, signature);
    }
    let mut rpc = Vec::new();
    field(&mut rpc, 2, &message);
    framed(rpc)
}

fn framed(rpc: Vec<u8>) -> Arc<[u8]> {
    let mut frame = Vec::new();
    length(&mut frame, rpc.len());
    frame.extend(rpc);
    frame.into()
}

/// A field of bytes in a message of protobuf.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    length(out, bytes.len());
    out.extend(bytes);
}

/// A length, seven bits a byte.
fn length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The messages of a frame; of what is not understood, nothing.
fn messages(rpc: &[u8]) -> Vec<Message> {
    let published = fields(rpc).into_iter().filter(|(number, _)| *number == 2);
    published.filter_map(|(_, message)| Message::read(message)).collect()
}

impl Message {
    fn read(message: &[u8]) -> Option<Self> {
        let of = fields(message);
        let get = |wanted: u64| of.iter().find(|(number, _)| *number == wanted).map(|(_, bytes)| *bytes);
        Some(Self {
            from: get(1)?.to_vec(),
            data: get(2)?.to_vec(),
            number: u64::from_be_bytes(get(3)?.try_into().ok()?),
            signature: get(5)?.to_vec(),
        })
    }
}

/// The fields of bytes in a message of protobuf, up to the first that is not understood.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = Vec::new();
    while let Some((tag, rest)) = varint(bytes) {
        let Some((value, rest)) = varint(rest) else { break };
        bytes = rest;
        match tag & 7 {
            0 => {}
            2 => {
                let Some((content, rest)) =
                    usize::try_from(value).ok().and_then(|length| bytes.split_at_checked(length))
                else {
                    break;
                };
                fields.push((tag >> 3, content));
                bytes = rest;
            }
            _ => break,
        }
    }
    fields
}

/// A number of seven bits a byte, and what comes after it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// What is written to one peer, and what that does to it.
type Morsel = (Bite, Arc<[u8]>);

/// A stream to one peer, as a request that never ends.
#[derive(Debug)]
pub(super) struct Spout {
    frames: mpsc::Receiver<Morsel>,
    greeting: Option<Arc<[u8]>>,
    ledger: Shared,
    node: usize,
    peer: PeerId,
}

/// The streams to all peers.
#[derive(Debug, Default)]
pub(super) struct Spouts {
    by_peer: BTreeMap<PeerId, mpsc::Sender<Morsel>>,
    /// Whether the peers are to send what they hear.
    listens: bool,
}

impl Spouts {
    /// Streams of somebody who wants to hear what others publish.
    pub(super) fn listening() -> Self {
        Self { listens: true, ..Self::default() }
    }

    /// Opens a stream to every peer that has none.
    pub(super) fn open(&mut self, stage: &mut Stage) {
        self.by_peer.retain(|_, spout| !spout.is_closed());
        let connected: Vec<PeerId> = stage.swarm.connected_peers().copied().collect();
        let mut missing: Vec<PeerId> =
            connected.into_iter().filter(|peer| !self.by_peer.contains_key(peer)).collect();
        // libp2p has them in no order.
        missing.sort_unstable();
        for peer in missing {
            let (sender, frames) = mpsc::channel(FRAMES_QUEUED_MAX);
            let greeting = self.listens.then(|| subscription(&stage.cast.topic));
            let (ledger, node) = (stage.cast.ledger.clone(), stage.cast.node);
            if let Some(spouts) = stage.swarm.behaviour_mut().spouts.as_mut() {
                spouts.send_request(&peer, Spout { frames, greeting, ledger, node, peer });
                self.by_peer.insert(peer, sender);
            }
        }
    }

    /// Whether nobody is connected that something could be sent to.
    pub(super) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    /// Sends a frame to every peer. Whoever reads too slowly misses it; a bite is what was handed over.
    pub(super) fn send(&self, bite: Bite, frame: &Arc<[u8]>) {
        for spout in self.by_peer.values() {
            let _ = spout.try_send((bite, frame.clone()));
        }
    }
}

/// Writes what a [`Spout`] yields; of what comes, it tells the messages where somebody listens, and throws away the rest.
#[derive(Debug, Clone)]
pub(super) struct Spouting {
    overheard: mpsc::Sender<Message>,
}

impl Spouting {
    pub(super) fn new(overheard: mpsc::Sender<Message>) -> Self {
        Self { overheard }
    }
}

impl request_response::Codec for Spouting {
    type Protocol = StreamProtocol;
    type Request = Spout;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Spout>
    where
        T: AsyncRead + Unpin + Send,
    {
        loop {
            let mut head = Vec::new();
            let length = loop {
                let mut byte = [0];
                io.read_exact(&mut byte).await?;
                head.push(byte[0]);
                if let Some((length, _)) = varint(&head) {
                    break usize::try_from(length).unwrap_or(usize::MAX);
                }
                if head.len() > 9 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            };
            if length > FRAME_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut rpc = vec![0; length];
            io.read_exact(&mut rpc).await?;
            for message in messages(&rpc) {
                let _ = self.overheard.try_send(message);
            }
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, mut spout: Spout) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        if let Some(greeting) = &spout.greeting {
            io.write_all(greeting).await?;
            io.flush().await?;
        }
        while let Some((bite, frame)) = spout.frames.recv().await {
            io.write_all(&frame).await?;
            io.flush().await?;
            spout.ledger.lock().bit(spout.node, bite, Some(spout.peer));
        }
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_varints() {
        let written = |number| {
            let mut out = Vec::new();
            length(&mut out, number);
            out
        };
        assert_eq!((written(0), written(127), written(300)), (vec![0], vec![127], vec![0xac, 0x02]));
        assert_eq!(varint(&[0xac, 0x02, 7]), Some((300, &[7][..])));
        assert_eq!((varint(&[]), varint(&[0x80; 20])), (None, None));
    }

    #[test]
    fn a_frame_is_as_long_as_it_says_and_begins_with_its_author() {
        let author = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let frame = frame(&author, "topic", Number::Plain(0), b"data");
        let id = author.public().to_peer_id().to_bytes();
        assert_eq!(usize::from(frame[0] & 0x7f) + (usize::from(frame[1]) << 7), frame.len() - 2);
        assert_eq!((frame[2], frame[5], usize::from(frame[6])), (0x12, 0x0a, id.len()));
        assert_eq!(frame[7..7 + id.len()], id);
    }

    #[test]
    fn what_is_written_is_what_is_overheard() {
        let author = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let written = |number| {
            let frame = frame(&author, "topic", number, b"data");
            let (_, rpc) = varint(&frame).unwrap();
            messages(rpc)
        };
        let heard = written(Number::Plain(u64::MAX));
        assert_eq!((heard.len(), heard[0].number, heard[0].data.as_slice()), (1, u64::MAX, &b"data"[..]));
        assert_eq!(heard[0].from, author.public().to_peer_id().to_bytes());
        let again = forged(&heard[0].from, "topic", heard[0].number, b"data", Some(&heard[0].signature));
        assert_eq!(again, frame(&author, "topic", Number::Plain(u64::MAX), b"data"));
        assert!(written(Number::Overflowed).is_empty(), "such a number is none");
        let frame = subscription("topic");
        assert_eq!(*frame, [11, 0x0a, 9, 8, 1, 0x12, 5, b't', b'o', b'p', b'i', b'c'][..], "by hand");
    }
}
