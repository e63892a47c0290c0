//! What a node holds at one moment, read from its store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use ggen_marketplace::{
    catalog,
    content::{Codec, ContentId},
    package::{
        PackageId,
        manifest::{Manifest, SignedManifest},
        unixfs,
    },
    peers::address_book,
    release::{self, VerifiedHead},
    reputation::ledger,
    store::{self, Store, entries, heads, installed, outbox, packages, published},
};
use libp2p::PeerId;
use sha2::{Digest, Sha256};

/// What a node holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// What its catalogue lists, by full id.
    pub catalogue: BTreeMap<String, Head>,
    /// How far it has seen each package.
    pub seen: BTreeMap<String, u64>,
    /// The entries of logs that it knows of, its own and those that heads name: the package's full id, the place, the entry.
    pub entries: BTreeSet<(String, u64, ContentId)>,
    /// Packages of which it says that their publisher signed two states for one place.
    pub frozen: BTreeSet<String>,
    /// Publishers of whose keys it knows two chains.
    pub keys_disputed: usize,
    /// Trees that it provides or has installed.
    pub held: Vec<Held>,
    /// What it has published since it was looked at last.
    pub published: Vec<Publication>,
    /// The package, version and tree of everything that it has published and still knows of.
    pub own: BTreeSet<(String, String, ContentId)>,
    /// The heads that it has made: each package's full id, and the digest of the bytes.
    pub signed: BTreeSet<(String, [u8; 32])>,
    /// Its blocks.
    pub blocks: BTreeSet<ContentId>,
    /// The blocks of what waits in its outbox, which is published later or never.
    pub waiting: BTreeSet<ContentId>,
    /// Its books, by node.
    pub accounts: BTreeMap<usize, Account>,
    /// Heads that it lists and that nobody has signed.
    pub unverified: usize,
    /// Peers in its address book.
    pub known_peers: usize,
    /// Bytes of its blocks.
    pub store_bytes: u64,
}

/// What a catalogue says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The sequence.
    pub sequence: u64,
    /// The entry of the log at that place.
    pub entry: ContentId,
    /// The latest version and its tree.
    pub latest: Option<(String, ContentId)>,
    /// The digest of its bytes.
    pub digest: [u8; 32],
}

/// A release that a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The package's full id.
    pub package: String,
    /// The version.
    pub version: String,
    /// The tree.
    pub root: ContentId,
    /// The signed manifest.
    pub manifest: ContentId,
}

/// A release that a node has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The package's full id.
    pub package: String,
    /// The version.
    pub version: String,
    /// Its place in the log.
    pub sequence: u64,
    /// The tree.
    pub root: ContentId,
    /// The signed manifest.
    pub manifest: ContentId,
    /// Everything that may be fetched of it.
    pub blocks: BTreeSet<ContentId>,
    /// The digest of the files that its manifest names: see `tree_digest`.
    pub tree: [u8; 32],
}

/// What a node's books say of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Packages retrieved with its help.
    pub successful: u64,
    /// Retrievals that failed because of it.
    pub failed: u64,
    /// Blocks that it forged.
    pub forged: u64,
    /// Bytes of verified blocks.
    pub bytes_received: u64,
}

/// Heads that were verified before, by their bytes: every node lists the same ones, again and again.
pub(super) type Heads = BTreeMap<Vec<u8>, Option<(PackageId, Head)>>;

fn verified(bytes: &[u8]) -> Option<(PackageId, Head)> {
    let head = VerifiedHead::verify_stored(bytes).ok()?;
    let release::Head { sequence, entry, latest, .. } = head.head();
    let latest = latest.as_ref().map(|it| (it.version.to_string(), it.root));
    let digest = Sha256::digest(bytes).into();
    Some((head.package_id(), Head { sequence: sequence.get(), entry: *entry, latest, digest }))
}

/// The heads that a node has made, as its store has them: each package's full id, and the digest of the bytes. No signature is
/// looked at, whose check is what is tested.
pub(crate) fn signed(store: &Store) -> Result<BTreeSet<(String, [u8; 32])>, store::Error> {
    let own = store.read(heads::list_all)?;
    Ok(own.into_iter().map(|it| (it.package.to_string(), Sha256::digest(&it.bytes).into())).collect())
}

/// Whether a node has something to sign as soon as it can.
pub(crate) fn queues(store: &Store) -> Result<bool, store::Error> {
    store.read(|conn| Ok(!outbox::list_all(conn)?.is_empty()))
}

/// Reads what a node holds; `known` says what of its publications was read before.
pub(super) fn read(
    store: &Store,
    peers: &BTreeMap<PeerId, usize>,
    heads: &mut Heads,
    known: &mut BTreeSet<(String, String)>,
) -> Result<View, store::Error> {
    let mut view = store.read(|conn| {
        let mut view = View { keys_disputed: catalog::all_disputed(conn)?.len(), ..View::default() };
        for bytes in catalog::after(conn, 0, usize::MAX, usize::MAX)?.heads {
            if !heads.contains_key(&bytes) {
                heads.insert(bytes.clone(), verified(&bytes));
            }
            match &heads[&bytes] {
                Some((id, head)) => {
                    view.entries.insert((id.to_string(), head.sequence, head.entry));
                    view.catalogue.insert(id.to_string(), head.clone());
                }
                None => view.unverified += 1,
            }
        }
        // What was seen of a package outlives its listing.
        for (id, _) in heads.values().flatten() {
            if let Some(seen) = catalog::seen(conn, id)? {
                view.seen.insert(id.to_string(), seen.sequence.get());
                view.entries.insert((id.to_string(), seen.sequence.get(), seen.entry));
            }
            if catalog::is_frozen(conn, id)? {
                view.frozen.insert(id.to_string());
            }
        }
        for it in packages::list_all(conn)? {
            let (package, version) = (it.package.to_string(), it.version.to_string());
            view.held.push(Held { package, version, root: it.root, manifest: it.manifest });
        }
        for it in installed::list_all(conn)? {
            let (package, version) = (it.package.to_string(), it.version.to_string());
            view.held.push(Held { package, version, root: it.root, manifest: it.manifest });
        }
        for record in ledger::all(conn, None)? {
            if let Some(node) = peers.get(&record.peer) {
                view.accounts.insert(*node, account(&record));
            }
        }
        view.known_peers = address_book::count(conn)?;
        for own in heads::list_all(conn)? {
            let log = entries::list_of(conn, &own.package)?;
            view.entries.extend(log.iter().map(|it| (own.package.to_string(), it.sequence, it.id)));
        }
        Ok(view)
    })?;
    for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
        view.blocks.extend(store.ids_of(codec)?);
    }
    view.waiting = waiting(store)?;
    view.store_bytes = store.stats()?.bytes;
    view.signed = signed(store)?;
    for row in store.read(published::list_all)? {
        let (package, version) = (row.package.to_string(), row.version.to_string());
        view.own.insert((package.clone(), version.clone(), row.root));
        if !known.contains(&(package.clone(), version.clone()))
            && let Some(publication) = publication(store, &row)?
        {
            known.insert((package, version));
            view.published.push(publication);
        }
    }
    Ok(view)
}

fn account(record: &ledger::Record) -> Account {
    Account {
        successful: record.successful,
        failed: record.failed,
        forged: record.blocks_forged,
        bytes_received: record.bytes_received,
    }
}

/// A release with everything that may be fetched of it; none where the publisher itself lacks some of it.
fn publication(store: &Store, row: &published::Published) -> Result<Option<Publication>, store::Error> {
    let mut blocks = BTreeSet::new();
    let (own, log) =
        store.read(|conn| Ok((heads::get(conn, &row.package)?, entries::list_of(conn, &row.package)?)))?;
    blocks.extend(log.iter().map(|entry| entry.id));
    let Some(Ok(head)) = own.map(|own| VerifiedHead::verify_stored(&own.bytes)) else { return Ok(None) };
    blocks.extend(head.key_log().blocks().map(|block| block.id()));
    let held =
        |id: &ContentId| store.block(id)?.map(|it| it.into_bytes()).ok_or(store::Error::Vanished { id: *id });
    let bytes = unixfs::read_file(row.manifest, SignedManifest::BYTES_MAX as u64, &held);
    let manifest = bytes.ok().and_then(|bytes| SignedManifest::decode_and_verify(bytes, head.key_log()).ok());
    let Some(manifest) = manifest.map(SignedManifest::into_manifest) else { return Ok(None) };
    walk(store, row.manifest, &mut blocks)?;
    for file in manifest.files() {
        walk(store, file.id, &mut blocks)?;
    }
    blocks.extend(manifest.directories().iter().map(|block| block.id()));
    Ok(Some(Publication {
        package: row.package.to_string(),
        version: row.version.to_string(),
        sequence: row.sequence,
        root: row.root,
        manifest: row.manifest,
        blocks,
        tree: digest_of(&manifest),
    }))
}

/// The blocks of the trees that wait in the outbox.
fn waiting(store: &Store) -> Result<BTreeSet<ContentId>, store::Error> {
    let mut blocks = BTreeSet::new();
    for row in store.read(outbox::list_all)? {
        let bytes = store.read(|conn| outbox::manifest(conn, &row.package, &row.version))?;
        let Some(manifest) = bytes.and_then(|bytes| Manifest::from_payload(&bytes).ok()) else { continue };
        for file in manifest.files() {
            walk(store, file.id, &mut blocks)?;
        }
        blocks.extend(manifest.directories().iter().map(|block| block.id()));
    }
    Ok(blocks)
}

/// Adds a file's blocks.
fn walk(store: &Store, id: ContentId, blocks: &mut BTreeSet<ContentId>) -> Result<(), store::Error> {
    if blocks.insert(id)
        && id.codec() == Codec::DagPb
        && let Some(block) = store.block(&id)?
    {
        for (child, _) in unixfs::parse_file_node(block.bytes()).unwrap_or_default() {
            walk(store, child, blocks)?;
        }
    }
    Ok(())
}

fn digest_of(manifest: &Manifest) -> [u8; 32] {
    let files = manifest.files().iter().map(|file| (file.path.as_str().to_owned(), file.sha256));
    digest(files.collect())
}

/// The digest of the files of a folder: their paths and bytes.
pub(crate) fn tree_digest(folder: &Path) -> io::Result<[u8; 32]> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(folder).map_err(io::Error::other)?;
                files.insert(inside.to_string_lossy().into_owned(), Sha256::digest(fs::read(&path)?).into());
            }
        }
    }
    Ok(digest(files))
}

fn digest(files: BTreeMap<String, [u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (path, sha256) in files {
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
        hash.update(sha256);
    }
    hash.finalize().into()
}
