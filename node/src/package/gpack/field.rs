//! The rules of a description's fields, which a manifest must obey too.

use crate::{
    limits::{
        AUTHORS_MAX, DEPENDENCIES_MAX, DESCRIPTION_BYTES_MAX, FIELD_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX,
    },
    package::is_hidden,
};

/// What is wrong with a field, as the end of a sentence.
pub(in crate::package) type Fault = String;

/// Refuses text that is too long, blank, or would not show as one line.
fn line(text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > bytes_max {
        return Err(format!("it has {} bytes, at most {bytes_max} are allowed", text.len()));
    }
    if text.chars().any(is_hidden) {
        return Err(
            "it holds line breaks, control characters or invisible ones; write one line of plain text"
                .to_owned(),
        );
    }
    Ok(())
}

pub(in crate::package) fn description(text: &str) -> Result<(), Fault> {
    line(text, DESCRIPTION_BYTES_MAX)
}

/// A licence, an author, or a repository.
pub(in crate::package) fn short(text: &str) -> Result<(), Fault> {
    line(text, FIELD_BYTES_MAX)
}

/// A tag or category.
pub(in crate::package) fn label(text: &str) -> Result<(), Fault> {
    line(text, LABEL_BYTES_MAX)?;
    if text.trim() != text || text.contains(',') {
        return Err("it begins or ends with a space, or holds a comma".to_owned());
    }
    Ok(())
}

/// The number of tags or of categories.
pub(in crate::package) fn label_count(count: usize) -> Result<(), Fault> {
    at_most(count, LABELS_MAX)
}

pub(in crate::package) fn author_count(count: usize) -> Result<(), Fault> {
    at_most(count, AUTHORS_MAX)
}

pub(in crate::package) fn dependency_count(count: usize) -> Result<(), Fault> {
    at_most(count, DEPENDENCIES_MAX)
}

/// A version requirement, before it is parsed.
pub(in crate::package) fn requirement(text: &str) -> Result<(), Fault> {
    line(text, FIELD_BYTES_MAX)
}

fn at_most(count: usize, max: usize) -> Result<(), Fault> {
    if count <= max { Ok(()) } else { Err(format!("there are {count}, at most {max} are allowed")) }
}
