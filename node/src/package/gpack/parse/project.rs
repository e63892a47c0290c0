//! What a `gpack.toml` says of the project that it stands in: what that needs, and where it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use toml::de::DeTable;

use super::{Fields, Lines, Problem, REPORTED_MAX, Reader, dependency_id, say, text, unreadable};
use crate::{
    limits::PATH_BYTES_MAX,
    package::{
        PackageId, PackageName,
        gpack::{Error, FOLDER, OWN_NAMES, Project},
        shorten,
    },
};

/// Parses the `bytes` of a project's `gpack.toml`; `path` is only for messages. What only a publication needs may be absent.
///
/// # Errors
/// [`Error::Invalid`] with every problem at once.
pub fn project(path: &Path, bytes: &[u8]) -> Result<Project, Error> {
    let invalid = |problems| Error::Invalid { path: path.to_owned(), problems };
    let text = text(bytes).map_err(|problem| invalid(vec![problem]))?;
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|first| unreadable(path, text, &lines, first))?;
    let mut reader = Reader { lines, problems: Vec::new(), warnings: Vec::new(), misspelt: Vec::new() };
    let mut project = reader.project(table.get_ref());
    let Reader { mut problems, misspelt, warnings, .. } = reader;
    project.warnings = warnings;
    // Ignored, it would leave a project that needs nothing, and all packages would be removed.
    problems.extend(
        misspelt.into_iter().filter(|(_, near)| ["dependencies", "aliases", "project"].contains(near)).map(
            |(at, near)| Problem {
                line: at.0,
                key: at.1,
                message: format!("the key is not known; did you mean {near}?"),
                missing: false,
            },
        ),
    );
    if problems.is_empty() {
        return Ok(project);
    }
    problems.sort_by_key(|problem| problem.line);
    problems.truncate(REPORTED_MAX);
    Err(invalid(problems))
}

impl Reader {
    fn project(&mut self, table: &DeTable<'_>) -> Project {
        let fields = self.fields(table);
        let name = self.string(&fields, "name").and_then(|(full, text, span)| {
            self.checked(full, span, PackageName::from_str(text).map_err(say))
        });
        Project {
            name,
            dependencies: self.dependencies(&fields),
            aliases: self.aliases(&fields),
            folder: self.folder(&fields),
            warnings: Vec::new(),
        }
    }

    fn aliases(&mut self, fields: &Fields<'_, '_>) -> BTreeMap<PackageName, PackageId> {
        let (mut aliases, mut named) = (BTreeMap::new(), BTreeSet::new());
        let Some((full, value)) = fields.get("aliases") else { return aliases };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(full, value, "a table of name = \"publisher/name\"");
            return aliases;
        };
        for (key, value) in table {
            let full = format!("{full}.\"{}\"", shorten(key.get_ref()));
            let alias = PackageName::from_str(key.get_ref()).map_err(say);
            let alias = self.checked(full.clone(), key.span(), alias);
            let id = match value.get_ref().as_str() {
                Some(text) => self.checked(full.clone(), value.span(), dependency_id(text)),
                None => {
                    self.wrong_type(&full, value, "a package such as \"<publisher>/<name>\"");
                    None
                }
            };
            let (Some(alias), Some(id)) = (alias, id) else { continue };
            if named.insert(id.clone()) {
                aliases.insert(alias, id);
            } else {
                self.problem(value.span(), full, "the package has another short name already");
            }
        }
        aliases
    }

    fn folder(&mut self, fields: &Fields<'_, '_>) -> PathBuf {
        let default = PathBuf::from(FOLDER);
        let Some((full, value)) = fields.get("project") else { return default };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(full, value, "a table");
            return default;
        };
        for key in table.keys().filter(|key| key.get_ref() != "folder") {
            let name = format!("{full}.{}", shorten(key.get_ref()));
            self.warn(key.span().start, &name, Some(format!("{full}.folder")));
        }
        let Some(value) = table.get("folder") else { return default };
        let full = format!("{full}.folder");
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(&full, value, "a string");
            return default;
        };
        self.checked(full, value.span(), folder(text)).unwrap_or(default)
    }
}

/// A folder below the project: relative, and without a way out of it.
pub(crate) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || !is_inside || text.len() > PATH_BYTES_MAX || text.contains(['\0', '\n']) {
        return Err(format!(
            "expected a folder below the project, such as \"{FOLDER}\", without \"..\", found \"{}\"",
            shorten(text)
        ));
    }
    if text.starts_with('~') {
        return Err(format!(
            "expected a folder below the project, such as \"{FOLDER}\"; \"~\" does not stand for your home directory here"
        ));
    }
    let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().to_lowercase());
    if first.is_some_and(|first| OWN_NAMES.contains(&first.as_str())) {
        return Err("ggen keeps a file or folder of its own there".to_owned());
    }
    let hidden = |part: Component<'_>| part.as_os_str().to_string_lossy().to_lowercase().starts_with(".git");
    if path.components().any(hidden) {
        return Err("git keeps its own files there".to_owned());
    }
    Ok(path.components().collect())
}
