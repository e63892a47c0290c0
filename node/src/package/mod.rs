//! Packages: their names, their description file, their tree of files and their manifest.

pub mod name;

pub use name::{PackageId, PackageName, PackageRef};
