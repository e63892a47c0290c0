//! Every environment variable of the program: its name, its meaning, and how its value is read.
//!
//! This module reads no environment: callers pass a function that looks a variable up, usually `std::env::var_os`. A
//! variable that is set but empty counts as not set; the word `none` stands for an empty list.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::{
    Partial, Problem,
    error::{Error, Place, did_you_mean},
    expand_home,
    keys::KEYS,
};

/// The folder with everything that belongs to one node.
pub const HOME: &str = "GGEN_HOME";
/// The configuration file.
pub const CONFIG: &str = "GGEN_P2P_CONFIG";
/// Gives `listen_addresses`.
pub const LISTEN: &str = "GGEN_P2P_LISTEN";
/// Gives `bootstrap_nodes`.
pub const BOOTSTRAP: &str = "GGEN_P2P_BOOTSTRAP";
/// Gives `dht_server_mode`.
pub const DHT_SERVER: &str = "GGEN_P2P_DHT_SERVER";
/// Gives `reach`.
pub const REACH: &str = "GGEN_P2P_REACH";
/// Gives `mdns`.
pub const MDNS: &str = "GGEN_P2P_MDNS";
/// Gives `upnp`.
pub const UPNP: &str = "GGEN_P2P_UPNP";
/// Gives `packages_topic`.
pub const TOPIC: &str = "GGEN_P2P_TOPIC";
/// Gives `query_timeout_secs`.
pub const QUERY_TIMEOUT_SECS: &str = "GGEN_P2P_QUERY_TIMEOUT_SECS";
/// Gives `topology`.
pub const TOPOLOGY: &str = "GGEN_P2P_TOPOLOGY";
/// Gives `role`.
pub const ROLE: &str = "GGEN_P2P_ROLE";
/// Gives `topology.hubs`.
pub const HUBS: &str = "GGEN_P2P_HUBS";
/// Filters the log more finely than `log.level`; read by the command line only.
pub const RUST_LOG: &str = "RUST_LOG";

/// What the variables of one node begin with.
const PREFIX: &str = "GGEN_P2P_";

/// An environment variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// Every variable, in the order in which help shows them.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: HOME,
        doc: "Folder with configuration, keys, database, blocks, log and control socket; ~/.ggen where unset.",
    },
    Variable { name: CONFIG, doc: "Configuration file; p2p-config.toml in the folder above where unset." },
    Variable {
        name: LISTEN,
        doc: "Addresses to listen on, parted by commas; none for a node that only dials.",
    },
    Variable {
        name: BOOTSTRAP,
        doc: "Peers to join the network through, parted by commas; none for nobody.",
    },
    Variable { name: DHT_SERVER, doc: "Whether the node answers DHT queries: true or false." },
    Variable { name: REACH, doc: "How others reach the node: auto, direct or relay." },
    Variable {
        name: MDNS,
        doc: "Whether the node finds peers of the local network, and is found there: true or false.",
    },
    Variable { name: UPNP, doc: "Whether the node asks its router to map ports to it: true or false." },
    Variable { name: TOPIC, doc: "Gossipsub topic of package announcements." },
    Variable { name: QUERY_TIMEOUT_SECS, doc: "Seconds that a query to the network may take." },
    Variable { name: TOPOLOGY, doc: "How the network is laid out: mesh, hub-and-spoke or hybrid." },
    Variable {
        name: ROLE,
        doc: "What the node is in its topology: peer; hub or spoke; permanent or ephemeral.",
    },
    Variable { name: HUBS, doc: "Hubs to hold on to, parted by commas; none for nobody." },
    Variable {
        name: RUST_LOG,
        doc: "Filter of the log by module, as in info,libp2p=warn; wins over log.level.",
    },
];

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn set(lookup: Lookup<'_>, name: &str) -> Option<OsString> {
    lookup(name).filter(|value| !value.is_empty())
}

/// The state folder: `GGEN_HOME` with `~` expanded, or else `.ggen` in `home`.
///
/// # Errors
/// [`Error::NoHome`] where neither is known.
pub fn state_dir(lookup: Lookup<'_>, home: Option<&Path>) -> Result<PathBuf, Error> {
    let path = set(lookup, HOME).map_or_else(|| PathBuf::from("~/.ggen"), PathBuf::from);
    expand_home(&path, home)
}

/// The configuration file that `GGEN_P2P_CONFIG` names, with `~` expanded.
///
/// # Errors
/// [`Error::NoHome`] where it begins with `~` and no home folder is known.
pub fn config_path(lookup: Lookup<'_>, home: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    set(lookup, CONFIG).map(|path| expand_home(Path::new(&path), home)).transpose()
}

/// Warns of variables that begin as ours do and are none of ours.
pub fn unknown(names: impl Iterator<Item = OsString>) -> Vec<Problem> {
    let mut unknown: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && VARIABLES.iter().all(|variable| variable.name != name))
        .collect();
    unknown.sort();
    unknown
        .into_iter()
        .map(|name| {
            let like = |variable: &&Variable| strsim::normalized_damerau_levenshtein(&name, variable.name);
            let nearest = VARIABLES
                .iter()
                .max_by(|a, b| like(a).total_cmp(&like(b)))
                .filter(|variable| like(variable) >= 0.7)
                .map(|variable| variable.name);
            let what = format!("unknown variable, it has no effect{}", did_you_mean(nearest));
            Problem::new(Place::Variable(super::error::quoted(&name)), None, what)
        })
        .collect()
}

impl Partial {
    /// What the environment gives.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every variable that holds no value of its key.
    pub fn from_env(lookup: Lookup<'_>) -> Result<Self, Error> {
        let (mut partial, mut problems) = (Self::default(), Vec::new());
        for key in KEYS {
            let Some(name) = key.variable else { continue };
            let Some(value) = set(lookup, name) else { continue };
            let place = Place::Variable(name.to_owned());
            match OsStr::to_str(&value) {
                None => problems.push(Problem::new(place, Some(key.name.into()), "it is not UTF-8")),
                Some(text) => match key.kind.parse(text) {
                    Ok(value) => key.put(&mut partial, value),
                    Err(faults) => {
                        problems.extend(faults.into_iter().map(|fault| key.problem(fault, place.clone())));
                    }
                },
            }
        }
        if problems.is_empty() { Ok(partial) } else { Err(Error::Invalid { problems }) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Role, Topology};

    fn lookup(values: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let values: BTreeMap<String, OsString> =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        move |name| values.get(name).cloned()
    }

    #[test]
    fn every_variable_gives_its_key() {
        let env = lookup(&[
            (LISTEN, "/ip4/127.0.0.1/tcp/1, /ip6/::1/tcp/2"),
            (BOOTSTRAP, "/dnsaddr/bootstrap.libp2p.io"),
            (DHT_SERVER, "false"),
            (TOPIC, "/a"),
            (QUERY_TIMEOUT_SECS, "9"),
            (TOPOLOGY, "hub-and-spoke"),
            (ROLE, "hub"),
            (HUBS, "/ip4/10.0.0.1/tcp/1,/ip4/10.0.0.2/tcp/1"),
        ]);
        let partial = Partial::from_env(&env).unwrap();
        assert_eq!(partial.listen_addresses.unwrap().len(), 2);
        assert_eq!(partial.bootstrap_nodes.unwrap().len(), 1);
        assert_eq!(partial.dht_server_mode, Some(false));
        assert_eq!(partial.packages_topic.as_deref(), Some("/a"));
        assert_eq!(partial.query_timeout_secs, Some(9));
        assert_eq!((partial.topology, partial.role), (Some(Topology::HubAndSpoke), Some(Role::Hub)));
        assert_eq!(partial.hubs.unwrap().len(), 2);
        assert_eq!(partial.log_level, None);
    }

    #[test]
    fn every_variable_of_a_key_is_documented() {
        for key in KEYS {
            if let Some(name) = key.variable {
                assert!(VARIABLES.iter().any(|variable| variable.name == name), "{name}");
            }
        }
    }

    #[test]
    fn an_empty_variable_is_not_set_and_none_is_an_empty_list() {
        assert_eq!(Partial::from_env(&lookup(&[(LISTEN, ""), (TOPIC, "")])).unwrap(), Partial::default());
        let partial = Partial::from_env(&lookup(&[(LISTEN, "none")])).unwrap();
        assert_eq!(partial.listen_addresses, Some(Vec::new()));
    }

    #[test]
    fn every_bad_variable_is_named_at_once() {
        let env = lookup(&[
            (LISTEN, "/ip4/127.0.0.1/tcp/1,/ip4/999.1.1.1/tcp/1"),
            (DHT_SERVER, "1"),
            (TOPIC, "/a"),
        ]);
        let error = Partial::from_env(&env).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 problems in the configuration\n  \
             GGEN_P2P_LISTEN: listen_addresses[1]: '/ip4/999.1.1.1/tcp/1': '999.1.1.1' is not an IPv4 address\n  \
             GGEN_P2P_DHT_SERVER: dht_server_mode: '1' is not true or false"
        );
        assert_eq!(error.code(), crate::code::Code::Config);
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_refused_but_a_path_need_not_be() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![b'/', 0xff]);
        let env = |_: &str| Some(bytes.clone());
        assert!(
            Partial::from_env(&env)
                .unwrap_err()
                .to_string()
                .contains("GGEN_P2P_TOPIC: packages_topic: it is not UTF-8")
        );
        assert_eq!(state_dir(&env, None).unwrap(), PathBuf::from(bytes.clone()));
    }

    #[test]
    fn the_state_folder_is_ggen_home_or_in_the_home() {
        let home = Some(Path::new("/home/ada"));
        assert_eq!(state_dir(&lookup(&[(HOME, "/n1")]), None).unwrap(), Path::new("/n1"));
        assert_eq!(state_dir(&lookup(&[(HOME, "~/n1")]), home).unwrap(), Path::new("/home/ada/n1"));
        assert_eq!(state_dir(&lookup(&[(HOME, "")]), home).unwrap(), Path::new("/home/ada/.ggen"));
        assert!(matches!(state_dir(&lookup(&[]), None), Err(Error::NoHome)));
        assert_eq!(
            config_path(&lookup(&[(CONFIG, "~/c.toml")]), home).unwrap(),
            Some("/home/ada/c.toml".into())
        );
        assert_eq!(config_path(&lookup(&[]), home).unwrap(), None);
    }

    #[test]
    fn a_misspelt_variable_is_warned_of() {
        let names = ["GGEN_P2P_LISTENS", "GGEN_P2P_LISTEN", "GGEN_HOME", "PATH", "GGEN_P2P_ZZZZZZZZZZZ"];
        let shown: Vec<String> =
            unknown(names.into_iter().map(OsString::from)).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "'GGEN_P2P_LISTENS': unknown variable, it has no effect, did you mean GGEN_P2P_LISTEN?",
                "'GGEN_P2P_ZZZZZZZZZZZ': unknown variable, it has no effect",
            ]
        );
    }
}
