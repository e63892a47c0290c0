//! How many files and sockets a node may have open.
//!
//! A node that has too few dies of it sooner or later, and mostly in silence. So `start` looks first: it takes what the system
//! lets it take, refuses where that is too little, and gives the network only what the rest of the node can spare.

use std::fs;

use ggen_marketplace::{
    code::Code,
    config::P2PConfig,
    control::{api::Failure, service::Outcome},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files and sockets that a node must be able to open: about twenty for itself, and a few peers, clients and dials.
const OPEN_FILES_MIN: u64 = 48;
/// Those of them that are not for connections with peers: the node's own, and connections that do not stand yet.
const OWN_FILES: u64 = 32;
/// As many as a node ever needs: the soft limit is raised no further.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Raises the soft limit where it is low, and refuses to go on where a node could not live.
///
/// # Errors
/// [`Code::Limit`], with what to type.
pub(crate) fn ensure() -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if let Some(soft) = limit.current.filter(|soft| *soft < OPEN_FILES_WANTED.min(hard)) {
        for wanted in [OPEN_FILES_WANTED, 10_240].map(|wanted| wanted.min(hard)) {
            // Some systems have a limit below the hard one; that it stays as it was is judged below.
            let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
            if wanted > soft && setrlimit(Resource::Nofile, raised).is_ok() {
                break;
            }
        }
    }
    judge(allowed(), hard)
}

fn judge(allowed: Allowed, hard: u64) -> Outcome<()> {
    if allowed.left() >= OPEN_FILES_MIN {
        return Ok(());
    }
    let Allowed { limit, in_use } = allowed;
    let hint = if hard >= 1024 {
        "Allow more, then start again: ulimit -n 1024"
    } else {
        "Allow more, as root or in the limits of the system, then start again: ulimit -n 1024"
    };
    Err(Failure::new(
        Code::Limit,
        format!(
            "A node must be able to open {OPEN_FILES_MIN} files and sockets; this process may open {}, of which {in_use} \
             are in use.",
            limit.unwrap_or(u64::MAX)
        ),
        hint,
    ))
}

/// How many connections a node has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room(u32);

/// Counts before the node opens anything: later, its own connections would count as what is in use.
pub(super) fn room() -> Room {
    Room(u32::try_from(allowed().left().saturating_sub(OWN_FILES)).unwrap_or(u32::MAX).max(1))
}

/// Keeps the connections below what can be opened; yields what to warn of, where that is less than was asked for.
pub(super) fn fit(config: &mut P2PConfig, Room(room): Room) -> Option<String> {
    let asked = config.connections_max;
    (asked > room).then(|| {
        config.connections_max = room;
        format!(
            "limits.connections_max is {asked}, but open files are limited: {room} connections at most. To allow more: \
             ulimit -n 1024"
        )
    })
}

/// What this process may open.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// One more than the highest descriptor; none where there is no limit.
    limit: Option<u64>,
    in_use: u64,
}

impl Allowed {
    fn left(self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.in_use))
    }
}

fn allowed() -> Allowed {
    let limit = getrlimit(Resource::Nofile).current;
    let below = |name: &str| name.parse::<u64>().is_ok_and(|number| limit.is_none_or(|limit| number < limit));
    // The folder is open while it is read, and lists itself.
    let in_use = fs::read_dir("/dev/fd").map_or(limit, |open| {
        let open = open.flatten().filter(|entry| entry.file_name().to_str().is_some_and(below));
        Some((open.count() as u64).saturating_sub(1))
    });
    Allowed { limit, in_use: in_use.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_does_not_count_as_room() {
        assert!(judge(Allowed { limit: Some(51), in_use: 3 }, 51).is_ok());
        assert!(judge(Allowed { limit: None, in_use: 1_000 }, u64::MAX).is_ok());
        let refused = judge(Allowed { limit: Some(51), in_use: 4 }, 51).unwrap_err();
        assert_eq!(refused.code, Code::Limit);
        assert!(refused.message.contains("48") && refused.hint.contains("ulimit -n 1024"), "{refused:?}");
        assert!(judge(Allowed { limit: Some(3), in_use: 9 }, 51).is_err(), "inherited ones may be many");
    }

    #[test]
    fn connections_are_kept_below_what_can_be_opened() {
        let mut config = P2PConfig { connections_max: u32::MAX, ..P2PConfig::default() };
        assert!(fit(&mut config, room()).is_some_and(|warning| warning.contains("ulimit")));
        assert!((1..u32::MAX).contains(&config.connections_max));
        let kept = config.connections_max;
        config.connections_max = 1;
        assert_eq!((fit(&mut config, room()), config.connections_max), (None, 1), "{kept}");
    }
}
