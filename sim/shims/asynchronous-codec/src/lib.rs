//! The public surface of `asynchronous-codec` 0.7 that libp2p uses, with buffers that fit what passes.
//!
//! The original gives every framed stream two buffers of 8 KiB for as long as it lives, and reads from the socket 8 KiB at a time.
//! Here a stream that waits holds nothing, and a read takes up to [`READ_BYTES`] where messages are large: into a buffer of the thread,
//! from which what came is copied. What is decoded and written, and every error, is the same.

mod framed;
mod incoming;
mod outgoing;

use std::io;

pub use bytes::{Bytes, BytesMut};
pub use framed::{Framed, FramedParts, FramedRead, FramedReadParts, FramedWrite, FramedWriteParts};
pub use incoming::READ_BYTES;

/// Takes messages out of bytes.
pub trait Decoder {
    /// A message.
    type Item;
    /// What can go wrong.
    type Error: From<io::Error>;

    /// Takes the next message from the front of `src`; none, and `src` as it was, where more bytes are needed.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error>;

    /// As [`Decoder::decode`], where no more bytes will come.
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        self.decode(src)
    }
}

/// Puts messages into bytes.
pub trait Encoder {
    /// A message.
    type Item<'a>;
    /// What can go wrong.
    type Error: From<io::Error>;

    /// Appends a message to `dst`.
    fn encode(&mut self, item: Self::Item<'_>, dst: &mut BytesMut) -> Result<(), Self::Error>;
}
