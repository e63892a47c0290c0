//! How many bytes of blocks and logs move in a second, each way: one bucket a direction, shared by all transfers.
//!
//! [`Bucket`] is pure: it is told how many bytes somebody wants to move and what time it is, and says when they may. Over any span of
//! time it grants at most the rate of that span and [`BURST`] more. Whoever asks gets little at a time and then asks again, so
//! that the transfers take turns ([`Bucket::share_bytes`]). [`Limited`] holds a stream to it. Nothing else of the network is limited, so that
//! this node still answers pings, the DHT and the exchange of heads.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is granted beyond the rate after a pause, as the time in which the rate brings it.
pub(crate) const BURST: Duration = Duration::from_millis(500);
/// The least and the most that one transfer is granted at a time. At the lowest rate, a hundred transfers still get more than
/// [`FETCH_PROGRESS_BYTES`](crate::limits::FETCH_PROGRESS_BYTES) within [`FETCH_TIMEOUT`](crate::limits::FETCH_TIMEOUT).
const SHARE_BYTES: std::ops::RangeInclusive<u64> = (1 << 10)..=(64 << 10);
/// A transfer that has less than so many bytes in a second takes too long to be worth its beginning.
const TRANSFER_BYTES_PER_SECOND: u64 = 16 << 10;

/// A token bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// When all that was granted has been paid for by the rate.
    paid: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), paid: now }
    }

    /// How many bytes are asked for at a time.
    pub(crate) fn share_bytes(&self) -> u64 {
        (self.rate / 32).clamp(*SHARE_BYTES.start(), *SHARE_BYTES.end())
    }

    /// Grants bytes, and says from when on they may move. They count from now on, whether they move or not.
    pub(crate) fn grant(&mut self, bytes: u64, now: Instant) -> Instant {
        self.paid = self.paid.max(now) + self.time_of(bytes);
        now.max(self.paid.checked_sub(BURST).unwrap_or(now))
    }

    /// Takes bytes back that were granted and did not move.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.paid = self.paid.checked_sub(self.time_of(bytes)).unwrap_or(self.paid);
    }

    /// Changes the rate of what is granted from now on.
    pub(crate) fn set_rate(&mut self, rate: u64) {
        self.rate = rate.max(1);
    }

    fn time_of(&self, bytes: u64) -> Duration {
        // Rounded up, so that many small grants do not add up to more than one large one.
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// One direction; every copy is the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Bytes a second; none is no limit.
    rate: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
}

impl Limiter {
    /// Changes the limit; none is no limit.
    pub(crate) fn set(&self, rate: Option<u64>) {
        let now = Instant::now();
        let mut bucket = self.bucket();
        self.0.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        match (bucket.as_mut(), rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate),
            (None, Some(rate)) => *bucket = Some(Bucket::new(rate, now)),
            (_, None) => *bucket = None,
        }
    }

    /// Bytes a second, where there is a limit.
    pub(crate) fn rate(&self) -> Option<u64> {
        Some(self.0.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Transfers that there may be at once, so that each of them gets on.
    pub(crate) fn transfers_max(&self) -> usize {
        let most = |rate| usize::try_from(rate / TRANSFER_BYTES_PER_SECOND).unwrap_or(usize::MAX).max(1);
        self.rate().map_or(usize::MAX, most)
    }

    /// Grants a share: its bytes, and from when on they may move. Nothing where there is no limit.
    fn grant(&self) -> Option<(u64, Instant)> {
        self.rate()?;
        let mut bucket = self.bucket();
        let bucket = bucket.as_mut()?;
        let bytes = bucket.share_bytes();
        Some((bytes, bucket.grant(bytes, Instant::now())))
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0
            && let Some(bucket) = self.bucket().as_mut()
        {
            bucket.give_back(bytes);
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Option<Bucket>> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both directions of a node, each with a limit of its own; every copy is the same one.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// What this node sends.
    pub(crate) up: Limiter,
    /// What it receives.
    pub(crate) down: Limiter,
}

impl Line {
    /// Sets how many bytes may be sent and received in a second; none is no limit.
    pub fn limit(&self, up: Option<u64>, down: Option<u64>) {
        self.up.set(up);
        self.down.set(down);
    }

    /// How many bytes may be sent and received in a second, where there is a limit.
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.up.rate(), self.down.rate())
    }
}

/// What one transfer was granted in one direction.
#[derive(Debug)]
struct Share {
    limiter: Limiter,
    /// Bytes that may move.
    bytes: u64,
    /// Bytes that may move after this time.
    next: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Share {
    fn new(limiter: Limiter) -> Self {
        Self { limiter, bytes: 0, next: None }
    }

    /// Waits until something may move; yields how many bytes may.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.bytes == 0 && self.next.is_none() {
            let Some((bytes, at)) = self.limiter.grant() else { return Poll::Ready(usize::MAX) };
            self.next = Some((bytes, Box::pin(sleep_until(at))));
        }
        if let Some((bytes, wait)) = &mut self.next {
            ready!(wait.as_mut().poll(cx));
            self.bytes = *bytes;
            self.next = None;
        }
        Poll::Ready(usize::try_from(self.bytes).unwrap_or(usize::MAX))
    }

    fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let waiting = self.next.as_ref().map_or(0, |(bytes, _)| *bytes);
        self.limiter.give_back(self.bytes + waiting);
    }
}

/// A stream that keeps to the limits of its node.
#[derive(Debug)]
pub(crate) struct Limited<T> {
    io: T,
    up: Share,
    down: Share,
}

impl<T> Limited<T> {
    pub(crate) fn new(io: T, line: &Line) -> Self {
        Self { io, up: Share::new(line.up.clone()), down: Share::new(line.down.clone()) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Limited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.down.poll_bytes(cx)).min(buffer.len());
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer[..most]))?;
        self.down.moved(read);
        Poll::Ready(Ok(read))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Limited<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.up.poll_bytes(cx)).min(buffer.len());
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, &buffer[..most]))?;
        self.up.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::{AsyncReadExt, AsyncWriteExt, io::Cursor};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn over_any_span_no_more_is_granted_than_the_rate_and_one_burst(
            rate in 1_000..100_000_000u64,
            asked in prop::collection::vec((0..2_000u64, 0..64u64), 1..80),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, start);
            let (mut now, mut grants) = (start, Vec::new());
            for (pause_ms, shares) in asked {
                now += Duration::from_millis(pause_ms);
                for _ in 0..shares {
                    let bytes = bucket.share_bytes();
                    let at = bucket.grant(bytes, now);
                    prop_assert!(at >= now);
                    grants.push((at, bytes));
                }
            }
            prop_assert!(grants.is_sorted_by_key(|(at, _)| *at), "who asks first moves first");
            for (from, (begin, _)) in grants.iter().enumerate() {
                let mut bytes = 0.0;
                for (at, granted) in &grants[from..] {
                    bytes += *granted as f64;
                    let span = (*at - *begin).as_secs_f64() + BURST.as_secs_f64();
                    prop_assert!(bytes <= rate as f64 * span + bucket.share_bytes() as f64 + 1.0);
                }
            }
        }

        #[test]
        fn the_rate_is_reached_and_so_is_one_that_changes(
            rates in prop::collection::vec(20_000..50_000_000u64, 1..6),
        ) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(rates[0], now);
            for rate in rates {
                bucket.set_rate(rate);
                let (begin, mut bytes) = (now, 0u64);
                // Asked for as soon as the last share may move, for ten seconds.
                while now - begin < Duration::from_secs(10) {
                    let share = bucket.share_bytes();
                    now = bucket.grant(share, now);
                    bytes += share;
                }
                let expected = rate as f64 * (now - begin).as_secs_f64();
                prop_assert!((bytes as f64) > expected * 0.85, "{bytes} of {expected}");
            }
        }
    }

    #[test]
    fn what_did_not_move_is_had_by_others() {
        let now = Instant::now();
        let mut bucket = Bucket::new(32_000, now);
        let first = bucket.grant(16_000, now);
        assert_eq!(first, now, "one burst goes at once");
        let mut other = bucket.clone();
        bucket.give_back(16_000);
        assert_eq!(bucket.grant(16_000, now), now);
        assert_eq!(other.grant(16_000, now), now + Duration::from_millis(500));
    }

    /// Counts what is written.
    struct Counted<'a>(&'a Cell<usize>);

    impl AsyncWrite for Counted<'_> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
            self.0.set(self.0.get() + buffer.len());
            Poll::Ready(Ok(buffer.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn transfers_take_turns_in_one_direction_and_the_other_is_free() {
        const BYTES: usize = 200_000;
        let line = Line::default();
        line.limit(Some(400_000), None);
        let share = 400_000 / 32;
        let (one, other) = (Cell::new(0), Cell::new(0));
        let begun = Instant::now();
        let send = async |mine: &Cell<usize>, others: &Cell<usize>| {
            Limited::new(&mut Counted(mine), &line).write_all(&[7; BYTES]).await.unwrap();
            others.get()
        };
        let (others_then, ones_then) = tokio::join!(send(&one, &other), send(&other, &one));
        assert!(others_then.min(ones_then) + 2 * share >= BYTES, "{others_then} {ones_then}");
        // One burst of the two is free.
        assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let mut received = Vec::new();
        let mut wire = Cursor::new(vec![1; 10_000_000]);
        Limited::new(&mut wire, &line).read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 10_000_000);
        assert!(begun.elapsed() < Duration::from_secs(10), "it has no limit");
        // A limit that is taken away is gone at once.
        line.limit(None, None);
        Limited::new(&mut Counted(&one), &line).write_all(&[7; 10_000_000]).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_is_received_keeps_to_its_limit() {
        let line = Line::default();
        line.limit(None, Some(64_000));
        let begun = Instant::now();
        let mut received = Vec::new();
        Limited::new(&mut Cursor::new(vec![1; 64_000]), &line).read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [1; 64_000]);
        assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
        assert_eq!((line.down.transfers_max(), line.up.transfers_max()), (3, usize::MAX));
    }
}
