//! How a person's editor writes lines: what is changed for them in a file keeps that.

/// Some editors put it in front of UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Gives `after` the ends of lines, and the byte order mark, that `before` has. A file whose ends of lines differ gets plain ones.
pub(crate) fn as_in(before: &str, after: &str) -> String {
    let lines = before.matches('\n').count();
    let is_windows = lines > 0 && before.matches("\r\n").count() == lines;
    let plain = after.trim_start_matches(BYTE_ORDER_MARK).replace("\r\n", "\n");
    let text = if is_windows { plain.replace('\n', "\r\n") } else { plain };
    let mark = before.starts_with(BYTE_ORDER_MARK).then_some(BYTE_ORDER_MARK);
    mark.into_iter().chain(text.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::as_in;

    #[test]
    fn ends_of_lines_and_the_mark_stay() {
        assert_eq!(as_in("a\r\nb\r\n", "a\nc\n"), "a\r\nc\r\n");
        assert_eq!(as_in("a\r\n", "a\r\nb\n"), "a\r\nb\r\n");
        assert_eq!(as_in("\u{feff}a\n", "a\nb\n"), "\u{feff}a\nb\n");
        assert_eq!(as_in("\u{feff}a\n", "\u{feff}a\nb\n"), "\u{feff}a\nb\n");
        assert_eq!(as_in("a\nb\r\n", "a\nb\r\n"), "a\nb\n");
        assert_eq!(as_in("", "a\n"), "a\n");
    }
}
