//! Who listens on a port, so that "address in use" can name the one to stop.
//!
//! Linux tells through `/proc`: `net/tcp` and `net/udp` have the socket's inode, and the owner's `fd` folder links to it. Elsewhere, and
//! for processes of other users, nothing is known.

use std::{fs, path::Path};

use ggen_marketplace::{code::Code, control::api::Failure};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// The state of a socket without another end in `/proc/net/udp`.
const OPEN: &str = "07";

/// Adds, to a failure for an address in use, who holds it and both ways out.
pub(super) fn explain(mut failure: Failure, listen: &[String]) -> Failure {
    if failure.code != Code::AddressInUse {
        return failure;
    }
    let mut ports: Vec<(Kind, u16)> =
        listen.iter().filter_map(|address| port(address)).filter(|(_, port)| *port != 0).collect();
    ports.sort_unstable();
    ports.dedup();
    let owned: Vec<((Kind, u16), Option<Owner>)> =
        ports.iter().map(|(kind, port)| ((*kind, *port), owner(Path::new("/proc"), *kind, *port))).collect();
    let mut remedies = String::new();
    let is_other_reason = !failure.hint.is_empty() && !failure.hint.contains("lsof");
    if is_other_reason && owned.iter().all(|(_, owner)| owner.is_none()) {
        // Nobody holds a port: the address is none of this machine, and the hint says so.
        return failure;
    }
    for ((kind, port), owner) in &owned {
        if let Some(Owner { pid, name }) = owner {
            let port = if *kind == Kind::Udp { format!("UDP port {port}") } else { format!("Port {port}") };
            failure.message.push_str(&format!(" {port} is held by process {pid} ({name})."));
        }
        let check = format!("Check what uses the port: lsof -i :{port}\n");
        if !remedies.contains(&check) {
            remedies.push_str(&check);
        }
    }
    let held = listen.iter().find(|address| {
        port(address).is_some_and(|port| owned.iter().any(|(held, owner)| *held == port && owner.is_some()))
    });
    if let Some(address) = held.or(listen.first()).filter(|address| !failure.message.contains(*address)) {
        failure.message.push_str(&format!(" The address asked for is {address}."));
    }
    failure.hint = format!(
        "{remedies}Or try a different listen address: ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/0"
    );
    failure
}

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tcp,
    Udp,
}

/// The port of a multiaddr.
fn port(address: &str) -> Option<(Kind, u16)> {
    let of = |kind: &str| address.split('/').skip_while(|part| *part != kind).nth(1)?.parse().ok();
    of("tcp").map(|port| (Kind::Tcp, port)).or_else(|| Some((Kind::Udp, of("udp")?)))
}

/// A process.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    name: String,
}

/// The process that listens on `port`, as far as `proc` tells.
fn owner(proc: &Path, kind: Kind, port: u16) -> Option<Owner> {
    let (tables, state) = match kind {
        Kind::Tcp => (["net/tcp", "net/tcp6"], LISTEN),
        Kind::Udp => (["net/udp", "net/udp6"], OPEN),
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(proc.join(table)).ok())
        .flat_map(|table| listening(&table, state, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    for entry in fs::read_dir(proc).ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has_it = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path())
                .is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        });
        if has_it {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Owner { pid, name: name.trim().to_owned() });
        }
    }
    None
}

/// The inodes of the sockets in this state on `port`, from a table such as `/proc/net/tcp`.
fn listening(table: &str, wanted: &str, port: u16) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1)?;
            let state = columns.nth(1)?;
            let inode = columns.nth(5)?;
            let here = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            (here == port && state == wanted).then(|| inode.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_message_names_the_address_the_owner_and_both_remedies() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        let bare = Failure::new(Code::AddressInUse, "The address is taken.", "");
        let failure = explain(bare, std::slice::from_ref(&address));
        assert!(failure.message.contains(&address), "{failure:?}");
        assert!(failure.hint.contains(&format!("lsof -i :{port}")), "{failure:?}");
        assert!(failure.hint.contains("--listen /ip4/0.0.0.0/tcp/0"), "{failure:?}");
        if cfg!(target_os = "linux") {
            let owner = format!("Port {port} is held by process {} (", std::process::id());
            assert!(failure.message.contains(&owner), "{failure:?}");
        }
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let addresses = [address, format!("/ip4/127.0.0.1/udp/{port}/quic-v1")];
        let failure = explain(Failure::new(Code::AddressInUse, "The address is taken.", ""), &addresses);
        assert!(failure.hint.contains(&format!("lsof -i :{port}")), "{failure:?}");
        if cfg!(target_os = "linux") {
            let owner = format!("UDP port {port} is held by process {} (", std::process::id());
            assert!(failure.message.contains(&owner), "{failure:?}");
        }
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        let other = Failure::new(Code::Io, "No.", "Yes.");
        assert_eq!(explain(other.clone(), &["/ip4/127.0.0.1/tcp/1".to_owned()]), other);
    }

    #[test]
    fn connections_and_other_ports_are_no_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0FA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n\
             1: 0100007F:0FA1 0100007F:1234 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1\n\
             2: 0100007F:0FA2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4244 1\n\
             broken";
        assert_eq!(listening(table, LISTEN, 4001), [4242]);
    }
}
