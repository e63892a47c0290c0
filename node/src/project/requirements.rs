//! What a project asks for, in its `gpack.toml`, and changes of that which leave everything else in the file as it stands.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use semver::VersionReq;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};

use super::Error;
use crate::{
    line_ends,
    package::{
        PackageId, PackageName,
        gpack::{self, Project},
    },
};

/// The `gpack.toml` of a project.
#[derive(Debug, Clone)]
pub struct Requirements {
    path: PathBuf,
    bytes: Vec<u8>,
    project: Project,
}

impl Requirements {
    /// Reads the `gpack.toml` of a directory; `name`, `version` and `description` may be absent.
    ///
    /// # Errors
    /// [`Error::NoProject`], [`Error::Gpack`] with every problem of the file, or [`Error::Io`].
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(gpack::FILE_NAME);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(gpack::Error::NotAFile { path }.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::NoProject { directory: root.to_owned() });
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        }
        let bytes = gpack::read_capped(&path).map_err(|error| Error::io("read", &path, error))?;
        Self::parse(path, bytes)
    }

    pub(super) fn parse(path: PathBuf, bytes: Vec<u8>) -> Result<Self, Error> {
        let project = gpack::project(&path, &bytes)?;
        Ok(Self { path, bytes, project })
    }

    /// What it says.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The short name of a package, where it has one.
    pub fn alias(&self, package: &PackageId) -> Option<&PackageName> {
        self.project.aliases.iter().find(|(_, id)| *id == package).map(|(alias, _)| alias)
    }

    /// The packages that a person means who types `text`: a short name, a name, or a full id, or one whose publisher is cut
    /// short as tables show it; also the name of a folder, `name@publisher`.
    pub fn named<'a>(
        &'a self,
        text: &str,
        others: impl Iterator<Item = &'a PackageId>,
    ) -> Vec<&'a PackageId> {
        let alias = text.parse::<PackageName>().ok();
        if let Some(id) = alias.and_then(|alias| self.project.aliases.get(&alias)) {
            return vec![id];
        }
        let mut found: Vec<&PackageId> =
            self.project.dependencies.keys().chain(others).filter(|id| is_named(id, text)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Adds a package, or changes the range of one that is there, with a short name where one is given.
    ///
    /// # Errors
    /// [`Error::Edit`] where the file is written in a way that cannot be added to.
    pub fn with(
        &self,
        package: &PackageId,
        range: &VersionReq,
        alias: Option<&PackageName>,
    ) -> Result<Self, Error> {
        let mut document = self.document()?;
        let dependencies = self.table(&mut document, "dependencies")?;
        set(dependencies, &package.to_string(), &range.to_string());
        if let Some(alias) = alias {
            let aliases = self.table(&mut document, "aliases")?;
            let old: Vec<String> = keys_of(aliases, package);
            old.iter().filter(|key| *key != alias.as_str()).for_each(|key| drop(aliases.remove(key)));
            set(aliases, alias.as_str(), &package.to_string());
        }
        self.changed(&document)
    }

    /// Takes a package out, with its short name.
    ///
    /// # Errors
    /// As [`Requirements::with`].
    pub fn without(&self, package: &PackageId) -> Result<Self, Error> {
        let mut document = self.document()?;
        let id = package.to_string();
        for name in ["dependencies", "aliases"] {
            for under in [false, true] {
                let Some(table) = existing(&mut document, under, name) else { continue };
                let keys = if name == "aliases" { keys_of(table, package) } else { vec![id.clone()] };
                keys.iter().for_each(|key| drop(table.remove(key)));
            }
        }
        self.changed(&document)
    }

    /// The file as it is after a change of its document.
    fn changed(&self, document: &DocumentMut) -> Result<Self, Error> {
        let before = std::str::from_utf8(&self.bytes).map_err(|_| self.uneditable("it is not UTF-8"))?;
        let after = line_ends::as_in(before, &document.to_string());
        Self::parse(self.path.clone(), after.into_bytes())
    }

    fn document(&self) -> Result<DocumentMut, Error> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| self.uneditable("it is not UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        text.parse().map_err(|error: toml_edit::TomlError| self.uneditable(error.message()))
    }

    /// A table at the top, or under `[package]` where it stands there; it is made where there is none.
    fn table<'d>(&self, document: &'d mut DocumentMut, name: &str) -> Result<&'d mut dyn TableLike, Error> {
        let under = existing(document, true, name).is_some();
        if !under && existing(document, false, name).is_none() {
            if document.get(name).is_some() {
                return Err(self.uneditable(&format!("{name} is not a table")));
            }
            let mut table = Table::new();
            table.set_implicit(false);
            if document.is_empty() {
                // What a person wrote into a file without any key would otherwise come to stand behind the table.
                let written = document.trailing().as_str().unwrap_or_default().to_owned();
                document.set_trailing("");
                table.decor_mut().set_prefix(if written.is_empty() {
                    written
                } else {
                    format!("{written}\n")
                });
            }
            document.insert(name, Item::Table(table));
        }
        existing(document, under, name).ok_or_else(|| self.uneditable(&format!("{name} is not a table")))
    }

    fn uneditable(&self, why: &str) -> Error {
        Error::Edit { path: self.path.clone(), why: why.to_owned() }
    }
}

fn existing<'d>(
    document: &'d mut DocumentMut,
    under_package: bool,
    name: &str,
) -> Option<&'d mut dyn TableLike> {
    let item = if under_package {
        document.get_mut("package")?.as_table_like_mut()?.get_mut(name)?
    } else {
        document.get_mut(name)?
    };
    item.as_table_like_mut()
}

/// Sets a value and keeps what stands around it; a new one goes to its place where the others are sorted.
fn set(table: &mut dyn TableLike, key: &str, text: &str) {
    if let Some(Item::Value(old)) = table.get_mut(key) {
        let decor = old.decor().clone();
        *old = Value::from(text);
        *old.decor_mut() = decor;
        return;
    }
    let is_sorted = table.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>().is_sorted();
    table.insert(key, value(text));
    if is_sorted {
        table.sort_values();
    }
}

/// The short names of a package.
fn keys_of(table: &dyn TableLike, package: &PackageId) -> Vec<String> {
    let id = package.to_string();
    let means = |item: &Item| item.as_str() == Some(&id);
    table.iter().filter(|(_, item)| means(item)).map(|(key, _)| key.to_owned()).collect()
}

fn is_named(id: &PackageId, text: &str) -> bool {
    let folder = text.split_once('@').map(|(name, publisher)| (publisher, name));
    match text.split_once('/').or(folder) {
        None => id.name.as_str() == text,
        Some((publisher, name)) => {
            let (head, tail) = publisher.split_once('…').unwrap_or((publisher, ""));
            let whole = id.publisher.to_string();
            let fits =
                head.len() + tail.len() <= whole.len() && whole.starts_with(head) && whole.ends_with(tail);
            id.name.as_str() == name && !head.is_empty() && fits
        }
    }
}

#[cfg(test)]
#[path = "requirements_tests.rs"]
mod tests;
