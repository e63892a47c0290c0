//! The grammar of the command: `ggen <noun group> <noun> <verb>`, and what every verb understands.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    domain::marketplace::{Marketplace, p2p::P2p},
    session::{Exit, Finished, Format, Session},
};

/// A package registry without a server: publish, find and install signed packages between peers.
#[derive(Debug, Parser)]
#[command(
    name = "ggen",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Noun,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print the answer; json and yaml are for programs and carry schema_version.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) format: Format,
    /// The state folder: configuration, keys, packages, log, control socket [env: GGEN_HOME] [default: ~/.ggen].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) home: Option<PathBuf>,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Packages, and the network that carries them.
    Marketplace(Marketplace),
    /// Short for `ggen marketplace p2p`.
    P2p(P2p),
}

impl Cli {
    /// What the command wants to do, as the object of "could not".
    pub(crate) fn verb(&self) -> &'static str {
        self.command.p2p().verb.purpose()
    }
}

impl Noun {
    fn p2p(&self) -> &P2p {
        match self {
            Self::Marketplace(marketplace) => marketplace.p2p(),
            Self::P2p(p2p) => p2p,
        }
    }

    /// What to do where Ctrl-C ended the command.
    pub(crate) fn after_interruption(&self) -> &'static str {
        self.p2p().verb.after_interruption()
    }

    /// Whether the verb says itself what Ctrl-C made of it.
    pub(crate) fn attends_itself(&self) -> bool {
        self.p2p().verb.attends_itself()
    }

    /// Whether the verb goes on until it is interrupted.
    pub(crate) fn is_endless(&self) -> bool {
        self.p2p().verb.is_endless()
    }

    /// Whether this process becomes the node.
    pub(crate) fn is_node(&self) -> bool {
        self.p2p().verb.is_node()
    }

    /// Whether a node runs afterwards, here or as a process of its own.
    pub(crate) fn starts_node(&self) -> bool {
        self.p2p().verb.starts_node()
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        match self {
            Self::Marketplace(marketplace) => marketplace.into_p2p().run(session).await,
            Self::P2p(p2p) => p2p.run(session).await,
        }
    }
}

/// The format that arguments which could not be parsed ask for.
pub(crate) fn wanted_format(arguments: &[OsString]) -> Format {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    let mut previous_is_format = false;
    let mut wanted = Format::Human;
    for argument in options {
        let text = argument.to_str().unwrap_or_default();
        let value = if previous_is_format { Some(text) } else { text.strip_prefix("--format=") };
        if let Some(value) = value {
            wanted = Format::from_str(value, false).unwrap_or(Format::Human);
        }
        previous_is_format = !previous_is_format && argument == "--format";
    }
    wanted
}

/// The verbs of this program for a verb that other package managers have; none where this one has it too.
pub(crate) fn instead_of(verb: &str) -> Vec<String> {
    const OTHERS: [(&str, &[&str]); 14] = [
        ("init", &["publish --init-manifest", "config init"]),
        ("new", &["publish --init-manifest"]),
        ("uninstall", &["remove"]),
        ("rm", &["remove"]),
        ("delete", &["remove", "yank"]),
        ("unpublish", &["yank", "publish --drop"]),
        ("upgrade", &["update", "install"]),
        ("create", &["publish --init-manifest"]),
        ("ls", &["list"]),
        ("show", &["info"]),
        ("find", &["search"]),
        ("login", &["key new"]),
        ("ban", &["peer-ban"]),
        ("peers", &["peer-list"]),
    ];
    let grammar = Cli::command();
    let p2p = grammar.find_subcommand("p2p").expect("the grammar has it");
    let is_there =
        |words: &&&str| words.split(' ').next().is_some_and(|first| p2p.find_subcommand(first).is_some());
    if p2p.find_subcommand(verb).is_some() {
        // It stands in the wrong place.
        return vec![format!("ggen p2p {verb}")];
    }
    let known = OTHERS.iter().find(|(other, _)| *other == verb && p2p.find_subcommand(other).is_none());
    known.map_or_else(Vec::new, |(_, ours)| {
        ours.iter().filter(is_there).map(|words| format!("ggen marketplace p2p {words}")).collect()
    })
}

/// What to run in place of `verb`, which stands where a verb of p2p, or of a noun below it, should.
pub(crate) fn instead_in(arguments: &[OsString], verb: &str) -> Vec<String> {
    /// Verbs of nouns below p2p that other programs have, and ours.
    const BELOW: [(&str, &[&str], &str); 6] = [
        ("config", &["list", "ls", "print", "view"], "show"),
        ("config", &["edit", "add"], "set"),
        ("config", &["remove", "rm", "delete", "reset"], "unset"),
        ("key", &["show", "ls"], "list"),
        ("key", &["create", "generate"], "new"),
        ("trust", &["show", "ls"], "list"),
    ];
    let Some(noun) = noun_of(arguments, verb) else {
        // What stands in the wrong place keeps what was said after it.
        let rest = rest_of(arguments, verb);
        let is_misplaced = |ours: &String| *ours == format!("ggen p2p {verb}");
        return instead_of(verb)
            .into_iter()
            .map(|ours| if is_misplaced(&ours) { format!("{ours}{rest}") } else { ours })
            .collect();
    };
    let known = BELOW.iter().find(|(of, others, _)| *of == noun && others.contains(&verb));
    let ours = known.map_or_else(|| "--help".to_owned(), |(_, _, ours)| (*ours).to_owned());
    vec![format!("ggen marketplace p2p {noun} {ours}")]
}

/// The words after a verb, each with a space before it; none where one of them would mean something else to a shell.
fn rest_of(arguments: &[OsString], verb: &str) -> String {
    let words = arguments.iter().skip_while(|word| *word != verb).skip(1);
    let is_plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "@.=/_-+:,".contains(c))
    };
    let words: Option<Vec<String>> = words
        .map(|word| word.to_str().filter(|word| is_plain(word)).map(|word| format!(" {word}")))
        .collect();
    words.unwrap_or_default().concat()
}

/// The noun below p2p, such as `config`, of which `verb` should be a verb.
fn noun_of(arguments: &[OsString], verb: &str) -> Option<String> {
    let grammar = Cli::command();
    let p2p = grammar.find_subcommand("p2p").expect("the grammar has it");
    let mut words =
        arguments.iter().filter_map(|word| word.to_str()).skip_while(|word| *word != "p2p").skip(1);
    let noun = p2p.find_subcommand(words.next()?)?;
    let is_noun = noun.has_subcommands() && words.any(|word| word == verb);
    is_noun.then(|| noun.get_name().to_owned())
}

/// Arguments of which those of a search that begin with one minus are words that must not occur, and no flags. A space before the
/// minus says so to the parser of arguments; the query is cut at spaces.
pub(crate) fn with_exclusions(mut arguments: Vec<OsString>) -> Vec<OsString> {
    const WITH_VALUE: [&str; 8] = [
        "--category",
        "--tags",
        "--limit",
        "--offset",
        "--min-reputation",
        "--timeout",
        "--format",
        "--home",
    ];
    let word = |at: usize, arguments: &[OsString]| arguments[at].to_str().unwrap_or_default().to_owned();
    let Some(verb) = (1..arguments.len()).find(|&at| arguments[at] == "search" && arguments[at - 1] == "p2p")
    else {
        return arguments;
    };
    for at in verb + 1..arguments.len() {
        let text = word(at, &arguments);
        if text == "--" {
            break;
        }
        let is_value = WITH_VALUE.contains(&word(at - 1, &arguments).as_str());
        let excluded = text.strip_prefix('-').filter(|rest| !is_value && rest.chars().count() > 1);
        if excluded.is_some_and(|it| it.starts_with(|char: char| char.is_alphanumeric() || char == '"')) {
            arguments[at] = format!(" {text}").into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verbs_of_other_package_managers_lead_to_ours() {
        assert_eq!(instead_of("ls"), ["ggen marketplace p2p list"]);
        assert_eq!(instead_of("find"), ["ggen marketplace p2p search"]);
        for other in ["uninstall", "unpublish", "upgrade"] {
            assert!(!instead_of(other).is_empty(), "{other}");
        }
        assert_eq!(instead_of("init")[0], "ggen marketplace p2p publish --init-manifest");
        assert_eq!(instead_of("install"), ["ggen p2p install"], "it stands in the wrong place");
        assert!(instead_of("xyzzy").is_empty());
    }

    #[test]
    fn a_wrong_verb_of_a_noun_leads_to_one_of_that_noun() {
        for (line, ours) in [
            ("p2p config list", "ggen marketplace p2p config show"),
            ("--home /x marketplace p2p key show", "ggen marketplace p2p key list"),
            ("p2p config xyzzy", "ggen marketplace p2p config --help"),
            ("p2p ls", "ggen marketplace p2p list"),
            ("install", "ggen p2p install"),
            ("install hello@1.2.0", "ggen p2p install hello@1.2.0"),
            ("install hello@^1", "ggen p2p install"),
        ] {
            let arguments: Vec<OsString> =
                ["ggen"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
            let last = line.rsplit(' ').next().unwrap();
            let verb = if line.starts_with("install") { "install" } else { last };
            assert_eq!(instead_in(&arguments, verb), [ours], "{line}");
            let leads_to = Cli::command().try_get_matches_from(ours.split(' '));
            let is_there =
                leads_to.err().is_none_or(|it| it.kind() != clap::error::ErrorKind::InvalidSubcommand);
            assert!(is_there, "{ours}");
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_word_of_a_search_with_a_minus_is_excluded_and_no_flag() {
        for (arguments, at) in [
            (&["ggen", "p2p", "search", "web", "-python"][..], Some(4)),
            (&["ggen", "marketplace", "p2p", "search", "-tag:sql", "--limit", "5"], Some(4)),
            (&["ggen", "p2p", "search", "-pool http"], Some(3)),
            (&["ggen", "p2p", "search", "--limit", "-1", "-h"], None),
            (&["ggen", "p2p", "search", "--", "-python"], None),
            (&["ggen", "p2p", "list", "-python"], None),
        ] {
            let given: Vec<_> = arguments.iter().map(OsString::from).collect();
            let mut expected = given.clone();
            if let Some(at) = at {
                expected[at] = format!(" {}", arguments[at]).into();
            }
            assert_eq!(with_exclusions(given), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_format_is_found_in_arguments_that_do_not_parse() {
        let wants = |text: &str| wanted_format(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        for (text, format) in [
            ("ggen p2p search --limit 0 --format json", Format::Json),
            ("ggen p2p search --limit 0 --format yaml", Format::Yaml),
            ("ggen --format=json p2p", Format::Json),
            ("ggen p2p search json --format", Format::Human),
            ("ggen p2p search -- --format json", Format::Human),
            ("ggen p2p search --format json --format human", Format::Human),
            ("ggen p2p search --format xml", Format::Human),
        ] {
            assert_eq!(wants(text), format, "{text}");
        }
    }
}
