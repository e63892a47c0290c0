//! The configuration of a node: its keys, the file that holds them, and which of several sources wins.
//!
//! [`P2PConfig`] is what a node is started with. [`Layers`] makes one from flags, environment, file and defaults and
//! remembers where each value came from. [`keys::KEYS`] is the one table of keys: it drives the file's parser, the
//! suggestions for a misspelt key, `config show`, the file that is written at the first start, and the JSON schema.
//! A new key is a field of [`P2PConfig`], a field of [`Partial`], and a row of that table.
//!
//! This module reads and writes the configuration file and nothing else. It knows nothing of tokio or of the command
//! line, and reads no environment: the caller passes values in. [`P2PConfig::default`] is the one exception, because a
//! program that embeds a node must be able to say `default()`.

pub mod address;
pub mod document;
pub mod edit;
pub mod env;
mod error;
pub mod keys;
mod layers;
mod reach;
pub mod schedule;
mod topology;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use libp2p::Multiaddr;

use crate::limits::{CONFIRM_INTERVAL_MAX, CONFIRM_INTERVAL_MIN};

pub use address::{AddressError, parse_dial, parse_listen, parse_multiaddr};
pub use document::{Document, Unknown};
pub use error::{Error, Place, Problem};
pub use keys::{Key, Reload, schema};
pub use layers::{Effective, Layers, Origin, Shown};
pub use reach::Reach;
pub use schedule::{Moment, Rate, Span};
pub use topology::{Role, Topology};
pub use value::{NONE, Value};

/// The configuration file's name inside the state folder.
pub const FILE_NAME: &str = "p2p-config.toml";
/// The Gossipsub topic of a node that was told no other.
pub const DEFAULT_TOPIC: &str = "/ggen/packages/v1";

/// Where a daemon listens that was told nothing else.
const LISTEN_OF_DAEMON: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip6/::/tcp/4001",
    "/ip4/0.0.0.0/udp/4001/quic-v1",
    "/ip6/::/udp/4001/quic-v1",
];

/// What a node is started with.
///
/// The fields are named as the file's keys are, without the table (`limits.connections_max` is
/// [`connections_max`](Self::connections_max)). Fields may be added: begin with [`P2PConfig::default`] or
/// [`P2PConfig::for_daemon`] and change what should differ.
#[derive(Debug, Clone, PartialEq)]
pub struct P2PConfig {
    /// The folder with keys, database, blocks, log and control socket; not a key of the file, which lies in it.
    pub state_dir: PathBuf,
    /// Addresses to listen on; none means a node that only dials.
    pub listen_addresses: Vec<Multiaddr>,
    /// Peers to join the network through.
    pub bootstrap_nodes: Vec<Multiaddr>,
    /// Whether this node answers DHT queries of others.
    pub dht_server_mode: bool,
    /// How others reach this node.
    pub reach: Reach,
    /// Whether this node relays for those that nobody can connect to, within limits, where it can be reached itself.
    pub relay_server: bool,
    /// Whether this node finds peers of the local network, and is found there, where it listens on more than loopback.
    pub mdns: bool,
    /// Whether this node asks its router to map ports, where a NAT stands before it.
    pub upnp: bool,
    /// The Gossipsub topic of package announcements, used verbatim.
    pub packages_topic: String,
    /// Seconds that a query to the network may take.
    pub query_timeout_secs: u64,
    /// How the network is laid out.
    pub topology: Topology,
    /// What this node is in it; [`P2PConfig::in_role`] sets what goes with a role.
    pub role: Role,
    /// Hubs to hold on to, in a network of hubs and spokes; they count as bootstrap nodes too.
    pub hubs: Vec<Multiaddr>,
    /// Connections held at once.
    pub connections_max: u32,
    /// Connections that trimming leaves at least.
    pub connections_low: u32,
    /// Connections above which those of the least value are closed.
    pub connections_high: u32,
    /// Bytes of blocks kept on disk; no limit where absent.
    pub store_bytes_max: Option<u64>,
    /// Bytes of blocks and logs that are sent in a second at most; no limit where absent.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes of blocks and logs that are received in a second at most; no limit where absent.
    pub download_bytes_per_second: Option<u64>,
    /// Limits at some times of the week, in the place of the two before; the first span that holds counts.
    pub schedule: Vec<Span>,
    /// Peers with a reputation below this are not fetched from; 0 to 1.
    pub min_reputation: f64,
    /// Days within which this node's publishers promise their next confirmation, 1 to 90.
    pub confirm_days: u32,
    /// Whether packages are signed by this machine's clock although peers say that it is wrong.
    pub trust_clock: bool,
    /// Days within which the newest version must have been confirmed to be installed without being named.
    pub max_age_days: Option<u64>,
    /// The least severe messages that are logged.
    pub log_level: LogLevel,
}

impl P2PConfig {
    /// The configuration of `ggen … start` where nothing else was said: as [`P2PConfig::default`], but on the fixed port 4001, and
    /// over QUIC too.
    pub fn for_daemon(state_dir: impl Into<PathBuf>) -> Self {
        Self { listen_addresses: Self::daemon_listens(), ..Self::with_state_dir(state_dir) }
    }

    fn daemon_listens() -> Vec<Multiaddr> {
        LISTEN_OF_DAEMON.map(|address| address.parse().expect("a valid address")).into()
    }

    /// Whether the addresses to listen on are those that hold where nobody names any. A node does without those of QUIC then, where it
    /// cannot listen on them.
    pub fn listens_by_default(&self) -> bool {
        self.listen_addresses == Self::daemon_listens()
    }

    /// The library's defaults with the state folder `state_dir`: reads no environment.
    pub fn with_state_dir(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen_addresses: vec!["/ip4/0.0.0.0/tcp/0".parse().expect("a valid address")],
            bootstrap_nodes: Vec::new(),
            dht_server_mode: true,
            reach: Reach::Auto,
            relay_server: true,
            mdns: true,
            upnp: true,
            packages_topic: DEFAULT_TOPIC.to_owned(),
            query_timeout_secs: 30,
            topology: Topology::Mesh,
            role: Role::Peer,
            hubs: Vec::new(),
            connections_max: 0,
            connections_low: 0,
            connections_high: 0,
            store_bytes_max: None,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
            schedule: Vec::new(),
            min_reputation: 0.0,
            confirm_days: CONFIRM_DAYS,
            trust_clock: false,
            max_age_days: None,
            log_level: LogLevel::Info,
        }
        .in_role(Topology::Mesh, Role::Peer)
    }

    /// Where the configuration file of this state folder lies.
    pub fn file_path(&self) -> PathBuf {
        self.state_dir.join(FILE_NAME)
    }

    /// Checks every field, as the file's parser would.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every field that is wrong, not only the first.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        if self.state_dir.as_os_str().is_empty() {
            let what = "no state folder is known: set it, or the variable GGEN_HOME or HOME";
            problems.push(Problem::new(Place::Program, Some("state_dir".into()), what));
        }
        let values = Partial::of(self);
        for key in keys::KEYS {
            let Some(value) = key.of(&values) else { continue };
            problems.extend(key.problems(&value, &Place::Program));
        }
        for (key, what) in self.conflicts() {
            problems.push(Problem::new(Place::Program, Some(key.into()), what));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid { problems }) }
    }
}

/// The library's defaults, in the folder `GGEN_HOME`, or else `~/.ggen`.
///
/// The only place of this crate that reads the environment, so that a program can begin with `P2PConfig::default()` and
/// share its state with the `ggen` command. Where neither `GGEN_HOME` nor a home folder is known the state folder is empty,
/// which [`P2PConfig::validate`] refuses.
impl Default for P2PConfig {
    fn default() -> Self {
        let home = std::env::home_dir();
        let state_dir = env::state_dir(&|name| std::env::var_os(name), home.as_deref()).unwrap_or_default();
        Self::with_state_dir(state_dir)
    }
}

/// The least severe messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    /// What failed and needs somebody.
    Error,
    /// What may need somebody.
    Warn,
    /// What a node does, in broad strokes.
    #[default]
    Info,
    /// Every decision.
    Debug,
    /// Every message.
    Trace,
}

impl LogLevel {
    /// Every level, from silent to loud.
    pub const ALL: &'static [Self] =
        &[Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level as the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|level| level.as_str() == text).ok_or_else(|| {
            format!(
                "{} is not a log level, expected off, error, warn, info, debug or trace",
                error::quoted(text)
            )
        })
    }
}

/// Days within which the next confirmation is promised where nothing else was said: a month of silence is what tells that a
/// publisher is away, and ten days between two confirmations are a load for nobody.
const CONFIRM_DAYS: u32 = 30;

impl P2PConfig {
    /// Within which time this node's publishers promise their next confirmation.
    pub fn confirm_interval(&self) -> Duration {
        let days = Duration::from_secs(u64::from(self.confirm_days) * 24 * 3600);
        days.clamp(CONFIRM_INTERVAL_MIN, CONFIRM_INTERVAL_MAX)
    }
}

/// Some of a configuration's values: what one source gives. `None` is "not given", an empty list is given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Partial {
    /// See [`P2PConfig::listen_addresses`].
    pub listen_addresses: Option<Vec<Multiaddr>>,
    /// See [`P2PConfig::bootstrap_nodes`].
    pub bootstrap_nodes: Option<Vec<Multiaddr>>,
    /// See [`P2PConfig::dht_server_mode`].
    pub dht_server_mode: Option<bool>,
    /// See [`P2PConfig::reach`].
    pub reach: Option<Reach>,
    /// See [`P2PConfig::relay_server`].
    pub relay_server: Option<bool>,
    /// See [`P2PConfig::mdns`].
    pub mdns: Option<bool>,
    /// See [`P2PConfig::upnp`].
    pub upnp: Option<bool>,
    /// See [`P2PConfig::packages_topic`].
    pub packages_topic: Option<String>,
    /// See [`P2PConfig::query_timeout_secs`].
    pub query_timeout_secs: Option<u64>,
    /// See [`P2PConfig::topology`].
    pub topology: Option<Topology>,
    /// See [`P2PConfig::role`].
    pub role: Option<Role>,
    /// See [`P2PConfig::hubs`].
    pub hubs: Option<Vec<Multiaddr>>,
    /// See [`P2PConfig::connections_max`].
    pub connections_max: Option<u32>,
    /// See [`P2PConfig::connections_low`].
    pub connections_low: Option<u32>,
    /// See [`P2PConfig::connections_high`].
    pub connections_high: Option<u32>,
    /// See [`P2PConfig::store_bytes_max`].
    pub store_bytes_max: Option<u64>,
    /// See [`P2PConfig::upload_bytes_per_second`].
    pub upload_bytes_per_second: Option<u64>,
    /// See [`P2PConfig::download_bytes_per_second`].
    pub download_bytes_per_second: Option<u64>,
    /// See [`P2PConfig::schedule`].
    pub schedule: Option<Vec<Span>>,
    /// See [`P2PConfig::min_reputation`].
    pub min_reputation: Option<f64>,
    /// See [`P2PConfig::confirm_days`].
    pub confirm_days: Option<u32>,
    /// See [`P2PConfig::trust_clock`].
    pub trust_clock: Option<bool>,
    /// See [`P2PConfig::max_age_days`].
    pub max_age_days: Option<u64>,
    /// See [`P2PConfig::log_level`].
    pub log_level: Option<LogLevel>,
}

impl Partial {
    /// Every value of `config`.
    pub fn of(config: &P2PConfig) -> Self {
        let config = config.clone();
        Self {
            listen_addresses: Some(config.listen_addresses),
            bootstrap_nodes: Some(config.bootstrap_nodes),
            dht_server_mode: Some(config.dht_server_mode),
            reach: Some(config.reach),
            relay_server: Some(config.relay_server),
            mdns: Some(config.mdns),
            upnp: Some(config.upnp),
            packages_topic: Some(config.packages_topic),
            query_timeout_secs: Some(config.query_timeout_secs),
            topology: Some(config.topology),
            role: Some(config.role),
            hubs: Some(config.hubs),
            connections_max: Some(config.connections_max),
            connections_low: Some(config.connections_low),
            connections_high: Some(config.connections_high),
            store_bytes_max: config.store_bytes_max,
            upload_bytes_per_second: config.upload_bytes_per_second,
            download_bytes_per_second: config.download_bytes_per_second,
            schedule: Some(config.schedule),
            min_reputation: Some(config.min_reputation),
            confirm_days: Some(config.confirm_days),
            trust_clock: Some(config.trust_clock),
            max_age_days: config.max_age_days,
            log_level: Some(config.log_level),
        }
    }

    /// Puts the values that are given in place of those of `config`.
    pub fn apply(self, config: &mut P2PConfig) {
        fn put<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        put(&mut config.listen_addresses, self.listen_addresses);
        put(&mut config.bootstrap_nodes, self.bootstrap_nodes);
        put(&mut config.dht_server_mode, self.dht_server_mode);
        put(&mut config.reach, self.reach);
        put(&mut config.relay_server, self.relay_server);
        put(&mut config.mdns, self.mdns);
        put(&mut config.upnp, self.upnp);
        put(&mut config.packages_topic, self.packages_topic);
        put(&mut config.query_timeout_secs, self.query_timeout_secs);
        put(&mut config.topology, self.topology);
        put(&mut config.role, self.role);
        put(&mut config.hubs, self.hubs);
        put(&mut config.connections_max, self.connections_max);
        put(&mut config.connections_low, self.connections_low);
        put(&mut config.connections_high, self.connections_high);
        put(&mut config.schedule, self.schedule);
        put(&mut config.min_reputation, self.min_reputation);
        put(&mut config.confirm_days, self.confirm_days);
        put(&mut config.trust_clock, self.trust_clock);
        put(&mut config.log_level, self.log_level);
        config.store_bytes_max = self.store_bytes_max.or(config.store_bytes_max);
        config.upload_bytes_per_second = self.upload_bytes_per_second.or(config.upload_bytes_per_second);
        config.download_bytes_per_second =
            self.download_bytes_per_second.or(config.download_bytes_per_second);
        config.max_age_days = self.max_age_days.or(config.max_age_days);
    }
}

/// Replaces a leading `~` by `home`; any other path is returned as it is.
///
/// # Errors
/// [`Error::NoHome`] where the path begins with `~` and no home folder is known.
pub fn expand_home(path: &Path, home: Option<&Path>) -> Result<PathBuf, Error> {
    match path.strip_prefix("~") {
        Ok(rest) => {
            let home = home.filter(|home| !home.as_os_str().is_empty()).ok_or(Error::NoHome)?;
            Ok(if rest.as_os_str().is_empty() { home.to_owned() } else { home.join(rest) })
        }
        Err(_) => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_defaults_are_the_documented_ones() {
        let config = P2PConfig::default();
        assert_eq!(config.listen_addresses, ["/ip4/0.0.0.0/tcp/0".parse().unwrap()]);
        assert!(config.bootstrap_nodes.is_empty());
        assert!(config.dht_server_mode);
        assert_eq!(config.packages_topic, "/ggen/packages/v1");
        assert_eq!(config.query_timeout_secs, 30);
        assert_eq!(config.connections_max, 200);
        assert_eq!((config.connections_low, config.connections_high), (24, 48));
        assert_eq!((config.topology, config.role, &config.hubs), (Topology::Mesh, Role::Peer, &Vec::new()));
        assert_eq!((config.store_bytes_max, config.min_reputation), (None, 0.0));
        let elsewhere = P2PConfig::with_state_dir("/x");
        elsewhere.validate().unwrap();
        assert_eq!(P2PConfig { state_dir: "/x".into(), ..config }, elsewhere);
    }

    #[test]
    fn a_daemon_listens_on_port_4001_of_both_families() {
        let config = P2PConfig::for_daemon("/x");
        let listen: Vec<String> = config.listen_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(listen, LISTEN_OF_DAEMON);
        assert!(config.listens_by_default() && !P2PConfig::with_state_dir("/x").listens_by_default());
        assert_eq!(config.file_path(), Path::new("/x/p2p-config.toml"));
        config.validate().unwrap();
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let config = P2PConfig {
            listen_addresses: vec!["/dns4/example.org/tcp/1".parse().unwrap()],
            bootstrap_nodes: vec!["/ip4/10.0.0.1/tcp/0".parse().unwrap()],
            packages_topic: String::new(),
            query_timeout_secs: 0,
            connections_max: 0,
            store_bytes_max: Some(0),
            min_reputation: f64::NAN,
            ..P2PConfig::with_state_dir("")
        };
        let Error::Invalid { problems } = config.validate().unwrap_err() else { panic!("invalid") };
        let named: Vec<&str> = problems.iter().map(|problem| problem.key.as_deref().unwrap()).collect();
        assert_eq!(
            named,
            [
                "state_dir",
                "listen_addresses[0]",
                "bootstrap_nodes[0]",
                "packages_topic",
                "query_timeout_secs",
                "limits.connections_max",
                "limits.store_bytes_max",
                "peers.min_reputation"
            ]
        );
    }

    #[test]
    fn a_partial_of_a_configuration_gives_all_of_it_back() {
        let mut config = P2PConfig::for_daemon("/x").in_role(Topology::HubAndSpoke, Role::Hub);
        config.hubs = vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()];
        config.connections_low = 7;
        config.connections_high = 9;
        config.store_bytes_max = Some(1 << 30);
        config.upload_bytes_per_second = Some(1 << 20);
        config.download_bytes_per_second = Some(1 << 21);
        config.schedule = vec!["mon 08:00-18:00 up=none".parse().unwrap()];
        config.min_reputation = 0.25;
        config.log_level = LogLevel::Trace;
        config.dht_server_mode = false;
        config.reach = Reach::Relay;
        config.relay_server = false;
        config.mdns = true;
        config.upnp = false;
        config.connections_max = 99;
        config.query_timeout_secs = 7;
        config.packages_topic = "/other".into();
        config.bootstrap_nodes = vec!["/dnsaddr/bootstrap.libp2p.io".parse().unwrap()];
        let mut copy = P2PConfig::with_state_dir("/x");
        Partial::of(&config).apply(&mut copy);
        assert_eq!(copy, config);
    }

    #[test]
    fn a_tilde_is_the_home_that_was_passed_in() {
        let home = Some(Path::new("/home/ada"));
        let expand = |path: &str| expand_home(Path::new(path), home).unwrap();
        assert_eq!(expand("~/.ggen/p2p-config.toml"), Path::new("/home/ada/.ggen/p2p-config.toml"));
        assert_eq!(expand("~"), Path::new("/home/ada"));
        assert_eq!(expand("/etc/~/x"), Path::new("/etc/~/x"));
        assert_eq!(expand("~bob/x"), Path::new("~bob/x"));
        for none in [None, Some(Path::new(""))] {
            assert!(matches!(expand_home(Path::new("~/x"), none), Err(Error::NoHome)));
            assert_eq!(expand_home(Path::new("x"), none).unwrap(), Path::new("x"));
        }
    }
}
