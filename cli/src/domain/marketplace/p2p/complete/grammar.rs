//! What the grammar allows at the end of a command line. Pure.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

/// Values that the grammar does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Packages that this machine knows of.
    Known,
    /// Packages that were published here.
    Published,
    /// Versions that were published here and are not yanked, or are.
    Versions(bool),
    /// Packages that wait to be published.
    Waiting,
    /// Packages that are installed in a folder that is there.
    Installed,
    /// Packages that can be removed: those that the project asks for; where there is none, those that are installed.
    Removable,
    /// Packages that are installed or were published here.
    Here,
    /// Pins of content.
    Kept,
    /// Packages of the project.
    OfProject,
    /// Peers that are connected.
    Peers,
    /// Peers that are banned.
    Banned,
    /// Publisher keys.
    Keys,
    /// Names that are pinned.
    Pins,
    /// Keys of the configuration.
    Settings,
    /// Names of files.
    Files,
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Words of the grammar, with what they mean.
    pub(super) words: Vec<(String, String)>,
    /// Values that somebody else knows.
    pub(super) wanted: Option<Wanted>,
    /// What is typed of the word.
    pub(super) prefix: String,
    /// What stands before the value in the same word, such as `--format=`.
    pub(super) before: String,
    /// The state folder that the line names.
    pub(super) home: Option<PathBuf>,
    /// The project that the line names.
    pub(super) project: Option<PathBuf>,
}

/// The words of a line, without quotation marks; the last one is that at the cursor, which may be empty.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut is_open = false;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, ' ' | '\t' | '\n') => {
                if is_open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            (None, '\'' | '"') => (quote, is_open) = (Some(char), true),
            (Some(mark), char) if mark == char => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next()),
            _ => word.push(char),
        }
    }
    words.push(word);
    words
}

/// Reads a line, as far as it goes, and tells what may come next. `grammar` is built.
pub(super) fn asked(grammar: &Command, line: &str) -> Asked {
    let words = split(line);
    let Some((current, before)) = words.split_last() else { return Asked::default() };
    let is_program = |word: &String| word.rsplit('/').next() == Some("ggen");
    let program = before.iter().position(is_program).unwrap_or(0);
    let mut asked = Asked { prefix: current.clone(), ..Asked::default() };
    let mut path: Vec<&str> = Vec::new();
    let (mut command, mut values, mut open, mut is_over) = (grammar, 0, None::<&Arg>, false);
    for word in before.iter().skip(program + 1) {
        if let Some(flag) = open.take() {
            asked.note(flag, word);
        } else if is_over {
            values += 1;
        } else if word == "--" {
            is_over = true;
        } else if let Some((name, value)) = long(word) {
            match (flag(command, name), value) {
                (Some(flag), Some(value)) => asked.note(flag, value),
                (Some(flag), None) if needs_value(flag) => open = Some(flag),
                _ => {}
            }
        } else if !word.starts_with('-') || word == "-" {
            match command.find_subcommand(word).filter(|_| values == 0) {
                Some(below) => {
                    command = below;
                    path.push(below.get_name());
                }
                None => values += 1,
            }
        }
    }
    if let Some(flag) = open {
        asked.values_of(flag, &path);
    } else if let Some((name, Some(value))) = long(current).filter(|_| !is_over) {
        if let Some(flag) = flag(command, name) {
            (asked.before, asked.prefix) = (format!("--{name}="), value.to_owned());
            asked.values_of(flag, &path);
        }
    } else if current.starts_with('-') && !is_over {
        asked.words = flags(command);
    } else {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set() && values == 0);
        asked.words =
            below.map(|below| (below.get_name().to_owned(), first_line(below.get_about()))).collect();
        let positional = command.get_positionals().nth(values).or_else(|| {
            command.get_positionals().last().filter(|last| matches!(last.get_action(), ArgAction::Append))
        });
        if let Some(positional) = positional {
            asked.values_of(positional, &path);
        }
    }
    asked
}

impl Asked {
    /// Keeps what says where to look.
    fn note(&mut self, flag: &Arg, value: &str) {
        match flag.get_long() {
            Some("home") => self.home = Some(value.into()),
            Some("project") => self.project = Some(value.into()),
            _ => {}
        }
    }

    fn values_of(&mut self, argument: &Arg, path: &[&str]) {
        let possible = argument.get_possible_values();
        let shown = possible.iter().filter(|value| !value.is_hide_set());
        let meaning = |value: &clap::builder::PossibleValue| first_line(value.get_help());
        self.words.extend(shown.map(|value| (value.get_name().to_owned(), meaning(value))));
        if possible.is_empty() {
            self.wanted = wanted(argument, path, &self.prefix);
        }
    }
}

/// Whose values an argument takes, by what its help calls them and by the verb.
fn wanted(argument: &Arg, path: &[&str], prefix: &str) -> Option<Wanted> {
    let name = argument.get_value_names()?.first()?.as_str();
    // `ggen p2p` is the same as `ggen marketplace p2p`.
    let verb: Vec<&str> = path.iter().copied().skip_while(|word| *word != "p2p").skip(1).collect();
    let verb = verb.join(" ");
    let flag = argument.get_long();
    Some(match (name, verb.as_str()) {
        ("PACKAGE@VERSION", verb) => Wanted::Versions(verb == "unyank"),
        ("PACKAGE", "deprecate" | "key resolve") => Wanted::Published,
        ("PACKAGE", "publish") => Wanted::Waiting,
        ("PACKAGE|DIR", _) if prefix.starts_with(['.', '/']) => Wanted::Files,
        ("PACKAGE|DIR", "remove") => Wanted::Removable,
        ("PACKAGE", "verify") | ("PACKAGE|DIR", _) => Wanted::Installed,
        ("PACKAGE", "pin add") => Wanted::Here,
        ("NAME", "pin remove") => Wanted::Kept,
        ("PACKAGE", "update" | "why") => Wanted::OfProject,
        ("PACKAGE" | "WHAT", _) => Wanted::Known,
        ("PEER_ID", "peer-unban") => Wanted::Banned,
        ("PEER_ID", _) => Wanted::Peers,
        ("NAME", "trust unpin") => Wanted::Pins,
        ("NAME", _) if flag == Some("key") => Wanted::Keys,
        ("NAME", "key new" | "key import" | "key confirm use") => return None,
        ("NAME", verb) if verb.starts_with("key ") => Wanted::Keys,
        ("KEY", verb) if verb.starts_with("config ") => Wanted::Settings,
        ("FILE" | "DIR", _) => Wanted::Files,
        _ => return None,
    })
}

/// The name of a long flag, and the value that stands behind it in the same word.
fn long(word: &str) -> Option<(&str, Option<&str>)> {
    let rest = word.strip_prefix("--").filter(|rest| !rest.is_empty())?;
    Some(rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value))))
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// Whether the next word is the value of a flag.
fn needs_value(flag: &Arg) -> bool {
    let takes = matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    takes && flag.get_num_args().is_none_or(|number| number.min_values() > 0)
}

fn flags(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(|flag| Some((format!("--{}", flag.get_long()?), first_line(flag.get_help())))).collect()
}

fn first_line(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn whole(line: &str) -> Asked {
        let mut grammar = crate::arguments::Cli::command();
        grammar.build();
        asked(&grammar, line)
    }

    fn at(rest: &str) -> Asked {
        whole(&format!("ggen {rest}"))
    }

    fn words(line: &str) -> Vec<String> {
        let asked = at(line);
        let found = asked.words.into_iter().map(|(word, _)| word);
        found.filter(|word| word.starts_with(&asked.prefix)).collect()
    }

    #[test]
    fn nouns_verbs_and_flags_come_from_the_grammar() {
        assert!(words("").contains(&"marketplace".to_owned()));
        assert_eq!(words("p2p peer-l"), ["peer-list"]);
        assert_eq!(words("--format json marketplace p2p sta"), ["start", "status"]);
        assert_eq!(words("p2p key rot"), ["rotate"]);
        assert_eq!(words("p2p install --fro"), ["--frozen"]);
        assert!(words("p2p status --fo").contains(&"--format".to_owned()));
        assert_eq!(words("p2p status --format y"), ["yaml"]);
        assert!(!words("p2p ").contains(&"complete".to_owned()), "people do not need it");
        assert!(words("p2p install -- -").is_empty());
        assert!(words("p2p nonsense x").is_empty());
        let joined = at("p2p status --format=j");
        assert_eq!((joined.before.as_str(), joined.prefix.as_str()), ("--format=", "j"));
    }

    #[test]
    fn what_only_the_node_knows_is_asked_for_by_argument() {
        for (line, wanted) in [
            ("p2p install we", Some(Wanted::Known)),
            ("p2p install web-tools lo", Some(Wanted::Known)),
            ("p2p info ", Some(Wanted::Known)),
            ("p2p info a b", None),
            ("marketplace p2p yank w", Some(Wanted::Versions(false))),
            ("p2p unyank ", Some(Wanted::Versions(true))),
            ("p2p deprecate ", Some(Wanted::Published)),
            ("p2p publish --drop ", Some(Wanted::Waiting)),
            ("p2p publish ", Some(Wanted::Files)),
            ("p2p verify ", Some(Wanted::Installed)),
            ("p2p remove ", Some(Wanted::Removable)),
            ("p2p remove web ./gp", Some(Wanted::Files)),
            ("p2p why ", Some(Wanted::OfProject)),
            ("p2p peer-info 12D3", Some(Wanted::Peers)),
            ("p2p peer-unban ", Some(Wanted::Banned)),
            ("p2p key rotate ", Some(Wanted::Keys)),
            ("p2p key new ", None),
            ("p2p publish . --key ", Some(Wanted::Keys)),
            ("p2p trust unpin ", Some(Wanted::Pins)),
            ("p2p pin add ", Some(Wanted::Here)),
            ("p2p pin remove ", Some(Wanted::Kept)),
            ("p2p config set lim", Some(Wanted::Settings)),
            ("p2p install x --to ", Some(Wanted::Files)),
            ("p2p search wo", None),
        ] {
            assert_eq!(at(line).wanted, wanted, "{line}");
        }
        assert_eq!(whole("GGEN_HOME=/x /usr/bin/ggen p2p info ").wanted, Some(Wanted::Known));
        let elsewhere = at("p2p --home '/a b' why --project=/p ");
        assert_eq!((elsewhere.home, elsewhere.project), (Some("/a b".into()), Some("/p".into())));
    }

    #[test]
    fn any_line_is_read() {
        for line in ["", " ", "'", "\"", "ggen", "p2p install '", "p2p --", "\\", "p2p install --to=\u{1b}"] {
            whole(line);
        }
        assert_eq!(split("a 'b c' \"d\\\" e\" f\\ g "), ["a", "b c", "d\" e", "f g", ""]);
        assert_eq!(split("a ''"), ["a", ""]);
    }
}
