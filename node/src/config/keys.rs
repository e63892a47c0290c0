//! The one table of configuration keys.
//!
//! Everything that must know the keys reads it here: the file's parser, `config show`, `config set`, the file written at
//! the first start, and the JSON schema. It knows nothing of files.

use serde_json::json;
use toml::de::{DeTable, DeValue};

use super::{
    P2PConfig, Partial,
    error::{Place, Problem},
    value::{Fault, Kind, Value},
};
use crate::limits::LINE_BYTES_PER_SECOND_MIN;

/// Whether a running node can take a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once.
    Live,
    /// Only when it starts again.
    Restart,
}

impl Reload {
    /// The word for it, in JSON and in the written file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
        }
    }
}

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Its name, with the table where it stands in one.
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// Whether a running node can take a new value.
    pub reload: Reload,
    /// The environment variable that gives it.
    pub variable: Option<&'static str>,
    /// Whether its default is another one in each role.
    pub by_role: bool,
    pub(super) kind: Kind,
    read: fn(&Partial) -> Option<Value>,
    write: fn(&mut Partial, Value),
}

/// The two ways between a field of [`Partial`] and a [`Value`].
macro_rules! field {
    ($field:ident: $variant:ident) => {
        (
            |partial: &Partial| partial.$field.clone().map(Value::$variant),
            |partial: &mut Partial, value| {
                if let Value::$variant(value) = value {
                    partial.$field = Some(value);
                }
            },
        )
    };
    ($field:ident: Integer as $type:ty) => {
        (
            |partial: &Partial| partial.$field.map(|number| Value::Integer(number.into())),
            |partial: &mut Partial, value| {
                if let Value::Integer(value) = value {
                    partial.$field = <$type>::try_from(value).ok();
                }
            },
        )
    };
}

type Access = (fn(&Partial) -> Option<Value>, fn(&mut Partial, Value));

const fn key(name: &'static str, kind: Kind, reload: Reload, access: Access, doc: &'static str) -> Key {
    Key { name, doc, reload, variable: None, by_role: false, kind, read: access.0, write: access.1 }
}

impl Key {
    const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    const fn by_role(self) -> Self {
        Self { by_role: true, ..self }
    }
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    key(
        "listen_addresses",
        Kind::Listen,
        Reload::Restart,
        field!(listen_addresses: Addresses),
        "Addresses to listen on: /tcp/<port> over TCP, /udp/<port>/quic-v1 over QUIC. Port 0 takes any free port; an empty list makes a node that only dials.",
    )
    .variable(super::env::LISTEN),
    key(
        "bootstrap_nodes",
        Kind::Dial,
        Reload::Restart,
        field!(bootstrap_nodes: Addresses),
        "Peers to join the network through, best with /p2p/<peer id> at the end.",
    )
    .variable(super::env::BOOTSTRAP),
    key(
        "dht_server_mode",
        Kind::Switch,
        Reload::Restart,
        field!(dht_server_mode: Switch),
        "Whether this node answers DHT queries of others; false for a spoke and an ephemeral node.",
    )
    .variable(super::env::DHT_SERVER)
    .by_role(),
    key(
        "reach",
        Kind::Reach,
        Reload::Restart,
        field!(reach: Reach),
        "How others reach this node: direct at the addresses that it listens on, relay through other nodes alone, or auto.",
    )
    .variable(super::env::REACH),
    key(
        "relay_server",
        Kind::Switch,
        Reload::Restart,
        field!(relay_server: Switch),
        "Whether this node relays for those that nobody can connect to, within limits; false for a spoke and an ephemeral node.",
    )
    .by_role(),
    key(
        "mdns",
        Kind::Switch,
        Reload::Restart,
        field!(mdns: Switch),
        "Whether this node finds peers of the local network by mDNS, and is found there; false in hub-and-spoke. A node that listens on \
         loopback alone never does.",
    )
    .variable(super::env::MDNS)
    .by_role(),
    key(
        "upnp",
        Kind::Switch,
        Reload::Restart,
        field!(upnp: Switch),
        "Whether this node asks its router to map ports to it, by UPnP and NAT-PMP, where a NAT stands before it. A node that listens on \
         loopback alone never does.",
    )
    .variable(super::env::UPNP),
    key(
        "packages_topic",
        Kind::Topic,
        Reload::Live,
        field!(packages_topic: Text),
        "Gossipsub topic of package announcements. Nodes with different topics hear nothing of each other.",
    )
    .variable(super::env::TOPIC),
    key(
        "query_timeout_secs",
        Kind::Integer { min: 1, max: 3_600 },
        Reload::Restart,
        field!(query_timeout_secs: Integer),
        "Seconds that a query to the network may take.",
    )
    .variable(super::env::QUERY_TIMEOUT_SECS),
    key(
        "role",
        Kind::Role,
        Reload::Restart,
        field!(role: Role),
        "What this node is: peer in a mesh; spoke or hub in hub-and-spoke; permanent or ephemeral in hybrid.",
    )
    .variable(super::env::ROLE)
    .by_role(),
    key(
        "topology",
        Kind::Topology,
        Reload::Restart,
        field!(topology: Topology),
        "How the network is laid out: mesh, hub-and-spoke or hybrid. Outside of a table, topology = \"mesh\" says the same.",
    )
    .variable(super::env::TOPOLOGY),
    key(
        "topology.hubs",
        Kind::Dial,
        Reload::Restart,
        field!(hubs: Addresses),
        "Hubs to hold on to, best with /p2p/<peer id> at the end.",
    )
    .variable(super::env::HUBS),
    key(
        "limits.connections_max",
        Kind::Integer { min: 8, max: 100_000 },
        Reload::Live,
        field!(connections_max: Integer as u32),
        "Connections held at once; more are refused. A hub has 8 times as many.",
    )
    .by_role(),
    key(
        "limits.store_bytes_max",
        Kind::Bytes { min: 16 << 20 },
        Reload::Live,
        field!(store_bytes_max: Integer),
        "Bytes of blocks kept on disk, at least 16 MiB. No limit where absent.",
    ),
    key(
        "limits.upload_bytes_per_second",
        Kind::Bytes { min: LINE_BYTES_PER_SECOND_MIN },
        Reload::Live,
        field!(upload_bytes_per_second: Integer),
        "Bytes of packages sent in a second, to all peers together, at least 16384. No limit where absent.",
    ),
    key(
        "limits.download_bytes_per_second",
        Kind::Bytes { min: LINE_BYTES_PER_SECOND_MIN },
        Reload::Live,
        field!(download_bytes_per_second: Integer),
        "Bytes of packages received in a second, from all peers together, at least 16384. No limit where absent.",
    ),
    key(
        "limits.schedule",
        Kind::Schedule,
        Reload::Live,
        field!(schedule: Schedule),
        "Other limits at some times of the week, in local time, such as \"mon-fri 08:00-18:00 up=1MB/s down=4MB/s\" or \"22:00-06:00 \
         up=none\". The first span that holds counts.",
    ),
    key(
        "peers.connections_low",
        Kind::Integer { min: 1, max: 100_000 },
        Reload::Live,
        field!(connections_low: Integer as u32),
        "Connections that are left at least when some are closed. A hub has 8 times as many.",
    )
    .by_role(),
    key(
        "peers.connections_high",
        Kind::Integer { min: 2, max: 100_000 },
        Reload::Live,
        field!(connections_high: Integer as u32),
        "Connections above which those of the least value are closed. A hub has 8 times as many.",
    )
    .by_role(),
    key(
        "peers.min_reputation",
        Kind::Ratio,
        Reload::Live,
        field!(min_reputation: Ratio),
        "Peers with a reputation below this are not fetched from, from 0.0 to 1.0.",
    ),
    key(
        "publish.confirm_days",
        Kind::Integer { min: 1, max: 90 },
        Reload::Live,
        field!(confirm_days: Integer as u32),
        "Days within which the next confirmation of this node's packages is promised. It is made after a third of them; others \
         call the packages overdue when all of them are over.",
    ),
    key(
        "publish.trust_clock",
        Kind::Switch,
        Reload::Live,
        field!(trust_clock: Switch),
        "Whether packages are signed by this machine's clock although peers say that it is wrong. Set it only where the clock is right \
         and the peers are not.",
    ),
    key(
        "install.max_age",
        Kind::Integer { min: 1, max: 3_650 },
        Reload::Live,
        field!(max_age_days: Integer),
        "Days: the newest version of a package is installed only where its publisher confirmed it within them. No limit where \
         absent; a version that is named is always installed.",
    ),
    key(
        "log.level",
        Kind::Level,
        Reload::Live,
        field!(log_level: Level),
        "Least severe messages that are logged: off, error, warn, info, debug or trace.",
    ),
];

impl Key {
    /// Finds a key by its name, or by where it stands in the file: `topology` is `topology.kind` there.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name || key.path() == name)
    }

    /// Where it stands in the file. A key that others stand below is one of their table.
    fn path(&self) -> &'static str {
        match self.kind {
            Kind::Topology => "topology.kind",
            _ => self.name,
        }
    }

    /// The table that it stands in.
    pub(super) fn table(&self) -> Option<&'static str> {
        self.path().split_once('.').map(|(table, _)| table)
    }

    /// Its name inside that table.
    pub(super) fn leaf(&self) -> &'static str {
        self.path().split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// Whether it may stand without its table, in the place of that: `topology = "mesh"`.
    pub(super) fn may_stand_alone(&self) -> bool {
        self.path() != self.name
    }

    /// The keys of the table called `name`; none where it is no table.
    pub fn in_table(name: &str) -> impl Iterator<Item = &'static Self> {
        let is_in = move |key: &&Key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        KEYS.iter().filter(is_in)
    }

    /// The name of the key that looks most like `name`, where one looks like it at all.
    pub fn nearest(name: &str) -> Option<&'static str> {
        // Bounded, because the comparison is quadratic and the name comes from a file.
        const CHARS_MAX: usize = 64;
        if Self::in_table(name).next().is_some() {
            return None;
        }
        // From here on names look alike, where 1 is the same name.
        const LIKE: f64 = 0.6;
        let name: String = name.chars().take(CHARS_MAX).flat_map(char::to_lowercase).collect();
        let name = name.replace('-', "_");
        let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        let likeness = |key: &Key| {
            let whole = strsim::normalized_damerau_levenshtein(&name, key.name);
            // A key that only lost its table: `connections_max`.
            let leaf = strsim::normalized_damerau_levenshtein(&name, last(key.name));
            // A word of it: `topic`, `bootstrap`.
            let word = if key.name.split(['.', '_']).any(|word| word == name) { LIKE } else { 0.0 };
            whole.max(leaf).max(word)
        };
        KEYS.iter()
            .map(|key| (likeness(key), key.name))
            .filter(|(likeness, _)| *likeness >= LIKE)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, name)| name)
    }

    /// The value that `partial` gives to this key.
    pub fn of(&self, partial: &Partial) -> Option<Value> {
        (self.read)(partial)
    }

    /// Puts a value of this key's kind into `partial`.
    pub(super) fn put(&self, partial: &mut Partial, value: Value) {
        (self.write)(partial, value);
    }

    /// What is wrong with a value that was made by a program.
    pub(super) fn problems(&self, value: &Value, place: &Place) -> Vec<Problem> {
        let faults = self.kind.check(value);
        faults.into_iter().map(|fault| self.problem(fault, place.clone())).collect()
    }

    /// A fault of this key's value as a problem at `place`.
    pub(super) fn problem(&self, fault: Fault, place: Place) -> Problem {
        let key = match fault.index {
            Some(index) => format!("{}[{index}]", self.name),
            None => self.name.to_owned(),
        };
        Problem::new(place, Some(key), fault.what)
    }

    /// The key's part of the JSON schema.
    fn schema(&self, defaults: &Partial) -> serde_json::Value {
        let mut schema = self.kind.schema();
        schema["description"] = json!(self.doc);
        schema["x-reload"] = json!(self.reload.as_str());
        if let Some(default) = self.of(defaults) {
            schema["default"] = default.to_json();
        }
        schema
    }
}

/// The names inside `table`, each with its value: what [`super::document`] walks.
pub(super) fn entries<'t, 'i>(
    table: &'t DeTable<'i>,
) -> impl Iterator<Item = (&'t str, std::ops::Range<usize>, &'t toml::Spanned<DeValue<'i>>)> {
    table.iter().map(|(name, value)| (name.get_ref().as_ref(), name.span(), value))
}

/// The whole file as a JSON schema (draft 2020-12), with the daemon's defaults.
pub fn schema() -> serde_json::Value {
    let defaults = Partial::of(&P2PConfig::for_daemon(""));
    let mut properties = json!({});
    for key in KEYS {
        let at = match key.name.split_once('.') {
            None => &mut properties[key.name],
            Some((table, name)) => {
                let table = &mut properties[table];
                if table.is_null() {
                    *table = json!({ "type": "object", "additionalProperties": false, "properties": {} });
                }
                &mut table["properties"][name]
            }
        };
        *at = key.schema(&defaults);
    }
    let mut whole = properties.clone();
    whole["p2p"] = json!({
        "type": "object",
        "description": "The same keys may stand in this table instead.",
        "additionalProperties": false,
        "properties": properties,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a ggen P2P node",
        "type": "object",
        "additionalProperties": false,
        "properties": whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogLevel, Reach, Role, Topology};

    /// A value of each kind that differs from every default.
    fn other(kind: Kind) -> Value {
        match kind {
            Kind::Listen | Kind::Dial => Value::Addresses(vec!["/ip4/10.0.0.1/tcp/5".parse().unwrap()]),
            Kind::Switch => Value::Switch(false),
            Kind::Topic => Value::Text("/other".into()),
            Kind::Integer { min, max } => Value::Integer(min.midpoint(max)),
            Kind::Bytes { min } => Value::Integer(min * 3),
            Kind::Ratio => Value::Ratio(0.5),
            Kind::Level => Value::Level(LogLevel::Debug),
            Kind::Topology => Value::Topology(Topology::Hybrid),
            Kind::Role => Value::Role(Role::Hub),
            Kind::Reach => Value::Reach(Reach::Relay),
            Kind::Schedule => Value::Schedule(vec!["22:00-06:00 up=none".parse().unwrap()]),
        }
    }

    #[test]
    fn every_key_takes_values_of_its_kind_and_of_no_other_field() {
        for key in KEYS {
            let value = other(key.kind);
            let mut partial = Partial::default();
            key.put(&mut partial, value.clone());
            assert_eq!(key.of(&partial), Some(value.clone()), "{}", key.name);
            let given = KEYS.iter().filter(|other| other.of(&partial).is_some()).count();
            assert_eq!(given, 1, "{}", key.name);
            assert_eq!(key.kind.parse(&value.to_string()), Ok(value.clone()), "{}", key.name);
            let text = value.to_toml().to_string();
            let parsed = DeValue::parse(&text).unwrap();
            assert_eq!(key.kind.read(parsed.get_ref()), Ok(value), "{}", key.name);
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for config in [P2PConfig::for_daemon("/x"), P2PConfig::with_state_dir("/x")] {
            let partial = Partial::of(&config);
            for key in KEYS {
                assert_eq!(key.of(&partial).map(|value| key.kind.check(&value)).unwrap_or_default(), []);
            }
        }
    }

    #[test]
    fn misspelt_keys_find_their_neighbour() {
        for (name, nearest) in [
            ("listen_adresses", Some("listen_addresses")),
            ("listen-addresses", Some("listen_addresses")),
            ("Bootstrap_Nodes", Some("bootstrap_nodes")),
            ("dht_server", Some("dht_server_mode")),
            ("connections_max", Some("limits.connections_max")),
            ("limit.connections_max", Some("limits.connections_max")),
            ("min_reputation", Some("peers.min_reputation")),
            ("bootstrap", Some("bootstrap_nodes")),
            ("topic", Some("packages_topic")),
            ("colour", None),
            ("limits", None),
            ("", None),
        ] {
            assert_eq!(Key::nearest(name), nearest, "{name}");
        }
    }

    #[test]
    fn a_table_has_its_keys_and_a_key_has_none() {
        assert!(Key::in_table("limits").any(|key| key.name == "limits.store_bytes_max"));
        assert!(Key::in_table("limits").all(|key| key.name.starts_with("limits.")));
        for name in ["limits.store_bytes_max", "limit", ""] {
            assert_eq!(Key::in_table(name).count(), 0, "{name}");
        }
    }

    #[test]
    fn the_schema_names_every_key_with_its_default() {
        let schema = schema();
        for key in KEYS {
            let pointer =
                |prefix: &str| format!("{prefix}/properties/{}", key.name.replace('.', "/properties/"));
            for prefix in ["", "/properties/p2p"] {
                let at =
                    schema.pointer(&pointer(prefix)).unwrap_or_else(|| panic!("{} is missing", key.name));
                assert_eq!(at["description"], key.doc);
                assert_eq!(
                    at.get("default").is_none(),
                    [
                        "limits.store_bytes_max",
                        "limits.upload_bytes_per_second",
                        "limits.download_bytes_per_second",
                        "install.max_age"
                    ]
                    .contains(&key.name),
                    "{}",
                    key.name
                );
            }
        }
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
