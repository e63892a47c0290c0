//! What happens in the demonstration, step by step.

use std::{path::Path, time::Duration};

use futures::future::{join_all, try_join_all};
use ggen_marketplace::{
    code::Code,
    control::{
        api::{
            Failure, InstallRequest, Installed, PackageInfo, PeerInfoRequest, PublishRequest, Published,
            SearchRequest, VerifyRequest,
        },
        service::Outcome,
    },
};
use serde::Serialize;
use tokio::time::Instant;

use super::{example, member::Member};
use crate::{page, session::Session};

/// How long the news of a package, or of another provider, may take to reach every node.
const NEWS_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node is asked whether the news has come.
const NEWS_PAUSE: Duration = Duration::from_millis(100);
/// Seconds that publishing, and installing, may take.
const WORK_SECS: u64 = 60;

/// What happened.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The nodes, in the order in which they started.
    pub(super) nodes: Vec<Actor>,
    /// Full id with version of the package that was published.
    pub(super) package: String,
    /// The content id of its tree.
    pub(super) cid: String,
    /// Bytes of all its files.
    pub(super) bytes: u64,
    /// Number of its files.
    pub(super) files: u64,
    /// The word that found it.
    pub(super) keyword: String,
    /// How many bytes the last node received from each provider.
    pub(super) providers: Vec<Share>,
    /// Whether every file that was installed last is the one that was published.
    pub(super) verified: bool,
    /// SHA-256 over the paths and SHA-256 of all files, in hex.
    pub(super) sha256: String,
    /// How long all of it took.
    pub(super) seconds: f64,
    /// The folder that stays, where it does.
    pub(super) kept: Option<String>,
}

/// One node of the demonstration.
#[derive(Debug, Serialize)]
pub(super) struct Actor {
    /// Its number, from 1.
    pub(super) node: usize,
    /// Its peer id.
    pub(super) peer_id: String,
    /// Its address.
    pub(super) address: String,
}

/// What one provider gave.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    /// Its number.
    pub(super) node: usize,
    /// Its peer id.
    pub(super) peer_id: String,
    /// Bytes of verified blocks.
    pub(super) bytes: u64,
}

/// Counts the steps, and tells of each.
struct Narrator<'a> {
    session: &'a Session,
    step: usize,
}

impl Narrator<'_> {
    fn step(&mut self, text: &str) {
        self.step += 1;
        self.session.note(&format!("{}. {text}", self.step));
    }

    fn detail(&self, text: &str) {
        self.session.note(&format!("   {text}"));
    }
}

/// Plays the whole demonstration in the folder `root`. The nodes end with it, whatever happens.
pub(super) async fn tell(session: &Session, root: &Path, count: usize) -> Outcome<Summary> {
    let began = Instant::now();
    let mut narrator = Narrator { session, step: 0 };
    let members = start(&mut narrator, root, count).await?;
    let (source, published) = publish(&mut narrator, root, &members[0]).await?;
    let (last, others) = members.split_last().ok_or_else(|| Failure::new(Code::Failed, "No nodes.", ""))?;
    for member in others.get(1..).unwrap_or_default() {
        find(&mut narrator, member, &published, 1).await?;
        install(&mut narrator, root, member, &published).await?;
    }
    know_of(&mut narrator, last, others.get(1..).unwrap_or_default()).await?;
    let found = find(&mut narrator, last, &published, others.len()).await?;
    let installed = install(&mut narrator, root, last, &published).await?;
    let providers = shares(&narrator, others, last, &found, &installed).await?;
    let sha256 = verify(&mut narrator, last, &source, &installed).await?;
    let nodes = members.iter().map(actor).collect();
    stop(&mut narrator, members).await?;
    Ok(Summary {
        nodes,
        package: published.id,
        cid: published.cid,
        bytes: published.size,
        files: published.files,
        keyword: example::KEYWORD.to_owned(),
        providers,
        verified: true,
        sha256,
        seconds: began.elapsed().as_secs_f64(),
        kept: None,
    })
}

async fn start(narrator: &mut Narrator<'_>, root: &Path, count: usize) -> Outcome<Vec<Member>> {
    narrator
        .step(&format!("Starting {count} nodes, each a process with its own folder in {}.", root.display()));
    let first = Member::start(root, 1, None).await?;
    let address = first
        .started
        .listen_addresses
        .first()
        .cloned()
        .ok_or_else(|| Failure::new(Code::Failed, "Node 1 listens nowhere.", "Look at its log."))?;
    let others = (2..=count).map(|number| Member::start(root, number, Some(&address)));
    let mut members = vec![first];
    members.extend(try_join_all(others).await?);
    for member in &members {
        narrator.detail(&format!("node {} is {}", member.number, actor(member).address));
    }
    narrator.detail("Node 1 knows nobody, and the others know only node 1. There is no server.");
    Ok(members)
}

fn actor(member: &Member) -> Actor {
    Actor {
        node: member.number,
        peer_id: member.started.peer_id.clone(),
        address: member.started.listen_addresses.first().cloned().unwrap_or_default(),
    }
}

/// Publishes the example on the first node; gives its folder too.
async fn publish(
    narrator: &mut Narrator<'_>,
    root: &Path,
    member: &Member,
) -> Outcome<(std::path::PathBuf, Published)> {
    let source = root.join("greeting-templates");
    narrator.step(&format!("Node {} publishes the example package in {}.", member.number, source.display()));
    example::write(&source).map_err(|error| {
        Failure::new(
            Code::Io,
            format!("The example package cannot be written: {error}."),
            "Free some disk space, and run the demonstration again.",
        )
    })?;
    let request = PublishRequest {
        path: text(&source)?,
        wait: true,
        timeout_secs: Some(WORK_SECS),
        ..PublishRequest::default()
    };
    let published = member.client().publish(&request, |_| {}).await?;
    narrator.detail(&format!(
        "It signed {} {}: {} in {} files, {} blocks.",
        published.name,
        published.version,
        page::bytes(published.size),
        published.files,
        published.blocks,
    ));
    narrator.detail(&format!(
        "Its announcement reached {} through the DHT, and {} by gossip.",
        page::count(published.dht_stored, "node"),
        page::count(published.announced_to, "node"),
    ));
    Ok((source, published))
}

/// Waits until a node knows that others provide the package too, as each of them tells the DHT once it has installed it.
async fn know_of(narrator: &mut Narrator<'_>, member: &Member, providers: &[Member]) -> Outcome<()> {
    let deadline = Instant::now() + NEWS_DEADLINE;
    for provider in providers {
        let request = PeerInfoRequest { peer_id: provider.started.peer_id.clone(), full: false };
        loop {
            match member.client().peer_info(&request).await {
                Ok(details) if details.peer.packages_claimed > 0 => break,
                // The two may not have met yet.
                Ok(_) => {}
                Err(failure) if failure.code == Code::NotFound => {}
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= deadline {
                let (who, seconds) = (provider.number, NEWS_DEADLINE.as_secs());
                let why = format!(
                    "Node {} did not hear within {seconds} s that node {who} provides it.",
                    member.number
                );
                return Err(Failure::new(Code::Timeout, why, ""));
            }
            tokio::time::sleep(NEWS_PAUSE).await;
        }
        narrator.detail(&format!("Node {} now provides it too, and told the DHT.", provider.number));
    }
    Ok(())
}

/// Searches by keyword until the package has as many providers as it should.
async fn find(
    narrator: &mut Narrator<'_>,
    member: &Member,
    published: &Published,
    providers: usize,
) -> Outcome<PackageInfo> {
    narrator.step(&format!("Node {} searches for \"{}\".", member.number, example::KEYWORD));
    let request = SearchRequest { text: example::KEYWORD.to_owned(), ..SearchRequest::default() };
    let deadline = Instant::now() + NEWS_DEADLINE;
    loop {
        let results = member.client().search(&request).await?;
        let hit = results.packages.into_iter().find(|package| package.cid == published.cid);
        match hit {
            Some(hit) if hit.providers.len() >= providers => {
                let count = page::count(hit.providers.len(), "provider");
                narrator.detail(&format!(
                    "It found {} {} at {count}: {}.",
                    hit.name, hit.version, hit.description
                ));
                return Ok(hit);
            }
            _ if Instant::now() < deadline => tokio::time::sleep(NEWS_PAUSE).await,
            Some(hit) => {
                let (found, seconds) = (hit.providers.len(), NEWS_DEADLINE.as_secs());
                let why =
                    format!("Node {} found {found} of {providers} providers in {seconds} s.", member.number);
                return Err(Failure::new(Code::Timeout, why, ""));
            }
            None => {
                let why = format!(
                    "Node {} did not find the package in {} s.",
                    member.number,
                    NEWS_DEADLINE.as_secs()
                );
                return Err(Failure::new(Code::Timeout, why, ""));
            }
        }
    }
}

async fn install(
    narrator: &mut Narrator<'_>,
    root: &Path,
    member: &Member,
    published: &Published,
) -> Outcome<Installed> {
    let to = root.join(format!("installed-by-node-{}", member.number));
    narrator.step(&format!("Node {} installs {} into {}.", member.number, published.name, to.display()));
    let request = InstallRequest {
        package: published.name.clone(),
        to: text(&to)?,
        timeout_secs: Some(WORK_SECS),
        ..InstallRequest::default()
    };
    let began = Instant::now();
    let installed = member.client().install(&request, |_| {}).await?;
    narrator.detail(&format!(
        "It fetched {} from {} in {:.1} s, and checked the hash of every block on arrival.",
        page::bytes(installed.bytes_fetched),
        page::count(installed.providers.len(), "node"),
        began.elapsed().as_secs_f64(),
    ));
    Ok(installed)
}

/// What the last node received from each of the others; every provider that was found must have had a share.
async fn shares(
    narrator: &Narrator<'_>,
    others: &[Member],
    last: &Member,
    found: &PackageInfo,
    installed: &Installed,
) -> Outcome<Vec<Share>> {
    let mut shares = Vec::new();
    for other in others.iter().filter(|other| installed.providers.contains(&other.started.peer_id)) {
        let request = PeerInfoRequest { peer_id: other.started.peer_id.clone(), full: false };
        let bytes = last.client().peer_info(&request).await?.peer.bytes_received;
        narrator.detail(&format!("{} came from node {}.", page::bytes(bytes), other.number));
        shares.push(Share { node: other.number, peer_id: other.started.peer_id.clone(), bytes });
    }
    if found.providers.len() > 1 && shares.len() < 2 {
        return Err(Failure::new(
            Code::Failed,
            format!("{} nodes provide the package, and only one of them was used.", found.providers.len()),
            "",
        ));
    }
    Ok(shares)
}

/// Verifies twice: the node against the signed manifest, and this process against the folder that was published.
async fn verify(
    narrator: &mut Narrator<'_>,
    member: &Member,
    source: &Path,
    installed: &Installed,
) -> Outcome<String> {
    narrator.step(&format!("Node {} verifies what it installed.", member.number));
    let request =
        VerifyRequest { package: installed.id.clone(), path: Some(installed.path.clone()), project: None };
    let verified = member.client().verify(&request).await?;
    let differs = |what: String| Failure::new(Code::HashMismatch, what, "");
    if !verified.ok || verified.cid != installed.cid {
        return Err(differs(format!("The installed package differs: {}.", verified.differences.join(", "))));
    }
    narrator.detail(&format!(
        "{} files are exactly as the publisher signed them with key {}….",
        verified.files,
        verified.signed_by.chars().take(16).collect::<String>(),
    ));
    let unreadable = |error| Failure::new(Code::Io, format!("The files cannot be compared: {error}."), "");
    let before = example::digests(source).map_err(unreadable)?;
    let after = example::digests(Path::new(&installed.path)).map_err(unreadable)?;
    if before != after {
        return Err(differs("The installed files are not the published ones.".to_owned()));
    }
    let digest = example::digest_of(&after);
    narrator.detail(&format!(
        "The SHA-256 of all {} files, computed without the node, are the same.",
        after.len()
    ));
    Ok(digest)
}

async fn stop(narrator: &mut Narrator<'_>, members: Vec<Member>) -> Outcome<()> {
    narrator.step("Stopping the nodes and cleaning up.");
    let logs: Vec<_> = members.iter().map(|member| (member.number, member.home().to_owned())).collect();
    let ended = join_all(members.into_iter().map(Member::stop)).await;
    for ((number, home), in_order) in logs.into_iter().zip(ended) {
        if !in_order {
            let why = format!("Node {number} on {} did not stop in good order.", home.display());
            return Err(Failure::new(Code::Failed, why, ""));
        }
    }
    Ok(())
}

fn text(path: &Path) -> Outcome<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("The path {} is not UTF-8.", path.display()),
            "Name another folder: --keep <DIR>",
        )
    })
}
