//! What is remembered of the reading of peers that are gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    heads::Item,
    limits::{HEADS_CURSORS_MAX, HEADS_DECLINED_MAX},
    sync::protocol::Cursor,
};

/// How far the heads of peers were read that are gone, those that left last at the end, and what was declined of them.
#[derive(Debug, Clone)]
pub(super) struct Left<P> {
    peers: BTreeMap<P, (Cursor, BTreeSet<Item>)>,
    order: VecDeque<P>,
    declined: usize,
}

impl<P> Default for Left<P> {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), order: VecDeque::new(), declined: 0 }
    }
}

impl<P: Copy + Ord> Left<P> {
    /// Notes how far the heads of a peer were read that is gone.
    pub(super) fn note(&mut self, peer: P, cursor: Cursor, declined: BTreeSet<Item>) {
        self.take(&peer);
        self.declined += declined.len();
        self.peers.insert(peer, (cursor, declined));
        self.order.push_back(peer);
        if self.peers.len() > HEADS_CURSORS_MAX
            && let Some(oldest) = self.order.front().copied()
        {
            self.take(&oldest);
        }
        for peer in &self.order {
            if self.declined <= HEADS_DECLINED_MAX {
                break;
            }
            if let Some((_, declined)) = self.peers.get_mut(peer) {
                self.declined -= std::mem::take(declined).len();
            }
        }
    }

    /// Takes what is remembered of a peer that is back.
    pub(super) fn take(&mut self, peer: &P) -> Option<(Cursor, BTreeSet<Item>)> {
        let left = self.peers.remove(peer)?;
        self.declined -= left.1.len();
        self.order.retain(|it| it != peer);
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{heads::item::Id, sync::protocol::Position};

    fn cursor(after: u64) -> Cursor {
        Cursor::compared(Position { epoch: 7, after }, true)
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded_and_given_once() {
        let mut left = Left::default();
        for peer in 0..HEADS_CURSORS_MAX + 1 {
            left.note(peer, cursor(peer as u64), BTreeSet::new());
            left.note(peer, cursor(1 + peer as u64), BTreeSet::new());
        }
        assert_eq!(left.take(&0), None, "it left first");
        assert_eq!(left.take(&1), Some((cursor(2), BTreeSet::new())));
        assert_eq!(left.take(&1), None, "once");
        assert_eq!(left.peers.len(), left.order.len());
        let many = |peer: usize| {
            let item = |n: usize| Item { released: (peer * HEADS_DECLINED_MAX + n) as u64, id: Id([0; 32]) };
            (0..HEADS_DECLINED_MAX / 2).map(item).collect::<BTreeSet<Item>>()
        };
        (2..5).for_each(|peer| left.note(peer, cursor(9), many(peer)));
        assert_eq!(left.take(&2).map(|it| it.1.len()), Some(0), "what was declined goes first");
        assert_eq!(left.take(&4).map(|it| it.1.len()), Some(HEADS_DECLINED_MAX / 2));
    }
}
