//! Streams of messages over streams of bytes, both ways or one way.

use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use futures_sink::Sink;
use futures_util::{
    io::{AsyncRead, AsyncWrite},
    stream::Stream,
};

use crate::{Decoder, Encoder, incoming::Incoming, outgoing::Outgoing};

/// Messages both ways.
#[derive(Debug)]
pub struct Framed<T, U> {
    io: T,
    codec: U,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// What a [`Framed`] is made of.
pub struct FramedParts<T, U> {
    /// The stream of bytes.
    pub io: T,
    /// The codec.
    pub codec: U,
    /// Bytes that were read and not yet decoded.
    pub read_buffer: BytesMut,
    /// Bytes that were encoded and not yet written.
    pub write_buffer: BytesMut,
    _priv: (),
}

/// Messages that come.
#[derive(Debug)]
pub struct FramedRead<T, D> {
    io: T,
    decoder: D,
    incoming: Incoming,
}

/// What a [`FramedRead`] is made of.
pub struct FramedReadParts<T, D> {
    /// The stream of bytes.
    pub io: T,
    /// The decoder.
    pub decoder: D,
    /// Bytes that were read and not yet decoded.
    pub buffer: BytesMut,
    _priv: (),
}

/// Messages that go.
#[derive(Debug)]
pub struct FramedWrite<T, E> {
    io: T,
    encoder: E,
    outgoing: Outgoing,
}

/// What a [`FramedWrite`] is made of.
pub struct FramedWriteParts<T, E> {
    /// The stream of bytes.
    pub io: T,
    /// The encoder.
    pub encoder: E,
    /// Bytes that were encoded and not yet written.
    pub buffer: BytesMut,
    _priv: (),
}

// The stream alone is ever pinned, as in the original.
impl<T: Unpin, U> Unpin for Framed<T, U> {}
impl<T: Unpin, D> Unpin for FramedRead<T, D> {}
impl<T: Unpin, E> Unpin for FramedWrite<T, E> {}

impl<T, U> Framed<T, U>
where
    T: AsyncRead + AsyncWrite,
    U: Decoder + Encoder,
{
    /// Messages over `inner`.
    pub fn new(inner: T, codec: U) -> Self {
        Self { io: inner, codec, incoming: Incoming::default(), outgoing: Outgoing::default() }
    }

    /// As it was when it was taken apart.
    pub fn from_parts(parts: FramedParts<T, U>) -> Self {
        let FramedParts { io, codec, read_buffer, write_buffer, _priv: () } = parts;
        Self { io, codec, incoming: Incoming::with(read_buffer), outgoing: Outgoing::with(write_buffer) }
    }

    /// Takes it apart.
    pub fn into_parts(self) -> FramedParts<T, U> {
        FramedParts {
            io: self.io,
            codec: self.codec,
            read_buffer: self.incoming.buffer,
            write_buffer: self.outgoing.buffer,
            _priv: (),
        }
    }

    /// The stream of bytes; what was read and not decoded, or encoded and not written, is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// The codec.
    pub fn codec(&self) -> &U {
        &self.codec
    }

    /// The codec, to change it.
    pub fn codec_mut(&mut self) -> &mut U {
        &mut self.codec
    }

    /// Bytes that were read and not yet decoded.
    pub fn read_buffer(&self) -> &BytesMut {
        &self.incoming.buffer
    }

    /// As many bytes may wait before another message has to.
    pub fn send_high_water_mark(&self) -> usize {
        self.outgoing.high_water_mark
    }

    /// Sets how many bytes may wait before another message has to.
    pub fn set_send_high_water_mark(&mut self, bytes: usize) {
        self.outgoing.high_water_mark = bytes;
    }
}

impl<T, U> FramedParts<T, U> {
    /// With another codec.
    pub fn map_codec<V, F>(self, f: F) -> FramedParts<T, V>
    where
        F: FnOnce(U) -> V,
    {
        FramedParts {
            io: self.io,
            codec: f(self.codec),
            read_buffer: self.read_buffer,
            write_buffer: self.write_buffer,
            _priv: (),
        }
    }
}

impl<T, D> FramedRead<T, D>
where
    T: AsyncRead,
    D: Decoder,
{
    /// Messages from `inner`.
    pub fn new(inner: T, decoder: D) -> Self {
        Self { io: inner, decoder, incoming: Incoming::default() }
    }

    /// As it was when it was taken apart.
    pub fn from_parts(parts: FramedReadParts<T, D>) -> Self {
        let FramedReadParts { io, decoder, buffer, _priv: () } = parts;
        Self { io, decoder, incoming: Incoming::with(buffer) }
    }

    /// Takes it apart.
    pub fn into_parts(self) -> FramedReadParts<T, D> {
        FramedReadParts { io: self.io, decoder: self.decoder, buffer: self.incoming.buffer, _priv: () }
    }

    /// The stream of bytes; what was read and not decoded is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// The decoder.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// The decoder, to change it.
    pub fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// Bytes that were read and not yet decoded.
    pub fn read_buffer(&self) -> &BytesMut {
        &self.incoming.buffer
    }
}

impl<T, E> FramedWrite<T, E>
where
    T: AsyncWrite,
    E: Encoder,
{
    /// Messages to `inner`.
    pub fn new(inner: T, encoder: E) -> Self {
        Self { io: inner, encoder, outgoing: Outgoing::default() }
    }

    /// As it was when it was taken apart.
    pub fn from_parts(parts: FramedWriteParts<T, E>) -> Self {
        let FramedWriteParts { io, encoder, buffer, _priv: () } = parts;
        Self { io, encoder, outgoing: Outgoing::with(buffer) }
    }

    /// Takes it apart.
    pub fn into_parts(self) -> FramedWriteParts<T, E> {
        FramedWriteParts { io: self.io, encoder: self.encoder, buffer: self.outgoing.buffer, _priv: () }
    }

    /// The stream of bytes; what was encoded and not written is lost.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// The encoder.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The encoder, to change it.
    pub fn encoder_mut(&mut self) -> &mut E {
        &mut self.encoder
    }

    /// As many bytes may wait before another message has to.
    pub fn send_high_water_mark(&self) -> usize {
        self.outgoing.high_water_mark
    }

    /// Sets how many bytes may wait before another message has to.
    pub fn set_send_high_water_mark(&mut self, bytes: usize) {
        self.outgoing.high_water_mark = bytes;
    }
}

impl<T, U> Stream for Framed<T, U>
where
    T: AsyncRead + Unpin,
    U: Decoder,
{
    type Item = Result<U::Item, U::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.incoming.poll_next(&mut this.io, &mut this.codec, cx)
    }
}

impl<T, D> Stream for FramedRead<T, D>
where
    T: AsyncRead + Unpin,
    D: Decoder,
{
    type Item = Result<D::Item, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.incoming.poll_next(&mut this.io, &mut this.decoder, cx)
    }
}

/// A [`Sink`] that encodes with the field `$codec`.
macro_rules! sink {
    ($name:ident, $codec:ident) => {
        impl<T, E> Sink<E::Item<'_>> for $name<T, E>
        where
            T: AsyncWrite + Unpin,
            E: Encoder,
        {
            type Error = E::Error;

            fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
                let this = self.get_mut();
                this.outgoing.poll_ready(&mut this.io, cx).map_err(E::Error::from)
            }

            fn start_send(self: Pin<&mut Self>, item: E::Item<'_>) -> Result<(), E::Error> {
                let this = self.get_mut();
                this.$codec.encode(item, &mut this.outgoing.buffer)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
                let this = self.get_mut();
                this.outgoing.poll_flush(&mut this.io, cx).map_err(E::Error::from)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
                let this = self.get_mut();
                this.outgoing.poll_close(&mut this.io, cx).map_err(E::Error::from)
            }
        }
    };
}

sink!(Framed, codec);
sink!(FramedWrite, encoder);

/// Leads to the stream of bytes.
macro_rules! deref {
    ($name:ident) => {
        impl<T, U> Deref for $name<T, U> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.io
            }
        }

        impl<T, U> DerefMut for $name<T, U> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.io
            }
        }
    };
}

deref!(Framed);
deref!(FramedRead);
deref!(FramedWrite);
