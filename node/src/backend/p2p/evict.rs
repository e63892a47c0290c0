//! Which blocks nobody here needs, in what order they are evicted, and their eviction.
//!
//! What is installed where its folder still is, published, waits in the outbox or is pinned is never evicted, nor are the logs and keys that belong to it. The
//! rest goes in this order: what belongs to nothing, what interrupted installations left, and packages that are only provided to
//! others, the least valuable first. Blocks that several of them have stay as long as one of them does.
//!
//! Synchronous; who calls it keeps installations and publications out meanwhile (`Node::collecting`). What changes all the same, such as
//! a version that leaves the outbox, is noticed before each step, and then everything is looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use rusqlite::Connection;

use super::{install::head_key, place};
use crate::{
    catalog,
    code::Code,
    content::{Block, Codec, ContentId},
    identity::Envelope,
    package::{Manifest, PackageId, SignedManifest, unixfs},
    project::placed_in,
    release::{VerifiedHead, unverified_package},
    store::{
        self, Store, entries, heads, installed, kept, meta, outbox,
        packages::{self, HeldPackage},
        partial::{self, Partial},
        published,
    },
    time::Timestamp,
};

/// Blocks that are evicted in one transaction, so that a disk that is nearly full has room for its log, and others get their turn.
const EVICTED_AT_ONCE: usize = 4_096;
/// The same where the disk is full all the same: what fits into the space that is kept for that.
const EVICTED_AT_ONCE_MIN: usize = 8;
/// How often everything is looked at again where something changed meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// Something that is evicted as a whole.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) blocks: Vec<ContentId>,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// It belongs to nothing.
    Leftover,
    /// Its installation was begun, and it is not whole.
    Partial(Box<Partial>),
    /// It is whole, and neither installed nor published nor pinned.
    Cached(Box<HeldPackage>),
}

/// What is to be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All that nobody needs.
    All,
    /// What interrupted installations left that were begun before this time.
    Abandoned(Timestamp),
    /// So many bytes, or nothing where there is less.
    Bytes(u64),
}

impl Wanted {
    fn choose(self, items: Vec<Item>) -> Vec<Item> {
        let is_abandoned = |item: &Item, before: Timestamp| match &item.kind {
            Kind::Partial(partial) => partial.started_at < before,
            Kind::Leftover | Kind::Cached(_) => false,
        };
        match self {
            Self::All => items,
            Self::Abandoned(before) => items.into_iter().filter(|item| is_abandoned(item, before)).collect(),
            Self::Bytes(bytes) => {
                if items.iter().map(|item| item.bytes).sum::<u64>() < bytes {
                    return Vec::new();
                }
                let mut freed = 0;
                let mut goes = |item: &Item| {
                    let goes = freed < bytes;
                    freed += item.bytes;
                    goes
                };
                items.into_iter().take_while(|item| goes(item)).collect()
            }
        }
    }

    /// What is still to be evicted after something was.
    fn after(self, freed: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.saturating_sub(freed)),
            other => other,
        }
    }

    fn is_nothing(self) -> bool {
        self == Self::Bytes(0)
    }
}

/// What was evicted.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    pub(super) items: Vec<Item>,
    /// Trees that this node does not provide any more.
    pub(super) roots: Vec<ContentId>,
}

/// What can be evicted, with what that depends on.
#[derive(Debug)]
struct Plan {
    roots: Roots,
    /// The least valuable first.
    items: Vec<Item>,
}

/// All that can be evicted, the least valuable first.
pub(super) fn evictable(store: &Store, now: Timestamp) -> Result<Vec<Item>, store::Error> {
    Ok(plan(store, &[], now)?.items)
}

/// Evicts, and spares what is here of the packages in `spared`. A crash leaves nothing that claims blocks that are gone: what it leaves
/// belongs to nothing, and goes the next time.
pub(super) fn evict(
    store: &Store,
    mut wanted: Wanted,
    spared: &[HeldPackage],
    now: Timestamp,
) -> Result<Evicted, store::Error> {
    let (mut evicted, had_reserve) = (Evicted::default(), store.has_reserve());
    with_reserve(store, || expire_pins(store, now))?;
    for _ in 0..ATTEMPTS_MAX {
        let Plan { roots, items } = plan(store, spared, now)?;
        let (freed, is_done) = carry_out(store, &roots, wanted.choose(items), now, &mut evicted)?;
        wanted = wanted.after(freed);
        if is_done || wanted.is_nothing() {
            break;
        }
    }
    store.free_dead_space();
    if had_reserve {
        store.keep_reserve();
    }
    Ok(evicted)
}

/// Does something again with the space that is kept for it, where the disk is full.
pub(super) fn with_reserve<T>(
    store: &Store,
    work: impl Fn() -> Result<T, store::Error>,
) -> Result<T, store::Error> {
    match work() {
        Err(error) if error.code() == Code::DiskFull && store.give_up_reserve() => work(),
        done => done,
    }
}

/// Folders that a package was installed into, and that are there no more: a user deleted them.
pub(super) fn deleted_folders(store: &Store) -> Result<Vec<PathBuf>, store::Error> {
    Ok(store.read(installed::list_deleted)?.into_iter().map(|row| row.path).collect())
}

/// Forgets that packages are installed into folders, of those that are there no more; returns which.
pub(super) fn forget_deleted(store: &Store) -> Result<Vec<PathBuf>, store::Error> {
    store.write(|tx| {
        installed::renew_devices(tx)?;
        let deleted: Vec<PathBuf> = installed::list_deleted(tx)?.into_iter().map(|row| row.path).collect();
        deleted.iter().try_for_each(|path| installed::remove(tx, path).map(drop))?;
        Ok(deleted)
    })
}

/// Takes away the pins whose time is over.
pub(super) fn expire_pins(store: &Store, now: Timestamp) -> Result<(), store::Error> {
    let mut expired = store.read(kept::list_all)?;
    expired.retain(|pin| pin.has_expired(now));
    if expired.is_empty() {
        return Ok(());
    }
    store.write(|tx| expired.iter().try_for_each(|pin| kept::remove(tx, &pin.name).map(drop)))
}

/// Evicts items for as long as nothing changes that they depend on; returns the bytes that went, and whether that was all of it.
fn carry_out(
    store: &Store,
    roots: &Roots,
    items: Vec<Item>,
    now: Timestamp,
    evicted: &mut Evicted,
) -> Result<(u64, bool), store::Error> {
    let (mut freed, mut at_once) = (0, EVICTED_AT_ONCE);
    for item in items {
        let (mut gone, mut at) = (Item { kind: item.kind, blocks: Vec::new(), bytes: 0 }, 0);
        loop {
            let end = item.blocks.len().min(at + at_once);
            let some = &item.blocks[at..end];
            let step = store.remove_blocks_with(some, |tx| {
                if Roots::read(tx, now)? != *roots {
                    return Ok(None);
                }
                forget(tx, &gone.kind).map(Some)
            });
            let step = match step {
                Err(error) if error.code() == Code::DiskFull && at_once > EVICTED_AT_ONCE_MIN => {
                    store.give_up_reserve();
                    at_once = (at_once / 8).max(EVICTED_AT_ONCE_MIN);
                    continue;
                }
                step => step?,
            };
            let Some((bytes, root)) = step else {
                if !gone.blocks.is_empty() {
                    evicted.items.push(gone);
                }
                return Ok((freed, false));
            };
            evicted.roots.extend(root);
            gone.blocks.extend(some);
            gone.bytes += bytes;
            freed += bytes;
            at = end;
            if at == item.blocks.len() {
                break;
            }
        }
        evicted.items.push(gone);
    }
    Ok((freed, true))
}

/// Forgets that something is here; returns the tree that this node does not provide any more. Again changes nothing.
fn forget(tx: &rusqlite::Transaction<'_>, kind: &Kind) -> Result<Option<ContentId>, store::Error> {
    match kind {
        Kind::Leftover => Ok(None),
        Kind::Partial(partial) => partial::remove(tx, &partial.package).map(|_| None),
        Kind::Cached(held) => {
            let was_there = packages::remove_held(tx, held)?;
            let is_gone = was_there && packages::get(tx, &held.root)?.is_empty();
            Ok(is_gone.then_some(held.root))
        }
    }
}

fn plan(store: &Store, spared: &[HeldPackage], now: Timestamp) -> Result<Plan, store::Error> {
    // First of all which blocks there are: what comes while the rest is read is no item then.
    let sizes: BTreeMap<ContentId, u64> = store.sizes()?.into_iter().collect();
    let (roots, cached, mut partial) = store.read(|conn| {
        let roots = Roots::read(conn, now)?;
        let cached = cached(conn, &roots)?;
        Ok((roots, cached, partial::list_all(conn)?))
    })?;
    let entries = entries_in(store, &sizes)?;
    let is_spared = |held: &HeldPackage| spared.iter().any(|it| it.root == held.root);
    let mut live = Marks::default();
    roots.mark(store, &entries, &mut live)?;
    spared.iter().try_for_each(|held| live.unfinished(store, held))?;
    let mut items = Vec::new();
    // From the most valuable on: what several have belongs to the one that stays longest.
    for (held, head) in cached.iter().rev().filter(|(held, _)| !is_spared(held)) {
        let mut own = Marks::default();
        own.package(store, held)?;
        own.history(&held.package, head.as_deref(), &entries);
        items.push(Item::of(Kind::Cached(Box::new(held.clone())), own, &mut live, &sizes));
    }
    partial.retain(|partial| !is_spared(&partial.package));
    for partial in partial.iter().rev() {
        let mut own = Marks::default();
        own.unfinished(store, &partial.package)?;
        items.push(Item::of(Kind::Partial(Box::new(partial.clone())), own, &mut live, &sizes));
    }
    let rest = Marks { seen: sizes.keys().copied().collect() };
    let leftover = Item::of(Kind::Leftover, rest, &mut live, &sizes);
    if !leftover.blocks.is_empty() {
        items.push(leftover);
    }
    items.reverse();
    Ok(Plan { roots, items })
}

/// What a store must keep, as its tables say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Roots {
    /// Installed, published or pinned, or what a replacement that is in progress is completed from.
    kept: Vec<HeldPackage>,
    /// What projects have in their folders, whether the store knows of it or not.
    in_projects: Vec<HeldPackage>,
    /// Trees of the outbox, which have no manifest of their own yet.
    trees: Vec<ContentId>,
    /// Entries of our own logs.
    entries: Vec<ContentId>,
    /// Heads whose keys are needed.
    heads: Vec<Vec<u8>>,
    /// Blocks that stand alone: lists of confirmations.
    single: Vec<ContentId>,
}

impl Roots {
    fn read(conn: &Connection, now: Timestamp) -> Result<Self, store::Error> {
        let mut kept: Vec<HeldPackage> = Vec::new();
        // Of one whose folder was deleted by hand nothing is needed.
        let deleted: BTreeSet<PathBuf> =
            installed::list_deleted(conn)?.into_iter().map(|row| row.path).collect();
        let all = installed::list_all(conn)?;
        // What the notes of projects name counts too: they are written before the store is.
        let partial = partial::list_all(conn)?.into_iter().map(|it| it.target);
        let sites: BTreeSet<PathBuf> = all
            .iter()
            .map(|row| row.path.clone())
            .chain(partial)
            .filter_map(|path| path.parent().map(ToOwned::to_owned))
            .collect();
        let placed = sites.iter().flat_map(|site| placed_in(site)).map(|placed| HeldPackage {
            root: placed.root,
            manifest: placed.manifest,
            package: placed.package,
            version: placed.version,
            size: 0,
        });
        let in_projects: Vec<HeldPackage> = placed.collect();
        let installed = all.into_iter().filter(|row| !deleted.contains(&row.path));
        let in_place = installed.chain(place::in_progress(conn)?);
        kept.extend(in_place.map(|row| HeldPackage {
            root: row.root,
            manifest: row.manifest,
            package: row.package,
            version: row.version,
            size: row.bytes,
        }));
        kept.extend(published::list_all(conn)?.into_iter().map(|row| HeldPackage {
            root: row.root,
            manifest: row.manifest,
            package: row.package,
            version: row.version,
            size: row.bytes,
        }));
        let pins = kept::list_all(conn)?.into_iter().filter(|pin| !pin.has_expired(now));
        kept.extend(pins.map(|pin| pin.package));
        let mut heads: Vec<Vec<u8>> = heads::list_all(conn)?.into_iter().map(|head| head.bytes).collect();
        let named: BTreeSet<&PackageId> = kept.iter().chain(&in_projects).map(|held| &held.package).collect();
        for package in named {
            heads.extend(meta::get(conn, &head_key(package))?);
            heads.extend(catalog::get(conn, package)?.map(|listed| listed.bytes));
        }
        Ok(Self {
            kept,
            in_projects,
            trees: outbox::list_all(conn)?.into_iter().map(|row| row.root).collect(),
            entries: entries::ids(conn)?,
            heads,
            single: catalog::confirmed_lists(conn)?,
        })
    }

    fn mark(
        &self,
        store: &Store,
        entries: &BTreeMap<PackageId, Vec<ContentId>>,
        live: &mut Marks,
    ) -> Result<(), store::Error> {
        for held in &self.kept {
            live.package(store, held)?;
            live.history(&held.package, None, entries);
        }
        for held in &self.in_projects {
            live.unfinished(store, held)?;
            live.history(&held.package, None, entries);
        }
        for root in &self.trees {
            live.graph(store, *root)?;
        }
        live.seen.extend(self.entries.iter().chain(&self.single));
        self.heads.iter().for_each(|head| live.keys(head));
        Ok(())
    }
}

/// A package, and the head of it that is listed.
type WithHead = (HeldPackage, Option<Vec<u8>>);

/// Packages that are here for others only: first those that have a newer version or were yanked, and of both those that came first.
fn cached(conn: &Connection, roots: &Roots) -> Result<Vec<WithHead>, store::Error> {
    let needed = roots.kept.iter().chain(&roots.in_projects);
    let kept: BTreeSet<_> = needed.map(|it| (it.root, &it.package, &it.version)).collect();
    let mut cached = Vec::new();
    for held in packages::list_by_age(conn)? {
        if kept.contains(&(held.root, &held.package, &held.version)) {
            continue;
        }
        let listed = catalog::get(conn, &held.package)?;
        let latest = listed.as_ref().and_then(|listed| listed.head.latest.as_ref());
        let is_latest = latest.is_some_and(|latest| latest.version == held.version);
        cached.push((is_latest, held, listed.map(|listed| listed.bytes)));
    }
    // The order of their age stays.
    cached.sort_by_key(|(is_latest, ..)| *is_latest);
    Ok(cached.into_iter().map(|(_, held, head)| (held, head)).collect())
}

/// The entries of logs that are here, by the package that they say they are of: also those that no head that is known leads to.
fn entries_in(
    store: &Store,
    sizes: &BTreeMap<ContentId, u64>,
) -> Result<BTreeMap<PackageId, Vec<ContentId>>, store::Error> {
    let mut entries: BTreeMap<PackageId, Vec<ContentId>> = BTreeMap::new();
    for id in sizes.keys().filter(|id| id.codec() == Codec::DagCbor) {
        if let Some(package) = store.block(id)?.and_then(|block| unverified_package(block.bytes())) {
            entries.entry(package).or_default().push(*id);
        }
    }
    Ok(entries)
}

/// Blocks that belong to something.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) seen: BTreeSet<ContentId>,
}

impl Marks {
    /// A package that is whole.
    fn package(&mut self, store: &Store, held: &HeldPackage) -> Result<(), store::Error> {
        self.graph(store, held.root)?;
        self.graph(store, held.manifest)
    }

    /// A package whose directories are not here yet: its files, as far as its manifest is.
    pub(super) fn unfinished(&mut self, store: &Store, held: &HeldPackage) -> Result<(), store::Error> {
        self.package(store, held)?;
        let Some(manifest) = manifest_here(store, held.manifest)? else { return Ok(()) };
        manifest.files().iter().try_for_each(|file| self.graph(store, file.whole().id))
    }

    /// A block and all that it links to, as far as that is here.
    fn graph(&mut self, store: &Store, root: ContentId) -> Result<(), store::Error> {
        let mut next = vec![root];
        while let Some(id) = next.pop() {
            if !self.seen.insert(id) || id.codec() != Codec::DagPb {
                continue;
            }
            if let Some(block) = store.block(&id)? {
                next.extend(unixfs::links(block.bytes()));
            }
        }
        Ok(())
    }

    /// The log of a package, and the keys of a head of it.
    fn history(
        &mut self,
        package: &PackageId,
        head: Option<&[u8]>,
        entries: &BTreeMap<PackageId, Vec<ContentId>>,
    ) {
        self.seen.extend(entries.get(package).into_iter().flatten());
        head.into_iter().for_each(|head| self.keys(head));
    }

    fn keys(&mut self, head: &[u8]) {
        if let Ok(head) = VerifiedHead::verify_stored(head) {
            self.seen.extend(head.key_log().blocks().map(|block| block.id()));
        }
    }
}

impl Item {
    /// What of some blocks nothing else that was looked at has.
    fn of(kind: Kind, own: Marks, live: &mut Marks, sizes: &BTreeMap<ContentId, u64>) -> Self {
        let (mut blocks, mut bytes) = (Vec::new(), 0u64);
        for id in own.seen {
            if let Some(size) = sizes.get(&id)
                && live.seen.insert(id)
            {
                blocks.push(id);
                bytes = bytes.saturating_add(*size);
            }
        }
        Self { kind, blocks, bytes }
    }
}

/// A manifest that is here; it was verified before it was noted that its package is fetched.
fn manifest_here(store: &Store, id: ContentId) -> Result<Option<Manifest>, store::Error> {
    let held =
        |id: &ContentId| store.block(id)?.map(Block::into_bytes).ok_or(store::Error::Vanished { id: *id });
    let Ok(bytes) = unixfs::read_file(id, SignedManifest::BYTES_MAX as u64, &held) else { return Ok(None) };
    let envelope = Envelope::decode(&bytes, SignedManifest::BYTES_MAX).ok();
    Ok(envelope.and_then(|envelope| Manifest::from_payload(envelope.payload()).ok()))
}

#[cfg(test)]
#[path = "evict_tests.rs"]
pub(super) mod tests;
