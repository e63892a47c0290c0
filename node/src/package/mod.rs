//! Packages: their names, their description file, their tree of files and their manifest.
//!
//! Publishing goes [`gpack::read`] → [`walk::walk`] → `preflight` → [`pack::pack`] → [`manifest::Manifest`];
//! installing goes from a verified manifest through [`unpack::unpack`] and is looked over by [`check::check`]. The module
//! reads and writes files, but knows nothing of runtimes, networks or databases: blocks leave and enter through closures.

use std::io;

use crate::code::Code;

pub mod asked;
pub mod check;
pub mod dependencies;
pub mod gpack;
mod ignore_files;
pub mod manifest;
pub mod name;
pub mod pack;
pub mod path;
pub mod preflight;
mod secrets;
#[cfg(test)]
mod testing;
pub mod unixfs;
pub mod unpack;
pub mod walk;

pub(crate) use secrets::own;

pub use asked::Asked;
pub use gpack::Gpack;
pub use manifest::{Manifest, SignedManifest};
pub use name::{PackageId, PackageName, PackageRef};
pub use path::PackagePath;

/// The stable code of a failed file operation.
pub(crate) fn io_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Code::ReadOnly,
        _ => Code::Io,
    }
}

/// Keeps a hostile text from filling a message or a terminal.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

/// Characters that a terminal acts on, or that reorder or hide the text around them, so that one name reads as another
/// ([Unicode Technical Standard 55](https://www.unicode.org/reports/tr55/)). Whatever a publisher signs is checked against this.
pub(crate) fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
