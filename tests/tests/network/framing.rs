//! The framed streams under libp2p: `sim/shims/asynchronous-codec`, which stands in the place of the published crate.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use asynchronous_codec::{BytesMut, Decoder, Encoder, Framed, FramedRead, READ_BYTES};
use futures::{AsyncRead, AsyncWrite, SinkExt, Stream, StreamExt, executor::block_on, io::Cursor};

/// Four bytes of length, and the message.
struct Lengths;

impl Encoder for Lengths {
    type Item<'a> = &'a [u8];
    type Error = io::Error;

    fn encode(&mut self, item: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        dst.extend_from_slice(&u32::try_from(item.len()).unwrap().to_be_bytes());
        dst.extend_from_slice(item);
        Ok(())
    }
}

impl Decoder for Lengths {
    type Item = Vec<u8>;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = src.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + usize::try_from(u32::from_be_bytes(*length)).unwrap();
        Ok((src.len() >= end).then(|| src.split_to(end)[4..].to_vec()))
    }
}

/// Takes and yields at most so many bytes a call, and is not ready at every second one.
struct Slow {
    bytes: Cursor<Vec<u8>>,
    at_once: usize,
    polls: usize,
    ready: bool,
}

impl Slow {
    fn new(bytes: Vec<u8>, at_once: usize) -> Self {
        Self { bytes: Cursor::new(bytes), at_once, polls: 0, ready: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready = !self.ready;
        if self.ready {
            self.polls += 1;
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let length = into.len().min(self.at_once);
        Pin::new(&mut self.bytes).poll_read(cx, &mut into[..length])
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let length = from.len().min(self.at_once);
        Pin::new(&mut self.bytes).poll_write(cx, &from[..length])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn messages() -> Vec<Vec<u8>> {
    [0, 1, 2, 127, 8_188, 8_192, 65_535, 3, 200_000, READ_BYTES, 0]
        .into_iter()
        .enumerate()
        .map(|(index, length)| (0..length).map(|byte| (byte * 31 + index) as u8).collect())
        .collect()
}

#[test]
fn messages_arrive_as_they_were_sent_however_they_are_cut() {
    for at_once in [1, 7, 4_096, 8_193, usize::MAX] {
        let mut sending = Framed::new(Slow::new(Vec::new(), at_once), Lengths);
        sending.set_send_high_water_mark(10_000);
        block_on(async {
            for message in messages() {
                sending.send(&message[..]).await.unwrap();
            }
            sending.close().await.unwrap();
        });
        let sent = sending.into_inner().bytes.into_inner();
        let receiving = Framed::new(Slow::new(sent, at_once), Lengths);
        let received: Vec<Vec<u8>> = block_on(receiving.map(Result::unwrap).collect());
        assert_eq!(received, messages(), "{at_once} bytes at once");
    }
}

#[test]
fn a_stream_that_ends_within_a_message_says_so() {
    let mut cut = FramedRead::new(Cursor::new(vec![0, 0, 0, 9, 1, 2, 3]), Lengths);
    assert_eq!(block_on(cut.next()).unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn what_was_read_too_early_is_kept_where_the_codec_changes() {
    let bytes = [[0, 0, 0, 1, b'a'], [0, 0, 0, 1, b'b']].concat();
    let mut first = Framed::new(Cursor::new(bytes), Lengths);
    assert_eq!(block_on(first.next()).unwrap().unwrap(), b"a");
    let mut second = Framed::from_parts(first.into_parts().map_codec(|_| Lengths));
    assert_eq!(block_on(second.next()).unwrap().unwrap(), b"b");
    assert!(block_on(second.next()).is_none());
}

/// So many messages of so many bytes, one after the other.
fn many(messages: usize, bytes: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..messages {
        all.extend_from_slice(&bytes.to_be_bytes());
        all.resize(all.len() + bytes as usize, 7);
    }
    all
}

#[test]
fn large_messages_are_read_with_large_reads_and_a_stream_that_waits_holds_nothing() {
    let (messages, bytes) = (16, 60_000);
    let mut stream = FramedRead::new(Slow::new(many(messages, bytes), usize::MAX), Lengths);
    for _ in 0..messages {
        assert_eq!(block_on(stream.next()).unwrap().unwrap().len(), bytes as usize);
    }
    // The first few double; the original reads 8 KiB each time.
    let original = (messages * (bytes as usize + 4)).div_ceil(8_192);
    assert!(6 * stream.polls < original, "{} reads instead of {original}", stream.polls);
    let waits = block_on(poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_next(cx).is_pending())));
    assert!(waits);
    assert!(stream.read_buffer().capacity() <= 1_024, "{}", stream.read_buffer().capacity());
}

#[test]
fn small_messages_are_read_a_few_at_a_time_however_many_come() {
    let mut stream = FramedRead::new(Slow::new(many(1_000, 400), usize::MAX), Lengths);
    for _ in 0..1_000 {
        assert_eq!(block_on(stream.next()).unwrap().unwrap().len(), 400);
        // What judges all that was read as one message sees no more than with the original.
        assert!(stream.read_buffer().len() <= 8_192 + 404, "{}", stream.read_buffer().len());
    }
}
