//! What this node answers those who read its catalogue, and its own turns of a comparison.

use serde_bytes::ByteBuf;

use super::{
    Verified,
    index::{Catalogue, Shared},
    protocol::{Answer, Position, Request, Standing},
    sound,
};
use crate::{
    catalog,
    heads::{
        Id, Item,
        compare::{self, Broken, Turn, newer, view},
        exchange::{Asked, Ours},
    },
    limits::{HEADS_IDS_MAX, HEADS_PAGE_BYTES, HEADS_PAGE_MAX},
    store::Store,
};

/// The catalogue of this node, to be read for others.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Where it is.
    pub store: &'a Store,
    /// What need not be verified again before it is served.
    pub verified: &'a Verified,
    /// Its items.
    pub index: &'a Shared,
    /// Names the order of its changes.
    pub epoch: u32,
}

/// An answer, and what the question said about the catalogue of whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What is answered; nothing where the database failed, or the question follows no rule.
    pub answer: Option<Answer>,
    /// What it said of itself.
    pub asked: Option<Asked>,
    /// What it is at fault for.
    pub broken: Option<Broken>,
}

impl From<Option<Answer>> for Served {
    fn from(answer: Option<Answer>) -> Self {
        Self { answer, asked: None, broken: None }
    }
}

impl Reading<'_> {
    /// Answers a request, of a peer of which this node does not take what it `declined`.
    pub fn answer(&self, request: Request, declined: &[Item]) -> Served {
        match request {
            Request::Page(position, most) => self.page(position, most).into(),
            Request::Compare(message, until, began) => self.compared(&message, until, began, declined),
            Request::Heads(ids) => self.given(&ids.0).into(),
            Request::Stretch(after, until) => self.stretch(after, until).into(),
            Request::Have(..) | Request::News => Some(Answer::Noted).into(),
        }
    }

    fn page(&self, position: Position, most: u32) -> Option<Answer> {
        let page = super::page(self.store, self.verified, self.epoch, position)?;
        // One who asks for all reads to the end, page by page.
        let is_behind = most < u32::MAX && (!page.done || page.heads.len() > most as usize);
        Some(if is_behind { Answer::Behind } else { Answer::Page(page) })
    }

    fn catalogue(&self) -> Option<Catalogue> {
        let read = self.index.read(self.store);
        read.inspect_err(|error| tracing::warn!(%error, "the catalogue was not read for a comparison")).ok()
    }

    fn position(&self, catalogue: &Catalogue) -> Position {
        Position { epoch: self.epoch, after: catalogue.position }
    }

    fn compared(&self, message: &[u8], until: u64, began: Option<Position>, declined: &[Item]) -> Served {
        let Some(catalogue) = self.catalogue() else { return None.into() };
        let answer = match compare::answer(&view(&catalogue.items, until, declined), message) {
            Ok(answer) => answer,
            Err(broken) => return Served { answer: None, asked: None, broken: Some(broken) },
        };
        let newer = newer(&catalogue.items, until);
        let asked = match began {
            Some(position) if compare::is_same(&answer) => Asked::Same { position, is_all: newer.is_none() },
            _ => Asked::WentOn,
        };
        let standing = began.map(|_| Standing {
            position: self.position(&catalogue),
            newest: catalogue.newest(),
            newer,
        });
        let answer = Some(Answer::Compared(ByteBuf::from(answer), standing));
        Served { answer, asked: Some(asked), broken: None }
    }

    /// The turn of this side, after what the peer answered: see [`Output::Compare`](crate::heads::exchange::Output::Compare).
    pub fn turn(
        &self,
        answer: Option<&[u8]>,
        until: Option<u64>,
        newest: Option<u64>,
        declined: &[Item],
    ) -> Option<Result<Ours, Broken>> {
        let catalogue = self.catalogue()?;
        let until = until.unwrap_or(catalogue.newest());
        let items = view(&catalogue.items, until, declined);
        let turn = match answer {
            None => compare::open(&items).map(|message| Turn { message: Some(message), ..Turn::default() }),
            Some(answer) => compare::advance(&items, answer),
        };
        Some(turn.map(|mut turn| {
            let is_declined = |id: &Id| declined.iter().any(|item| item.id == *id);
            let gone = turn.have.iter().filter(|id| is_declined(id)).copied().collect();
            turn.have.retain(|id| !is_declined(id));
            Ours {
                newer: newest.and_then(|newest| newer(&catalogue.items, newest)),
                newest: catalogue.newest(),
                position: self.position(&catalogue),
                turn,
                gone,
            }
        }))
    }

    fn given(&self, ids: &[Id]) -> Option<Answer> {
        let (heads, looked_at) = self.heads_of(&ids[..ids.len().min(HEADS_IDS_MAX)])?;
        Some(Answer::Given(heads, u32::try_from(looked_at).unwrap_or(u32::MAX), None))
    }

    fn stretch(&self, after: Item, until: Option<Item>) -> Option<Answer> {
        let catalogue = self.catalogue()?;
        let items = &catalogue.items;
        let begin = items.partition_point(|item| *item <= after);
        let end = until.map_or(items.len(), |until| items.partition_point(|item| *item <= until)).max(begin);
        let ids: Vec<Id> = items[begin..end].iter().take(HEADS_PAGE_MAX).map(|item| item.id).collect();
        let (heads, looked_at) = self.heads_of(&ids)?;
        let reached = begin + looked_at;
        let next = (reached < end && looked_at > 0).then(|| items[reached - 1]);
        Some(Answer::Given(heads, 0, next))
    }

    fn heads_of(&self, ids: &[Id]) -> Option<(Vec<ByteBuf>, usize)> {
        let read =
            self.store.read(|conn| Ok(catalog::of_items(conn, ids, HEADS_PAGE_MAX, HEADS_PAGE_BYTES)?));
        let catalog::Page { heads, next, .. } =
            read.inspect_err(|error| tracing::warn!(%error, "heads were not read for a peer")).ok()?;
        Some((sound(self.store, self.verified, 0, heads), usize::try_from(next).unwrap_or(usize::MAX)))
    }
}
