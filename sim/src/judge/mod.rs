//! What must hold of a run, checked against it while it goes on.
//!
//! The [`Judge`] is pure: it hears [`Fact`]s, which the harness saw happen, and looks at [`View`]s, which say what each node
//! holds, and both may as well be made up. It believes no node's word about itself where somebody else knows better: what
//! was published it knows from the workload, what a peer did from the peer. `watch` is what feeds it.
//!
//! Each rule is named, and is one of three kinds: *safety* must hold at every moment, *liveness* by a deadline after
//! everything that broke was mended, and a *threshold* of what was measured.

mod bounds;
mod catalogues;
mod content;
mod damage;
mod equivocations;
mod fact;
mod found;
mod halves;
mod newest;
mod oracle;
mod publications;
mod reputations;
mod sequences;
mod steps;
mod thresholds;
mod versions;
mod view;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ggen_marketplace::content::ContentId;
use serde::{Deserialize, Serialize};

pub use self::{
    fact::Fact,
    view::{Account, Head, Held, Publication, View},
};
pub(crate) use self::{
    found::{Found, Whose},
    oracle::Oracle,
    view::{queues, signed, tree_digest},
    watch::Watch,
};
use crate::{
    report::{Finding, Invariant},
    scenario::Expect,
};

/// Exit code where a threshold was missed.
pub const THRESHOLD_MISSED: u8 = 99;
/// Exit code where something happened that never may, or did not happen in time.
pub const INVARIANT_VIOLATED: u8 = 100;

/// What kind of rule it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Must hold at every moment.
    #[default]
    Safety,
    /// Must hold by a deadline.
    Liveness,
    /// Something measured has a bound.
    Threshold,
}

/// Every rule, in the order in which they are reported.
const RULES: [(&str, Kind); 16] = [
    (content::RULE, Kind::Safety),
    (versions::RULE, Kind::Safety),
    (sequences::RULE, Kind::Safety),
    (equivocations::RULE, Kind::Safety),
    (publications::RULE, Kind::Safety),
    (damage::RULE, Kind::Safety),
    (halves::RULE, Kind::Safety),
    (reputations::RULE, Kind::Safety),
    (bounds::RULE, Kind::Safety),
    (ROUTING, Kind::Safety),
    (FORWARDING, Kind::Safety),
    (BITES, Kind::Safety),
    (catalogues::RULE, Kind::Liveness),
    (steps::INSTALLS, Kind::Liveness),
    (steps::RULE, Kind::Liveness),
    (thresholds::RULE, Kind::Threshold),
];

/// Nobody passes on what was forged.
const FORWARDING: &str = "no-forged-forwarding";
/// Who answers no queries is asked none.
const ROUTING: &str = "only-servers-are-routed-to";
/// What was to break broke.
const BITES: &str = "every-fault-bites";

/// What is known of a run before it begins.
#[derive(Debug, Clone)]
pub struct Case {
    /// The nodes.
    pub members: Vec<Member>,
    /// The steps.
    pub steps: Vec<Task>,
    /// The files that were written to be published: by node, package and version, the digest of the first such tree.
    pub trees: BTreeMap<(usize, String, String), [u8; 32]>,
    /// What was in some catalogues from the beginning: the package's full id, its tree and its manifest, and the digest of the head.
    pub preloaded: Vec<(String, [ContentId; 2], [u8; 32])>,
    /// When the last fault is mended.
    pub faults_over: Duration,
    /// The longest latency of a link.
    pub latency_max: Duration,
    /// What the scenario expects.
    pub expect: Expect,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Where it is done.
    pub node: usize,
    /// What it is to come to.
    pub aim: Aim,
    /// Whether it may get something older than had been published: how many may, a threshold says.
    pub may_be_old: bool,
}

/// What a step is to come to, as far as that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// A package is installed.
    Install {
        /// Its bare name.
        package: String,
        /// The version; the newest where none is named.
        version: Option<String>,
    },
    /// The newest head of a package is found.
    Lookup {
        /// Its bare name.
        package: String,
    },
    /// Anything else.
    Other,
}

/// The verdicts on a run.
#[derive(Debug)]
pub struct Judged {
    /// Every rule.
    pub invariants: Vec<Invariant>,
    /// The first violations of each, and where it is to be learned what led to them.
    pub(crate) findings: Vec<(Finding, Whose)>,
}

/// A node of a run.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The id under which it publishes.
    pub publisher: String,
    /// From when on it misbehaves; none for an honest one.
    pub turns: Option<Duration>,
    /// Whether it answers queries of the DHT, as its own configuration has it.
    pub serves_dht: bool,
    /// What its own configuration allows it.
    pub limits: Limits,
}

/// The bounds that differ from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: u32,
    /// Bytes of blocks; none where there is no bound.
    pub store_bytes_max: Option<u64>,
}

impl Member {
    /// Whether it is held to the rules: an adversary is not, even before its time has come.
    pub fn is_honest(&self) -> bool {
        self.turns.is_none()
    }
}

/// Holds a run against the rules.
#[derive(Debug)]
pub struct Judge {
    case: Case,
    found: Found,
    oracle: Oracle,
    versions: versions::Versions,
    sequences: sequences::Sequences,
    equivocations: equivocations::Equivocations,
    publications: publications::Publications,
    catalogues: catalogues::Catalogues,
    reputations: reputations::Recount,
    bounds: bounds::Bounds,
    steps: steps::Steps,
    newest: newest::Newest,
    /// The most packages that honest nodes had frozen at one moment, each counted once a node.
    frozen_most: usize,
}

impl Judge {
    /// A judge who has heard nothing yet.
    pub fn new(case: Case) -> Self {
        Self {
            found: Found::new(case.members.iter().map(|member| member.name.clone()).collect()),
            oracle: Oracle::of(&case.preloaded),
            versions: versions::Versions::default(),
            sequences: sequences::Sequences::default(),
            equivocations: equivocations::Equivocations::default(),
            publications: publications::Publications::default(),
            catalogues: catalogues::Catalogues::new(&case),
            reputations: reputations::Recount::new(&case),
            bounds: bounds::Bounds::new(&case),
            steps: steps::Steps::default(),
            newest: newest::Newest::new(&case),
            frozen_most: 0,
            case,
        }
    }

    /// Hears what happened.
    pub fn hear(&mut self, at: Duration, fact: &Fact) {
        // An adversary that turns stops being the shipped node: nothing is broken by that.
        if matches!(fact, Fact::Stopped { node } if !self.case.members[*node].is_honest()) {
            return;
        }
        let Self { case, found, oracle, .. } = self;
        match fact {
            Fact::Installed { step, node, root, tree } if case.members[*node].is_honest() => {
                content::installed(found, oracle, case, at, (*step, *node), *root, *tree);
            }
            Fact::Signed { node, package, digest } => {
                content::signed(oracle, case, at, *node, package, *digest);
            }
            Fact::Worthless { package } => oracle.tolerate(package),
            Fact::Forged { node, from, is_taken } => heard_forged(case, found, at, *node, *from, *is_taken),
            Fact::Outdated { node, package, sequence } if case.members[*node].is_honest() => {
                self.sequences.took(found, at, *node, package, *sequence);
            }
            Fact::Routed { node, peer } => routed(case, found, at, *node, *peer),
            Fact::Wiped { node } => self.sequences.wiped(*node),
            Fact::Opened { node, .. } if case.members[*node].is_honest() => damage::hear(found, at, fact),
            Fact::Stands { node, .. } | Fact::Littered { node, .. } if case.members[*node].is_honest() => {
                halves::hear(found, case, at, fact);
            }
            Fact::Streams { node, lasting } if case.members[*node].is_honest() => {
                self.bounds.lasting(found, at, *node, *lasting);
            }
            Fact::Loaded { node, load } => self.bounds.loaded(found, at, *node, load),
            _ => {}
        }
        self.publications.hear(fact);
        self.catalogues.hear(at, fact);
        self.reputations.hear(at, fact);
        self.steps.hear(&self.case, fact);
        self.newest.hear(&mut self.found, (&self.oracle, &self.case), at, fact);
    }

    /// Looks at what every node holds, whether it runs or not.
    pub fn look(&mut self, at: Duration, views: &[View]) {
        let Self { case, found, oracle, .. } = self;
        self.newest.look(oracle);
        // What was published is known before anything else is judged: it is durable before anybody is told of it.
        for (node, view) in views.iter().enumerate() {
            for publication in &view.published {
                content::published(found, oracle, case, at, node, publication);
            }
            for (package, digest) in &view.signed {
                content::signed(oracle, case, at, node, package, *digest);
            }
        }
        let frozen = honest(case, views).map(|(_, view)| view.frozen.len()).sum();
        self.frozen_most = self.frozen_most.max(frozen);
        for (node, view) in honest(case, views) {
            content::held(found, oracle, at, node, view);
            self.versions.look(found, at, node, view);
            self.sequences.look(found, at, node, view);
            self.equivocations.look(found, case, at, node, view);
            self.bounds.look(found, at, node, view);
            self.reputations.look(found, case, at, node, view);
        }
        self.catalogues.look(found, oracle, case, at, views);
        self.steps.look(case, views);
    }

    /// What was found since this was asked last, and whose scene led to it.
    pub(crate) fn open(&mut self) -> impl Iterator<Item = (&mut Finding, &mut Whose)> {
        self.found.open()
    }

    /// Gives the verdict on every rule.
    ///
    /// `idle` is what was to bite and did not, `shortcomings` what is wrong with how steps ended, by number.
    pub fn finish(
        mut self,
        at: Duration,
        views: &[View],
        idle: Vec<String>,
        shortcomings: &[(usize, String)],
        metrics: &mut BTreeMap<String, f64>,
    ) -> Judged {
        self.look(at, views);
        let charged = charged(&self.case, views).into_iter();
        metrics.extend(charged.map(|(name, peers)| (name.to_owned(), peers as f64)));
        let frozen: usize = honest(&self.case, views).map(|(_, view)| view.frozen.len()).sum();
        metrics.insert("packages_frozen".to_owned(), frozen as f64);
        let disputed: usize = honest(&self.case, views).map(|(_, view)| view.keys_disputed).sum();
        metrics.insert("keys_disputed".to_owned(), disputed as f64);
        metrics.insert("packages_frozen_most".to_owned(), self.frozen_most as f64);
        let Self { case, mut found, oracle, .. } = self;
        for (node, view) in honest(&case, views) {
            self.reputations.finish(&mut found, &case, at, node, view);
            self.publications.finish(&mut found, &oracle, at, node, view);
        }
        self.catalogues.finish(&mut found, &oracle, &case, at, views);
        self.steps.finish(&mut found, &case, shortcomings);
        idle.into_iter().for_each(|what| found.say(BITES, what));
        thresholds::judge(&mut found, &case.expect, metrics);
        found.into_judged(&RULES)
    }
}

fn honest<'a>(case: &'a Case, views: &'a [View]) -> impl Iterator<Item = (usize, &'a View)> {
    views.iter().enumerate().filter(|(node, _)| case.members[*node].is_honest())
}

/// How many adversaries, and how many others, stand in somebody's books with a failure or a forged block.
fn charged(case: &Case, views: &[View]) -> [(&'static str, usize); 2] {
    let accounts = honest(case, views).flat_map(|(_, view)| &view.accounts);
    let bad = accounts.filter(|(_, account)| account.failed + account.forged > 0);
    let peers: BTreeSet<usize> = bad.map(|(peer, _)| *peer).collect();
    let innocents = peers.iter().filter(|peer| case.members[**peer].is_honest()).count();
    [("adversaries_charged", peers.len() - innocents), ("innocents_charged", innocents)]
}

/// Something forged reached a node: it came from whoever forged it, and goes no further.
fn heard_forged(
    case: &Case,
    found: &mut Found,
    at: Duration,
    node: usize,
    from: Option<usize>,
    is_taken: bool,
) {
    let is_honest = |node: usize| case.members[node].is_honest();
    if !is_honest(node) {
        return;
    }
    if is_taken {
        found.add(FORWARDING, at, node, "took a forged announcement and passed it on");
    }
    if let Some(from) = from.filter(|from| is_honest(*from)) {
        let name = &case.members[from].name;
        found.add(FORWARDING, at, node, format!("got a forged announcement from {name}, which is honest"));
    }
}

/// A node put another one into its routing table: whoever is a client of the DHT has no place in one.
fn routed(case: &Case, found: &mut Found, at: Duration, node: usize, peer: usize) {
    let Member { name, serves_dht, .. } = &case.members[peer];
    // An adversary says of itself what it likes.
    if case.members[node].is_honest() && case.members[peer].is_honest() && !serves_dht {
        found.add(
            ROUTING,
            at,
            node,
            format!("has {name} in its routing table, which is a client of the DHT"),
        );
    }
}

impl Kind {
    /// The exit code of a run of which this is the worst that does not hold.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Safety | Self::Liveness => INVARIANT_VIOLATED,
            Self::Threshold => THRESHOLD_MISSED,
        }
    }
}

/// The exit code that some verdicts come to: an invariant outweighs what was measured.
pub fn exit_code(invariants: &[Invariant]) -> u8 {
    let violated = invariants.iter().filter(|it| !it.holds).map(|it| it.kind.exit_code());
    violated.max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
