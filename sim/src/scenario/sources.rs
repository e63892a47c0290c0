//! A file, those that it extends, and the variants of its matrix, as one table of TOML.
//!
//! Every file is parsed with as many line ends in front of it as there is text before: so a place in the joined table says
//! from which file it is.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Error,
    problem::{Problem, did_you_mean},
};

/// Bytes of a scenario file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files that one extends, one after another, at most.
const DEPTH_MAX: usize = 8;
/// Variants of a matrix at most.
const VARIANTS_MAX: usize = 64;
/// The key that names the file below.
const EXTENDS: &str = "extends";
/// The table of parameters.
const MATRIX: &str = "matrix";

/// A file and those that it extends, itself first.
#[derive(Debug)]
pub(super) struct Sources {
    name: String,
    files: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Where its own text begins in `padded`.
    start: usize,
    padded: String,
}

/// One combination of parameters.
#[derive(Debug)]
pub(super) struct Variant<'i> {
    /// None where there is no matrix.
    pub(super) name: Option<String>,
    values: Vec<(String, Spanned<DeValue<'i>>)>,
}

impl Sources {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, read(path)?)
    }

    /// The file `path` with this text, and the files below it.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let mut sources = Self { name, files: Vec::new() };
        let mut next = Some((path.to_owned(), text));
        while let Some((path, text)) = next {
            let start = sources.files.last().map_or(0, |file| file.padded.len());
            sources.files.push(Source { path, start, padded: "\n".repeat(start) + &text });
            next = sources.below()?;
        }
        Ok(sources)
    }

    /// The file that the last one extends.
    fn below(&self) -> Result<Option<(PathBuf, String)>, Error> {
        let Some(last) = self.files.last() else { return Ok(None) };
        let table = DeTable::parse(&last.padded).map_err(|error| self.invalid(Problem::of(&error)))?;
        let Some(extends) = table.get_ref().get(EXTENDS) else { return Ok(None) };
        let refuse = |what: String| self.invalid(Problem::at(extends, what));
        let Some(name) = extends.get_ref().as_str() else {
            return Err(refuse("`extends` names a file, relative to this one".to_owned()));
        };
        let path = last.path.parent().unwrap_or(Path::new("")).join(name);
        if self.files.len() >= DEPTH_MAX {
            return Err(refuse(format!("more than {DEPTH_MAX} files extend one another")));
        }
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.files.iter().any(|file| real(&file.path) == real(&path)) {
            return Err(refuse(format!("`{name}` extends this file: they go round in a circle")));
        }
        let text = read(&path).map_err(|error| refuse(error.to_string()))?;
        Ok(Some((path, text)))
    }

    /// The stem of the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// What is wrong, with the file and the line.
    pub(super) fn invalid(&self, problem: Problem) -> Error {
        let start = problem.place.map_or(0, |place: Range<usize>| place.start);
        let file = self.files.iter().rev().find(|file| file.start <= start).or(self.files.first());
        let (path, before) = file.map_or_else(Default::default, |file| {
            let before = file.padded.as_bytes().get(file.start..start).unwrap_or_default();
            (file.path.clone(), before)
        });
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Error::Invalid { path, line, what: problem.what }
    }

    /// All files as one table: tables are joined, arrays of tables appended, anything else replaced by the file above.
    fn joined(&self) -> Result<Spanned<DeTable<'_>>, Error> {
        let mut joined: Option<Spanned<DeTable<'_>>> = None;
        for file in self.files.iter().rev() {
            let mut table =
                DeTable::parse(&file.padded).map_err(|error| self.invalid(Problem::of(&error)))?;
            table.get_mut().remove(EXTENDS);
            match &mut joined {
                None => joined = Some(table),
                Some(joined) => join(joined.get_mut(), table.into_inner()),
            }
        }
        Ok(joined.unwrap_or_else(|| Spanned::new(0..0, DeTable::new())))
    }

    /// The combinations of the matrix, in order; one without a name where there is none.
    pub(super) fn variants(&self) -> Result<Vec<Variant<'_>>, Error> {
        let mut joined = self.joined()?;
        let Some(matrix) = joined.get_mut().remove(MATRIX) else {
            return Ok(vec![Variant { name: None, values: Vec::new() }]);
        };
        let mut parameters = Vec::new();
        collect(&matrix, "", &mut parameters).map_err(|problem| self.invalid(problem))?;
        let mut variants = vec![Variant { name: None, values: Vec::new() }];
        for (key, values) in parameters {
            if variants.len() * values.len() > VARIANTS_MAX {
                let what = format!("the matrix has more than {VARIANTS_MAX} variants");
                return Err(self.invalid(Problem::at(&matrix, what)));
            }
            variants =
                variants.iter().flat_map(|variant| values.iter().map(|it| variant.with(&key, it))).collect();
        }
        Ok(variants)
    }

    /// The table of a variant.
    pub(super) fn table<'a>(&'a self, variant: &Variant<'a>) -> Result<Spanned<DeTable<'a>>, Error> {
        let mut joined = self.joined()?;
        joined.get_mut().remove(MATRIX);
        for (key, value) in &variant.values {
            put(joined.get_mut(), key, value.clone()).map_err(|problem| self.invalid(problem))?;
        }
        Ok(joined)
    }

    /// The variant of a name; the first where none is given.
    pub(super) fn variant(&self, name: Option<&str>) -> Result<Variant<'_>, Error> {
        let mut variants = self.variants()?;
        let Some(name) = name else { return Ok(variants.swap_remove(0)) };
        let whole = |variant: &Variant<'_>| super::full_name(&self.name, variant.name.as_deref());
        let at = variants.iter().position(|it| whole(it) == name || it.name.as_deref() == Some(name));
        at.map(|at| variants.swap_remove(at)).ok_or_else(|| {
            let names: Vec<String> = variants.iter().map(whole).collect();
            let nearest = did_you_mean(name, names.iter().map(String::as_str));
            Error::Variant { path: self.path().to_owned(), name: name.to_owned(), nearest }
        })
    }
}

impl<'i> Variant<'i> {
    fn with(&self, key: &str, value: &Spanned<DeValue<'i>>) -> Self {
        let shown = format!("{key}={}", show(value.get_ref()));
        let name = self.name.as_ref().map_or_else(|| shown.clone(), |name| format!("{name},{shown}"));
        let mut values = self.values.clone();
        values.push((key.to_owned(), value.clone()));
        Self { name: Some(name), values }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))));
    }
    fs::read_to_string(path).map_err(failed)
}

fn join<'i>(below: &mut DeTable<'i>, above: DeTable<'i>) {
    for (key, value) in above {
        let Some(old) = below.get_mut(key.get_ref().as_ref()) else {
            below.insert(key, value);
            continue;
        };
        let span = value.span();
        match (old.get_mut(), value.into_inner()) {
            (DeValue::Table(old), DeValue::Table(new)) => join(old, new),
            (DeValue::Array(old), DeValue::Array(new)) if is_of_tables(old) && is_of_tables(&new) => {
                new.into_iter().for_each(|it| old.push(it));
            }
            (_, new) => *old = Spanned::new(span, new),
        }
    }
}

fn is_of_tables(array: &[Spanned<DeValue<'_>>]) -> bool {
    !array.is_empty() && array.iter().all(|it| it.get_ref().is_table())
}

type Parameter<'i> = (String, Vec<Spanned<DeValue<'i>>>);

/// The parameters below a table of the matrix, with their dotted keys.
fn collect<'i>(
    value: &Spanned<DeValue<'i>>,
    path: &str,
    parameters: &mut Vec<Parameter<'i>>,
) -> Result<(), Problem> {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                collect(value, &format!("{path}{dot}{}", key.get_ref()), parameters)?;
            }
            Ok(())
        }
        DeValue::Array(values)
            if !values.is_empty()
                && values.iter().all(|it| !it.get_ref().is_table() && !it.get_ref().is_array()) =>
        {
            parameters.push((path.to_owned(), values.iter().cloned().collect()));
            Ok(())
        }
        _ => Err(Problem::at(value, "the matrix has a list of plain values for each parameter")),
    }
}

/// Puts a value at a dotted key; a number chooses one of an array.
fn put<'i>(table: &mut DeTable<'i>, key: &str, value: Spanned<DeValue<'i>>) -> Result<(), Problem> {
    let nowhere = Problem::at(&value, format!("there is no place for the parameter `{key}`"));
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Some(rest) = rest else {
        let span = value.span();
        table.remove(first);
        table.insert(Spanned::new(span, first.to_owned().into()), value);
        return Ok(());
    };
    if !table.contains_key(first) {
        let empty = Spanned::new(value.span(), DeValue::Table(DeTable::new()));
        table.insert(Spanned::new(value.span(), first.to_owned().into()), empty);
    }
    match table.get_mut(first).map(Spanned::get_mut) {
        Some(DeValue::Table(below)) => put(below, rest, value),
        Some(DeValue::Array(array)) => {
            let (index, rest) = rest.split_once('.').ok_or(nowhere)?;
            let nowhere = Problem::at(&value, format!("there is no place for the parameter `{key}`"));
            let item = index.parse().ok().and_then(|index: usize| array.get_mut(index)).map(Spanned::get_mut);
            match item {
                Some(DeValue::Table(below)) => put(below, rest, value),
                _ => Err(nowhere),
            }
        }
        _ => Err(nowhere),
    }
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}
