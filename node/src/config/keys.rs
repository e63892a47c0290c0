//! The one table of configuration keys, and the kinds of value that they take.
//!
//! Everything that must know the keys reads it here: the file's parser, `config show`, `config set`, the file written at
//! the first start, and the JSON schema. It knows nothing of files.

use std::fmt;

use libp2p::Multiaddr;
use serde_json::json;
use toml::de::{DeArray, DeTable, DeValue};

use super::{
    LogLevel, P2PConfig, Partial, address,
    error::{Place, Problem, quoted},
};
use crate::limits::{CONFIG_ADDRESSES_MAX, TOPIC_BYTES_MAX};

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

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Addresses to listen on.
    Listen,
    /// Addresses to dial.
    Dial,
    /// True or false.
    Switch,
    /// A topic of Gossipsub.
    Topic,
    /// A whole number within bounds.
    Integer { min: u64, max: u64 },
    /// A number from 0 to 1.
    Ratio,
    /// A log level.
    Level,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A list of addresses.
    Addresses(Vec<Multiaddr>),
    /// True or false.
    Switch(bool),
    /// Text.
    Text(String),
    /// A whole number.
    Integer(u64),
    /// A number from 0 to 1.
    Ratio(f64),
    /// A log level.
    Level(LogLevel),
}

impl Value {
    /// The value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Addresses(list) => list.iter().map(ToString::to_string).collect(),
            Self::Switch(on) => json!(on),
            Self::Text(text) => json!(text),
            Self::Integer(number) => json!(number),
            Self::Ratio(ratio) => json!(ratio),
            Self::Level(level) => json!(level.as_str()),
        }
    }

    /// The value as TOML, a list one element a line.
    pub(super) fn to_toml(&self) -> toml_edit::Value {
        match self {
            Self::Addresses(list) => {
                let mut array: toml_edit::Array = list.iter().map(ToString::to_string).collect();
                for element in array.iter_mut() {
                    element.decor_mut().set_prefix("\n    ");
                }
                if !list.is_empty() {
                    array.set_trailing("\n");
                    array.set_trailing_comma(true);
                }
                array.into()
            }
            Self::Switch(on) => (*on).into(),
            Self::Text(text) => text.as_str().into(),
            // Bounded by the key's kind, whose bounds are those of TOML at most.
            Self::Integer(number) => i64::try_from(*number).unwrap_or(i64::MAX).into(),
            Self::Ratio(ratio) => (*ratio).into(),
            Self::Level(level) => level.as_str().into(),
        }
    }
}

/// As [`super::edit::set`] and the environment take it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(list) if list.is_empty() => f.write_str(NONE),
            Self::Addresses(list) => {
                for (index, address) in list.iter().enumerate() {
                    write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Switch(on) => on.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Ratio(ratio) => ratio.fmt(f),
            Self::Level(level) => level.fmt(f),
        }
    }
}

/// The word for an empty list, where a list is written as text.
pub const NONE: &str = "none";

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
    Key { name, doc, reload, variable: None, kind, read: access.0, write: access.1 }
}

impl Key {
    const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    key(
        "listen_addresses",
        Kind::Listen,
        Reload::Restart,
        field!(listen_addresses: Addresses),
        "Addresses to listen on. Port 0 takes any free port; an empty list makes a node that only dials.",
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
        "Whether this node answers DHT queries of others.",
    )
    .variable(super::env::DHT_SERVER),
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
        Reload::Live,
        field!(query_timeout_secs: Integer),
        "Seconds that a query to the network may take.",
    )
    .variable(super::env::QUERY_TIMEOUT_SECS),
    key(
        "limits.connections_max",
        Kind::Integer { min: 8, max: 100_000 },
        Reload::Live,
        field!(connections_max: Integer as u32),
        "Connections held at once; the least useful ones are closed first.",
    ),
    key(
        "limits.store_bytes_max",
        Kind::Integer { min: 16 << 20, max: i64::MAX as u64 },
        Reload::Live,
        field!(store_bytes_max: Integer),
        "Bytes of blocks kept on disk, at least 16 MiB. No limit where absent.",
    ),
    key(
        "peers.min_reputation",
        Kind::Ratio,
        Reload::Live,
        field!(min_reputation: Ratio),
        "Peers with a reputation below this are not fetched from, from 0.0 to 1.0.",
    ),
    key(
        "log.level",
        Kind::Level,
        Reload::Live,
        field!(log_level: Level),
        "Least severe messages that are logged: off, error, warn, info, debug or trace.",
    ),
];

/// Something wrong with a value: the index of the element, where it is a list, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The element of a list.
    pub(super) index: Option<usize>,
    /// Where it stands in the document, as a byte offset.
    pub(super) offset: Option<usize>,
    /// What is wrong.
    pub(super) what: String,
}

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Self { index: None, offset: None, what: what.into() }
    }
}

impl Key {
    /// Finds a key by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The name of the key that looks most like `name`, where one looks like it at all.
    pub fn nearest(name: &str) -> Option<&'static str> {
        // Bounded, because the comparison is quadratic and the name comes from a file.
        const CHARS_MAX: usize = 64;
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

impl Kind {
    /// What is expected, to end a sentence with.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Listen | Self::Dial => "a list of addresses".into(),
            Self::Switch => "true or false".into(),
            Self::Topic => "text".into(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Ratio => "a number from 0.0 to 1.0".into(),
            Self::Level => "off, error, warn, info, debug or trace".into(),
        }
    }

    fn address(self, text: &str) -> Result<Multiaddr, Fault> {
        let parsed =
            if self == Self::Listen { address::parse_listen(text) } else { address::parse_dial(text) };
        parsed.map_err(|error| Fault::new(error.to_string()))
    }

    /// Holds a value against the bounds of this kind.
    pub(super) fn check(self, value: &Value) -> Vec<Fault> {
        let one = |what: String| vec![Fault::new(what)];
        match (self, value) {
            (Self::Listen | Self::Dial, Value::Addresses(list)) => {
                let check = if self == Self::Listen { address::check_listen } else { address::check_dial };
                let too_many = (list.len() > CONFIG_ADDRESSES_MAX).then(|| Fault::new(too_many()));
                let bad = list.iter().enumerate().filter_map(|(index, address)| {
                    let what = check(address).err()?;
                    let what = format!("{}: {what}", quoted(&address.to_string()));
                    Some(Fault { index: Some(index), ..Fault::new(what) })
                });
                too_many.into_iter().chain(bad).collect()
            }
            (Self::Topic, Value::Text(topic)) => check_topic(topic).err().map(one).unwrap_or_default(),
            (Self::Integer { min, max }, Value::Integer(number)) if !(min..=max).contains(number) => {
                one(format!("{number} is out of range, expected {}", self.expected()))
            }
            (Self::Ratio, Value::Ratio(ratio)) if !(0.0..=1.0).contains(ratio) => {
                one(format!("{ratio} is out of range, expected {}", self.expected()))
            }
            _ => Vec::new(),
        }
    }

    /// Parses a value as the environment and the command line give it: plain text, a list parted by commas.
    pub(super) fn parse(self, text: &str) -> Result<Value, Vec<Fault>> {
        let wrong = || vec![Fault::new(format!("{} is not {}", quoted(text), self.expected()))];
        let value = match self {
            Self::Listen | Self::Dial => return self.parse_addresses(text),
            Self::Switch => Value::Switch(text.trim().parse().map_err(|_| wrong())?),
            Self::Topic => Value::Text(text.to_owned()),
            Self::Integer { .. } => Value::Integer(text.trim().parse().map_err(|_| wrong())?),
            Self::Ratio => Value::Ratio(text.trim().parse().map_err(|_| wrong())?),
            Self::Level => Value::Level(text.trim().parse().map_err(|what: String| vec![Fault::new(what)])?),
        };
        let faults = self.check(&value);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    fn parse_addresses(self, text: &str) -> Result<Value, Vec<Fault>> {
        if text.trim() == NONE {
            return Ok(Value::Addresses(Vec::new()));
        }
        self.addresses(text.split(',').map(|part| Ok((part.trim(), None))))
    }

    fn addresses<'a>(
        self,
        parts: impl Iterator<Item = Result<(&'a str, Option<usize>), Fault>>,
    ) -> Result<Value, Vec<Fault>> {
        let (mut list, mut faults) = (Vec::new(), Vec::new());
        for (index, part) in parts.enumerate() {
            if index == CONFIG_ADDRESSES_MAX {
                faults.push(Fault::new(too_many()));
                break;
            }
            let parsed =
                part.and_then(|(text, offset)| self.address(text).map_err(|fault| Fault { offset, ..fault }));
            match parsed {
                Ok(address) => list.push(address),
                Err(fault) => faults.push(Fault { index: Some(index), ..fault }),
            }
        }
        if faults.is_empty() { Ok(Value::Addresses(list)) } else { Err(faults) }
    }

    /// Takes a value out of a parsed document.
    pub(super) fn read(self, value: &DeValue<'_>) -> Result<Value, Vec<Fault>> {
        let wrong = || {
            vec![Fault::new(format!(
                "{} is {}, expected {}",
                shown(value),
                described(value),
                self.expected()
            ))]
        };
        let value = match (self, value) {
            (Self::Listen | Self::Dial, DeValue::Array(array)) => return self.read_addresses(array),
            (Self::Switch, DeValue::Boolean(on)) => Value::Switch(*on),
            (Self::Topic, DeValue::String(text)) => Value::Text(text.clone().into_owned()),
            (Self::Integer { .. }, DeValue::Integer(number)) => {
                let number = u64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(number.map_err(|_| {
                    vec![Fault::new(format!(
                        "{} is out of range, expected {}",
                        shown(value),
                        self.expected()
                    ))]
                })?)
            }
            (Self::Ratio, DeValue::Float(number)) => {
                Value::Ratio(number.as_str().parse().map_err(|_| wrong())?)
            }
            (Self::Ratio, DeValue::Integer(number)) => {
                let number = u32::from_str_radix(number.as_str(), number.radix());
                Value::Ratio(number.map_err(|_| wrong())?.into())
            }
            (Self::Level, DeValue::String(text)) => {
                Value::Level(text.parse().map_err(|what: String| vec![Fault::new(what)])?)
            }
            _ => return Err(wrong()),
        };
        let faults = self.check(&value);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    fn read_addresses(self, array: &DeArray<'_>) -> Result<Value, Vec<Fault>> {
        self.addresses(array.iter().map(|element| {
            let offset = Some(element.span().start);
            match element.get_ref() {
                DeValue::String(text) => Ok((text.as_ref(), offset)),
                other => {
                    let what =
                        format!("{} is {}, expected an address in quotes", shown(other), described(other));
                    Err(Fault { offset, ..Fault::new(what) })
                }
            }
        }))
    }

    fn schema(self) -> serde_json::Value {
        match self {
            Self::Listen | Self::Dial => {
                json!({ "type": "array", "items": { "type": "string" }, "maxItems": CONFIG_ADDRESSES_MAX })
            }
            Self::Switch => json!({ "type": "boolean" }),
            Self::Topic => json!({ "type": "string", "minLength": 1, "maxLength": TOPIC_BYTES_MAX }),
            Self::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Ratio => json!({ "type": "number", "minimum": 0.0, "maximum": 1.0 }),
            Self::Level => {
                let words: Vec<&str> = LogLevel::ALL.iter().map(|level| level.as_str()).collect();
                json!({ "type": "string", "enum": words })
            }
        }
    }
}

fn too_many() -> String {
    format!("more than {CONFIG_ADDRESSES_MAX} addresses")
}

fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("it is empty, expected a topic such as /ggen/packages/v1".into());
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(format!("it is longer than {TOPIC_BYTES_MAX} bytes"));
    }
    if topic.chars().any(char::is_control) {
        return Err(format!("{} holds control characters", quoted(topic)));
    }
    Ok(())
}

/// A TOML value on one line.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => quoted(&number.to_string()),
        DeValue::Float(number) => quoted(number.as_str()),
        DeValue::Boolean(on) => quoted(&on.to_string()),
        DeValue::Datetime(time) => quoted(&time.to_string()),
        DeValue::Array(_) => "[…]".into(),
        DeValue::Table(_) => "{…}".into(),
    }
}

pub(super) fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
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

    /// A value of each kind that differs from every default.
    fn other(kind: Kind) -> Value {
        match kind {
            Kind::Listen | Kind::Dial => Value::Addresses(vec!["/ip4/10.0.0.1/tcp/5".parse().unwrap()]),
            Kind::Switch => Value::Switch(false),
            Kind::Topic => Value::Text("/other".into()),
            Kind::Integer { min, max } => Value::Integer(min.midpoint(max)),
            Kind::Ratio => Value::Ratio(0.5),
            Kind::Level => Value::Level(LogLevel::Debug),
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
            ("", None),
        ] {
            assert_eq!(Key::nearest(name), nearest, "{name}");
        }
    }

    #[test]
    fn text_that_is_no_value_says_what_is_expected() {
        let what = |name: &str, text: &str| {
            let faults = Key::named(name).unwrap().kind.parse(text).unwrap_err();
            faults.into_iter().map(|fault| fault.what).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(what("dht_server_mode", "yes"), "'yes' is not true or false");
        assert_eq!(what("query_timeout_secs", "-1"), "'-1' is not a whole number from 1 to 3600");
        assert_eq!(
            what("query_timeout_secs", "0"),
            "0 is out of range, expected a whole number from 1 to 3600"
        );
        assert_eq!(
            what("peers.min_reputation", "1.5"),
            "1.5 is out of range, expected a number from 0.0 to 1.0"
        );
        assert_eq!(
            what("peers.min_reputation", "NaN"),
            "NaN is out of range, expected a number from 0.0 to 1.0"
        );
        assert_eq!(what("packages_topic", "a\nb"), "'a\\u{a}b' holds control characters");
        assert_eq!(
            what("log.level", "loud"),
            "'loud' is not a log level, expected off, error, warn, info, debug or trace"
        );
    }

    #[test]
    fn a_list_of_too_many_addresses_is_refused() {
        let text = vec!["/ip4/10.0.0.1/tcp/1"; CONFIG_ADDRESSES_MAX + 1].join(",");
        let faults = Kind::Dial.parse(&text).unwrap_err();
        assert_eq!(faults, [Fault::new("more than 256 addresses")]);
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
                assert_eq!(at.get("default").is_none(), key.name == "limits.store_bytes_max", "{}", key.name);
            }
        }
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
