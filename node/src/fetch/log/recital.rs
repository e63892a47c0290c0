//! Reads the entries of a log for a peer, frame by frame.

use serde_bytes::ByteBuf;

use super::protocol::{Frame, Request, Then};
use crate::{
    content::{Codec, ContentId},
    limits::{LOG_BYTES_MAX, LOG_ENTRIES_MAX, LOG_FRAME_BYTES, LOG_FRAME_ENTRIES_MAX},
    release::Back,
    store::Store,
};

/// One answer to a request for a log. It holds nothing but its place in the log.
#[derive(Debug)]
pub struct Recital {
    request: Request,
    next: ContentId,
    entries: usize,
    bytes: usize,
}

impl Recital {
    /// Begins to answer a request.
    pub fn new(request: Request) -> Self {
        Self { next: request.newest, request, entries: 0, bytes: 0 }
    }

    /// The next frame; not called again after the last one.
    pub fn frame(&mut self, store: &Store) -> Frame {
        let mut frame = Frame::last(Then::More);
        let mut bytes = 0;
        while bytes < LOG_FRAME_BYTES && frame.entries.len() < LOG_FRAME_ENTRIES_MAX {
            let Some((entry, back)) = self.read(store) else {
                frame.then = Then::Missing;
                return frame;
            };
            let is_wanted = |sequence| self.request.above.is_none_or(|above| sequence > above);
            if !is_wanted(back.sequence) {
                frame.then = Then::Done;
                return frame;
            }
            bytes += entry.len();
            self.bytes += entry.len();
            self.entries += 1;
            frame.entries.push(ByteBuf::from(entry));
            match back.previous.filter(|(_, sequence)| is_wanted(*sequence)) {
                Some((id, _)) => self.next = id,
                None => {
                    frame.then = Then::Done;
                    return frame;
                }
            }
        }
        frame
    }

    /// The next entry, where it is here and is one of this package.
    fn read(&self, store: &Store) -> Option<(Vec<u8>, Back)> {
        // Nobody takes a longer log.
        if self.entries >= LOG_ENTRIES_MAX
            || self.bytes > LOG_BYTES_MAX
            || self.next.codec() != Codec::DagCbor
        {
            return None;
        }
        let block = store.block(&self.next).unwrap_or_else(|error| {
            tracing::warn!(%error, "an entry of a log was not read");
            None
        })?;
        let bytes = block.into_bytes();
        let back = Back::read(&bytes).filter(|back| back.package == self.request.package())?;
        Some((bytes, back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        package::PackageId,
        release::{
            Log, Sequence,
            fixture::{publisher, releases},
        },
    };

    fn stored(log: &Log) -> Store {
        let store = Store::in_memory().unwrap();
        let blocks: Vec<_> = log.entries().iter().map(|entry| entry.block().clone()).collect();
        store.put_blocks(&blocks).unwrap();
        store
    }

    fn request(log: &Log, above: Option<u64>) -> Request {
        let PackageId { publisher, name } = log.package().clone();
        let newest = log.newest().unwrap().id();
        Request { publisher, name, newest, above: above.map(Sequence::new) }
    }

    /// The places that are told, and how it ends.
    fn told(store: &Store, request: Request) -> (Vec<u64>, usize, Then) {
        let (mut recital, mut places, mut frames) = (Recital::new(request), Vec::new(), 0);
        loop {
            let frame = recital.frame(store);
            frames += 1;
            places.extend(frame.entries.iter().map(|bytes| Back::read(bytes).unwrap().sequence.get()));
            if frame.then != Then::More {
                return (places, frames, frame.then);
            }
            assert!(!frame.entries.is_empty());
        }
    }

    fn versions(number: u32) -> Log {
        let versions: Vec<String> = (0..number).map(|n| format!("1.0.{n}")).collect();
        releases(&publisher(1), &versions.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_log_is_told_from_the_newest_back_to_what_is_held_already() {
        let log = versions(5);
        let store = stored(&log);
        for (above, places) in [
            (None, vec![4, 3, 2, 1, 0]),
            (Some(0), vec![4, 3, 2, 1]),
            (Some(3), vec![4]),
            (Some(4), vec![]),
            (Some(u64::MAX), vec![]),
        ] {
            assert_eq!(told(&store, request(&log, above)), (places, 1, Then::Done), "{above:?}");
        }
        let middle = Request { newest: log.entries()[2].id(), ..request(&log, None) };
        assert_eq!(told(&store, middle), (vec![2, 1, 0], 1, Then::Done));
    }

    #[test]
    fn frames_are_bounded() {
        let log = versions(500);
        let (places, frames, then) = told(&stored(&log), request(&log, None));
        assert_eq!((places, then), ((0..500).rev().collect(), Then::Done));
        assert!(frames > 1);
        let mut recital = Recital::new(request(&log, None));
        let frame = recital.frame(&stored(&log));
        let bytes: usize = frame.entries.iter().map(|entry| entry.len()).sum();
        assert!(frame.entries.len() <= LOG_FRAME_ENTRIES_MAX && bytes < 2 * LOG_FRAME_BYTES);
    }

    #[test]
    fn what_is_not_here_or_no_entry_of_the_package_is_missing() {
        let log = versions(5);
        let [older, newer] = log.entries().split_at(2).into();
        let blocks = |entries: &[crate::release::SignedEntry]| -> Vec<_> {
            entries.iter().map(|entry| entry.block().clone()).collect()
        };
        let store = Store::in_memory().unwrap();
        store.put_blocks(&blocks(newer)).unwrap();
        assert_eq!(told(&store, request(&log, None)), (vec![4, 3, 2], 1, Then::Missing));
        store.put_blocks(&blocks(older)).unwrap();
        let of_another = Request { name: "another".parse().unwrap(), ..request(&log, None) };
        assert_eq!(told(&store, of_another), (vec![], 1, Then::Missing));
        let no_entry = crate::content::Block::new(Codec::DagCbor, b"\xa0".to_vec());
        store.put_blocks(std::slice::from_ref(&no_entry)).unwrap();
        let odd = Request { newest: no_entry.id(), ..request(&log, None) };
        assert_eq!(told(&store, odd), (vec![], 1, Then::Missing));
        let raw = Request { newest: ContentId::of(Codec::Raw, b"x"), ..request(&log, None) };
        assert_eq!(told(&store, raw), (vec![], 1, Then::Missing));
    }
}
