//! What a word is, for the text that is indexed and for the text that is searched.
//!
//! Both sides are cut by the same function, so they cannot disagree, and what remains consists of letters and digits:
//! no text of a user can carry FTS5 syntax into a query, because no character of that syntax survives.
//!
//! Scripts that write no spaces between words are cut into their characters: a run of them is then found inside a longer one
//! as a phrase, however short it is, where an index of trigrams needs three characters.

/// Cuts text into words: runs of letters, digits and the accents that combine with them, and single characters of the scripts that
/// write no spaces.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    runs(text).flat_map(|run| run.words())
}

/// Text for the index.
pub(super) fn indexed<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().flat_map(words).collect::<Vec<_>>().join(" ")
}

/// A label as it is compared.
pub(super) fn fold(label: &str) -> String {
    label.trim().to_lowercase()
}

/// What stands together: one word, or characters without spaces between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run<'a> {
    text: &'a str,
    spaceless: bool,
}

impl<'a> Run<'a> {
    /// The words of it, one or more.
    pub(super) fn words(self) -> impl Iterator<Item = &'a str> {
        let whole = (!self.spaceless).then_some(self.text);
        let single = self.spaceless.then(|| self.text.split_inclusive(|_: char| true));
        whole
            .into_iter()
            .chain(single.into_iter().flatten())
            .filter(|word| word.contains(char::is_alphanumeric))
    }
}

/// Cuts text into runs.
pub(super) fn runs(text: &str) -> impl Iterator<Item = Run<'_>> {
    text.split(|char: char| !char.is_alphanumeric() && !is_accent(char))
        .flat_map(by_script)
        .filter(|run| run.text.contains(char::is_alphanumeric))
}

/// Cuts a piece without spaces where its script begins or ceases to be one that has none.
fn by_script(piece: &str) -> impl Iterator<Item = Run<'_>> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        let spaceless = is_spaceless(rest.chars().next()?);
        let changes = |char: char| !is_accent(char) && is_spaceless(char) != spaceless;
        let end = rest.find(changes).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Run { text, spaceless })
    })
}

/// The combining accents that the tokenizer folds away.
fn is_accent(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

/// Han, Hiragana, Katakana, Thai, Lao, Myanmar and Khmer write no spaces between words; Hangul has them, and endings
/// that stick to a word.
fn is_spaceless(char: char) -> bool {
    matches!(char,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}' | '\u{3031}'..='\u{318f}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}')
}

/// English nouns whose plural does not follow from a rule.
const IRREGULAR: [(&str, &str); 12] = [
    ("analysis", "analyses"),
    ("axis", "axes"),
    ("basis", "bases"),
    ("child", "children"),
    ("criterion", "criteria"),
    ("datum", "data"),
    ("index", "indices"),
    ("man", "men"),
    ("matrix", "matrices"),
    ("mouse", "mice"),
    ("person", "people"),
    ("vertex", "vertices"),
];

/// The other forms of an English word that a reader means as well: its singulars and its plurals. Some are no words at all; those
/// are found nowhere.
pub(super) fn other_forms(word: &str) -> Vec<String> {
    let mut forms = Vec::new();
    if word.len() < 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return forms;
    }
    for (one, several) in IRREGULAR {
        if word == one {
            forms.push(several.to_owned());
        } else if word == several {
            forms.push(one.to_owned());
        }
    }
    let without = |ending: usize, then: &str| format!("{}{then}", &word[..word.len() - ending]);
    let ends = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    if word.len() > 3 && word.ends_with('s') && !ends(&["ss", "us"]) {
        forms.push(without(1, ""));
        if word.len() > 4 && word.ends_with("ies") {
            forms.push(without(3, "y"));
        } else if word.len() > 4 && word.ends_with("ves") {
            forms.extend([without(3, "f"), without(3, "fe")]);
        } else if ends(&["xes", "ches", "shes", "sses", "zes", "oes", "uses"]) {
            forms.push(without(2, ""));
        }
        return forms;
    }
    forms.push(without(0, "s"));
    if word.ends_with('y') && !ends(&["ay", "ey", "oy", "uy"]) {
        forms.push(without(1, "ies"));
    } else if word.ends_with("fe") {
        forms.push(without(2, "ves"));
    } else if word.ends_with('f') {
        forms.push(without(1, "ves"));
    } else if ends(&["s", "x", "ch", "sh", "z", "o"]) {
        forms.push(without(0, "es"));
    }
    forms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    #[test]
    fn words_are_cut_at_everything_that_is_no_letter_or_digit() {
        assert_eq!(cut("Foo-bar_baz 2.0"), ["Foo", "bar", "baz", "2", "0"]);
        assert_eq!(cut("\"a\" OR b* NEAR(c, 2) name:e"), ["a", "OR", "b", "NEAR", "c", "2", "name", "e"]);
        assert_eq!(cut("cafe\u{301} e\u{301}tude"), ["cafe\u{301}", "e\u{301}tude"]);
        assert_eq!(cut(" \0\t-- '' \"\" * \u{301} 🦀"), Vec::<&str>::new());
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_characters_of_one_run() {
        assert_eq!(cut("Rust数据库 cafe\u{301}"), ["Rust", "数", "据", "库", "cafe\u{301}"]);
        let together: Vec<Vec<&str>> = runs("Rust数据库2 データ").map(|run| run.words().collect()).collect();
        assert_eq!(together, [vec!["Rust"], vec!["数", "据", "库"], vec!["2"], vec!["デ", "ー", "タ"]]);
        assert_eq!(indexed(["数据 web", "web"]), "数 据 web web");
    }

    #[test]
    fn singular_and_plural_are_forms_of_each_other() {
        for (one, several) in [
            ("database", "databases"),
            ("query", "queries"),
            ("box", "boxes"),
            ("cache", "caches"),
            ("leaf", "leaves"),
            ("knife", "knives"),
            ("branch", "branches"),
            ("class", "classes"),
            ("cookie", "cookies"),
            ("index", "indices"),
            ("index", "indexes"),
            ("child", "children"),
            ("api", "apis"),
            ("key", "keys"),
        ] {
            assert!(other_forms(several).contains(&one.to_owned()), "{several}: {:?}", other_forms(several));
            assert!(other_forms(one).contains(&several.to_owned()), "{one}: {:?}", other_forms(one));
        }
        for own in ["status", "css", "数据", "naïve", "ab", "Web"] {
            let cut: String = own.chars().take(own.chars().count() - 1).collect();
            assert!(!other_forms(own).contains(&cut), "{own}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leaves_syntax_in_a_word(text in "\\PC{0,60}") {
            for word in cut(&text) {
                prop_assert!(word.chars().all(|char| char.is_alphanumeric() || is_accent(char)), "{word}");
                prop_assert!(other_forms(word).iter().all(|form| form.is_ascii()));
            }
        }
    }
}
