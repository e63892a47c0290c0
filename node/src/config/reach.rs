//! Whether others can connect to this node.

use std::{fmt, str::FromStr};

use super::{error::quoted, topology::any_of};

/// How others reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// As the node finds out.
    #[default]
    Auto,
    /// At the addresses that it listens on.
    Direct,
    /// Through relays alone, which introduce it to those who want to connect.
    Relay,
}

impl Reach {
    /// Every way.
    pub const ALL: &'static [Self] = &[Self::Auto, Self::Direct, Self::Relay];

    /// The way as the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|it| it.as_str() == text);
        found.ok_or_else(|| {
            format!("{} is no way to be reached, expected {}", quoted(text), any_of(Self::ALL))
        })
    }
}
