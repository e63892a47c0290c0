//! What breaks.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

/// Something that breaks, and is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What its draws are keyed by: its name, or else what the file says of it. It stays when another fault is taken away.
    pub key: String,
    /// What breaks.
    pub kind: FaultKind,
    /// When, the first time.
    pub at: RangeInclusive<Duration>,
    /// How long.
    pub lasts: Lasts,
    /// How often.
    pub times: u32,
    /// From one time to the next.
    pub every: Duration,
    /// The nodes concerned, or those that they are drawn from.
    pub nodes: BTreeSet<usize>,
    /// How many of them are drawn, each time again; all where it is not said.
    pub pick: Option<usize>,
    /// A step that publishes a package: of the nodes, those nearest to its record are picked, and nothing is drawn.
    pub nearest_to: Option<usize>,
}

/// How long something stays broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lasts {
    /// Until then.
    Until(Duration),
    /// So long.
    For(RangeInclusive<Duration>),
    /// To the end of the run.
    Ever,
}

/// What breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing passes between these sites and the others, and what is in progress is lost.
    Partition(Ways),
    /// Nothing passes between any of these sites and any other site.
    Isolate(Ways),
    /// As an isolation that comes and goes.
    Flapping {
        /// How long the links stand.
        up: Duration,
        /// How long they are cut.
        down: Duration,
    },
    /// The links of these sites take longer.
    Slow {
        /// By how much; drawn for each link.
        by: RangeInclusive<Duration>,
    },
    /// What is sent over the links of these sites is kept back, and delivered at once in the end.
    Hold,
    /// Segments on the links of these sites are lost, and sent again.
    Lossy {
        /// How many of a hundred.
        percent: u64,
    },
    /// The links of these sites carry no more than this, each way.
    Throttle {
        /// Bytes a second.
        bytes_per_second: u64,
    },
    /// The sites are cut off one after another, and come back in another order.
    SwizzleClog,
    /// The sites stop at once, and start again with what they had committed.
    Crash {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// As a crash, but nobody is told: the peers are left with connections to nobody.
    PowerLoss {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// The nodes stop in good order, and start again.
    Restart {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// The nodes start then, and not before.
    MassJoin {
        /// Within this time, each at a moment of its own.
        spread: Duration,
    },
    /// The nodes stop in good order.
    MassLeave {
        /// Within this time, each at a moment of its own.
        spread: Duration,
    },
    /// The nodes come and go.
    Churn {
        /// Half of their lives are shorter than this.
        median: Duration,
        /// How long they are away, on average.
        away: Duration,
    },
    /// The wall clocks of these sites are stepped; the monotonic ones go on.
    Clock {
        /// By how much; drawn for each site.
        by: RangeInclusive<Duration>,
        /// Back in time, and not ahead.
        is_back: bool,
    },
    /// A name leads to this node, and no longer to another one.
    NameMoves {
        /// The name.
        name: String,
    },
    /// These sites come to stand behind another router, and so have another address outside; nothing is known there of their connections.
    Moves {
        /// The router; their own with another address where none is said.
        router: Option<String>,
    },
}

/// Which ways are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// Both.
    #[default]
    Both,
    /// What these sites send does not arrive.
    Out,
    /// What others send to these sites does not arrive.
    In,
}

impl FaultKind {
    /// The word of the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Isolate(_) => "isolate",
            Self::Flapping { .. } => "flapping",
            Self::Slow { .. } => "slow",
            Self::Hold => "hold",
            Self::Lossy { .. } => "lossy",
            Self::Throttle { .. } => "throttle",
            Self::SwizzleClog => "swizzle-clog",
            Self::Crash { .. } => "crash",
            Self::PowerLoss { .. } => "power-loss",
            Self::Restart { .. } => "restart",
            Self::MassJoin { .. } => "mass-join",
            Self::MassLeave { .. } => "mass-leave",
            Self::Churn { .. } => "churn",
            Self::Clock { .. } => "clock",
            Self::NameMoves { .. } => "name-moves",
            Self::Moves { .. } => "moves",
        }
    }

    /// Whether it concerns whole sites, not single nodes of one.
    pub fn is_of_sites(&self) -> bool {
        !matches!(
            self,
            Self::Restart { .. }
                | Self::MassJoin { .. }
                | Self::MassLeave { .. }
                | Self::Churn { .. }
                | Self::NameMoves { .. }
        )
    }
}
