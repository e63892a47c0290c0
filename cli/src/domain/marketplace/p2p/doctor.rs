//! `doctor`: looks at everything that a node needs, and says how to mend what is wrong. Works without a running node too.

use std::{
    fs,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use clap::Args;
use ggen_marketplace::{
    code::Code,
    config::P2PConfig,
    control::api::Status,
    identity::{Publisher, key_file, node_key},
    limits::DISK_FREE_MIN,
    network::is_quic,
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// How long an address may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bootstrap nodes that are tried.
const DIALLED_MAX: usize = 8;
/// Free space below which it is time to look.
const FREE_LOW: u64 = 1 << 30;
/// No clock of today is before this: 1 January 2024.
const CLOCK_LEAST: Timestamp = Timestamp::from_secs(1_704_067_200);

/// Check clock, disk, keys, port, names and bootstrap nodes, and say how to fix what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
It works with and without a running node. Exit status 1 if something must be fixed.

Examples:
  ggen marketplace p2p doctor
  ggen marketplace p2p doctor --format json")]
pub(crate) struct Doctor {}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It works, and may not for long.
    Warning,
    /// It must be mended.
    Problem,
    /// It cannot be told.
    Unknown,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
    /// What to do; empty where nothing is to be done.
    fix: String,
}

#[derive(Debug, Serialize)]
struct Findings {
    node_running: bool,
    findings: Vec<Finding>,
    problems: usize,
    warnings: usize,
}

fn finding(check: &'static str, state: State, message: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { check, state, message: message.into(), fix: fix.into() }
}

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    finding(check, State::Ok, message, "")
}

impl Doctor {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let home = session.home();
        let mut findings = Vec::new();
        let status = match session.client().status().await {
            Ok(status) => Some(status),
            Err(failure) if failure.code == Code::NotRunning => None,
            Err(failure) => {
                findings.push(finding("node", State::Problem, failure.message, failure.hint));
                None
            }
        };
        if findings.is_empty() {
            findings.push(match &status {
                Some(status) => ok(
                    "node",
                    format!("process {} runs, for {}", status.pid, page::seconds(status.uptime_secs)),
                ),
                None => finding(
                    "node",
                    State::Unknown,
                    "no node runs on this state folder",
                    "Start one: ggen marketplace p2p start --daemon",
                ),
            });
        }
        // What a running node was started with counts, not what the next one would use.
        let flags = match &status {
            Some(_) => p2p_state::flags::remembered(home),
            None => Ok(super::start::Flags::default()),
        };
        let config = match flags.and_then(|flags| p2p_state::effective(home, &flags)) {
            Ok(effective) => {
                findings.push(ok("configuration", "it can be read"));
                findings.extend(effective.warnings.iter().map(|warning| {
                    finding(
                        "configuration",
                        State::Warning,
                        warning.to_string(),
                        "See: ggen marketplace p2p config check",
                    )
                }));
                Some(effective.config)
            }
            Err(failure) => {
                findings.push(finding("configuration", State::Problem, failure.message, failure.hint));
                None
            }
        };
        findings.push(clock(Timestamp::now(), status.as_ref()));
        findings.push(folder(home));
        findings.push(disk(home));
        findings.extend(keys(home));
        if status.is_none() && home.exists() {
            findings.push(store(home).await);
            let most = config.as_ref().and_then(|config| config.store_bytes_max);
            findings.extend(limit(home, most).await);
        }
        if let Some(config) = config {
            let is_running = status.is_some();
            let strangers = status.as_ref().map(|status| status.strangers.clone()).unwrap_or_default();
            let network = tokio::task::spawn_blocking(move || {
                let mut findings = vec![resolver()];
                if !is_running {
                    findings.extend(ports(&config));
                }
                findings.extend(bootstrap(&config, is_running, strangers));
                findings
            });
            findings.extend(network.await.unwrap_or_default());
        }
        if let Some(status) = &status {
            findings.extend(of_node(status));
        }
        let number = |state| findings.iter().filter(|finding| finding.state == state).count();
        let (problems, warnings) = (number(State::Problem), number(State::Warning));
        let answer = Findings { node_running: status.is_some(), findings, problems, warnings };
        session.print(&answer, show)?;
        Ok(if answer.problems == 0 { Exit::Ok } else { Exit::Told(Code::Failed) })
    }
}

fn show(answer: &Findings, page: &mut Page) {
    for finding in &answer.findings {
        let word = match finding.state {
            State::Ok => "ok",
            State::Warning => "WARNING",
            State::Problem => "PROBLEM",
            State::Unknown => "-",
        };
        for (at, line) in finding.message.lines().enumerate() {
            match at {
                0 => page.line(format!("{word:<8} {:<14} {line}", finding.check)),
                _ => page.line(format!("{:<24}{line}", "")),
            };
        }
        for line in finding.fix.lines() {
            page.line(format!("{:<24}{line}", ""));
        }
    }
    page.line("").line(match (answer.problems, answer.warnings) {
        (0, 0) => "Nothing to fix.".to_owned(),
        (0, warnings) => format!("{}; the node works.", page::count(warnings, "warning")),
        (problems, 0) => format!("{} to mend.", page::count(problems, "problem")),
        (problems, warnings) => {
            format!("{} to mend, {}.", page::count(problems, "problem"), page::count(warnings, "warning"))
        }
    });
}

fn clock(now: Timestamp, status: Option<&Status>) -> Finding {
    // What the node says of it is among its warnings, with what to do.
    if let Some(fault) = status.and_then(|status| status.clock_fault.as_ref()) {
        return finding("clock", State::Warning, fault.clone(), "");
    }
    if now < CLOCK_LEAST {
        let fix = "Set it: timedatectl set-ntp true";
        return finding("clock", State::Problem, format!("it says {now}, which is long past"), fix);
    }
    ok("clock", now.to_string())
}

/// Whether what is stored can be read; a node that runs has read it.
async fn store(home: &Path) -> Finding {
    let read = async { p2p_state::view(home).await?.list().await };
    match read.await {
        Ok(listing) => {
            ok("store", format!("it can be read: {}", page::count(listing.packages.len(), "package")))
        }
        Err(failure) => finding("store", State::Problem, failure.message, failure.hint),
    }
}

/// Whether the limit of the store can be met; a node that runs says so itself.
async fn limit(home: &Path, most: Option<u64>) -> Option<Finding> {
    // Where the store cannot be read that is told already.
    let view = p2p_state::view(home).await.ok()?;
    let told = view.unmet_limit(most?).await.ok()??;
    Some(finding("store", State::Warning, told, ""))
}

fn folder(home: &Path) -> Finding {
    let shown = home.display();
    let Ok(metadata) = fs::metadata(home) else {
        return finding(
            "state folder",
            State::Unknown,
            format!("{shown} is not there yet"),
            "The first start makes it.",
        );
    };
    if let Err(error) = tempfile::tempfile_in(home) {
        let message = format!("nothing can be written into {shown}: {error}");
        return finding(
            "state folder",
            State::Problem,
            message,
            format!("Make it yours: chown -R \"$USER\" {shown}"),
        );
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        let message = format!("others can write into {shown}");
        return finding("state folder", State::Warning, message, format!("chmod 700 {shown}"));
    }
    ok("state folder", shown.to_string())
}

fn disk(home: &Path) -> Finding {
    let Some(there) = home.ancestors().find(|folder| folder.is_dir()) else {
        return finding("disk", State::Unknown, "no folder above the state folder is there", "");
    };
    let Ok(space) = rustix::fs::statvfs(there) else {
        return finding("disk", State::Unknown, "the file system does not tell", "");
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let fix = "Make room, or name another state folder: GGEN_HOME=/path";
    let message = format!("{} free", page::bytes(free));
    let is_without_files = space.f_files > 0 && space.f_favail == 0;
    match free {
        _ if is_without_files => {
            finding("disk", State::Problem, "no more files can be made (inodes are used up)", fix)
        }
        ..DISK_FREE_MIN => finding("disk", State::Problem, message, fix),
        DISK_FREE_MIN..FREE_LOW => finding("disk", State::Warning, message, fix),
        _ => ok("disk", message),
    }
}

fn keys(home: &Path) -> Vec<Finding> {
    let folder = p2p_state::keys_folder(home);
    let node = folder.join(node_key::FILE_NAME);
    let mut findings = Vec::new();
    findings.push(match node_key::load_of(&node, &home.join(node_key::OWNER_FILE_NAME)) {
        Ok(key) => ok("node key", key.public().to_peer_id().to_string()),
        Err(key_file::Error::Missing { .. }) => {
            finding("node key", State::Unknown, "there is none yet", "The first start makes it.")
        }
        Err(error) => finding("node key", State::Problem, error.to_string(), error.hint()),
    });
    let names = Publisher::list(&folder).unwrap_or_else(|error| {
        findings.push(finding("publisher key", State::Problem, error.to_string(), error.hint()));
        Vec::new()
    });
    for name in names {
        findings.push(match Publisher::load(&folder, &name) {
            Ok(publisher) => ok("publisher key", format!("{name}: {}", publisher.id())),
            Err(error) => finding("publisher key", State::Problem, format!("{name}: {error}"), error.hint()),
        });
    }
    match Publisher::lost(&folder) {
        // The node works without it; only that publisher signs nothing.
        Ok(lost) => findings.extend(lost.iter().map(|lost| {
            finding("publisher key", State::Warning, lost.message(&folder), lost.error(&folder).hint())
        })),
        Err(error) => {
            findings.push(finding("publisher key", State::Problem, error.to_string(), error.hint()))
        }
    }
    findings
}

fn resolver() -> Finding {
    let Ok(text) = fs::read_to_string("/etc/resolv.conf") else {
        return finding("resolver", State::Unknown, "/etc/resolv.conf cannot be read", "");
    };
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .collect();
    if servers.is_empty() {
        let fix =
            "Connect to a network, or name a server in /etc/resolv.conf; addresses with numbers work without";
        return finding("resolver", State::Warning, "no name server is known: names cannot be resolved", fix);
    }
    ok("resolver", servers.join(", "))
}

/// Whether the addresses can be listened on.
fn ports(config: &P2PConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &config.listen_addresses {
        let text = address.to_string();
        let (bound, host, port) = match (host_and_port(&text, "tcp"), host_and_port(&text, "udp")) {
            (Some((host, port)), _) => (TcpListener::bind((host.as_str(), port)).map(drop), host, port),
            (None, Some((host, port))) => (UdpSocket::bind((host.as_str(), port)).map(drop), host, port),
            (None, None) => continue,
        };
        findings.push(match bound {
            Ok(()) => ok("port", format!("{address} is free")),
            // Nobody named it: the node starts with TCP alone.
            Err(error) if config.listens_by_default() && is_quic(address) => finding(
                "port",
                State::Warning,
                format!("{address}: {error}; others connect over TCP"),
                format!("Check what uses the port: lsof -i :{port}"),
            ),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => finding(
                "port",
                State::Problem,
                format!("{address} is in use"),
                format!(
                    "Check what uses the port: lsof -i :{port}\nOr try a different listen address: ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/0"
                ),
            ),
            Err(error) if host.contains(':') => {
                finding("port", State::Warning, format!("{address}: {error}; the other addresses are used"), "")
            }
            Err(error) => finding(
                "port",
                State::Problem,
                format!("{address}: {error}"),
                "Name an address of this machine: ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001",
            ),
        });
    }
    findings
}

/// The host and the port of a multiaddr of this kind, `tcp` or `udp`.
fn host_and_port(address: &str, kind: &str) -> Option<(String, u16)> {
    let parts: Vec<&str> = address.split('/').collect();
    match parts.as_slice() {
        ["", "ip4" | "ip6" | "dns" | "dns4" | "dns6", host, of, port, ..] if *of == kind => {
            Some(((*host).to_owned(), port.parse().ok()?))
        }
        _ => None,
    }
}

/// Whether the bootstrap nodes answer.
fn bootstrap(config: &P2PConfig, is_running: bool, strangers: Vec<String>) -> Vec<Finding> {
    let known: Vec<String> = config.entry_points().iter().map(ToString::to_string).collect();
    if known.is_empty() {
        let message = "none is configured: this node waits for others, or finds peers that it met before";
        let fix = match is_running {
            true => "Name one: ggen marketplace p2p bootstrap <address>",
            false => "Name one: ggen marketplace p2p start --bootstrap <address>",
        };
        return vec![finding("bootstrap", State::Unknown, message, fix)];
    }
    let tried: Vec<std::thread::JoinHandle<Finding>> = known
        .into_iter()
        .take(DIALLED_MAX)
        .map(|address| {
            // Only the node finds out who it is that answers.
            let is_other = strangers.contains(&address);
            std::thread::spawn(move || match is_other {
                true => other_peer(&address),
                false => answers(&address, is_running),
            })
        })
        .collect();
    let mut findings: Vec<Finding> = tried.into_iter().filter_map(|tried| tried.join().ok()).collect();
    let is_any_there = findings.iter().any(|finding| finding.state == State::Ok);
    for finding in
        findings.iter_mut().filter(|finding| finding.state == State::Problem && (is_any_there || is_running))
    {
        // One that answers is enough; and a node that runs says itself whether it has peers.
        finding.state = State::Warning;
    }
    findings
}

fn other_peer(address: &str) -> Finding {
    let fix = "Ask the person who runs that node for its address of today";
    finding("bootstrap", State::Problem, format!("{address}: another peer answers there than it names"), fix)
}

fn answers(address: &str, is_running: bool) -> Finding {
    let way = if is_running { "bootstrap" } else { "start --bootstrap" };
    let fix = &format!(
        "Check the address with the person who runs that node, and the network of this machine; other nodes: ggen marketplace p2p {way} \
         <address>"
    );
    let Some((host, port)) = host_and_port(address, "tcp") else {
        return finding("bootstrap", State::Unknown, format!("{address} is looked up by the node only"), "");
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let name = host.clone();
    std::thread::spawn(move || {
        let _ = sender.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    });
    let resolved = match receiver.recv_timeout(RESOLVE_TIMEOUT) {
        Ok(Ok(resolved)) if !resolved.is_empty() => resolved,
        Ok(Err(error)) => {
            return finding("bootstrap", State::Problem, format!("{host} has no address: {error}"), fix);
        }
        _ => return finding("bootstrap", State::Problem, format!("{host} was not resolved in time"), fix),
    };
    let mut why = String::new();
    for resolved in resolved {
        match TcpStream::connect_timeout(&resolved, DIAL_TIMEOUT) {
            Ok(_) => return ok("bootstrap", format!("{address}: the port is open")),
            Err(error) => why = error.to_string(),
        }
    }
    finding("bootstrap", State::Problem, format!("{address} does not answer: {why}"), fix)
}

/// What the running node says of itself.
fn of_node(status: &Status) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for warning in &status.warnings {
        findings.push(finding("node", State::Warning, warning.clone(), ""));
    }
    findings.push(match status.listen_addresses.as_slice() {
        [] if !status.reachability.relay_addresses.is_empty() => {
            ok("port", "listens nowhere, and is reached through relays")
        }
        [] => finding(
            "port",
            State::Problem,
            "the node listens nowhere: others cannot reach it",
            "Restart it with an address: ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001",
        ),
        addresses => ok("port", format!("listens on {}", addresses.join(", "))),
    });
    findings.push(match status.connected_peers {
        0 => finding(
            "peers",
            State::Warning,
            "no peer is connected",
            "Connect to some: ggen marketplace p2p bootstrap <bootstrap-nodes>",
        ),
        peers => ok("peers", page::count(peers, "connected peer")),
    });
    findings.push(reachability(status));
    findings
}

fn reachability(status: &Status) -> Finding {
    let said = &status.reachability;
    match said.reach.as_str() {
        "direct" => return ok("reachability", format!("others connect directly: {}", said.reach_reason)),
        "relay" => {
            return ok("reachability", format!("others connect through relays: {}", said.reach_reason));
        }
        "none" => {
            return finding(
                "reachability",
                State::Warning,
                format!("others cannot connect: {}", said.reach_reason),
                "Connect to a node that relays, or forward the port: ggen marketplace p2p connect <address>",
            );
        }
        _ => {}
    }
    let is_local = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    if !status.listen_addresses.is_empty() && status.listen_addresses.iter().all(is_local) {
        return finding(
            "reachability",
            State::Unknown,
            "the node listens for this machine alone: only nodes on it can connect",
            "For other machines: ggen marketplace p2p restart --listen /ip4/0.0.0.0/tcp/4001",
        );
    }
    let port = |kind: &str| {
        status.listen_addresses.iter().find_map(|address| host_and_port(address, kind)).map(|(_, port)| port)
    };
    let ports = match (port("tcp"), port("udp")) {
        (Some(tcp), Some(udp)) if tcp == udp => format!("port {tcp} (TCP and UDP)"),
        (Some(tcp), Some(udp)) => format!("TCP port {tcp} and UDP port {udp}"),
        (None, Some(udp)) => format!("UDP port {udp}"),
        (tcp, None) => format!("TCP port {}", tcp.unwrap_or(4001)),
    };
    let forward =
        format!("If this machine is behind a router, forward {ports} to it, and open it in the firewall.");
    match status.external_addresses.as_slice() {
        [] => finding(
            "reachability",
            State::Unknown,
            "no peer has said yet under which address it sees this node",
            forward,
        ),
        addresses => finding(
            "reachability",
            State::Unknown,
            format!(
                "peers see this node as {}; whether strangers can connect is not known",
                addresses.join(", ")
            ),
            forward,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_long_ago_is_a_problem() {
        assert_eq!(clock(Timestamp::from_secs(86_400), None).state, State::Problem);
        assert_eq!(clock(CLOCK_LEAST, None).state, State::Ok);
        let fault = Some("This machine's clock is 2 h 0 min ahead".to_owned());
        let status = Status { clock_fault: fault, ..Status::default() };
        assert_eq!(clock(CLOCK_LEAST, Some(&status)).state, State::Warning, "the peers know better");
    }

    #[test]
    fn a_port_that_is_taken_and_a_peer_that_is_not_there_are_found_with_the_fix() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: String = format!("/ip4/127.0.0.1/tcp/{port}");
        let mut config = P2PConfig::with_state_dir("/nowhere");
        config.listen_addresses = vec![address.parse().unwrap()];
        let taken = &ports(&config)[0];
        assert_eq!(taken.state, State::Problem);
        assert!(taken.fix.contains(&format!("lsof -i :{port}")), "{taken:?}");
        assert_eq!(answers(&address, false).state, State::Ok);
        drop(listener);
        assert_eq!(ports(&config)[0].state, State::Ok);
        assert_eq!(answers(&address, false).state, State::Problem);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        config.listen_addresses = vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()];
        assert_eq!(ports(&config)[0].state, State::Problem, "somebody named it");
        drop(socket);
        assert_eq!(ports(&config)[0].state, State::Ok);
    }

    #[test]
    fn a_node_that_listens_for_this_machine_alone_is_not_told_to_forward_a_port() {
        let found = |listen: &[&str]| {
            let listen_addresses = listen.iter().map(ToString::to_string).collect();
            reachability(&Status { listen_addresses, ..Status::default() })
        };
        let both = found(&["/ip4/10.0.0.1/tcp/9/p2p/x", "/ip4/10.0.0.1/udp/9/quic-v1/p2p/x"]).fix;
        assert!(both.contains("forward port 9 (TCP and UDP)"), "{both}");
        assert!(!found(&["/ip4/127.0.0.1/tcp/9/p2p/x", "/ip6/::1/tcp/9/p2p/x"]).fix.contains("forward"));
        assert!(found(&["/ip4/127.0.0.1/tcp/9/p2p/x", "/ip4/10.0.0.1/tcp/9/p2p/x"]).fix.contains("forward"));
    }

    #[test]
    fn a_folder_of_keys_that_are_no_keys_is_a_problem() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(keys(home.path())[0].state, State::Unknown);
        fs::create_dir_all(home.path().join("keys/publishers")).unwrap();
        fs::write(home.path().join("keys/node.key"), "nonsense").unwrap();
        fs::write(home.path().join("keys/publishers/default.key"), "nonsense").unwrap();
        let found = keys(home.path());
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|finding| finding.state == State::Problem), "{found:?}");
    }

    #[test]
    fn keys_that_are_gone_are_missed() {
        let home = tempfile::tempdir().unwrap();
        let (folder, owner) =
            (p2p_state::keys_folder(home.path()), home.path().join(node_key::OWNER_FILE_NAME));
        node_key::load_or_create(&folder.join(node_key::FILE_NAME), &owner).unwrap();
        Publisher::create(&folder, "default", Timestamp::now()).unwrap();
        let states = || keys(home.path()).iter().map(|finding| finding.state).collect::<Vec<_>>();
        assert_eq!(states(), [State::Ok, State::Ok]);
        fs::remove_file(folder.join("publishers/default.key")).unwrap();
        assert_eq!(states(), [State::Ok, State::Warning]);
        fs::remove_file(folder.join(node_key::FILE_NAME)).unwrap();
        assert_eq!(states(), [State::Problem, State::Warning]);
    }
}
