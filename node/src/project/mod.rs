//! A directory with a `gpack.toml`, and the packages that are installed into it.
//!
//! [`Requirements`] is what the `gpack.toml` asks for, and how that is changed without touching the rest of the file.
//! [`Lock`] is what it was resolved to: `gpack.lock`, by which every machine installs the same bytes. [`plan`] decides which
//! versions go together, [`graph`] says who asks for what and which folder each package has, [`Site`] changes the folders, all
//! of them or none, and [`Guard`] keeps a second installation out meanwhile.
//!
//! **Invariant:** knows nothing of networks, stores and runtimes. What stands in the files of a project is not trusted: it
//! names what is wanted, and the part that brings it verifies it; a journal counts only under the [`Seal`] of this state folder.
//! No folder is removed that holds anything its user wrote.

mod disk;
mod error;
pub mod graph;
mod guard;
mod journal;
mod lock;
#[cfg(test)]
mod numbers;
pub mod plan;
mod requirements;
mod seal;
mod site;
mod standing;

pub use error::Error;
pub use guard::Guard;
#[cfg(test)]
pub(crate) use journal::cut_off;
pub use journal::{Swap, Was};
pub use lock::{FILE_NAME as LOCK_FILE, Lock, Locked};
pub use requirements::Requirements;
pub use seal::Seal;
pub use site::{Done, FileChange, Index, Keeps, Placed, Site, recover};
pub use standing::{Standing, Standings, asked_by, is_unfinished, placed_in, project_of};
