//! Gossip by hand: messages of authors that nobody has ever met. The gossip of libp2p signs with one key for ever, and whoever
//! wants to be many has no such scruples.
//!
//! What is written here is the wire format of [pubsub](https://github.com/libp2p/specs/blob/master/pubsub/README.md), and no
//! more of it than a flood needs: whoever reads it sees a peer that subscribes to nothing and publishes without end.

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{
    PeerId, StreamProtocol,
    identity::{Keypair, SigningError},
    request_response,
};
use tokio::sync::mpsc;

use super::Bite;
use crate::ledger::Shared;

/// The protocol that a node's gossip speaks as well.
pub(super) const PROTOCOL: &str = "/meshsub/1.1.0";
/// What every signature begins with.
const SIGNED_PREFIX: &[u8] = b"libp2p-pubsub:";
/// Frames that wait for one peer; a peer that reads more slowly misses the rest.
const FRAMES_QUEUED_MAX: usize = 8_192;
/// Bytes that are read and thrown away at once.
const SCRAP_BYTES: usize = 4 << 10;

/// One message of an author in a frame of its own, signed by it as libp2p demands.
pub(super) fn frame(author: &Keypair, topic: &str, data: &[u8]) -> Result<Arc<[u8]>, SigningError> {
    let mut message = Vec::new();
    field(&mut message, 1, &author.public().to_peer_id().to_bytes());
    field(&mut message, 2, data);
    field(&mut message, 3, &0_u64.to_be_bytes());
    field(&mut message, 4, topic.as_bytes());
    let signature = author.sign(&[SIGNED_PREFIX, &message].concat())?;
    field(&mut message, 5, &signature);
    let mut rpc = Vec::new();
    field(&mut rpc, 2, &message);
    let mut frame = Vec::new();
    length(&mut frame, rpc.len());
    frame.extend(rpc);
    Ok(frame.into())
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

/// A stream to one peer, as a request that never ends.
#[derive(Debug)]
pub(super) struct Spout {
    frames: mpsc::Receiver<Arc<[u8]>>,
    ledger: Shared,
    node: usize,
    peer: PeerId,
}

impl Spout {
    /// With the end that frames are put into.
    pub(super) fn new(ledger: Shared, node: usize, peer: PeerId) -> (mpsc::Sender<Arc<[u8]>>, Self) {
        let (sender, frames) = mpsc::channel(FRAMES_QUEUED_MAX);
        (sender, Self { frames, ledger, node, peer })
    }
}

/// Writes what a [`Spout`] yields, and reads nothing but to throw it away.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spouting;

impl request_response::Codec for Spouting {
    type Protocol = StreamProtocol;
    type Request = Spout;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Spout>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut scrap = [0; SCRAP_BYTES];
        while io.read(&mut scrap).await? > 0 {}
        Err(io::ErrorKind::UnexpectedEof.into())
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
        while let Some(frame) = spout.frames.recv().await {
            io.write_all(&frame).await?;
            io.flush().await?;
            spout.ledger.lock().bit(spout.node, Bite::Flooded, Some(spout.peer));
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
    }

    #[test]
    fn a_frame_is_as_long_as_it_says_and_begins_with_its_author() {
        let author = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let frame = frame(&author, "topic", b"data").unwrap();
        let id = author.public().to_peer_id().to_bytes();
        assert_eq!(usize::from(frame[0] & 0x7f) + (usize::from(frame[1]) << 7), frame.len() - 2);
        assert_eq!((frame[2], frame[5], usize::from(frame[6])), (0x12, 0x0a, id.len()));
        assert_eq!(frame[7..7 + id.len()], id);
    }
}
