//! Text for people. Whatever goes through here loses its control characters, so that nothing a peer wrote can move the
//! cursor, change a colour, or reorder a line; only this module adds styles.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use ggen_marketplace::control::api::Failure;

/// For labels and headings.
pub(crate) const STRONG: Style = Style::new().bold();
/// For warnings.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const NEXT: Style = AnsiColor::Cyan.on_default();

/// Text that grows line by line.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    width: Option<u16>,
}

impl Page {
    /// An empty page for a terminal of `width` columns, or for a file.
    pub(crate) fn new(width: Option<u16>) -> Self {
        Self { text: String::new(), width }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.text.push_str(&clean(text.as_ref()));
        self.text.push('\n');
        self
    }

    /// Adds a line that stands out.
    pub(crate) fn heading(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.text.push_str(&format!("{STRONG}{}{STRONG:#}\n", clean(text.as_ref())));
        self
    }

    /// Adds `label: value`, indented.
    pub(crate) fn field(&mut self, label: &str, value: impl ToString) -> &mut Self {
        let label = format!("{label}:");
        self.text.push_str(&format!("  {STRONG}{label:<18}{STRONG:#} {}\n", clean(&value.to_string())));
        self
    }

    /// Adds `label: value` where there is a value.
    pub(crate) fn optional(&mut self, label: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value.map(|value| value.to_string()).filter(|value| !value.is_empty()) {
            self.field(label, value);
        }
        self
    }

    /// Adds a label and one indented line a value, where there are any.
    pub(crate) fn list<T: AsRef<str>>(&mut self, label: &str, values: &[T]) -> &mut Self {
        for (index, value) in values.iter().enumerate() {
            if index == 0 {
                self.field(label, value.as_ref());
            } else {
                self.text.push_str(&format!("  {:<18} {}\n", "", clean(value.as_ref())));
            }
        }
        self
    }

    /// Adds warnings. The further lines of one are indented, so that none of them looks like a line of its own.
    pub(crate) fn warnings<T: AsRef<str>>(&mut self, warnings: &[T]) -> &mut Self {
        for warning in warnings {
            for (at, line) in warning.as_ref().lines().enumerate() {
                match at {
                    0 => self.text.push_str(&format!("{WARNING}warning:{WARNING:#} {}\n", clean(line))),
                    _ => self.text.push_str(&format!("         {}\n", clean(line))),
                }
            }
        }
        self
    }

    /// Adds a table. Where it is wider than the terminal, ids are shortened, to what can be pasted back, and texts are wrapped;
    /// ids, numbers and times are never broken. Without a terminal it is as wide as it is.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> &mut Self {
        let mut rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.iter().map(|cell| clean(cell).into_owned()).collect()).collect();
        let build = |rows: &[Vec<String>]| {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(header.iter().copied());
            for row in rows {
                table.add_row(row);
            }
            table
        };
        let mut table = build(&rows);
        if let Some(width) = self.width {
            let is_too_wide = |table: &Table| {
                table.lines().any(|line| line.trim_end().chars().count() > usize::from(width))
            };
            if is_too_wide(&table) {
                for cell in rows.iter_mut().flatten() {
                    if is_id(cell) {
                        *cell = short_id(cell);
                    }
                }
                table = build(&rows);
            }
            if is_too_wide(&table) {
                for cell in rows.iter_mut().flatten() {
                    if let Some(short) = short_time(cell) {
                        *cell = short;
                    }
                }
                table = build(&rows);
            }
            if is_too_wide(&table) {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
                for (at, _) in header.iter().enumerate() {
                    let is_whole = |row: &Vec<String>| row.get(at).is_none_or(|cell| is_unbreakable(cell));
                    if rows.iter().all(is_whole)
                        && let Some(column) = table.column_mut(at)
                    {
                        column.set_constraint(ColumnConstraint::ContentWidth);
                    }
                }
            }
        }
        for line in table.lines() {
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
        self
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// A failure in three parts: what could not be done, why, and what to do next.
pub(crate) fn failure(purpose: &str, failure: &Failure) -> String {
    let mut text = format!("{ERROR}error:{ERROR:#} could not {}\n", clean(purpose));
    append(&mut text, "why", &format!("{} ({})", failure.message.trim_end(), failure.code), STRONG);
    if !failure.hint.trim().is_empty() {
        append(&mut text, "next", failure.hint.trim_end(), NEXT);
    }
    text
}

fn append(text: &mut String, label: &str, lines: &str, style: Style) {
    for (index, line) in clean_lines(lines).lines().enumerate() {
        let label = if index == 0 { format!("{label}:") } else { String::new() };
        text.push_str(&format!("  {style}{label:<5}{style:#} {line}\n"));
    }
}

/// Replaces what could control a terminal by its escape, such as `\u{1b}`; line breaks too.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            cleaned.extend(character.escape_default());
        } else {
            cleaned.push(character);
        }
    }
    Cow::Owned(cleaned)
}

/// As [`clean`], but line breaks stay.
pub(crate) fn clean_lines(text: &str) -> String {
    let mut cleaned: Vec<Cow<'_, str>> = Vec::new();
    for line in text.split('\n') {
        cleaned.push(clean(line));
    }
    cleaned.join("\n")
}

/// Escapes, in a JSON text, what JSON allows as it is and a terminal obeys. Such characters stand in strings only, since
/// the layout itself is made of spaces and line breaks.
pub(crate) fn clean_json(json: &str) -> String {
    let mut cleaned = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                cleaned.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

/// Control characters, line separators, and what is invisible or changes the direction of text.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number of bytes with a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// The bytes of some files, and how many those are.
pub(crate) fn sizes(size: u64, files: u64) -> String {
    format!("{} in {}", bytes(size), count(usize::try_from(files).unwrap_or(usize::MAX), "file"))
}

/// A number of seconds, in its two largest units.
pub(crate) fn seconds(count: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(count)).to_string();
    // A unit that is a word stands apart from its number.
    let apart = |part: &str| match part.find(|char: char| char.is_alphabetic()) {
        Some(at) if part.len() - at > 2 => format!("{} {}", &part[..at], &part[at..]),
        _ => part.to_owned(),
    };
    text.split(' ').take(2).map(apart).collect::<Vec<_>>().join(" ")
}

/// A point in time with how long ago that is, where it parses.
pub(crate) fn when(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    let ago = jiff::Timestamp::now().as_second().saturating_sub(then.as_second());
    match u64::try_from(ago) {
        Ok(ago) => format!("{time} ({} ago)", seconds(ago)),
        Err(_) => format!("{time} (in {})", seconds(ago.unsigned_abs())),
    }
}

/// A reputation, to two places.
pub(crate) fn reputation(score: f64) -> String {
    format!("{score:.2}")
}

/// Characters of the longest cell that is never broken: a time, a short id, a size.
const UNBREAKABLE_MAX: usize = 22;

/// Whether a cell is an id of a peer, a publisher or a tree, and nothing else.
fn is_id(cell: &str) -> bool {
    let begins = ["12D3", "16Uiu2", "Qm", "gp1", "baf"].iter().any(|prefix| cell.starts_with(prefix));
    begins && cell.len() > UNBREAKABLE_MAX && cell.chars().all(|char| char.is_ascii_alphanumeric())
}

/// A time as a narrow table has it: how long ago that is within a day, and the day before that.
fn short_time(cell: &str) -> Option<String> {
    let then = cell.parse::<jiff::Timestamp>().ok()?;
    let ago = jiff::Timestamp::now().as_second().saturating_sub(then.as_second());
    match u64::try_from(ago) {
        Ok(ago) if ago < 24 * 3600 => {
            let text = seconds(ago);
            Some(format!("{} ago", text.split(' ').next().unwrap_or(&text)))
        }
        _ => cell.get(..10).map(str::to_owned),
    }
}

fn is_unbreakable(cell: &str) -> bool {
    cell.chars().count() <= UNBREAKABLE_MAX
}

/// An id, short enough for a table; still what tells two apart at a glance, and what can be typed in its place. Ids of peers begin
/// alike, so that more of them is shown.
pub(crate) fn short_id(id: &str) -> String {
    let (head, tail) = if id.starts_with("12D3") || id.starts_with("16Uiu2") { (12, 6) } else { (9, 4) };
    let count = id.chars().count();
    if count <= head + tail + 3 {
        return id.to_owned();
    }
    let begin: String = id.chars().take(head).collect();
    let end: String = id.chars().skip(count - tail).collect();
    format!("{begin}…{end}")
}

/// `1 peer`, `2 peers`, `3 matches`, `4 entries`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        return format!("1 {noun}");
    }
    let ends = |endings: &[&str]| endings.iter().any(|ending| noun.ends_with(ending));
    match noun.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{number} {stem}ies"),
        _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{number} {noun}es"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::code::Code;

    use super::*;

    const HOSTILE: &str = "a\u{1b}[31mred\u{9b}2J\r\n\u{202e}gpj\u{7f}\u{200b}";

    #[test]
    fn nothing_on_a_page_can_control_a_terminal() {
        let mut page = Page::new(Some(80));
        page.line(HOSTILE)
            .field("name", HOSTILE)
            .optional("agent", Some(HOSTILE))
            .list("addresses", &[HOSTILE, HOSTILE])
            .table(&["name"], [vec![HOSTILE.to_owned()]])
            .warnings(&[HOSTILE])
            .heading(HOSTILE);
        let text = anstream::adapter::strip_str(&page.into_text()).to_string();
        // Our own styles are gone now; an escape of the peer's would have taken its letters with it.
        assert_eq!(text.matches("\\u{1b}[31mred").count(), 8, "{text}");
        assert!(text.chars().all(|character| character == '\n' || !is_unsafe(character)), "{text:?}");
        // That of a warning is indented.
        assert_eq!(text.lines().count(), 10, "a line break of the peer's is none of ours: {text}");
        assert!(
            text.lines().all(|line| !line.trim_start().starts_with("\\u{202e}") || line.starts_with("    "))
        );
    }

    #[test]
    fn a_warning_of_several_lines_has_them() {
        let mut page = Page::new(None);
        page.warnings(&["No version fits.\n  1.0.0 was yanked", "Another one."]);
        let text = anstream::adapter::strip_str(&page.into_text()).to_string();
        assert_eq!(text, "warning: No version fits.\n           1.0.0 was yanked\nwarning: Another one.\n");
    }

    #[test]
    fn json_keeps_its_meaning_when_cleaned() {
        let json = serde_json::to_string_pretty(&serde_json::json!({ "a": HOSTILE })).unwrap();
        let cleaned = clean_json(&json);
        assert!(cleaned.chars().all(|character| character == '\n' || !is_unsafe(character)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).unwrap()["a"], HOSTILE);
    }

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let shown =
            failure("publish", &Failure::new(Code::Conflict, "It\u{1b}[2J exists.", "Do this.\nOr that."));
        let shown = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(
            shown,
            "error: could not publish\n  why:  It\\u{1b}[2J exists. (E_CONFLICT)\n  next: Do this.\n        Or that.\n"
        );
    }

    #[test]
    fn plural_forms_are_those_of_english() {
        for (noun, plural) in [
            ("peer", "2 peers"),
            ("match", "2 matches"),
            ("entry", "2 entries"),
            ("key", "2 keys"),
            ("address", "2 addresses"),
        ] {
            assert_eq!(count(2, noun), plural);
            assert_eq!(count(1, noun), format!("1 {noun}"));
        }
    }

    /// A table as wide as a screen, of what the tables of the verbs hold.
    fn screen(width: Option<u16>) -> String {
        let mut page = Page::new(width);
        let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        let publisher = "gp1j62jrkqw4kkny4sdukfh0zlfehs5s2zydtlq0nt57k5e7qrqfp5sl0xjwx";
        page.table(
            &["NAME", "PUBLISHER", "VERSION", "DESCRIPTION", "PROVIDERS"],
            [vec![
                "connection-pool".to_owned(),
                publisher.to_owned(),
                "10.20.30-beta.1".to_owned(),
                "A generic pool of database connections for asynchronous programs".to_owned(),
                "3".to_owned(),
            ]],
        )
        .table(
            &["PEER", "REPUTATION", "GOOD", "FAILED", "PACKAGES", "LAST SEEN", "ADDRESS"],
            [vec![
                peer.to_owned(),
                "0.75".to_owned(),
                "3".to_owned(),
                "1".to_owned(),
                "12".to_owned(),
                "2023-11-14T22:13:20Z".to_owned(),
                "/ip4/192.168.100.200/tcp/4001".to_owned(),
            ]],
        );
        page.into_text()
    }

    #[test]
    fn tables_hold_on_a_screen_and_break_no_id() {
        let wide = screen(None);
        assert!(wide.contains("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"), "{wide}");
        for width in [80, 120] {
            let text = screen(Some(width));
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            for whole in
                ["gp1j62jrk…xjwx", "12D3KooWD3ec…AJU5SA", "2023-11-14", "10.20.30-beta.1", "connection-pool"]
            {
                assert!(text.contains(whole), "{width}: {whole}: {text}");
            }
            insta::assert_snapshot!(format!("screen_{width}"), text);
        }
    }

    #[test]
    fn ids_stay_whole_while_they_are_short() {
        assert_eq!(short_id("gp1abc"), "gp1abc");
        assert_eq!(short_id(&format!("gp1{}wxyz", "q".repeat(50))), "gp1qqqqqq…wxyz");
    }

    #[test]
    fn a_span_of_time_is_two_units_and_a_word_stands_apart() {
        for (count, text) in [
            (5, "5s"),
            (3_725, "1h 2m"),
            (86_400, "1 day"),
            (2_588_400, "29 days 23h"),
            (40 * 86_400, "1 month 9 days"),
        ] {
            assert_eq!(seconds(count), text);
        }
    }
}
