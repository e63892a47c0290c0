//! Which source wins: flags, then environment, then file, then defaults.
//!
//! Pure: every source was read before, and the result remembers which of them gave each value.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    Document, Error, P2PConfig, Partial, Place, Problem, Role, Value,
    keys::{KEYS, Key},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// An environment variable.
    Env(&'static str),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nobody gave one.
    Default,
}

/// `flag`, `GGEN_P2P_TOPIC`, `/home/ada/.ggen/p2p-config.toml:12`, `default`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Everything that may give a value.
#[derive(Debug, Clone)]
pub struct Layers {
    /// What the command line gives.
    pub flags: Partial,
    /// What the environment gives: [`Partial::from_env`].
    pub env: Partial,
    /// What the file gives, where there is one: [`super::document::read`].
    pub file: Option<Document>,
    /// What holds where nobody gives anything; its state folder is the result's.
    pub defaults: P2PConfig,
}

impl Layers {
    /// Takes for each key the value of the highest layer that gives one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every value that is out of bounds, wherever it came from.
    pub fn resolve(self) -> Result<Effective, Error> {
        let defaults = self.defaults_of_role();
        let Self { flags, env, file, .. } = self;
        let given = Partial::of(&defaults);
        let (mut merged, mut origins, mut problems) = (Partial::default(), BTreeMap::new(), Vec::new());
        for key in KEYS {
            let from_file = || {
                let document = file.as_ref()?;
                let value = key.of(&document.values)?;
                Some((value, Origin::File { path: document.path.clone(), line: document.line_of(key) }))
            };
            let found = (key.of(&flags).map(|value| (value, Origin::Flag)))
                .or_else(|| Some((key.of(&env)?, Origin::Env(key.variable?))))
                .or_else(from_file)
                .or_else(|| Some((key.of(&given)?, Origin::Default)));
            let Some((value, origin)) = found else {
                origins.insert(key.name, Origin::Default);
                continue;
            };
            problems.extend(key.problems(&value, &place(&origin)));
            origins.insert(key.name, origin);
            key.put(&mut merged, value);
        }
        if !problems.is_empty() {
            return Err(Error::Invalid { problems });
        }
        let mut config = defaults;
        merged.apply(&mut config);
        let conflicts = config.conflicts();
        if !conflicts.is_empty() {
            let of = |(key, what)| conflict(key, what, &origins);
            return Err(Error::Invalid { problems: conflicts.into_iter().map(of).collect() });
        }
        let mut warnings = file.map(|document| document.warnings).unwrap_or_default();
        warnings.extend(remarks(&config, &origins));
        Ok(Effective { config, origins, warnings })
    }

    /// The defaults of the role that these layers give. A topology that was named brings a role of its own along.
    fn defaults_of_role(&self) -> P2PConfig {
        let file = self.file.as_ref().map(|document| &document.values);
        let layers = || [Some(&self.flags), Some(&self.env), file].into_iter().flatten();
        let role = layers().find_map(|layer| layer.role);
        let topology = layers().find_map(|layer| layer.topology);
        let defaults = self.defaults.clone();
        let (topology, role) = match (topology, role) {
            (None, None) => return defaults,
            (Some(topology), role) => (topology, role.unwrap_or(topology.default_role())),
            (None, Some(role)) => (defaults.topology, role),
        };
        defaults.in_role(topology, role)
    }
}

/// Two values that do not go together, with where the one stands that is the cause: a flag or a variable, where the other one was there
/// before.
fn conflict(key: &'static str, what: String, origins: &BTreeMap<&'static str, Origin>) -> Problem {
    let (of_key, partner) = (&origins[key], partner(key));
    let cause = partner.map(|partner| (partner, &origins[partner]));
    let is_of_this_start = |origin: &Origin| matches!(origin, Origin::Flag | Origin::Env(_));
    match cause.filter(|(_, origin)| is_of_this_start(origin) && rank(origin) > rank(of_key)) {
        Some((cause, origin)) => {
            let remedy = match origin {
                Origin::Flag => flag_of(key).map_or_else(
                    || "leave that flag out".to_owned(),
                    |flag| format!("give {flag} too, or leave that flag out"),
                ),
                _ => "unset that variable, or change the other value".to_owned(),
            };
            let what = format!("it does not go with {key} ({of_key}): {what}; {remedy}");
            Problem::new(place(origin), Some(cause.to_owned()), what)
        }
        None => Problem::new(place(of_key), Some(key.to_owned()), what),
    }
}

/// The key that a value does not go together with, where it is said to conflict.
pub(super) fn partner(key: &str) -> Option<&'static str> {
    match key {
        "role" | "topology.hubs" => Some("topology"),
        "dht_server_mode" => Some("role"),
        "peers.connections_low" => Some("peers.connections_high"),
        _ => None,
    }
}

fn flag_of(key: &str) -> Option<&'static str> {
    match key {
        "role" => Some("--role"),
        "dht_server_mode" => Some("--dht-server false"),
        _ => None,
    }
}

/// Which of two origins wins.
fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::File { .. } => 1,
        Origin::Env(_) => 2,
        Origin::Flag => 3,
    }
}

fn place(origin: &Origin) -> Place {
    match origin {
        Origin::Flag => Place::Flag,
        Origin::Env(name) => Place::Variable((*name).to_owned()),
        Origin::File { path, line } => Place::line(path, *line),
        Origin::Default => Place::Program,
    }
}

/// What is allowed and yet most likely not meant.
fn remarks(config: &P2PConfig, origins: &BTreeMap<&'static str, Origin>) -> Vec<Problem> {
    let mut remarks = Vec::new();
    let mut remark = |key: &'static str, what: String| {
        remarks.push(Problem::new(place(&origins[key]), Some(key.to_owned()), what));
    };
    for (key, list) in [
        ("listen_addresses", &config.listen_addresses),
        ("bootstrap_nodes", &config.bootstrap_nodes),
        ("topology.hubs", &config.hubs),
    ] {
        for (index, address) in list.iter().enumerate() {
            if list[..index].contains(address) {
                remark(key, format!("'{address}' stands twice"));
            }
        }
    }
    for (key, list) in [("bootstrap_nodes", &config.bootstrap_nodes), ("topology.hubs", &config.hubs)] {
        for address in list.iter().filter(|address| !names_its_peer(address)) {
            let what = format!(
                "'{address}' names no peer: anyone who answers there is accepted; add /p2p/<peer id>"
            );
            remark(key, what);
        }
    }
    if config.role == Role::Spoke && config.entry_points().is_empty() {
        let what = "with no hub and no bootstrap node a spoke can only hold on to hubs of earlier days";
        remark("topology.hubs", what.to_owned());
    } else if config.listen_addresses.is_empty() && config.entry_points().is_empty() {
        let what = "with no address to listen on and no bootstrap node only saved peers can be reached";
        remark("listen_addresses", what.to_owned());
    }
    remarks
}

/// Whether it is known who has to answer; what a `/dnsaddr/` stands for names the peers itself.
fn names_its_peer(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2p(_) | Protocol::Dnsaddr(_)))
}

/// A configuration that knows where each of its values came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The configuration.
    pub config: P2PConfig,
    /// For every key of [`super::keys::KEYS`] where its value came from.
    pub origins: BTreeMap<&'static str, Origin>,
    /// Unknown keys, and what is allowed and yet most likely not meant.
    pub warnings: Vec<Problem>,
}

/// One key as `config show` lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown<'a> {
    /// The key.
    pub key: &'static Key,
    /// Its value; none for a limit that is not set.
    pub value: Option<Value>,
    /// Where the value came from.
    pub origin: &'a Origin,
}

impl Effective {
    /// Every key with its value and origin, in the order of the file.
    pub fn show(&self) -> Vec<Shown<'_>> {
        let values = Partial::of(&self.config);
        let shown =
            |key: &'static Key| Shown { key, value: key.of(&values), origin: &self.origins[key.name] };
        KEYS.iter().map(shown).collect()
    }

    /// One key with its value and origin.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] with the key that looks most like it.
    pub fn get(&self, name: &str) -> Result<Shown<'_>, Error> {
        self.show()
            .into_iter()
            .find(|shown| Key::named(name).is_some_and(|key| key == shown.key))
            .ok_or_else(|| Error::UnknownKey { key: name.to_owned(), nearest: Key::nearest(name) })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{LogLevel, Reach, Topology, Unknown, document};

    fn layers() -> Layers {
        Layers {
            flags: Partial::default(),
            env: Partial::default(),
            file: None,
            defaults: P2PConfig::for_daemon("/n1"),
        }
    }

    fn file(text: &str) -> Option<Document> {
        Some(document::parse(Path::new("c.toml"), text, Unknown::Warn).unwrap())
    }

    #[test]
    fn the_highest_layer_that_gives_a_value_wins() {
        let mut layers = layers();
        let topic = |text: &str| Some(text.to_owned());
        let resolved = |layers: &Layers| {
            let effective = layers.clone().resolve().unwrap();
            (effective.config.packages_topic.clone(), effective.origins["packages_topic"].to_string())
        };
        assert_eq!(resolved(&layers), ("/ggen/packages/v1".into(), "default".into()));
        layers.file = file("\npackages_topic = '/file'");
        assert_eq!(resolved(&layers), ("/file".into(), "c.toml:2".into()));
        layers.env.packages_topic = topic("/env");
        assert_eq!(resolved(&layers), ("/env".into(), "GGEN_P2P_TOPIC".into()));
        layers.flags.packages_topic = topic("/flag");
        assert_eq!(resolved(&layers), ("/flag".into(), "flag".into()));
    }

    #[test]
    fn every_key_of_the_file_reaches_the_configuration() {
        let text = "listen_addresses = []\nbootstrap_nodes = ['/ip4/10.0.0.1/tcp/1']\ndht_server_mode = false\n\
            reach = 'relay'\nrelay_server = false\nmdns = true\nupnp = false\npackages_topic = '/t'\nquery_timeout_secs = 3\nrole = 'spoke'\n[topology]\nkind = 'hub-and-spoke'\n\
            hubs = ['/ip4/10.0.0.2/tcp/1']\n[limits]\nconnections_max = 50\nstore_bytes_max = 1_000_000_000\n\
            upload_bytes_per_second = 100_000\ndownload_bytes_per_second = 200_000\nschedule = ['08:00-18:00 up=none']\n\
            [peers]\nconnections_low = 4\nconnections_high = 8\nmin_reputation = 0.5\n\
            [publish]\nconfirm_days = 7\ntrust_clock = true\n[install]\nmax_age = 14\n[log]\nlevel = 'debug'\n";
        let effective = Layers { file: file(text), ..layers() }.resolve().unwrap();
        let expected = P2PConfig {
            state_dir: "/n1".into(),
            listen_addresses: Vec::new(),
            bootstrap_nodes: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()],
            dht_server_mode: false,
            reach: Reach::Relay,
            relay_server: false,
            mdns: true,
            upnp: false,
            packages_topic: "/t".into(),
            query_timeout_secs: 3,
            topology: Topology::HubAndSpoke,
            role: Role::Spoke,
            hubs: vec!["/ip4/10.0.0.2/tcp/1".parse().unwrap()],
            connections_max: 50,
            connections_low: 4,
            connections_high: 8,
            store_bytes_max: Some(1_000_000_000),
            upload_bytes_per_second: Some(100_000),
            download_bytes_per_second: Some(200_000),
            schedule: vec!["08:00-18:00 up=none".parse().unwrap()],
            min_reputation: 0.5,
            confirm_days: 7,
            trust_clock: true,
            max_age_days: Some(14),
            log_level: LogLevel::Debug,
        };
        assert_eq!(effective.config, expected);
        assert!(effective.origins.values().all(|origin| matches!(origin, Origin::File { .. })));
        assert_eq!(effective.get("log.level").unwrap().origin.to_string(), "c.toml:30");
    }

    #[test]
    fn an_empty_list_is_given_and_is_not_the_default() {
        let env = Partial { listen_addresses: Some(Vec::new()), ..Partial::default() };
        let effective = Layers { env, ..layers() }.resolve().unwrap();
        assert!(effective.config.listen_addresses.is_empty());
        assert_eq!(effective.origins["listen_addresses"], Origin::Env("GGEN_P2P_LISTEN"));
        assert!(effective.warnings[0].what.contains("only saved peers"), "{:?}", effective.warnings);
    }

    #[test]
    fn a_bad_flag_of_a_program_is_refused_as_usage() {
        let flags = Partial { query_timeout_secs: Some(0), ..Partial::default() };
        let error = Layers { flags, ..layers() }.resolve().unwrap_err();
        assert_eq!(error.code(), crate::code::Code::Usage);
        assert!(error.to_string().starts_with("query_timeout_secs: 0 is out of range"), "{error}");
    }

    #[test]
    fn what_stands_twice_is_warned_of() {
        let text = "bootstrap_nodes = ['/ip4/10.0.0.1/tcp/1', '/ip4/10.0.0.1/tcp/1']";
        let effective = Layers { file: file(text), ..layers() }.resolve().unwrap();
        assert_eq!(
            effective.warnings[0].to_string(),
            "c.toml:1: bootstrap_nodes: '/ip4/10.0.0.1/tcp/1' stands twice"
        );
    }

    #[test]
    fn an_entry_point_that_names_no_peer_is_warned_of() {
        let text = "bootstrap_nodes = ['/ip4/10.0.0.1/tcp/1', '/dnsaddr/example.org', \
                    '/ip4/10.0.0.2/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA']";
        let effective = Layers { file: file(text), ..layers() }.resolve().unwrap();
        let [warning] = &effective.warnings[..] else { panic!("{:?}", effective.warnings) };
        let warning = warning.to_string();
        assert!(warning.starts_with("c.toml:1: bootstrap_nodes: '/ip4/10.0.0.1/tcp/1'"), "{warning}");
        assert!(warning.contains("anyone who answers there is accepted"), "{warning}");
    }

    #[test]
    fn show_lists_every_key_and_get_suggests() {
        let effective = layers().resolve().unwrap();
        let names: Vec<&str> = effective.show().iter().map(|shown| shown.key.name).collect();
        assert_eq!(names, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
        assert_eq!(effective.get("limits.store_bytes_max").unwrap().value, None);
        assert_eq!(
            effective.get("topic").unwrap_err().to_string(),
            "'topic' is not a configuration key, did you mean packages_topic?"
        );
    }

    fn resolved(text: &str) -> Result<Effective, String> {
        Layers { file: file(text), ..layers() }.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn a_topology_brings_its_first_role_along_and_a_role_what_belongs_to_it() {
        for (text, topology, role, serves, marks) in [
            ("", Topology::Mesh, Role::Peer, true, (24, 48, 200)),
            ("topology = 'hub-and-spoke'", Topology::HubAndSpoke, Role::Spoke, false, (24, 48, 200)),
            (
                "role = 'hub'\n[topology]\nkind = 'hub-and-spoke'",
                Topology::HubAndSpoke,
                Role::Hub,
                true,
                (192, 384, 1600),
            ),
            ("topology = 'hybrid'", Topology::Hybrid, Role::Permanent, true, (24, 48, 200)),
            (
                "topology.kind = 'hybrid'\nrole = 'ephemeral'",
                Topology::Hybrid,
                Role::Ephemeral,
                false,
                (24, 48, 200),
            ),
        ] {
            let effective = resolved(text).unwrap();
            let config = &effective.config;
            assert_eq!(
                (config.topology, config.role, config.dht_server_mode),
                (topology, role, serves),
                "{text}"
            );
            let held = (config.connections_low, config.connections_high, config.connections_max);
            assert_eq!(held, marks, "{text}");
            assert_eq!(effective.origins["dht_server_mode"], Origin::Default);
            assert_eq!(effective.origins["role"] == Origin::Default, !text.contains("role"), "{text}");
            config.validate().unwrap();
        }
    }

    #[test]
    fn what_does_not_go_together_is_named_with_where_it_stands() {
        for (text, what) in [
            (
                "role = 'spoke'",
                "c.toml:1: role: spoke is no role of the topology mesh, expected peer; spoke is one of hub-and-spoke",
            ),
            (
                "topology = 'hybrid'\nrole = 'hub'",
                "c.toml:2: role: hub is no role of the topology hybrid, expected permanent or ephemeral; hub is one of \
                 hub-and-spoke",
            ),
            (
                "topology = 'hub-and-spoke'\ndht_server_mode = true",
                "c.toml:2: dht_server_mode: true does not go with the role spoke, which never answers DHT queries; leave \
                 it out, or choose the role hub",
            ),
            (
                "topology = 'hybrid'\ndht_server_mode = true\nrole = 'ephemeral'",
                "c.toml:2: dht_server_mode: true does not go with the role ephemeral, which never answers DHT queries; \
                 leave it out, or choose the role permanent",
            ),
            (
                "[topology]\nhubs = ['/ip4/10.0.0.1/tcp/1']",
                "c.toml:2: topology.hubs: the topology mesh has no hubs; set it to hub-and-spoke",
            ),
            (
                "[peers]\nconnections_high = 9",
                "peers.connections_low: 24 is not below peers.connections_high, which is 9",
            ),
        ] {
            assert_eq!(resolved(text).unwrap_err(), what);
        }
    }

    #[test]
    fn a_flag_names_the_topology_of_a_role_in_the_file() {
        let flags = Partial { topology: Some(Topology::HubAndSpoke), ..Partial::default() };
        let file = file("role = 'hub'\ndht_server_mode = false\n");
        let effective = Layers { flags, file, ..layers() }.resolve().unwrap();
        assert_eq!((effective.config.role, effective.config.dht_server_mode), (Role::Hub, false));
        assert_eq!(effective.origins["topology"], Origin::Flag);
        assert_eq!(effective.get("topology.kind").unwrap().key.name, "topology");
    }

    #[test]
    fn a_spoke_that_knows_no_hub_is_warned_of() {
        let effective = resolved("topology = 'hub-and-spoke'").unwrap();
        assert!(effective.warnings[0].what.contains("hubs of earlier days"), "{:?}", effective.warnings);
        let with =
            resolved("topology = 'hub-and-spoke'\nbootstrap_nodes = ['/dnsaddr/example.org']").unwrap();
        assert_eq!(with.warnings, []);
    }
}
