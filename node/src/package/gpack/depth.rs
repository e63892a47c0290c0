//! How deeply a TOML document nests, found out without recursion.
//!
//! The parser bounds brackets and the parts of a dotted key, each by itself; one inside the other still multiplies to a depth
//! that a small stack may not hold. This scan runs first and knows just enough of the grammar: strings, comments, brackets
//! and where a key ends.

/// A limit that was passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep {
    /// The line, from 1.
    pub(super) line: usize,
}

/// A table header, inline table or array that is still open.
struct Open {
    /// Nesting that it and the key before it add.
    added: usize,
    is_table: bool,
}

/// Walks over `text` and refuses a value nested more than `limit` deep.
pub(super) fn check(text: &str, limit: usize) -> Result<(), TooDeep> {
    let bytes = text.as_bytes();
    let mut open: Vec<Open> = Vec::new();
    // Depth of the table that the last header named, of the open brackets, and the dots of the current key.
    let (mut header, mut inside, mut dots) = (0usize, 0usize, 0usize);
    let (mut in_key, mut in_header) = (true, false);
    let (mut at, mut line, mut line_is_blank) = (0, 1, true);
    while at < bytes.len() {
        let byte = bytes[at];
        let step = match byte {
            b'"' | b'\'' => {
                let len = string_len(&bytes[at..]);
                line += bytes[at..at + len].iter().filter(|byte| **byte == b'\n').count();
                len
            }
            b'#' => bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at),
            _ => 1,
        };
        match byte {
            b'\n' => {
                line += 1;
                line_is_blank = true;
                if open.is_empty() {
                    (in_key, in_header, dots) = (true, false, 0);
                }
            }
            b'[' if open.is_empty() && in_header => {}
            b'[' if open.is_empty() && line_is_blank => (in_header, header) = (true, 1),
            b'[' | b'{' => {
                let added = 1 + dots;
                inside += added;
                open.push(Open { added, is_table: byte == b'{' });
                (in_key, dots) = (byte == b'{', 0);
            }
            b']' | b'}' => {
                if let Some(closed) = open.pop() {
                    inside -= closed.added;
                }
                (in_key, dots) = (false, 0);
            }
            b'=' => in_key = false,
            b',' => (in_key, dots) = (open.last().is_some_and(|open| open.is_table), 0),
            b'.' if in_header && open.is_empty() => header += 1,
            b'.' if in_key => dots += 1,
            _ => {}
        }
        line_is_blank &= matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if header.saturating_add(inside).saturating_add(dots) > limit {
            return Err(TooDeep { line });
        }
        at += step;
    }
    Ok(())
}

/// Bytes of the string that `bytes` begin with, up to where the parser gives up on it.
fn string_len(bytes: &[u8]) -> usize {
    let quote = bytes[0];
    let is_basic = quote == b'"';
    let is_long = bytes.starts_with(&[quote; 3]);
    let mut at = if is_long { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_basic && bytes.get(at + 1).is_some_and(|next| *next != b'\n' || is_long) => at += 2,
            b'\n' if !is_long => return at,
            byte if byte == quote && !is_long => return at + 1,
            // Up to two quotes more may belong to the text.
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => {
                let quotes = bytes[at..].iter().take(5).take_while(|byte| **byte == quote).count();
                return at + quotes;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_through_every_form() {
        for (text, depth) in [
            ("a = 1", 0),
            ("a = 1.5\nb = 2020-01-01T00:00:00.5Z", 0),
            ("a = []", 1),
            ("a = [[1.5, 2.5], [3.5]]", 2),
            ("a.b.c = 1", 2),
            ("a.b = { c.d = [1] }", 4),
            ("[a.b]\nc = 1\n[d]\ne.f = 1", 2),
            ("[[a.b]]\nc = [1]", 3),
            ("a = '[[[[['", 0),
            ("a = \"[[\\\"[[\" # [[[[", 0),
            ("a = \"\"\"\n[[[\\\"\"\"[[\n\"\"\"", 0),
            ("a = '''\n[[[\n''''\nb = [1]", 1),
            ("\"a.b\".'c.d' = 1", 1),
            ("a = [\n  { b = 1 },\n  { c = 2.5 },\n]", 2),
        ] {
            assert_eq!(check(text, depth), Ok(()), "{text}");
            if depth > 0 {
                assert!(check(text, depth - 1).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn the_line_of_the_excess_is_named() {
        assert_eq!(check("a = 1\n\nb = [[[", 2), Err(TooDeep { line: 3 }));
        assert_eq!(check("a = '''\n\n'''\nb = [[[", 2), Err(TooDeep { line: 4 }));
    }
}
