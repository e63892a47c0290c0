//! DAG-CBOR messages with a cap, for the request-response protocols.
//!
//! A message is its length as four bytes, big endian, then the bytes. The length is checked against the cap before anything is
//! allocated, and nothing may follow the message. What is in progress is held once: a message is gone when its bytes are written.

use std::{io, marker::PhantomData};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use serde::{Serialize, de::DeserializeOwned};

use super::progress::{Pace, Watched};

/// Bytes that a message is given room for at once; more only as they arrive.
const ROOM_BYTES: usize = 1 << 10;

/// Reads and writes one kind of request and its answer.
pub(super) struct Cbor<Q, A> {
    request_bytes_max: usize,
    answer_bytes_max: usize,
    kinds: PhantomData<fn() -> (Q, A)>,
}

impl<Q, A> Cbor<Q, A> {
    /// A codec that refuses larger messages, in both directions.
    pub(super) fn new(request_bytes_max: usize, answer_bytes_max: usize) -> Self {
        Self { request_bytes_max, answer_bytes_max, kinds: PhantomData }
    }
}

impl<Q, A> Clone for Cbor<Q, A> {
    fn clone(&self) -> Self {
        Self::new(self.request_bytes_max, self.answer_bytes_max)
    }
}

impl<Q, A> request_response::Codec for Cbor<Q, A>
where
    Q: Serialize + DeserializeOwned + Send + Sync,
    A: Serialize + DeserializeOwned + Send + Sync,
{
    type Protocol = StreamProtocol;
    type Request = Q;
    type Response = A;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Q>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(&mut Watched::new(io, Pace::OWN, None), self.request_bytes_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<A>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(&mut Watched::new(io, Pace::OWN, None), self.answer_bytes_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Q) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(&mut Watched::new(io, Pace::OWN, None), request, self.request_bytes_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: A) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(&mut Watched::new(io, Pace::ANSWER, None), answer, self.answer_bytes_max).await
    }
}

pub(super) async fn read<M: DeserializeOwned>(
    io: &mut (impl AsyncRead + Unpin + Send),
    bytes_max: usize,
) -> io::Result<M> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(invalid(format!("a message of {length} bytes is over the cap of {bytes_max}")));
    }
    // Grows with what arrives, so that a promise of bytes alone allocates next to nothing, and never beyond the message.
    let (mut bytes, mut filled) = (Vec::new(), 0);
    while filled < length {
        let room = (2 * filled).max(ROOM_BYTES).min(length);
        bytes.reserve_exact(room - filled);
        bytes.resize(room, 0);
        io.read_exact(&mut bytes[filled..]).await?;
        filled = room;
    }
    serde_ipld_dagcbor::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

pub(super) async fn write<M: Serialize>(
    io: &mut (impl AsyncWrite + Unpin + Send),
    message: M,
    bytes_max: usize,
) -> io::Result<()> {
    let mut bytes = serde_ipld_dagcbor::to_vec(&message).map_err(|error| invalid(error.to_string()))?;
    // The reader may take its time, or all that there is.
    drop(message);
    bytes.shrink_to_fit();
    if bytes.len() > bytes_max {
        return Err(invalid(format!(
            "our own message of {} bytes is over the cap of {bytes_max}",
            bytes.len()
        )));
    }
    let length =
        u32::try_from(bytes.len()).map_err(|_| invalid("a message of more than 4 GiB".to_owned()))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(&bytes).await?;
    io.flush().await
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    async fn round(bytes: &[u8], cap: usize) -> io::Result<Vec<u64>> {
        read(&mut Cursor::new(bytes.to_vec()), cap).await
    }

    #[tokio::test]
    async fn a_message_of_any_length_arrives_whole() {
        for length in [0, 1, 23, ROOM_BYTES, ROOM_BYTES + 1, 5 * ROOM_BYTES - 1] {
            let message: Vec<u64> = (0..length as u64).map(|n| n % 24).collect();
            let mut wire = Cursor::new(Vec::new());
            write(&mut wire, message.clone(), 1 << 20).await.unwrap();
            assert_eq!(round(&wire.into_inner(), 1 << 20).await.unwrap(), message);
        }
    }

    #[tokio::test]
    async fn a_message_survives_and_a_hostile_one_is_refused() {
        let mut wire = Cursor::new(Vec::new());
        write(&mut wire, vec![1_u64, 2, 3], 64).await.unwrap();
        let wire = wire.into_inner();
        assert_eq!(round(&wire, 64).await.unwrap(), [1, 2, 3]);
        assert!(round(&wire, 3).await.is_err(), "over the cap");
        assert!(round(&wire[..wire.len() - 1], 64).await.is_err(), "cut short");
        assert!(round(&[0xff, 0xff, 0xff, 0xff], usize::MAX).await.is_err(), "a promise without bytes");
        assert!(round(&[0, 0, 0, 1, 0xf6], 64).await.is_err(), "another type");
        // Arrays within arrays, far deeper than any message of ours.
        let mut deep = vec![0, 0, 0x40, 0];
        deep.extend(std::iter::repeat_n(0x81, 0x4000));
        assert!(round(&deep, 1 << 20).await.is_err(), "too deep");
    }
}
