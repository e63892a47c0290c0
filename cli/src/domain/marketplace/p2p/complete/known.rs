//! What the running node knows; what the store, the key files or the project say where none runs.

use std::collections::BTreeMap;

use ggen_marketplace::{
    config::keys::KEYS,
    control::api::{
        Failure, InfoRequest, KeepRequest, ListedPackage, PackageInfo, PeerListRequest, SearchRequest,
        TrustRequest,
    },
    identity::Publisher,
};

use super::grammar::{Asked, Wanted};
use crate::{
    domain::marketplace::{
        p2p::project::{self, Where},
        p2p_state,
    },
    session::Session,
};

/// Packages that are asked for at most; a person types another letter rather than read more.
const PACKAGES_MAX: usize = 200;
/// How long the node may ask others: not at all.
const REMOTE_SECS: f64 = 0.001;

/// The values, with what they mean; none where they cannot be told.
pub(super) async fn values(session: &Session, wanted: Wanted, asked: &Asked) -> Vec<(String, String)> {
    match wanted {
        Wanted::Known if asked.prefix.contains('@') => versions(session, &asked.prefix).await,
        Wanted::Known => packages(&searched(session, &asked.prefix).await, &asked.prefix),
        Wanted::Published => listed(session, asked, false, |package| package.kind == "published").await,
        Wanted::Versions(yanked) => {
            let is_meant = |it: &ListedPackage| it.kind == "published" && it.yanked == yanked;
            listed(session, asked, true, is_meant).await
        }
        Wanted::Waiting => listed(session, asked, true, |package| package.kind == "queued").await,
        Wanted::Installed => {
            let is_there = |it: &ListedPackage| it.kind == "installed" && !it.gone && !it.out_of_sight;
            listed(session, asked, false, is_there).await
        }
        Wanted::Removable if Where::at(asked.project.clone()).is_project() => asked_for(asked),
        Wanted::Removable => listed(session, asked, false, |package| package.kind == "installed").await,
        Wanted::Here => listed(session, asked, false, |package| package.kind != "queued").await,
        Wanted::Kept => {
            let kept = session.client().keep(&KeepRequest::default()).await;
            let pins = kept.map(|kept| kept.pins).unwrap_or_default().into_iter();
            pins.map(|pin| (pin.name, pin.id)).collect()
        }
        Wanted::OfProject => of_project(asked),
        Wanted::Peers => {
            let peers = session.client().peer_list(&PeerListRequest::default()).await;
            let peers = peers.map(|list| list.peers).unwrap_or_default().into_iter();
            peers.map(|peer| (peer.peer_id, peer.addresses.into_iter().next().unwrap_or_default())).collect()
        }
        Wanted::Banned => {
            let bans = session.client().bans().await.map(|bans| bans.bans).unwrap_or_default();
            bans.into_iter().map(|ban| (ban.peer_id, ban.reason)).collect()
        }
        Wanted::Keys => {
            let names = Publisher::list(&p2p_state::keys_folder(session.home()));
            names.unwrap_or_default().into_iter().map(|name| (name, String::new())).collect()
        }
        Wanted::Pins => {
            // Without a node the pins could be read under the folder's lock alone, and a start must not fail for that.
            let trust = session.client().trust(&TrustRequest::default()).await;
            let pins = trust.map(|trust| trust.pins).unwrap_or_default().into_iter();
            pins.map(|pin| (pin.name, pin.publisher)).collect()
        }
        Wanted::Settings => {
            let first = |text: &str| text.split(". ").next().unwrap_or_default().to_owned();
            KEYS.iter().map(|key| (key.name.to_owned(), first(key.doc))).collect()
        }
        Wanted::Files => Vec::new(),
    }
}

/// What the catalogue has that may begin so.
async fn searched(session: &Session, prefix: &str) -> Vec<PackageInfo> {
    // Of a full id the name is looked for; of an id without one, everything.
    let word = prefix.rsplit('/').next().filter(|word| !word.starts_with("gp1")).unwrap_or_default();
    let request = SearchRequest {
        text: word.to_owned(),
        limit: Some(PACKAGES_MAX),
        timeout_secs: Some(REMOTE_SECS),
        ..SearchRequest::default()
    };
    let mut found = session.client().search(&request).await;
    if found.as_ref().is_err_and(Failure::is_not_running) && session.home().exists() {
        found = match p2p_state::view(session.home()).await {
            Ok(view) => view.search(request).await,
            Err(failure) => Err(failure),
        };
    }
    found.map(|found| found.packages).unwrap_or_default()
}

/// The versions of a package that were not yanked, behind its name. They are read from the store: the node would ask others.
async fn versions(session: &Session, prefix: &str) -> Vec<(String, String)> {
    let Some((package, _)) = prefix.split_once('@') else { return Vec::new() };
    if !session.home().exists() {
        return Vec::new();
    }
    let request = InfoRequest { package: package.to_owned(), ..InfoRequest::default() };
    let info = match p2p_state::view(session.home()).await {
        Ok(view) => view.info(request).await,
        Err(failure) => Err(failure),
    };
    let Ok(info) = info else { return Vec::new() };
    let of_head = std::iter::once((info.package.version, info.package.description));
    let of_log = info.versions.into_iter().filter(|it| !it.yanked).map(|it| (it.version, it.released));
    // The newest one is known without the log too.
    let known: BTreeMap<String, String> = of_head.filter(|(it, _)| !it.is_empty()).chain(of_log).collect();
    known.into_iter().map(|(version, about)| (format!("{package}@{version}"), about)).collect()
}

/// Bare names; full ids where one is being typed.
fn packages(found: &[PackageInfo], prefix: &str) -> Vec<(String, String)> {
    let is_full = prefix.starts_with("gp1") || prefix.contains('/');
    let mut words: BTreeMap<String, String> = BTreeMap::new();
    for package in found {
        let name = if is_full { &package.id } else { &package.name };
        words.entry(name.clone()).or_insert_with(|| package.description.clone());
    }
    words.into_iter().collect()
}

/// What was installed or published here.
async fn listed(
    session: &Session,
    asked: &Asked,
    with_version: bool,
    is_meant: impl Fn(&ListedPackage) -> bool,
) -> Vec<(String, String)> {
    let mut listing = session.client().list().await;
    if listing.as_ref().is_err_and(Failure::is_not_running) && session.home().exists() {
        listing = match p2p_state::view(session.home()).await {
            Ok(view) => view.list().await,
            Err(failure) => Err(failure),
        };
    }
    let is_full = asked.prefix.starts_with("gp1") || asked.prefix.contains('/');
    let with_version = with_version || asked.prefix.contains('@');
    let packages = listing.map(|listing| listing.packages).unwrap_or_default().into_iter();
    let word = |package: ListedPackage| {
        let id = package.id.rsplit_once('@').map_or(package.id.as_str(), |(id, _)| id);
        let name = if is_full { id } else { &package.name };
        let word = if with_version { format!("{name}@{}", package.version) } else { name.to_owned() };
        (word, package.path)
    };
    packages.filter(|package| is_meant(package)).map(word).collect()
}

/// What the project asks for itself.
fn asked_for(asked: &Asked) -> Vec<(String, String)> {
    let Ok((requirements, _)) = Where::at(asked.project.clone()).read() else { return Vec::new() };
    let dependencies = requirements.project().dependencies.iter();
    dependencies.map(|(id, range)| (project::name(&requirements, id), range.to_string())).collect()
}

fn of_project(asked: &Asked) -> Vec<(String, String)> {
    let Ok((requirements, lock)) = Where::at(asked.project.clone()).read() else { return Vec::new() };
    let locked = lock.packages.iter();
    locked.map(|(id, package)| (project::name(&requirements, id), package.version.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(publisher: &str, name: &str, version: &str) -> PackageInfo {
        PackageInfo {
            id: format!("{publisher}/{name}"),
            name: name.to_owned(),
            version: version.to_owned(),
            description: format!("About {name}"),
            ..PackageInfo::default()
        }
    }

    #[test]
    fn packages_are_named_as_they_are_being_typed() {
        let found = [
            package("gp1aa", "web", "1.0.0"),
            package("gp1bb", "web", "2.0.0"),
            package("gp1aa", "log", "0.1.0"),
        ];
        let words = |prefix: &str| -> Vec<String> {
            packages(&found, prefix).into_iter().map(|(word, _)| word).collect()
        };
        assert_eq!(words(""), ["log", "web"]);
        assert_eq!(words("gp1"), ["gp1aa/log", "gp1aa/web", "gp1bb/web"]);
        assert_eq!(packages(&found, "")[0].1, "About log");
    }
}
