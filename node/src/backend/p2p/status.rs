//! How the node is.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{disputed::FROZEN, failure::fail, node::Node, two_chains::Ending};
use crate::{
    catalog,
    config::{P2PConfig, Reach, Role},
    control::api::{self, Failure, Reachability, Status},
    limits::DISK_FREE_MIN,
    network::{Mapping, PortMapping, Ports, Snapshot, Verdict},
    package::PackageId,
    peers::policy::{Scope, scope_of},
    release::VerifiedHead,
    store::{changes, heads, installed, outbox, packages, published},
};

/// How late the renewal of a DHT record may be before `status` warns of it: some tries with several nodes.
const RENEWAL_LAG_MAX: Duration = Duration::from_secs(10 * 60);
/// Own packages that are looked at for one answer.
const OWN_LOOKED_AT_MAX: usize = 1_000;

impl Node {
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        let (published, pending, queue, changes, provided, indexed, stats) = self
            .with_store(move |store| {
                let rows = store.read(|conn| {
                    let published = published::list_all(conn)?;
                    let pending = published.iter().filter(|row| !row.announced).count();
                    let queue = outbox::list_all(conn)?;
                    let changes = changes::list_all(conn)?;
                    let counts = (packages::count(conn)?, catalog::count(conn)?);
                    Ok((published.len(), pending, queue, changes, counts.0, counts.1))
                })?;
                Ok((rows.0, rows.1, rows.2, rows.3, rows.4, rows.5, store.stats()?))
            })
            .await?;
        let own = self.network.local_peer();
        let listening = full(&snapshot.listening, own);
        let external: Vec<Multiaddr> = snapshot.observed.keys().cloned().collect();
        let needs_relay = snapshot.verdict == Verdict::Behind;
        let (reach, reach_reason) = reached(&self.config(), &snapshot);
        let reachable_at = match needs_relay && !snapshot.relays.is_empty() {
            true => snapshot.relays.clone(),
            false => [snapshot.external.clone(), snapshot.listening.clone()].concat(),
        };
        let mut warnings = self.warnings(&snapshot, pending, &queue);
        if needs_relay && snapshot.relays.is_empty() && !snapshot.peers.is_empty() {
            warnings.push(format!("others cannot connect to this node: {reach_reason}"));
        }
        warnings.extend(super::changes::warning(&changes));
        warnings.extend(self.damage_warning().await?);
        warnings.extend(self.with_store(|store| Ok(store.folder().and_then(space_warning))).await?);
        warnings.extend(self.limit_warning(stats).await?);
        warnings.extend(self.key_warnings().await?);
        warnings.extend(self.early_warnings().await?);
        warnings.extend(self.two_chain_warnings().await?);
        warnings.extend(self.confirmation_warnings(&snapshot).await?);
        Ok(Status {
            peer_id: own.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            home: self.config().state_dir.display().to_string(),
            bootstrap_lines: for_others(&reachable_at, own, self.config().role),
            reachability: Reachability {
                reach: reach.to_owned(),
                reach_reason,
                relay_addresses: full(&snapshot.relays, own),
                relay_clients: snapshot.relay_clients,
                port_mapping: snapshot.port_mapping.as_ref().map(port_mapping),
                local_network_peers: snapshot.neighbours,
            },
            listen_addresses: listening,
            external_addresses: external.iter().map(ToString::to_string).collect(),
            connected_peers: snapshot.peers.len(),
            dht_server: snapshot.serves_dht,
            topology: self.config().topology.to_string(),
            role: self.config().role.to_string(),
            routing_table_peers: snapshot.buckets.iter().sum(),
            routing_table_buckets: snapshot.buckets.clone(),
            dht_records: snapshot.records,
            dht_renewal_lag_secs: snapshot.renewal_lag.as_secs(),
            packages_topic: self.config().packages_topic.clone(),
            mesh_peers: snapshot.mesh_peers,
            topic_peers: snapshot.topic_peers,
            packages_published: published,
            packages_indexed: indexed,
            packages_provided: usize::try_from(provided).unwrap_or(usize::MAX),
            announcements_pending: pending + queue.len() + changes.len(),
            partial: self.partial_installs().await?,
            upload_bytes_per_second: self.network.line().limits().0,
            download_bytes_per_second: self.network.line().limits().1,
            outbox: queue.iter().map(super::outbox::described).collect(),
            changes: changes.iter().map(super::changes::described_while_running).collect(),
            index_peers_complete: snapshot.heads_complete,
            index_peers_total: snapshot.heads_peers,
            store_bytes: stats.bytes,
            store_blocks: stats.blocks,
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: snapshot.bytes_sent,
            uptime_secs: self.started.elapsed().as_secs(),
            last_bootstrap: snapshot.last_bootstrap.map(|time| time.to_string()),
            strangers: self.strangers().keys().map(ToString::to_string).collect(),
            clock_fault: self
                .time_to_sign()
                .err()
                .or_else(|| self.clock_off())
                .map(|failure| failure.message),
            health: if warnings.is_empty() { "ok" } else { "degraded" }.to_owned(),
            warnings,
        })
    }

    /// Says that something was damaged, as long as what is left of it lies there.
    async fn damage_warning(&self) -> Result<Option<String>, Failure> {
        let damaged = self.with_store(|store| Ok(store.quarantine())).await?;
        Ok(damaged.map(|folder| {
            format!(
                "the store was damaged, and made again from what could be read: what waited in the outbox, what was installed and \
                 which peers are reliable may be missing. See: ggen marketplace p2p list. Publish again what is missing, and then \
                 remove {}",
                folder.display()
            )
        }))
    }

    /// What a person should know of keys that are gone, and of packages that are frozen and of concern here.
    async fn key_warnings(&self) -> Result<Vec<String>, Failure> {
        let replaced = self.all_replaced().await.unwrap_or_default();
        let mut warnings: Vec<String> = match self.lost_keys().await {
            Ok(lost) => lost
                .into_iter()
                .map(|publisher| {
                    format!(
                        "the key of publisher {publisher}, which published here, is lost: nothing more can be published with it; \
                         see: ggen marketplace p2p key list"
                    )
                })
                .collect(),
            Err(failure) => vec![format!("{} See: ggen marketplace p2p key list", failure.message)],
        };
        let concerned = self.with_store(|store| {
            store.read(|conn| {
                let own = heads::list_all(conn)?.into_iter().map(|head| (head.package, true));
                let here = installed::list_all(conn)?.into_iter().map(|row| (row.package, false));
                let mut concerned: BTreeMap<PackageId, bool> = here.collect();
                concerned.extend(own);
                let mut frozen = Vec::new();
                for (package, is_own) in concerned {
                    if catalog::is_frozen(conn, &package)? {
                        frozen.push((package, is_own));
                    }
                }
                Ok(frozen)
            })
        });
        warnings.extend(self.keys.unreadable());
        warnings.extend(replaced.into_iter().map(|failure| format!("{} {}", failure.message, failure.hint)));
        for (package, is_own) in concerned.await? {
            let name = &package.name;
            let ending = match is_own {
                true => Some(self.ending(&package).await?),
                false => None,
            };
            warnings.push(match ending {
                Some(ending @ (Ending::Rotate { .. } | Ending::Resolve { .. })) => format!(
                    "your package {package} is frozen, because its key signed two different states for one place: nobody installs \
                     what came after. See the branches: ggen marketplace p2p key resolve {name} --dry-run. {}",
                    ending.said(&package)
                ),
                Some(ending) => format!(
                    "your package {package} is frozen, because two chains of its keys contradict each other: nobody installs what came \
                     after. {}",
                    ending.said(&package)
                ),
                None => format!("{package}, which is installed here, is {FROZEN}"),
            });
        }
        Ok(warnings)
    }

    /// Says which own packages were signed while this machine's clock was ahead: nobody takes that until then, and nothing earlier can
    /// follow it.
    async fn early_warnings(&self) -> Result<Vec<String>, Failure> {
        let now = self.now();
        let early = self.with_store(move |store| {
            let own = store.read(heads::list_all)?.into_iter().take(OWN_LOOKED_AT_MAX);
            let read = own.filter_map(|own| VerifiedHead::verify_stored(&own.bytes).ok());
            Ok(read.filter(|head| head.is_ahead(now)).collect::<Vec<_>>())
        });
        let said = |head: &VerifiedHead| {
            format!(
                "your package {} was last signed at {}, which is ahead of now: this machine's clock was wrong then. Nodes whose clock is right \
                 take that when the time has come, and what was there before until then. Nothing has to be done, where the clock is right \
                 now",
                head.package_id(),
                head.head().released_at
            )
        };
        Ok(early.await?.iter().map(said).collect())
    }

    fn warnings(&self, snapshot: &Snapshot, pending: usize, queue: &[outbox::Queued]) -> Vec<String> {
        let mut warnings = Vec::new();
        let seeks_company = !self.config().entry_points().is_empty();
        if snapshot.peers.is_empty() && seeks_company {
            warnings.push(
                "no peer is connected: none of the bootstrap nodes answers; it is tried again".to_owned(),
            );
        }
        warnings.extend(self.strangers().iter().map(|(address, peer)| {
            format!(
                "another peer answers at {address}: it is {peer}. The node there has a new key, or another one took its place; ask the person \
                 who runs it for its address of today"
            )
        }));
        let has_entrance = snapshot.peers.iter().any(|peer| peer.is_entry_point);
        if !snapshot.peers.is_empty() && !has_entrance && self.is_without_entrance() {
            warnings.push(
                "none of the bootstrap nodes answers: the other peers that are known may be an island; they are tried again every \
                 few seconds"
                    .to_owned(),
            );
        }
        match pending {
            0 => {}
            1 => warnings.push("1 published version has not been heard of by any other node yet".to_owned()),
            _ => warnings
                .push(format!("{pending} published versions have not been heard of by any other node yet")),
        }
        warnings.extend(super::outbox::warnings(queue));
        if let Err(failure) = self.time_to_sign() {
            warnings
                .push(format!("{} ({}) Nothing is signed. {}", failure.message, failure.code, failure.hint));
        } else if let Some(failure) = self.clock_off() {
            warnings.push(format!("{} ({}) {}", failure.message, failure.code, failure.hint));
        } else if self.config().trust_clock && self.is_clock_right() {
            // Left as it is, the next clock that is wrong would be signed by.
            warnings.push(
                "publish.trust_clock is set, and peers say that the clock is right: it is no longer needed: \
                 ggen marketplace p2p config unset publish.trust_clock"
                    .to_owned(),
            );
        }
        warnings.extend(self.twin());
        warnings.extend(self.quic_warning());
        if snapshot.renewal_lag >= RENEWAL_LAG_MAX && !snapshot.peers.is_empty() {
            warnings.push(format!(
                "DHT records that this node holds have not been renewed for {} minutes too long: the nodes nearest to them do not \
                 take them; look at the log: ggen marketplace p2p logs",
                snapshot.renewal_lag.as_secs() / 60
            ));
        }
        if self.store.has_stopped_writing() {
            warnings.push(
                "data could not be brought to the disk: nothing more is written until the next start; look at the disk, \
                 then: ggen marketplace p2p restart"
                    .to_owned(),
            );
        }
        if snapshot.listening.is_empty() && !self.config().listen_addresses.is_empty() {
            warnings.push("this node is not listening: others cannot reach it".to_owned());
        }
        warnings
    }
}

/// Says where a disk is so full that writes fail, or soon will.
fn space_warning(folder: &Path) -> Option<String> {
    let space = rustix::fs::statvfs(folder).ok()?;
    let is_without_files = space.f_files > 0 && space.f_favail == 0;
    too_full(space.f_bavail.saturating_mul(space.f_frsize), is_without_files)
}

fn too_full(free: u64, is_without_files: bool) -> Option<String> {
    let why = match free {
        _ if is_without_files => "no more files can be made on the disk (inodes are used up)".to_owned(),
        ..DISK_FREE_MIN => format!("the disk of the state folder is full: {free} bytes are free"),
        _ => return None,
    };
    Some(format!("{why}; make room, or see what this node can free: ggen marketplace p2p gc --dry-run"))
}

/// How others connect to a node, and why.
fn reached(config: &P2PConfig, snapshot: &Snapshot) -> (&'static str, String) {
    let is_local = is_only_local(&snapshot.listening);
    let forward = to_forward(snapshot.ports)
        .filter(|_| !is_local)
        .map_or_else(String::new, |ports| format!("; or forward {ports} of the router to this machine"));
    match snapshot.verdict {
        Verdict::Direct if config.reach == Reach::Direct => {
            return ("direct", "the configuration says so".to_owned());
        }
        Verdict::Direct => {
            return match &snapshot.port_mapping {
                Some(works @ PortMapping::Works { .. }) => ("direct", of_router(works)),
                _ => ("direct", "peers that it never dialled have connected to it".to_owned()),
            };
        }
        Verdict::Unknown if is_local => return ("unknown", "it listens for this machine alone".to_owned()),
        Verdict::Unknown => {
            let forward = forward.replace("; or forward", "; if nobody connects, forward");
            return ("unknown", format!("it listens, and no NAT was seen{forward}"));
        }
        Verdict::Behind => {}
    }
    let why = match snapshot.mapping {
        _ if config.reach == Reach::Relay => "the configuration says that nobody can connect to it directly",
        _ if config.listen_addresses.is_empty() => "it listens nowhere",
        Some(Mapping::Changing) => "it is behind a NAT that gives each connection another port",
        Some(Mapping::Steady) => "it is behind a NAT that direct connections can be made through",
        None => "it is behind a NAT",
    };
    let of_router =
        snapshot.port_mapping.as_ref().map_or_else(String::new, |it| format!("; {}", of_router(it)));
    match snapshot.relays.is_empty() {
        false => ("relay", format!("{why}{of_router}{forward}")),
        true => (
            "none",
            format!(
                "{why}, and none of its peers relays for it: connect to a hub or a node with relay_server = true{of_router}{forward}"
            ),
        ),
    }
}

/// What is known of the ports that the router maps, in words.
fn of_router(mapping: &PortMapping) -> String {
    let of_ports = |ports: &Ports| to_forward(*ports).unwrap_or_default();
    match mapping {
        PortMapping::Nobody => "no router that maps ports was found".to_owned(),
        PortMapping::Refused { why } => format!("the router maps no port: {why}"),
        PortMapping::Inside { by, outer } => format!(
            "the router maps ports of {outer} ({}), which is not where peers see this node: another NAT stands before it",
            by.as_str()
        ),
        PortMapping::Said { by, ports } => format!(
            "the router says that it maps its {} to this node ({}), and no peer has tried that yet",
            of_ports(ports),
            by.as_str()
        ),
        PortMapping::Untrue { by, ports } => format!(
            "the router says that it maps its {} to this node ({}), and peers do not get through",
            of_ports(ports),
            by.as_str()
        ),
        PortMapping::Works { by, ports } => format!(
            "the router maps its {} to this node ({}), and peers got through",
            of_ports(ports),
            by.as_str()
        ),
    }
}

/// The same, for programs.
fn port_mapping(mapping: &PortMapping) -> api::PortMapping {
    let (state, by, ports) = match mapping {
        PortMapping::Nobody => ("no_router", None, None),
        PortMapping::Refused { .. } => ("refused", None, None),
        PortMapping::Inside { by, .. } => ("behind_another_nat", Some(by), None),
        PortMapping::Said { by, ports } => ("untested", Some(by), Some(*ports)),
        PortMapping::Untrue { by, ports } => ("untrue", Some(by), Some(*ports)),
        PortMapping::Works { by, ports } => ("works", Some(by), Some(*ports)),
    };
    let Ports { tcp: tcp_port, udp: udp_port } = ports.unwrap_or_default();
    let by = by.map(|by| by.as_str().to_owned());
    api::PortMapping { state: state.to_owned(), by, tcp_port, udp_port }
}

/// The ports that lead to this node, in words.
fn to_forward(ports: Ports) -> Option<String> {
    match (ports.tcp, ports.udp) {
        (Some(tcp), Some(udp)) if tcp == udp => Some(format!("port {tcp} (TCP and UDP)")),
        (Some(tcp), Some(udp)) => Some(format!("TCP port {tcp} and UDP port {udp}")),
        (Some(tcp), None) => Some(format!("TCP port {tcp}")),
        (None, Some(udp)) => Some(format!("UDP port {udp}")),
        (None, None) => None,
    }
}

/// Whether a node listens, and only nodes of the same machine can connect to it: no port that is forwarded changes that.
fn is_only_local(listening: &[Multiaddr]) -> bool {
    !listening.is_empty() && listening.iter().all(|address| reach(address) == Scope::Loopback)
}

/// Addresses with `/p2p/<peer>`, those that reach farthest first.
fn full(addresses: &[Multiaddr], own: PeerId) -> Vec<String> {
    let mut addresses: Vec<&Multiaddr> = addresses.iter().collect();
    addresses.sort_by_key(|address| (std::cmp::Reverse(reach(address)), address.to_string()));
    addresses.into_iter().map(|address| address.clone().with(Protocol::P2p(own)).to_string()).collect()
}

/// The lines by which others reach this node. Loopback and link-local addresses are good for nobody else, and stand there
/// only where there is nothing better. Those of a hub make spokes of others, since a node that only joins through it would be
/// one of a mesh.
fn for_others(addresses: &[Multiaddr], own: PeerId, role: Role) -> Vec<String> {
    let useful = |address: &&Multiaddr| {
        let is_link_local = matches!(
            address.iter().next(),
            Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local()
        );
        reach(address) > Scope::Loopback && !is_link_local
    };
    let mut chosen: Vec<Multiaddr> = addresses.iter().filter(useful).cloned().collect();
    if chosen.is_empty() {
        chosen = addresses.to_vec();
    }
    let how = match role {
        Role::Hub => format!("--topology {} --role {} --hub", role.topology(), Role::Spoke),
        _ => "--bootstrap".to_owned(),
    };
    full(&chosen, own).iter().map(|address| format!("{how} {address}")).collect()
}

fn reach(address: &Multiaddr) -> Scope {
    scope_of(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_is_told() {
        assert!(too_full(0, false).is_some_and(|warning| warning.contains(" 0 bytes are free")));
        assert!(too_full(DISK_FREE_MIN - 1, false).is_some());
        assert_eq!(too_full(DISK_FREE_MIN, false), None);
        assert!(too_full(u64::MAX, true).is_some_and(|warning| warning.contains("inodes")));
        assert_eq!(space_warning(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_node_that_listens_for_this_machine_alone_is_not_told_to_forward_a_port() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let local = [address("/ip4/127.0.0.1/tcp/1"), address("/ip6/::1/tcp/1")];
        assert!(is_only_local(&local));
        assert!(!is_only_local(&[]));
        assert!(!is_only_local(&[local[0].clone(), address("/ip4/192.168.0.7/tcp/1")]));
    }

    #[test]
    fn the_ports_to_forward_are_named_with_what_they_carry() {
        for (tcp, udp, said) in [
            (None, None, None),
            (Some(4001), None, Some("TCP port 4001")),
            (None, Some(4001), Some("UDP port 4001")),
            (Some(4001), Some(4001), Some("port 4001 (TCP and UDP)")),
            (Some(4001), Some(5000), Some("TCP port 4001 and UDP port 5000")),
        ] {
            assert_eq!(to_forward(Ports { tcp, udp }).as_deref(), said);
        }
    }

    #[test]
    fn public_addresses_come_first() {
        let texts = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.0.7/tcp/1",
            "/ip6/2606:4700::1/tcp/1",
            "/ip4/8.8.8.8/tcp/1",
        ];
        let addresses: Vec<Multiaddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let own = PeerId::random();
        let wanted = [texts[3], texts[2], texts[1], texts[0]].map(|text| format!("{text}/p2p/{own}"));
        assert_eq!(full(&addresses, own), wanted);
        let lines = wanted[..3].iter().map(|address| format!("--bootstrap {address}"));
        assert_eq!(for_others(&addresses, own, Role::Peer), lines.collect::<Vec<_>>());
    }
}
