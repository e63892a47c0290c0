//! Bytes that were read and not yet decoded.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures_util::io::AsyncRead;

use crate::Decoder;

/// How much one read takes at most: the largest message of Noise.
pub const READ_BYTES: usize = 64 * 1024;
/// How much one read takes at first, as in the original. It takes more once that is not enough for one message: libp2p-gossipsub 0.50
/// holds all that was read against the limits of one message, and closes the stream of a peer whose messages come many at once.
const READ_AT_FIRST_BYTES: usize = 8 * 1024;
/// As long as messages are of this size, reads stay large: none of gossip is.
const LARGE_BYTES: usize = 32 * 1024;
/// An empty buffer of more than this is given back while its stream waits.
const KEPT_BYTES: usize = 1024;
/// As many streams can be read inside one another (a stream over Yamux over Noise) before a buffer is made for one read alone.
const SPARE_MAX: usize = 4;

thread_local! {
    /// Buffers of [`READ_BYTES`] that nobody reads into at the moment.
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The bytes of one stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) buffer: BytesMut,
    /// How much the next read takes at most.
    read_bytes: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self::with(BytesMut::new())
    }
}

impl Incoming {
    pub(crate) fn with(buffer: BytesMut) -> Self {
        Self { buffer, read_bytes: READ_AT_FIRST_BYTES }
    }

    /// The next message; reads what it needs.
    pub(crate) fn poll_next<T, D>(
        &mut self,
        io: &mut T,
        decoder: &mut D,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<D::Item, D::Error>>>
    where
        T: AsyncRead + Unpin,
        D: Decoder,
    {
        if let Some(item) = self.decode(decoder)? {
            return Poll::Ready(Some(Ok(item)));
        }
        loop {
            let polled = self.poll_read(io, cx);
            if polled.is_pending() && self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
            let read = ready!(polled)?;
            let ended = read == 0;
            if let Some(item) = self.decode(decoder)? {
                return Poll::Ready(Some(Ok(item)));
            }
            if ended {
                return Poll::Ready(self.last(decoder).transpose());
            }
            if read == self.read_bytes {
                self.read_bytes = (2 * read).min(READ_BYTES);
            }
        }
    }

    /// The next message, where it is here.
    fn decode<D: Decoder>(&mut self, decoder: &mut D) -> Result<Option<D::Item>, D::Error> {
        let before = self.buffer.len();
        let item = decoder.decode(&mut self.buffer)?;
        if item.is_some() && before.saturating_sub(self.buffer.len()) < LARGE_BYTES {
            self.read_bytes = READ_AT_FIRST_BYTES;
        }
        Ok(item)
    }

    /// What the end of a stream yields.
    fn last<D: Decoder>(&mut self, decoder: &mut D) -> Result<Option<D::Item>, D::Error> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let item = decoder.decode_eof(&mut self.buffer)?;
        if item.is_none() && !self.buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "bytes remaining in stream").into());
        }
        Ok(item)
    }

    /// Reads once, and keeps what came.
    fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut scratch =
            SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
        let polled = Pin::new(io).poll_read(cx, &mut scratch[..self.read_bytes]);
        if let Poll::Ready(Ok(read)) = polled {
            self.buffer.extend_from_slice(&scratch[..read]);
        }
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(scratch);
            }
        });
        polled
    }
}
