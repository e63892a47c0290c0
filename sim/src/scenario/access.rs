//! How hosts are connected to the others: lines, routers and firewalls.
//!
//! What is said of a node counts before what its kind of access says, which is drawn by weight where there is a choice.

use std::{collections::BTreeMap, time::Duration};

use ggen_harness::fabric::nat::{self, Kind};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    Node, Role,
    document::Span,
    problem::{Problem, unknown},
};

/// The word for no router.
const NONE: &str = "none";
/// The slowest line, in bits a second, and the fastest.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e12;
/// The shortest time after which a router may forget, and the longest.
const IDLE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);
/// How much one kind of access may weigh.
const WEIGHT_MAX: u64 = 1_000_000;

/// How a host is connected, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Bytes a second that it sends.
    pub up: Option<u64>,
    /// Bytes a second that it receives.
    pub down: Option<u64>,
    /// What stands before it.
    pub before: Option<Before>,
    /// Whether no request for a connection gets in.
    pub firewall: Option<bool>,
}

impl Access {
    /// What this says, and of the rest what `other` says.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            up: self.up.or(other.up),
            down: self.down.or(other.down),
            before: self.before.clone().or_else(|| other.before.clone()),
            firewall: self.firewall.or(other.firewall),
        }
    }

    fn has_router(&self) -> bool {
        matches!(self.before, Some(Before::Own(_) | Before::Shared(_)))
    }
}

/// What stands before a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it has a public address.
    Nothing,
    /// A router of its own.
    Own(Nat),
    /// The router of this name.
    Shared(String),
}

/// What a router does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// How it translates.
    pub kind: Kind,
    /// After how long without a packet a mapping is forgotten.
    pub idle: Duration,
    /// Whether those inside reach each other by its outside address.
    pub hairpins: bool,
}

/// One kind of access, of those that nodes are dealt to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// How often it is drawn, compared with the others.
    pub weight: u64,
    /// The roles that it is for; empty for all.
    pub roles: Vec<Role>,
    /// What it is.
    pub access: Access,
}

impl Share {
    /// Whether a node can have it.
    pub fn is_for(&self, node: &Node) -> bool {
        self.roles.is_empty() || self.roles.contains(&node.role)
    }
}

/// What a scenario says of how its hosts are connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accesses {
    /// The kinds that nodes are dealt to.
    pub shares: Vec<Share>,
    /// Routers that several nodes stand behind.
    pub routers: BTreeMap<String, Nat>,
    /// Whether anything is said. Then hosts have addresses as on the internet.
    pub are_said: bool,
}

/// Bits a second, as people write them, in whole bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(u64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.trim_end_matches(|it: char| !it.is_ascii_digit());
        let factor = match text[number.len()..].trim() {
            "bit/s" => 1e0,
            "kbit/s" => 1e3,
            "Mbit/s" => 1e6,
            "Gbit/s" => 1e9,
            _ => 0.0,
        };
        let bits = number.parse().map_or(0.0, |number: f64| number * factor);
        if RATES.contains(&bits) {
            return Ok(Self((bits / 8.0) as u64));
        }
        Err(de::Error::custom(format!(
            "\"{text}\" is no rate: \"10Mbit/s\" is one, between \"1kbit/s\" and \"1000Gbit/s\""
        )))
    }
}

/// One of `[[access]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Kinds {
    weight: Option<Spanned<u64>>,
    roles: Option<Vec<Spanned<String>>>,
    up: Option<Spanned<Rate>>,
    down: Option<Spanned<Rate>>,
    nat: Option<Spanned<String>>,
    nat_idle: Option<Spanned<Span>>,
    hairpins: Option<Spanned<bool>>,
    firewall: Option<Spanned<bool>>,
}

/// One of `[routers]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Router {
    nat: Spanned<String>,
    nat_idle: Option<Spanned<Span>>,
    hairpins: Option<Spanned<bool>>,
}

/// What is said in one place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'a> {
    pub(super) up: Option<&'a Spanned<Rate>>,
    pub(super) down: Option<&'a Spanned<Rate>>,
    pub(super) nat: Option<&'a Spanned<String>>,
    pub(super) nat_idle: Option<&'a Spanned<Span>>,
    pub(super) hairpins: Option<&'a Spanned<bool>>,
    pub(super) firewall: Option<&'a Spanned<bool>>,
    pub(super) router: Option<&'a Spanned<String>>,
}

fn at<T>(key: &'static str, value: Option<&Spanned<T>>) -> Option<(&'static str, std::ops::Range<usize>)> {
    value.map(|value| (key, value.span()))
}

impl Said<'_> {
    /// The first key that is there, and where.
    pub(super) fn first(&self) -> Option<(&'static str, std::ops::Range<usize>)> {
        let all = [
            at("up", self.up),
            at("down", self.down),
            at("nat", self.nat),
            at("nat-idle", self.nat_idle),
            at("hairpins", self.hairpins),
            at("firewall", self.firewall),
            at("router", self.router),
        ];
        all.into_iter().flatten().min_by_key(|(_, place)| place.start)
    }

    pub(super) fn check(&self, routers: &BTreeMap<String, Nat>) -> Result<Access, Problem> {
        let of_router = at("nat-idle", self.nat_idle).or(at("hairpins", self.hairpins));
        let before = match (self.nat, self.router) {
            (Some(nat), Some(_)) => {
                return Err(Problem::at(nat, "`nat` and `router` both say what stands before a node"));
            }
            (_, Some(router)) => {
                if let Some((key, place)) = of_router {
                    let what = format!("`{key}` belongs to the router, in `[routers]`");
                    return Err(Problem { place: Some(place), what });
                }
                if !routers.contains_key(router.get_ref()) {
                    return Err(unknown("router", router, routers.keys().map(String::as_str)));
                }
                Some(Before::Shared(router.get_ref().clone()))
            }
            (Some(nat), None) => match (kind(nat)?, of_router) {
                (None, Some((key, place))) => {
                    let what = format!("`{key}` belongs to a router, and there is none");
                    return Err(Problem { place: Some(place), what });
                }
                (None, None) => Some(Before::Nothing),
                (Some(kind), _) => Some(Before::Own(router(kind, self.nat_idle, self.hairpins)?)),
            },
            (None, None) => {
                if let Some((key, place)) = of_router {
                    let what = format!("`{key}` goes with `nat`");
                    return Err(Problem { place: Some(place), what });
                }
                None
            }
        };
        let rate = |rate: &Spanned<Rate>| rate.get_ref().0;
        Ok(Access {
            up: self.up.map(rate),
            down: self.down.map(rate),
            before,
            firewall: self.firewall.map(|firewall| *firewall.get_ref()),
        })
    }
}

/// The kind of a word; none for no router.
fn kind(nat: &Spanned<String>) -> Result<Option<Kind>, Problem> {
    let word = nat.get_ref().as_str();
    if word == NONE {
        return Ok(None);
    }
    let known = || [NONE].into_iter().chain(Kind::ALL.map(Kind::as_str));
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .map(Some)
        .ok_or_else(|| unknown("nat", nat, known()))
}

fn router(
    kind: Kind,
    idle: Option<&Spanned<Span>>,
    hairpins: Option<&Spanned<bool>>,
) -> Result<Nat, Problem> {
    if let Some(idle) = idle.filter(|idle| !IDLE.contains(&idle.get_ref().0)) {
        return Err(Problem::at(idle, "a router forgets after one second to one day"));
    }
    let idle = idle.map_or(nat::IDLE, |idle| idle.get_ref().0);
    Ok(Nat { kind, idle, hairpins: hairpins.is_some_and(|hairpins| *hairpins.get_ref()) })
}

impl Router {
    fn check(&self) -> Result<Nat, Problem> {
        let Some(kind) = kind(&self.nat)? else {
            return Err(Problem::at(
                &self.nat,
                "a router translates: a node without one says `nat = \"none\"`",
            ));
        };
        router(kind, self.nat_idle.as_ref(), self.hairpins.as_ref())
    }
}

impl Kinds {
    fn said(&self) -> Said<'_> {
        Said {
            up: self.up.as_ref(),
            down: self.down.as_ref(),
            nat: self.nat.as_ref(),
            nat_idle: self.nat_idle.as_ref(),
            hairpins: self.hairpins.as_ref(),
            firewall: self.firewall.as_ref(),
            router: None,
        }
    }

    fn check(&self, place: &Spanned<Self>, nodes: &[Node]) -> Result<Share, Problem> {
        let weight = self.weight.as_ref().map_or(1, |weight| *weight.get_ref());
        if weight > WEIGHT_MAX {
            return Err(Problem::at(place, format!("a kind of access weighs {WEIGHT_MAX} at most")));
        }
        let mut roles = Vec::new();
        for role in self.roles.iter().flatten() {
            let found = nodes.iter().map(|node| node.role).find(|it| it.as_str() == role.get_ref());
            let known = || nodes.iter().map(|node| node.role.as_str());
            roles.push(found.ok_or_else(|| unknown("node in the role", role, known()))?);
        }
        Ok(Share { weight, roles, access: self.said().check(&BTreeMap::new())? })
    }
}

/// Checks what is said of all nodes.
pub(super) fn accesses(
    kinds: &[Spanned<Kinds>],
    routers: &BTreeMap<String, Spanned<Router>>,
    nodes: &[Node],
) -> Result<Accesses, Problem> {
    let shares: Vec<Share> =
        kinds.iter().map(|it| it.get_ref().check(it, nodes)).collect::<Result<_, _>>()?;
    if let Some(first) = kinds.first() {
        let left = nodes.iter().find(|node| !shares.iter().any(|it| it.weight > 0 && it.is_for(node)));
        // Where some kinds are for certain roles only, the others are as if nothing were said.
        if let Some(node) = left.filter(|_| shares.iter().all(|it| it.weight == 0 || it.roles.is_empty())) {
            return Err(Problem::at(first, format!("no kind of access with a weight is for {}", node.name)));
        }
    }
    let routers: BTreeMap<String, Nat> = routers
        .iter()
        .map(|(name, router)| Ok((name.clone(), router.get_ref().check()?)))
        .collect::<Result<_, _>>()?;
    let are_said = !shares.is_empty() || !routers.is_empty();
    Ok(Accesses { shares, routers, are_said })
}

/// Refuses routers that nobody comes to stand behind.
pub(super) fn check_routers(
    routers: &BTreeMap<String, Spanned<Router>>,
    is_used: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    match routers.iter().find(|(name, _)| !is_used(name)) {
        Some((name, router)) => {
            Err(Problem::at(router, format!("no node stands behind the router `{name}`")))
        }
        None => Ok(()),
    }
}

/// Whether a router stands before some node, or may.
pub(super) fn has_routers(accesses: &Accesses, nodes: &[Node]) -> bool {
    let shares = accesses.shares.iter().map(|share| &share.access);
    shares.chain(nodes.iter().map(|node| &node.access)).any(Access::has_router)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::scenario::Scenario;

    const SMALL: &str = r#"duration = "60s"
latency = "10ms"
engine = "fabric"
[topology]
kind = "mesh"
nodes = 4
"#;

    /// The message for a small scenario with something added, which begins in line 7.
    fn refused(added: &str) -> String {
        let parsed = Scenario::parse(Path::new("small.toml"), &format!("{SMALL}{added}"));
        parsed.unwrap_err().to_string()
    }

    fn node(said: &str) -> String {
        format!("[[nodes]]\nname = \"node-1\"\n{said}\n")
    }

    #[test]
    fn rates_are_bits_with_a_unit() {
        let parsed = |rate: &str| {
            let text = format!("{SMALL}{}", node(&format!("up = {rate:?}")));
            let scenario = Scenario::parse(Path::new("small.toml"), &text);
            scenario.map(|it| it.nodes[1].access.up.unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(parsed("10Mbit/s"), Ok(1_250_000));
        assert_eq!(parsed("1.5 Gbit/s"), Ok(187_500_000));
        assert_eq!(parsed("64 kbit/s"), Ok(8_000));
        for wrong in ["10MB/s", "10", "Mbit/s", "10mbit/s", "1bit/s", "5000Gbit/s", "-1Mbit/s", "1e3Mbit"] {
            let message = parsed(wrong).unwrap_err();
            assert!(message.starts_with("small.toml:9: ") && message.contains("is no rate"), "{message}");
        }
    }

    #[test]
    fn what_a_router_is_not_is_refused_where_it_stands() {
        let office = "[routers.office]\nnat = \"symmetric\"\n";
        for (added, message) in [
            (
                node("nat = \"symetric\""),
                "small.toml:9: there is no nat `symetric`; did you mean `symmetric`?",
            ),
            (node("nat = \"none\"\nhairpins = true"), "small.toml:10: `hairpins` belongs to a router"),
            (node("nat-idle = \"2m\""), "small.toml:9: `nat-idle` goes with `nat`"),
            (node("nat = \"symmetric\"\nnat-idle = \"2d\""), "small.toml:10: a router forgets after"),
            (node("router = \"offcie\"") + office, "small.toml:9: there is no router `offcie`; did you mean"),
            (node("router = \"office\"\nnat = \"none\"") + office, "small.toml:10: `nat` and `router` both"),
            (
                node("router = \"office\"\nhairpins = true") + office,
                "small.toml:10: `hairpins` belongs to the",
            ),
            (office.to_owned(), "no node stands behind the router `office`"),
            ("[routers.office]\nnat = \"none\"\n".to_owned(), "small.toml:8: a router translates"),
            (
                "[[access]]\nroles = [\"hub\"]\n".to_owned(),
                "small.toml:8: there is no node in the role `hub`",
            ),
            ("[[access]]\nweight = 0\n".to_owned(), "no kind of access with a weight is for node-0"),
            ("[[access]]\nwieght = 1\n".to_owned(), "did you mean `weight`?"),
            ("[[access]]\nrouter = \"office\"\n".to_owned(), "unknown field `router`"),
        ] {
            let said = refused(&added);
            assert!(said.contains(message), "{added}: {said}");
        }
        let two = SMALL.replace("nodes = 4", "nodes = 4\nsites = 2") + &node("up = \"1Mbit/s\"");
        let said = Scenario::parse(Path::new("small.toml"), &two).unwrap_err().to_string();
        assert!(said.contains("`up` does not belong to a node that shares its site"), "{said}");
    }

    #[test]
    fn lines_and_routers_are_the_fabrics() {
        let turmoil = SMALL.replace("engine = \"fabric\"\n", "");
        for (added, line) in [
            (node("firewall = true"), "small.toml:8: `firewall` needs `engine = \"fabric\"`"),
            ("[[access]]\nup = \"1Mbit/s\"\n".to_owned(), "small.toml:6: `access` needs"),
        ] {
            let said = Scenario::parse(Path::new("small.toml"), &(turmoil.clone() + &added)).unwrap_err();
            assert!(said.to_string().starts_with(line), "{said}");
        }
    }

    #[test]
    fn faults_go_with_the_routers_that_are_there() {
        let fault = |kind: &str, more: &str| {
            format!("[[faults]]\nkind = {kind:?}\nat = \"5s\"\nnodes = [\"node-1\"]\n{more}\n")
        };
        let behind = node("nat = \"symmetric\"");
        let lossy = fault("lossy", "percent = 3\nfor = \"2s\"");
        assert!(refused(&(behind.clone() + &lossy)).contains("small.toml:11: this fault does not go with"));
        assert!(refused(&fault("moves", "")).contains("small.toml:8: only a node whose own `nat` is said"));
        let cafe = fault("moves", "router = \"cafe\"");
        assert!(refused(&(behind.clone() + &cafe)).contains("small.toml:14: there is no router `cafe`"));
        let router = "[routers.cafe]\nnat = \"address-dependent\"\n";
        let whole = format!("{SMALL}{behind}{cafe}{router}");
        assert!(Scenario::parse(Path::new("small.toml"), &whole).is_ok());
    }
}
