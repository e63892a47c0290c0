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

/// How much one read takes at most: two messages of Noise, each at most 64 KiB.
pub const READ_BYTES: usize = 128 * 1024;
/// An empty buffer of more than this is given back while its stream waits.
const KEPT_BYTES: usize = 1024;
/// As many streams can be read inside one another (a stream over Yamux over Noise) before a buffer is made for one read alone.
const SPARE_MAX: usize = 4;

thread_local! {
    /// Buffers of [`READ_BYTES`] that nobody reads into at the moment.
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The bytes of one stream.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) buffer: BytesMut,
}

impl Incoming {
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
        if let Some(item) = decoder.decode(&mut self.buffer)? {
            return Poll::Ready(Some(Ok(item)));
        }
        loop {
            let polled = self.poll_read(io, cx);
            if polled.is_pending() && self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
            let ended = ready!(polled)? == 0;
            if let Some(item) = decoder.decode(&mut self.buffer)? {
                return Poll::Ready(Some(Ok(item)));
            }
            if ended {
                return Poll::Ready(self.last(decoder).transpose());
            }
        }
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
        let polled = Pin::new(io).poll_read(cx, &mut scratch);
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
