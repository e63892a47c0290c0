//! The kinds of value that configuration keys take: how each is read from text and from TOML, and what its bounds are.
//!
//! It knows nothing of files, and of keys only what their values look like.

use std::fmt;

use libp2p::Multiaddr;
use serde_json::json;
use toml::de::{DeArray, DeValue};

use super::{LogLevel, Reach, Role, Span, Topology, address, error::quoted, topology::any_of};
use crate::limits::{CONFIG_ADDRESSES_MAX, SCHEDULE_LINE_BYTES_MAX, SCHEDULE_SPANS_MAX, TOPIC_BYTES_MAX};

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
    /// Bytes, or bytes a second: as text with a unit too.
    Bytes { min: u64 },
    /// A number from 0 to 1.
    Ratio,
    /// A log level.
    Level,
    /// A topology: a word, or the table that the keys below it stand in.
    Topology,
    /// A role.
    Role,
    /// How others reach a node.
    Reach,
    /// Limits by the time of the week.
    Schedule,
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
    /// A topology.
    Topology(Topology),
    /// A role.
    Role(Role),
    /// How others reach a node.
    Reach(Reach),
    /// Limits by the time of the week.
    Schedule(Vec<Span>),
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
            Self::Topology(topology) => json!(topology.as_str()),
            Self::Role(role) => json!(role.as_str()),
            Self::Reach(reach) => json!(reach.as_str()),
            Self::Schedule(spans) => spans.iter().map(ToString::to_string).collect(),
        }
    }

    /// The value as TOML, a list one element a line.
    pub(super) fn to_toml(&self) -> toml_edit::Value {
        match self {
            Self::Addresses(list) => one_a_line(list),
            Self::Schedule(spans) => one_a_line(spans),
            Self::Switch(on) => (*on).into(),
            Self::Text(text) => text.as_str().into(),
            // Bounded by the key's kind, whose bounds are those of TOML at most.
            Self::Integer(number) => i64::try_from(*number).unwrap_or(i64::MAX).into(),
            Self::Ratio(ratio) => (*ratio).into(),
            Self::Level(level) => level.as_str().into(),
            Self::Topology(topology) => topology.as_str().into(),
            Self::Role(role) => role.as_str().into(),
            Self::Reach(reach) => reach.as_str().into(),
        }
    }
}

fn one_a_line<T: fmt::Display>(list: &[T]) -> toml_edit::Value {
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

/// As [`super::edit::set`] and the environment take it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(list) => joined(list, f),
            Self::Schedule(spans) => joined(spans, f),
            Self::Switch(on) => on.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Ratio(ratio) => ratio.fmt(f),
            Self::Level(level) => level.fmt(f),
            Self::Topology(topology) => topology.fmt(f),
            Self::Role(role) => role.fmt(f),
            Self::Reach(reach) => reach.fmt(f),
        }
    }
}

fn joined<T: fmt::Display>(list: &[T], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if list.is_empty() {
        return f.write_str(NONE);
    }
    for (index, element) in list.iter().enumerate() {
        write!(f, "{}{element}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

/// The word for an empty list, where a list is written as text.
pub const NONE: &str = "none";

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

/// Bytes at most: what TOML can write.
const BYTES_MAX: u64 = i64::MAX as u64;

/// A number of bytes as people write it: `1000`, `2GB`, `1.5 MiB`, `500kB/s`.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 14] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("t", 1_000_000_000_000),
        ("b", 1),
        ("", 1),
    ];
    let text = text.trim().to_lowercase();
    let bare = text.strip_suffix("/s").unwrap_or(&text);
    let (number, unit) = UNITS.iter().find_map(|(unit, bytes)| Some((bare.strip_suffix(unit)?, *bytes)))?;
    let (whole, part) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    let part = u128::from(thousandths) * u128::from(unit) / 1_000;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

impl Kind {
    /// What is expected, to end a sentence with.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Listen | Self::Dial => "a list of addresses".into(),
            Self::Switch => "true or false".into(),
            Self::Topic => "text".into(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Bytes { min } => format!("a number of bytes of at least {min}, such as {min} or 2GB"),
            Self::Ratio => "a number from 0.0 to 1.0".into(),
            Self::Level => "off, error, warn, info, debug or trace".into(),
            Self::Topology => any_of(Topology::ALL),
            Self::Role => any_of(Role::ALL),
            Self::Reach => any_of(Reach::ALL),
            Self::Schedule => "a list such as [\"mon-fri 08:00-18:00 up=1MB/s down=4MB/s\"]".into(),
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
            (Self::Bytes { min }, Value::Integer(number)) if !(min..=BYTES_MAX).contains(number) => {
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
            Self::Schedule if text.trim() == NONE => Value::Schedule(Vec::new()),
            Self::Schedule => return schedule(text.split(',').map(|part| Ok((part, None)))),
            Self::Switch => Value::Switch(text.trim().parse().map_err(|_| wrong())?),
            Self::Topic => Value::Text(text.to_owned()),
            Self::Integer { .. } => Value::Integer(text.trim().parse().map_err(|_| wrong())?),
            Self::Bytes { .. } => Value::Integer(bytes(text).ok_or_else(wrong)?),
            Self::Ratio => Value::Ratio(text.trim().parse().map_err(|_| wrong())?),
            Self::Level | Self::Topology | Self::Role | Self::Reach => self.word(text.trim())?,
        };
        let faults = self.check(&value);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    /// One of the words that this kind has.
    fn word(self, word: &str) -> Result<Value, Vec<Fault>> {
        let parsed = match self {
            Self::Topology => word.parse().map(Value::Topology),
            Self::Role => word.parse().map(Value::Role),
            Self::Reach => word.parse().map(Value::Reach),
            _ => word.parse().map(Value::Level),
        };
        parsed.map_err(|what| vec![Fault::new(what)])
    }

    fn parse_addresses(self, text: &str) -> Result<Value, Vec<Fault>> {
        if text.trim() == NONE {
            return Ok(Value::Addresses(Vec::new()));
        }
        self.addresses(text.split(',').map(|part| Ok((part.trim(), None))))
    }

    fn addresses<'a>(self, parts: impl Iterator<Item = Part<'a>>) -> Result<Value, Vec<Fault>> {
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
            (Self::Listen | Self::Dial, DeValue::Array(array)) => {
                return self.addresses(strings(array, "an address"));
            }
            (Self::Schedule, DeValue::Array(array)) => return schedule(strings(array, "a line")),
            (Self::Switch, DeValue::Boolean(on)) => Value::Switch(*on),
            (Self::Topic, DeValue::String(text)) => Value::Text(text.clone().into_owned()),
            (Self::Integer { .. } | Self::Bytes { .. }, DeValue::Integer(number)) => {
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
            (Self::Level | Self::Topology | Self::Role | Self::Reach, DeValue::String(text)) => {
                self.word(text)?
            }
            _ => return Err(wrong()),
        };
        let faults = self.check(&value);
        if faults.is_empty() { Ok(value) } else { Err(faults) }
    }

    pub(super) fn schema(self) -> serde_json::Value {
        match self {
            Self::Listen | Self::Dial => {
                json!({ "type": "array", "items": { "type": "string" }, "maxItems": CONFIG_ADDRESSES_MAX })
            }
            Self::Switch => json!({ "type": "boolean" }),
            Self::Topic => json!({ "type": "string", "minLength": 1, "maxLength": TOPIC_BYTES_MAX }),
            Self::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Bytes { min } => json!({ "type": "integer", "minimum": min, "maximum": BYTES_MAX }),
            Self::Ratio => json!({ "type": "number", "minimum": 0.0, "maximum": 1.0 }),
            Self::Level => {
                let words: Vec<&str> = LogLevel::ALL.iter().map(|level| level.as_str()).collect();
                json!({ "type": "string", "enum": words })
            }
            Self::Topology => {
                let words: Vec<&str> = Topology::ALL.iter().map(|it| it.as_str()).collect();
                // As a word, or in the table beside the keys that stand in it.
                let properties = json!({ "kind": { "type": "string", "enum": words.clone() } });
                json!({
                    "anyOf": [{ "type": "string", "enum": words }, { "type": "object" }],
                    "additionalProperties": false,
                    "properties": properties,
                })
            }
            Self::Schedule => {
                let line = json!({ "type": "string", "maxLength": SCHEDULE_LINE_BYTES_MAX });
                json!({ "type": "array", "items": line, "maxItems": SCHEDULE_SPANS_MAX })
            }
            Self::Reach => {
                let words: Vec<&str> = Reach::ALL.iter().map(|it| it.as_str()).collect();
                json!({ "type": "string", "enum": words })
            }
            Self::Role => {
                let words: Vec<&str> = Role::ALL.iter().map(|it| it.as_str()).collect();
                json!({ "type": "string", "enum": words })
            }
        }
    }
}

/// Text of a list, or of one element of it: where it stands, if it stands in a document.
type Part<'a> = Result<(&'a str, Option<usize>), Fault>;

/// The elements of an array, each of which must be a string.
fn strings<'a>(array: &'a DeArray<'_>, what: &'static str) -> impl Iterator<Item = Part<'a>> {
    array.iter().map(move |element| {
        let offset = Some(element.span().start);
        match element.get_ref() {
            DeValue::String(text) => Ok((text.as_ref(), offset)),
            other => {
                let what = format!("{} is {}, expected {what} in quotes", shown(other), described(other));
                Err(Fault { offset, ..Fault::new(what) })
            }
        }
    })
}

fn schedule<'a>(parts: impl Iterator<Item = Part<'a>>) -> Result<Value, Vec<Fault>> {
    let (mut spans, mut faults) = (Vec::new(), Vec::new());
    for (index, part) in parts.enumerate() {
        if index == SCHEDULE_SPANS_MAX {
            faults.push(Fault::new(format!("more than {SCHEDULE_SPANS_MAX} spans of time")));
            break;
        }
        let parsed = part.and_then(|(text, offset)| {
            let wrong = |what: String| Fault { offset, ..Fault::new(format!("{}: {what}", quoted(text))) };
            text.trim().parse::<Span>().map_err(wrong)
        });
        match parsed {
            Ok(span) => spans.push(span),
            Err(fault) => faults.push(Fault { index: Some(index), ..fault }),
        }
    }
    if faults.is_empty() { Ok(Value::Schedule(spans)) } else { Err(faults) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("20000000", Some(20_000_000)),
            ("2GB", Some(2_000_000_000)),
            ("1mb", Some(1_000_000)),
            ("64 MiB", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("500kB/s", Some(500_000)),
            ("", None),
            ("GB", None),
            ("-1", None),
            ("1e9", None),
            ("1.2345MB", None),
            ("99999999999999TB", None),
            ("2 XB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        let kind = Kind::Bytes { min: 16 << 20 };
        assert_eq!(kind.parse("2GB"), Ok(Value::Integer(2_000_000_000)));
        assert!(kind.parse("1kB").unwrap_err()[0].what.contains("out of range"));
        assert!(kind.parse("9223372036854775808").is_err());
    }

    #[test]
    fn text_that_is_no_value_says_what_is_expected() {
        let what = |name: &str, text: &str| {
            let faults = crate::config::Key::named(name).unwrap().kind.parse(text).unwrap_err();
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
}
