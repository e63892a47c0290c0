//! How long the bytes of a message are waited for: as long as they keep coming.
//!
//! One time for a whole message is too long for somebody who says nothing, and too short for a large one over a slow line. Here a
//! stream is given up where too little moved within [`FETCH_TIMEOUT`], whichever way, or where it took all of its time.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    fetch::protocol::Arrived,
    limits::{FETCH_PROGRESS_BYTES, FETCH_TIMEOUT, FETCH_TIMEOUT_MAX},
};

/// What a stream must do for the rest of a message to be waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long hardly anything may move.
    patience: Duration,
    /// What is more than that, in bytes.
    bytes: usize,
    /// How long the message may take, however it gets on.
    most: Duration,
}

impl Pace {
    /// That of our own protocols; a request of the exchange of heads libp2p ends sooner. Of the time that one for blocks may take,
    /// some is left to send it and to hear the first of the answer.
    pub(super) const OWN: Self = Self {
        patience: FETCH_TIMEOUT,
        bytes: FETCH_PROGRESS_BYTES,
        most: Duration::from_secs(FETCH_TIMEOUT_MAX.as_secs() - 2 * FETCH_TIMEOUT.as_secs()),
    };
    /// That of an answer which this side sends. Yamux takes what fits into the reader's window and says nothing more until the reader
    /// has taken half of that, 128 KiB: over a line of 1.5 kB a second the stream then stands for longer than a minute.
    pub(super) const ANSWER: Self = Self { patience: Duration::from_secs(90), ..Self::OWN };
}

/// How far a message has come.
#[derive(Debug)]
struct Progress {
    pace: Pace,
    /// Bytes that moved since the time was set again.
    moved: usize,
    due: Instant,
    ends: Instant,
}

impl Progress {
    fn begin(pace: Pace, now: Instant) -> Self {
        Self { pace, moved: 0, due: now + pace.patience, ends: now + pace.most }
    }

    /// Notes that bytes moved; true where the time was set again.
    fn note(&mut self, bytes: usize, now: Instant) -> bool {
        self.moved = self.moved.saturating_add(bytes);
        let is_enough = self.moved >= self.pace.bytes;
        if is_enough {
            self.moved = 0;
            self.due = (now + self.pace.patience).min(self.ends);
        }
        is_enough
    }

    /// Why it is given up when it is due.
    fn why(&self) -> io::Error {
        if self.due < self.ends {
            io::Error::new(io::ErrorKind::TimedOut, Silence)
        } else {
            io::Error::other("the message took too long")
        }
    }
}

/// Why a stream failed of which too little came, or into which too little went.
#[derive(Debug)]
pub(super) struct Silence;

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hardly any bytes moved for too long")
    }
}

impl std::error::Error for Silence {}

/// Whether an error says that the other side was silent.
pub(super) fn is_silence(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Silence>())
}

/// A stream that fails where it does not get on.
pub(super) struct Watched<'a, T> {
    io: &'a mut T,
    progress: Progress,
    due: Pin<Box<Sleep>>,
    arrived: Option<Arrived>,
}

impl<'a, T> Watched<'a, T> {
    /// Watches a stream from now on, and tells `arrived` what is read from it.
    pub(super) fn new(io: &'a mut T, pace: Pace, arrived: Option<Arrived>) -> Self {
        let progress = Progress::begin(pace, Instant::now());
        let due = Box::pin(sleep_until(progress.due));
        Self { io, progress, due, arrived }
    }

    fn moved(&mut self, bytes: usize) {
        if self.progress.note(bytes, Instant::now()) {
            self.due.as_mut().reset(self.progress.due);
        }
    }

    /// Waits for the end of its time, while nothing moves.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.due.as_mut().poll(cx).map(|()| self.progress.why())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(read) = Pin::new(&mut *self.io).poll_read(cx, buffer) {
            let bytes = *read.as_ref().unwrap_or(&0);
            if let Some(arrived) = &self.arrived {
                arrived.add(bytes);
            }
            self.moved(bytes);
            return Poll::Ready(read);
        }
        self.poll_over(cx).map(Err)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut *self.io).poll_write(cx, buffer) {
            self.moved(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        self.poll_over(cx).map(Err)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(flushed) = Pin::new(&mut *self.io).poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        self.poll_over(cx).map(Err)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut *self.io).poll_close(cx) {
            return Poll::Ready(closed);
        }
        self.poll_over(cx).map(Err)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt, stream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_message_is_waited_for_as_long_as_enough_of_it_comes() {
        let start = Instant::now();
        let mut progress = Progress::begin(Pace::OWN, start);
        // Far longer than one time, and then nothing more.
        for n in 1..=128 {
            progress.note(FETCH_PROGRESS_BYTES / 16, start + SECOND * n);
        }
        assert_eq!(progress.due, start + SECOND * 128 + FETCH_TIMEOUT);
        assert!(is_silence(&progress.why()));
        // Something comes all the time, and too little of it.
        let mut progress = Progress::begin(Pace::OWN, start);
        (1..=20).for_each(|n| assert!(!progress.note(FETCH_PROGRESS_BYTES / 32, start + SECOND * n)));
        assert_eq!(progress.due, start + FETCH_TIMEOUT);
        assert!(is_silence(&progress.why()));
    }

    #[test]
    fn a_message_that_never_ends_is_given_up_and_that_is_no_silence() {
        let start = Instant::now();
        let mut progress = Progress::begin(Pace::OWN, start);
        for n in 1..=1_000 {
            progress.note(FETCH_PROGRESS_BYTES, start + SECOND * n);
        }
        assert_eq!(progress.due, start + Pace::OWN.most);
        assert!(!is_silence(&progress.why()));
        let largest_bytes = crate::limits::FETCH_ANSWER_BYTES as u64;
        assert!(largest_bytes / 4_000 < Pace::OWN.most.as_secs(), "a whole block at 4 kB a second");
        assert!(Pace::OWN.most + 2 * FETCH_TIMEOUT <= FETCH_TIMEOUT_MAX);
    }

    fn hasty() -> Pace {
        Pace { patience: Duration::from_millis(20), bytes: 4, most: SECOND * 60 }
    }

    #[tokio::test]
    async fn whoever_falls_silent_in_the_middle_is_given_up_and_what_came_is_counted() {
        let pieces = stream::iter([Ok::<_, io::Error>(vec![7_u8; 10])]).chain(stream::pending());
        let (mut io, arrived) = (pieces.into_async_read(), Arrived::default());
        let error = Watched::new(&mut io, hasty(), Some(arrived.clone())).read_exact(&mut [0; 11]).await;
        assert!(is_silence(&error.unwrap_err()));
        assert_eq!(arrived.bytes(), 10);
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_given_up() {
        /// Takes so many bytes and no more.
        struct Full(usize);
        impl AsyncWrite for Full {
            fn poll_write(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                let room = self.0.min(buffer.len());
                self.0 -= room;
                if room == 0 { Poll::Pending } else { Poll::Ready(Ok(room)) }
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        let error = Watched::new(&mut Full(10), hasty(), None).write_all(&[0; 11]).await.unwrap_err();
        assert!(is_silence(&error));
        assert!(is_silence(&Watched::new(&mut Full(0), hasty(), None).flush().await.unwrap_err()));
        assert!(is_silence(&Watched::new(&mut Full(0), hasty(), None).close().await.unwrap_err()));
    }
}
