//! Bytes that were encoded and not yet written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures_util::io::AsyncWrite;

/// As many bytes may wait before a stream is not ready for another message.
const HIGH_WATER_MARK: usize = 128 * 1024;
/// An empty buffer of more than this is given back.
const KEPT_BYTES: usize = 1024;

/// The bytes of one stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) buffer: BytesMut,
    pub(crate) high_water_mark: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::with(BytesMut::new())
    }
}

impl Outgoing {
    pub(crate) fn with(buffer: BytesMut) -> Self {
        Self { buffer, high_water_mark: HIGH_WATER_MARK }
    }

    /// Ready once fewer bytes wait than the mark.
    pub(crate) fn poll_ready<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.buffer.len() >= self.high_water_mark {
            ready!(self.poll_write(io, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once everything was written and flushed.
    pub(crate) fn poll_flush<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            ready!(self.poll_write(io, cx))?;
        }
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        Pin::new(io).poll_flush(cx)
    }

    /// Ready once everything was written and the stream closed.
    pub(crate) fn poll_close<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(io, cx))?;
        Pin::new(io).poll_close(cx)
    }

    fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(io).poll_write(cx, &self.buffer))?;
        if written == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "End of file")));
        }
        self.buffer.advance(written);
        Poll::Ready(Ok(()))
    }
}
