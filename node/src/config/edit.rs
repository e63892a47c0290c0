//! Changes to the configuration file that keep its comments and layout, and the file that is written at the first start.
//!
//! The whole result is checked before anything is written; it is then written aside, synced and renamed, so that a crash
//! leaves the old file or the new one.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item, Table, TableLike};

use super::{
    Document, Error, FILE_NAME, Layers, P2PConfig, Partial, Place, Problem, Role, Topology, Unknown,
    document,
    keys::{KEYS, Key, Reload},
    layers,
};
use crate::line_ends;

/// Reads the file at `path` as a node would, checks its values against each other, and gives its warnings.
///
/// # Errors
/// As [`document::read`]: [`Error::Invalid`] holds every problem.
pub fn check(path: &Path, unknown: Unknown) -> Result<Vec<Problem>, Error> {
    let (document, mut problems) = document::parse_on(path, &document::read_text(path)?, unknown)?;
    let mut warnings = document.warnings.clone();
    let wrong: BTreeSet<String> = problems.iter().filter_map(|it| it.key.clone()).collect();
    let is_wrong = |key: &str| wrong.iter().any(|it| it == key || it.starts_with(&format!("{key}[")));
    // What does not go together with a value that is wrong itself may do so once that is mended.
    let between = match together(document) {
        Ok(remarks) => {
            warnings = remarks;
            Vec::new()
        }
        Err(conflicts) => conflicts,
    };
    problems.extend(between.into_iter().filter(|it| {
        let key = it.key.as_deref().unwrap_or_default();
        !is_wrong(key) && !layers::partner(key).is_some_and(is_wrong)
    }));
    if problems.is_empty() {
        return Ok(warnings);
    }
    problems.extend(warnings);
    problems.sort_by_key(|it| match &it.place {
        Place::File { line, .. } => *line,
        _ => 0,
    });
    Err(document::invalid(problems))
}

/// What a start would warn of that goes by a file which is right key by key.
///
/// # Errors
/// What does not go together.
fn together(document: Document) -> Result<Vec<Problem>, Vec<Problem>> {
    let (flags, env) = Default::default();
    let layers = Layers { flags, env, file: Some(document), defaults: P2PConfig::for_daemon("") };
    match layers.resolve() {
        Ok(effective) => Ok(effective.warnings),
        Err(Error::Invalid { problems }) => Err(problems),
        Err(_) => Err(Vec::new()),
    }
}

/// Gives the key `name` the value `text` in the file at `path`, and says whether a running node can take it.
///
/// `text` is what the environment takes: a list parted by commas, `none` for an empty one. A missing file is written with
/// the defaults first. Comments, layout, mode and a symbolic link are kept.
///
/// # Errors
/// [`Error::UnknownKey`] or [`Error::Value`] for the arguments, [`Error::Invalid`] where a value of the file is wrong,
/// [`Error::Conflict`] where the new value does not go with the others, [`Error::Changed`] where somebody else wrote the file
/// in the meantime, and [`Error::Write`]. The file is as it was after each of them.
pub fn set(path: &Path, name: &str, text: &str) -> Result<Reload, Error> {
    let key = key(name)?;
    let value = value(key, text)?;
    edit(path, key, |document| put(document, key, value))?;
    Ok(key.reload)
}

/// Gives several keys their values, all of them or none: for values that go together only.
///
/// # Errors
/// As [`set`].
pub fn set_all(path: &Path, values: &[(&str, String)]) -> Result<(), Error> {
    let mut parsed = Vec::new();
    for (name, text) in values {
        let key = key(name)?;
        parsed.push((key, value(key, text)?));
    }
    let Some((last, _)) = parsed.last() else { return Ok(()) };
    let last = *last;
    edit(path, last, |document| parsed.into_iter().try_for_each(|(key, value)| put(document, key, value)))
}

/// The value that `text` is for `key`, as the file has it.
fn value(key: &Key, text: &str) -> Result<toml_edit::Value, Error> {
    let value = key.kind.parse(text).map_err(|faults| {
        let described = faults.into_iter().map(|fault| match fault.index {
            Some(index) => format!("[{index}] {}", fault.what),
            None => fault.what,
        });
        let what = described.collect::<Vec<_>>().join("; ");
        // What is a number of days or of seconds says so first.
        match key.doc.split([' ', ':']).next() {
            Some(unit @ ("Days" | "Seconds")) => {
                Error::Value { key: key.name, what: format!("{what} ({})", unit.to_lowercase()) }
            }
            _ => Error::Value { key: key.name, what },
        }
    })?;
    Ok(value.to_toml())
}

/// Removes the key `name` from the file at `path`, so that its default holds again.
///
/// # Errors
/// As [`set`]; a missing file is [`Error::Missing`].
pub fn unset(path: &Path, name: &str) -> Result<Reload, Error> {
    let key = key(name)?;
    document::read_text(path)?;
    edit(path, key, |document| {
        for inside in [true, false] {
            if let Some(edited) = without_lines(document, key, inside) {
                *document = edited;
                continue;
            }
            if key.may_stand_alone() && alone(document, key, inside).is_some() {
                if let (Some(place), Some(name)) = (container(document, inside), key.table()) {
                    place.remove(name);
                }
            } else if let Some(table) = table_of(document, key, inside) {
                remove(table, key.leaf());
            }
        }
        Ok(())
    })?;
    Ok(key.reload)
}

/// Writes a commented file with every value of `config` to `path`, and the folder it lies in where that is missing. An
/// existing file is left alone; whether one was written is the result.
///
/// # Errors
/// [`Error::Invalid`] where `config` is not valid, and [`Error::Write`].
pub fn write_default(path: &Path, config: &P2PConfig) -> Result<bool, Error> {
    config.validate()?;
    let failed = |source| Error::Write { path: path.to_owned(), source };
    create_folder(folder_of(path)).map_err(failed)?;
    let file = write_aside(path, &render(config), None).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(path).map(|()| true).map_err(failed),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error.error)),
    }
}

/// The text of a configuration file with every value of `config`, each with what it means.
pub fn render(config: &P2PConfig) -> String {
    let values = Partial::of(config);
    let of_role = Partial {
        role: Some(config.topology.default_role()),
        ..Partial::of(&config.clone().in_role(config.topology, config.role))
    };
    let mut text = format!(
        "# Configuration of this node: {FILE_NAME}\n\
         # Flags win over environment variables, those over this file.\n\
         # `ggen marketplace p2p config show --origin` lists what a start would use, and where it comes from.\n"
    );
    let mut table = None;
    for key in KEYS {
        text.push('\n');
        if let Some(name) = key.table().filter(|name| table != Some(*name)) {
            text.push_str(&format!("[{name}]\n"));
        }
        table = key.table();
        let restart = if key.reload == Reload::Restart { " Needs a restart." } else { "" };
        text.push_str(&format!("# {}{restart}\n", key.doc));
        let leaf = key.leaf();
        match key.of(&values) {
            // Left to the role, so that another role brings its own along.
            Some(value) if key.by_role && key.of(&of_role).as_ref() == Some(&value) => {
                text.push_str(&format!("# {leaf} = {}\n", value.to_toml()));
            }
            Some(value) => text.push_str(&format!("{leaf} = {}\n", value.to_toml())),
            None => text.push_str(&format!("# {leaf} =\n")),
        }
    }
    text
}

fn key(name: &str) -> Result<&'static Key, Error> {
    Key::named(name).ok_or_else(|| Error::UnknownKey { key: name.to_owned(), nearest: Key::nearest(name) })
}

/// Changes the file by `change` and writes it where the result is valid.
fn edit(
    path: &Path,
    key: &Key,
    change: impl FnOnce(&mut DocumentMut) -> Result<(), Error>,
) -> Result<(), Error> {
    let before = match document::read_text(path) {
        Ok(text) => Some(text),
        Err(Error::Missing { .. }) => None,
        Err(error) => return Err(error),
    };
    let text = before.clone().unwrap_or_else(|| render(&P2PConfig::for_daemon("")));
    let mut parsed = match text.parse::<DocumentMut>() {
        Ok(parsed) => parsed,
        // The reader says all that is wrong; it knows the syntax at least as strictly.
        Err(error) => {
            document::parse(path, &text, Unknown::Warn)?;
            return Err(Error::Value { key: key.name, what: format!("the file cannot be edited: {error}") });
        }
    };
    change(&mut parsed)?;
    let after = line_ends::as_in(&text, &parsed.to_string());
    let old = document::parse(path, &text, Unknown::Warn).ok();
    let new = document::parse(path, &after, Unknown::Warn)?;
    refuse_conflicts(key, old, new)?;
    if before.as_deref() != Some(after.as_str()) {
        replace(path, before.as_deref(), &after)?;
    }
    Ok(())
}

/// Refuses what does not go together and did before: a file with two conflicts can be mended one at a time.
fn refuse_conflicts(key: &Key, old: Option<Document>, new: Document) -> Result<(), Error> {
    let has_role = old.as_ref().is_some_and(|old| old.values.role.is_some());
    let known = old.map(|old| together(old).err().unwrap_or_default()).unwrap_or_default();
    let is_known =
        |problem: &Problem| known.iter().any(|it| it.key == problem.key && it.what == problem.what);
    let role = new.values.role;
    let mut problems = together(new).err().unwrap_or_default();
    problems.retain(|problem| !is_known(problem));
    if problems.is_empty() {
        return Ok(());
    }
    let mut first = Vec::new();
    for conflict in problems.iter().filter_map(|problem| problem.key.as_deref()) {
        first.extend(before_that(key, conflict, role, has_role));
    }
    Err(Error::Conflict { problems, first })
}

/// The commands, without the words before `config`, after which a change of `key` no longer meets the conflict of the key
/// `conflict`. `role` is the file's role with the change, `had_role` whether it gave one before.
fn before_that(key: &Key, conflict: &str, role: Option<Role>, had_role: bool) -> Vec<String> {
    let unset_role = || had_role.then(|| "config unset role".to_owned());
    let to = |topology: Topology| format!("config set topology {topology}");
    match (key.name, conflict) {
        ("role", "role") => unset_role().into_iter().chain(role.map(|role| to(role.topology()))).collect(),
        ("topology.hubs", "topology.hubs") => {
            unset_role().into_iter().chain([to(Topology::HubAndSpoke)]).collect()
        }
        ("dht_server_mode", "dht_server_mode") => {
            let serves = if role == Some(Role::Ephemeral) { Role::Permanent } else { Role::Hub };
            vec![format!("config set role {serves}")]
        }
        ("peers.connections_low", "peers.connections_low") => {
            vec!["config set peers.connections_high <a larger number>".to_owned()]
        }
        ("peers.connections_high", "peers.connections_low") => {
            vec!["config set peers.connections_low <a smaller number>".to_owned()]
        }
        // The marks depend on each other too: without both, the role's own hold.
        (_, "peers.connections_low") => {
            vec![
                "config unset peers.connections_low".to_owned(),
                "config unset peers.connections_high".to_owned(),
            ]
        }
        (_, other) => vec![format!("config unset {other}")],
    }
}

/// The top level, or `[p2p]` where it exists.
fn container(document: &mut DocumentMut, inside: bool) -> Option<&mut dyn TableLike> {
    match inside {
        true => document.get_mut(document::TABLE)?.as_table_like_mut(),
        false => Some(document.as_table_mut()),
    }
}

/// The table that holds `key`, at the top level or inside `[p2p]`, where it exists.
fn table_of<'d>(document: &'d mut DocumentMut, key: &Key, inside: bool) -> Option<&'d mut dyn TableLike> {
    let mut table = container(document, inside)?;
    if let Some(name) = key.table() {
        table = table.get_mut(name)?.as_table_like_mut()?;
    }
    Some(table)
}

/// Removes a key. The comments above it stay: they go to the key that follows, or to the one before where it was the last.
fn remove(table: &mut dyn TableLike, leaf: &str) {
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    let Some(at) = names.iter().position(|name| name == leaf) else { return };
    let text = |raw: Option<&toml_edit::RawString>| {
        raw.and_then(toml_edit::RawString::as_str).unwrap_or_default().to_owned()
    };
    let above = table.key(leaf).map(|key| text(key.leaf_decor().prefix())).unwrap_or_default();
    table.remove(leaf);
    if !above.contains('#') {
        return;
    }
    let is_value = |table: &dyn TableLike, name: &str| table.get(name).is_some_and(|item| item.is_value());
    if let Some(next) = names.get(at + 1).filter(|next| is_value(table, next)) {
        if let Some(mut key) = table.key_mut(next) {
            let below = text(key.leaf_decor().prefix());
            key.leaf_decor_mut().set_prefix(format!("{above}{below}"));
        }
    } else if let Some(item) = names[..at].last().and_then(|last| table.get_mut(last))
        && let Some(value) = item.as_value_mut()
    {
        let behind = text(value.decor().suffix());
        value.decor_mut().set_suffix(format!("{behind}\n{}", above.trim_end()));
    }
}

/// The document without the lines of a key, where it stands on lines of its own. Every comment stays where it is; under one, a line
/// that is commented out takes its place, so that the comment is not read as that of the next key.
fn without_lines(document: &DocumentMut, key: &Key, inside: bool) -> Option<DocumentMut> {
    let text = document.to_string();
    let parsed = toml_edit::Document::parse(text.as_str()).ok()?;
    let mut table: &dyn TableLike = parsed.as_table();
    for name in inside.then_some(document::TABLE).into_iter().chain(key.table()) {
        table = table.get(name)?.as_table_like()?;
    }
    let (name, item) = table.get_key_value(key.leaf())?;
    let (start, end) = (name.span()?.start, item.as_value()?.span()?.end);
    let (before, rest) = (text.get(..start)?, text.get(end..)?);
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let behind = rest.find('\n').map_or(rest.len(), |at| at + 1);
    // What stands before it on its line is the rest of its name, as in `log.level`.
    let head = &before[line..];
    let is_own_line =
        head.chars().all(|it| it.is_whitespace() || it == '.' || it.is_alphanumeric() || it == '_')
            && rest[..behind].trim().split('#').next().is_some_and(str::is_empty);
    if !is_own_line {
        return None;
    }
    let is_explained = before[..line].lines().next_back().is_some_and(|above| above.trim().starts_with('#'));
    let instead =
        if is_explained { format!("# {}{} =\n", head.trim_start(), key.leaf()) } else { String::new() };
    let mut edited = text.clone();
    edited.replace_range(line..end + behind, &instead);
    let mut parsed: DocumentMut = edited.parse().ok()?;
    let is_left = table_of(&mut parsed, key, inside).is_some_and(|table| table.contains_key(key.leaf()));
    (!is_left).then_some(parsed)
}

/// The value that stands in the place of the table of `key`, as in `topology = "mesh"`.
fn alone<'d>(document: &'d mut DocumentMut, key: &Key, inside: bool) -> Option<&'d mut toml_edit::Value> {
    let head = KEYS.iter().find(|it| it.may_stand_alone() && it.table() == key.table())?;
    container(document, inside)?
        .get_mut(head.table()?)?
        .as_value_mut()
        .filter(|value| !value.is_inline_table())
}

/// Puts a value where its key stands already, or else beside the other keys.
fn put(document: &mut DocumentMut, key: &Key, mut value: toml_edit::Value) -> Result<(), Error> {
    let mut stands = |inside| {
        table_of(document, key, inside).is_some_and(|table| table.contains_key(key.leaf()))
            || alone(document, key, inside).is_some()
    };
    let (stands_inside, stands_outside) = (stands(true), stands(false));
    let is_there = stands_inside || stands_outside;
    let inside = stands_inside || !stands_outside && prefers_table(document);
    if let Some(held) = alone(document, key, inside) {
        put_beside(held, key, value);
        return Ok(());
    }
    if !is_there && let Some(edited) = uncommented(document, key, inside, &value) {
        *document = edited;
        return Ok(());
    }
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for name in inside.then_some(document::TABLE).into_iter().chain(key.table()) {
        table = (table.entry(name).or_insert_with(new_table).as_table_like_mut()).ok_or_else(|| {
            Error::Value { key: key.name, what: format!("'{name}' in the file is not a table") }
        })?;
    }
    match table.get_mut(key.leaf()) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                value.decor_mut().clone_from(old.decor());
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key.leaf(), Item::Value(value));
        }
    }
    Ok(())
}

/// The document with the value in the place of the key's line that is commented out, where there is one in its table: a key that is
/// appended there would stand under the comment of another, or take it from the next.
fn uncommented(
    document: &mut DocumentMut,
    key: &Key,
    inside: bool,
    value: &toml_edit::Value,
) -> Option<DocumentMut> {
    let text = document.to_string();
    let wanted: Vec<&str> = inside.then_some(document::TABLE).into_iter().chain(key.table()).collect();
    let (mut section, mut at) = (Vec::new(), 0);
    let mut place = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.split('.').map(str::trim).collect();
        }
        let after =
            bare.strip_prefix('#').map(str::trim_start).and_then(|rest| rest.strip_prefix(key.leaf()));
        if section == wanted && after.is_some_and(|rest| rest.trim_start().starts_with('=')) {
            place = Some(at..at + line.trim_end_matches(['\n', '\r']).len());
            break;
        }
        at += line.len();
    }
    let mut edited = text.clone();
    edited.replace_range(place?, &format!("{} = {}", key.leaf(), value.to_string().trim()));
    // What only looks like a comment is part of a text.
    let mut parsed: DocumentMut = edited.parse().ok()?;
    table_of(&mut parsed, key, inside).is_some_and(|table| table.contains_key(key.leaf())).then_some(parsed)
}

/// Puts a value in the place of one that stands for its table, or makes a table of the two.
fn put_beside(held: &mut toml_edit::Value, key: &Key, mut value: toml_edit::Value) {
    let decor = held.decor().clone();
    if !key.may_stand_alone() {
        let head = KEYS.iter().find(|it| it.may_stand_alone() && it.table() == key.table());
        let mut table = toml_edit::InlineTable::new();
        for (leaf, value) in
            head.map(|head| (head.leaf(), held.clone())).into_iter().chain([(key.leaf(), value)])
        {
            table.insert(leaf, value.decorated(" ", ""));
        }
        value = table.into();
    }
    *value.decor_mut() = decor;
    *held = value;
}

/// Whether a new key belongs into `[p2p]`: there is such a table, and no key of ours at the top level.
fn prefers_table(document: &DocumentMut) -> bool {
    let ours = |name: &str| KEYS.iter().any(|key| key.name.split('.').next() == Some(name));
    document.get(document::TABLE).is_some_and(Item::is_table_like)
        && !document.iter().any(|(name, _)| ours(name))
}

fn new_table() -> Item {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    Item::Table(table)
}

/// Puts `after` in the place of `before`, or of nothing.
fn replace(path: &Path, before: Option<&str>, after: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let changed = || Error::Changed { path: path.to_owned() };
    if before.is_none() {
        create_folder(folder_of(path)).map_err(failed)?;
        let file = write_aside(path, after, None).map_err(failed)?;
        file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => changed(),
            _ => failed(error.error),
        })?;
        return sync_folder(path).map_err(failed);
    }
    // A link into somebody's collection of settings stays a link.
    let target = fs::canonicalize(path).map_err(failed)?;
    let permissions = fs::metadata(&target).map_err(failed)?.permissions();
    let file = write_aside(&target, after, Some(permissions)).map_err(failed)?;
    if document::read_text(&target).ok().as_deref() != before {
        return Err(changed());
    }
    file.persist(&target).map_err(|error| failed(error.error))?;
    sync_folder(&target).map_err(failed)
}

fn write_aside(
    path: &Path,
    text: &str,
    mode: Option<fs::Permissions>,
) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".p2p-config.").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.tempfile_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode)?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the folder where it is missing; only its owner may look into it, because keys will lie there.
fn create_folder(folder: PathBuf) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Makes a rename durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests;
