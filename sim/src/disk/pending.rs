//! What was written to a file since it was last brought to the disk, and what of that a power cut leaves.
//!
//! Each write is cut where pages of the disk begin. Of the pages, each survives or not by a draw of its own, so that writes are
//! lost, torn between pages, and out of order; and some are torn inside, where each sector survives or not. A file may have got
//! its new length although the bytes did not arrive, and reads as zeros there.
//!
//! A write never damages bytes beside its own: what SQLite calls powersafe overwrite, and assumes unless it is told otherwise.

use crate::draw::Draws;

/// Bytes of a page: what file systems write at once.
pub(super) const PAGE_BYTES: u64 = 4_096;
/// Bytes of a sector, which a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// The outcomes of a draw for a page.
const OUTCOMES: u64 = 16;
/// How many of them tear a page, where anything survives at all.
const TORN: u64 = 3;
/// How many let a page survive: each power cut has one of these, so that in some nearly nothing is left and in others nearly
/// everything.
const SURVIVES: [u64; 5] = [0, 3, 7, 10, 13];

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Pages of writes, lengths and names that were lost, of those that nobody had brought to the disk.
    pub(crate) lost: u64,
    /// Pages of which some sectors are new and others old.
    pub(crate) torn: u64,
}

/// The draws of one power cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate<'a> {
    draws: Draws,
    node: &'a str,
    survives: u64,
}

impl<'a> Fate<'a> {
    /// That of the `cut`th power cut of a node.
    pub(super) fn new(draws: Draws, node: &'a str, cut: u64) -> Self {
        let mood = draws.below(SURVIVES.len() as u64, "power-cut", node, cut);
        Self { draws, node, survives: SURVIVES[usize::try_from(mood).unwrap_or_default()] }
    }

    /// Whether something survives that does so as a whole or not at all.
    pub(super) fn keeps(self, key: &str, n: u64) -> bool {
        self.draw(key, n) % OUTCOMES < self.survives
    }

    /// Which sectors of a page survive, a bit each.
    fn sectors(self, key: &str, n: u64) -> u8 {
        let drawn = self.draw(key, n);
        match drawn % OUTCOMES {
            outcome if outcome < self.survives => u8::MAX,
            outcome if self.survives > 0 && outcome < self.survives + TORN => (drawn >> 56) as u8,
            _ => 0,
        }
    }

    fn draw(self, key: &str, n: u64) -> u64 {
        self.draws.draw("power-cut", &format!("{} {key}", self.node), n)
    }
}

/// A change of a file that is not on the disk for certain.
#[derive(Debug)]
enum Change {
    Written { at: u64, new: Vec<u8>, old: Vec<u8> },
    Cut { length: u64, old: Vec<u8> },
}

/// The changes of one file since it was last brought to the disk, in their order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Each with its number in the file's life, and the bytes that the file had before.
    changes: Vec<(u64, u64, Change)>,
    count: u64,
}

impl Pending {
    /// Notes a write to a file of `size` bytes, `old` of which stood in its place.
    pub(super) fn write(&mut self, size: u64, at: u64, new: &[u8], old: Vec<u8>) {
        self.push(size, Change::Written { at, new: new.to_vec(), old });
    }

    /// Notes a new length of a file of `size` bytes, `old` of which are cut off.
    pub(super) fn truncate(&mut self, size: u64, length: u64, old: Vec<u8>) {
        self.push(size, Change::Cut { length, old });
    }

    fn push(&mut self, size: u64, change: Change) {
        self.changes.push((self.count, size, change));
        self.count += 1;
    }

    /// Takes back the last change, which did not happen.
    pub(super) fn take_back(&mut self) {
        self.changes.pop();
    }

    /// Notes that everything is on the disk.
    pub(super) fn synced(&mut self) {
        self.changes.clear();
    }

    /// Whether everything is on the disk.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is in a file after a power cut, which has `bytes` before it.
    pub(super) fn survivors(
        &self,
        bytes: Vec<u8>,
        key: &str,
        fate: Fate<'_>,
        losses: &mut Losses,
    ) -> Vec<u8> {
        let mut bytes = self.durable(bytes);
        for (number, _, change) in &self.changes {
            let key = format!("{key} {number}");
            match change {
                Change::Written { at, new, .. } => write_some(&mut bytes, *at, new, &key, fate, losses),
                Change::Cut { length, .. } if fate.keeps(&key, 0) => resize(&mut bytes, *length),
                Change::Cut { .. } => losses.lost += 1,
            }
        }
        bytes
    }

    /// What was in the file when it was last brought to the disk.
    fn durable(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (_, size, change) in self.changes.iter().rev() {
            let (at, old) = match change {
                Change::Written { at, old, .. } => (*at, old),
                Change::Cut { length, old } => (*length, old),
            };
            resize(&mut bytes, *size);
            put(&mut bytes, at, old);
        }
        bytes
    }
}

fn write_some(bytes: &mut Vec<u8>, at: u64, new: &[u8], key: &str, fate: Fate<'_>, losses: &mut Losses) {
    let end = at + new.len() as u64;
    // The length is kept elsewhere than the bytes.
    if end > bytes.len() as u64 && fate.keeps(&format!("{key} length"), 0) {
        resize(bytes, end);
    }
    let page = |at: u64| at / PAGE_BYTES * PAGE_BYTES;
    let mut from = at;
    while from < end {
        let until = end.min(page(from) + PAGE_BYTES);
        let sectors = fate.sectors(key, from / PAGE_BYTES);
        let (mut kept, mut lost) = (false, false);
        let mut start = from;
        while start < until {
            let sector = (start - page(start)) / SECTOR_BYTES;
            let stop = until.min(page(start) + (sector + 1) * SECTOR_BYTES);
            let is_kept = sectors >> sector & 1 == 1;
            if is_kept {
                let range = place(start - at)..place(stop - at);
                put(bytes, start, &new[range]);
            }
            (kept, lost) = (kept || is_kept, lost || !is_kept);
            start = stop;
        }
        losses.lost += u64::from(!kept);
        losses.torn += u64::from(kept && lost);
        from = until;
    }
}

/// Puts bytes into a file that grows where it must.
fn put(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let (from, until) = (place(at), place(at) + new.len());
    if bytes.len() < until && !new.is_empty() {
        bytes.resize(until, 0);
    }
    if !new.is_empty() {
        bytes[from..until].copy_from_slice(new);
    }
}

fn resize(bytes: &mut Vec<u8>, length: u64) {
    bytes.resize(place(length), 0);
}

fn place(at: u64) -> usize {
    usize::try_from(at).expect("a simulated file fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = PAGE_BYTES as usize;

    /// What is left of one write of three pages over another, after each of many power cuts.
    fn cuts() -> Vec<(Vec<u8>, Losses)> {
        let cut = |n| {
            let mut pending = Pending::default();
            pending.write(3 * PAGE_BYTES, 0, &[2; 3 * PAGE], vec![1; 3 * PAGE]);
            let mut losses = Losses::default();
            let fate = Fate::new(Draws::new(1), "node-0", n);
            (pending.survivors(vec![2; 3 * PAGE], &format!("file {n}"), fate, &mut losses), losses)
        };
        (0..200).map(cut).collect()
    }

    #[test]
    fn a_write_that_nobody_synced_is_lost_torn_or_there() {
        let cuts = cuts();
        assert!(cuts.iter().any(|(bytes, losses)| bytes.iter().all(|it| *it == 1) && losses.lost == 3));
        assert!(cuts.iter().any(|(bytes, losses)| bytes.iter().all(|it| *it == 2) && losses.lost == 0));
        // Out of order: the last page is there, and the first is not.
        assert!(cuts.iter().any(|(bytes, _)| bytes[..PAGE] == [1; PAGE] && bytes[2 * PAGE..] == [2; PAGE]));
        let torn: Vec<_> = cuts.iter().filter(|(_, losses)| losses.torn > 0).collect();
        assert!(!torn.is_empty());
        for (bytes, losses) in torn {
            let pages = bytes.chunks(PAGE).filter(|page| page.contains(&1) && page.contains(&2));
            assert_eq!(pages.count() as u64, losses.torn);
            let mut sectors = bytes.chunks(SECTOR_BYTES as usize);
            assert!(sectors.all(|sector| sector.iter().all(|it| *it == sector[0])), "sectors are whole");
        }
    }

    #[test]
    fn what_was_synced_is_never_lost() {
        for cut in 0..100 {
            let mut pending = Pending::default();
            pending.write(0, 0, &[1; PAGE], Vec::new());
            pending.synced();
            pending.write(PAGE_BYTES, 100, &[2; 50], vec![1; 50]);
            let mut now = vec![1; PAGE];
            now[100..150].fill(2);
            let mut losses = Losses::default();
            let left = pending.survivors(now, "file", Fate::new(Draws::new(2), "node-0", cut), &mut losses);
            assert!(
                left[..100] == [1; 100] && left[150..] == vec![1; PAGE - 150],
                "bytes beside a write stay"
            );
            assert!(left[100..150] == [1; 50] || left[100..150] == [2; 50]);
        }
    }

    #[test]
    fn lengths_are_lost_and_kept_apart_from_the_bytes() {
        let (mut cut_off, mut stayed, mut zeros) = (0, 0, 0);
        for cut in 0..200 {
            let fate = Fate::new(Draws::new(3), "node-0", cut);
            let mut pending = Pending::default();
            pending.truncate(100, 10, vec![7; 90]);
            let left = pending.survivors(vec![7; 10], &format!("cut {cut}"), fate, &mut Losses::default());
            cut_off += u32::from(left == [7; 10]);
            stayed += u32::from(left == [7; 100]);
            let mut pending = Pending::default();
            pending.write(10, 10, &[8; 5], Vec::new());
            let left = pending.survivors(
                [[7; 10].as_slice(), &[8; 5]].concat(),
                &format!("grown {cut}"),
                fate,
                &mut Losses::default(),
            );
            zeros += u32::from(left == [[7; 10].as_slice(), &[0; 5]].concat());
        }
        assert_eq!(cut_off + stayed, 200);
        assert!(cut_off > 20 && stayed > 20 && zeros > 5, "{cut_off} {stayed} {zeros}");
    }
}
