//! Patterns of ignore files, read and compared as Git does it: `dir.c` and `wildmatch.c` of
//! [Git](https://git-scm.com/docs/gitignore#_pattern_format).
//!
//! Names are bytes. Braces mean themselves, a class may hold others such as `[:digit:]`, a backslash takes the meaning from what stands
//! behind it in a class too, and only spaces at the end of a line are dropped. All ways through a pattern are followed at once, so that
//! a comparison takes no longer than the product of the two lengths.

/// The patterns of one ignore file, in its order.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Whether it takes back what those before it leave out.
    is_negated: bool,
    /// Whether it means folders alone.
    is_of_folders: bool,
    /// Whether it means the last name of a path, wherever that stands; otherwise the path from the folder of the file.
    is_of_names: bool,
    /// What a path begins with.
    literal: Vec<u8>,
    /// What follows.
    rest: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// One byte that is no slash.
    Any,
    /// One byte of these.
    Class(Class),
    /// Bytes that are no slashes.
    Star,
    /// Any bytes.
    Deep,
    /// The two tokens behind this one, which are [`Token::Deep`] and a slash, may be left out.
    OrNothing,
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a line that is no comment.
    ///
    /// # Errors
    /// Why it can match nothing.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        self.0.extend(Pattern::read(line)?);
        Ok(())
    }

    /// Whether the last pattern that means a path leaves it out, or takes it back; none where none means it. The path is that from
    /// the folder of the file.
    pub(super) fn leave_out(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let means = |pattern: &&Pattern| {
            (is_folder || !pattern.is_of_folders)
                && pattern.is_match(if pattern.is_of_names { name } else { path })
        };
        self.0.iter().rev().find(means).map(|pattern| !pattern.is_negated)
    }
}

impl Pattern {
    fn read(line: &[u8]) -> Result<Option<Self>, &'static str> {
        let line = without_spaces(line);
        let (is_negated, line) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest));
        let (is_of_folders, line) = line.strip_suffix(b"/").map_or((false, line), |rest| (true, rest));
        if line.is_empty() {
            return Ok(None);
        }
        let is_of_names = !line.contains(&b'/');
        let line = line.strip_prefix(b"/").unwrap_or(line);
        // What stands before the first special byte is compared by itself, and what is special sees nothing before it.
        let special = line.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let (literal, rest) = line.split_at(special.unwrap_or(line.len()));
        let rest = tokens(rest)?;
        Ok(Some(Self { is_negated, is_of_folders, is_of_names, literal: literal.to_owned(), rest }))
    }

    fn is_match(&self, text: &[u8]) -> bool {
        let Some(text) = text.strip_prefix(&self.literal[..]) else { return false };
        let tokens = &self.rest;
        if let Some(Token::Byte(last)) = tokens.last()
            && text.last() != Some(last)
        {
            return false;
        }
        let (mut here, mut next) = (vec![false; tokens.len() + 1], vec![false; tokens.len() + 1]);
        here[0] = true;
        for byte in text {
            next.fill(false);
            go_on(tokens, &mut here);
            for (at, token) in tokens.iter().enumerate().filter(|(at, _)| here[*at]) {
                match token {
                    Token::Byte(wanted) => next[at + 1] |= wanted == byte,
                    Token::Any => next[at + 1] |= *byte != b'/',
                    Token::Class(class) => next[at + 1] |= class.has(*byte),
                    Token::Star => next[at] |= *byte != b'/',
                    Token::Deep => next[at] = true,
                    Token::OrNothing => {}
                }
            }
            if !next.contains(&true) {
                return false;
            }
            std::mem::swap(&mut here, &mut next);
        }
        go_on(tokens, &mut here);
        here[tokens.len()]
    }
}

/// Adds the places that are reached without a byte.
fn go_on(tokens: &[Token], here: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if here[at] {
            match token {
                Token::Star | Token::Deep => here[at + 1] = true,
                Token::OrNothing => {
                    here[at + 1] = true;
                    here[at + 3] = true;
                }
                Token::Byte(_) | Token::Any | Token::Class(_) => {}
            }
        }
    }
}

/// A line without the spaces at its end, unless a backslash stands before them.
fn without_spaces(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while let Some(byte) = line.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte != b' ' {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, &'static str> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'?' => tokens.push(Token::Any),
            b'*' => {
                let stars = 1 + text[at..].iter().take_while(|byte| **byte == b'*').count();
                let before = at.checked_sub(2).map(|before| text[before]);
                at += stars - 1;
                let rest = &text[at..];
                let is_whole = rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/");
                match stars > 1 && before.is_none_or(|before| before == b'/') && is_whole {
                    true if rest.starts_with(b"/") => tokens.extend([Token::OrNothing, Token::Deep]),
                    true => tokens.push(Token::Deep),
                    false => tokens.push(Token::Star),
                }
            }
            b'[' => {
                let (class, bytes) = Class::read(&text[at..])?;
                tokens.push(Token::Class(class));
                at += bytes;
            }
            b'\\' => {
                let escaped = text.get(at).ok_or("a pattern with a backslash at its end matches nothing")?;
                tokens.push(Token::Byte(*escaped));
                at += 1;
            }
            byte => tokens.push(Token::Byte(byte)),
        }
    }
    Ok(tokens)
}

/// A set of bytes, none of which is a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class([u64; 4]);

const UNCLOSED: &str = "a bracket that is not closed matches nothing";

impl Class {
    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    /// Reads one from behind its bracket; yields the bytes that it takes, with the bracket that closes it.
    fn read(text: &[u8]) -> Result<(Self, usize), &'static str> {
        let mut class = Self([0; 4]);
        let is_negated = matches!(text.first(), Some(b'!' | b'^'));
        let (mut at, mut before) = (usize::from(is_negated), None);
        let get = |at: usize| text.get(at).copied().ok_or(UNCLOSED);
        loop {
            match get(at)? {
                b'\\' => {
                    at += 1;
                    class.add(get(at)?);
                    before = Some(get(at)?);
                }
                b'-' if before.is_some() && text.get(at + 1).is_some_and(|next| *next != b']') => {
                    at += 1;
                    if get(at)? == b'\\' {
                        at += 1;
                    }
                    let (first, last) = (before.take().unwrap_or_default(), get(at)?);
                    (first..=last).for_each(|byte| class.add(byte));
                }
                b'[' if text.get(at + 1) == Some(&b':') => {
                    let name = &text[at + 2..];
                    let len = name.iter().position(|byte| *byte == b']').ok_or(UNCLOSED)?;
                    match name[..len].strip_suffix(b":") {
                        Some(name) => {
                            class.add_named(name)?;
                            at += 2 + len;
                            before = None;
                        }
                        // A bracket like any other byte.
                        None => {
                            class.add(b'[');
                            before = Some(b'[');
                        }
                    }
                }
                byte => {
                    class.add(byte);
                    before = Some(byte);
                }
            }
            at += 1;
            if get(at)? == b']' {
                break;
            }
        }
        if is_negated {
            class.0.iter_mut().for_each(|bits| *bits = !*bits);
        }
        let slash = b'/';
        class.0[usize::from(slash / 64)] &= !(1 << (slash % 64));
        Ok((class, at + 1))
    }

    fn add_named(&mut self, name: &[u8]) -> Result<(), &'static str> {
        let is_in: fn(&u8) -> bool = match name {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"blank" => |byte| matches!(byte, b' ' | b'\t'),
            b"cntrl" => u8::is_ascii_control,
            b"digit" => u8::is_ascii_digit,
            b"graph" => u8::is_ascii_graphic,
            b"lower" => u8::is_ascii_lowercase,
            b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
            b"punct" => u8::is_ascii_punctuation,
            b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
            b"upper" => u8::is_ascii_uppercase,
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => return Err("a class of characters has a name that there is not"),
        };
        (0..=u8::MAX).filter(is_in).for_each(|byte| self.add(byte));
        Ok(())
    }
}
