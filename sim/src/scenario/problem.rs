//! What is wrong with a scenario, and where in its text.

use std::ops::Range;

use toml::Spanned;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: Option<Range<usize>>,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn at<T>(place: &Spanned<T>, what: impl Into<String>) -> Self {
        Self { place: Some(place.span()), what: what.into() }
    }

    pub(super) fn of(error: &toml::de::Error) -> Self {
        let message = error.message();
        // serde names what it expected between backticks; the first is the key that it does not know.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let nearest = message
            .starts_with("unknown ")
            .then(|| quoted.next())
            .flatten()
            .and_then(|unknown| nearest(unknown, quoted));
        let what = match nearest {
            Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
            None => message.to_owned(),
        };
        Self { place: error.span(), what }
    }
}

/// The known name that looks most like an unknown one, where one looks like it at all.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|known| (strsim::damerau_levenshtein(unknown, known), known)).min()?;
    (near.0 <= unknown.len().div_ceil(2)).then(|| near.1.to_owned())
}

/// The end of a sentence that names what was meant.
pub(super) fn did_you_mean<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(unknown, known).map_or_else(String::new, |it| format!("; did you mean `{it}`?"))
}

pub(super) fn unknown<'a>(
    what: &str,
    name: &Spanned<String>,
    known: impl Iterator<Item = &'a str>,
) -> Problem {
    let nearest = did_you_mean(name.get_ref(), known);
    Problem::at(name, format!("there is no {what} `{}`{nearest}", name.get_ref()))
}
