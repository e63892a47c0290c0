use super::*;
use crate::identity::PublisherId;

fn id(publisher: u8, name: &str) -> PackageId {
    PackageId { publisher: PublisherId::from_bytes([publisher; 32]), name: name.parse().unwrap() }
}

fn parse(text: &str) -> Requirements {
    Requirements::parse("gpack.toml".into(), text.as_bytes().to_vec()).unwrap()
}

fn text(requirements: &Requirements) -> &str {
    std::str::from_utf8(requirements.bytes()).unwrap()
}

fn range(text: &str) -> VersionReq {
    text.parse().unwrap()
}

#[test]
fn an_empty_file_is_a_project_and_gets_what_is_added() {
    let (one, alias) = (id(1, "web-tools"), "web".parse().unwrap());
    let added = parse("").with(&one, &range("^1.2"), Some(&alias)).unwrap();
    assert_eq!(text(&added), format!("[dependencies]\n\"{one}\" = \"^1.2\"\n\n[aliases]\nweb = \"{one}\"\n"));
    assert_eq!(added.alias(&one), Some(&alias));
    assert_eq!(added.project().folder, Path::new("gpacks"));
    let removed = added.without(&one).unwrap();
    assert!(removed.project().dependencies.is_empty() && removed.project().aliases.is_empty());
}

#[test]
fn a_file_of_another_system_keeps_its_ends_of_lines_and_its_mark() {
    let one = id(1, "web-tools");
    let before = parse("\u{feff}[package]\r\nname = \"app\"\r\n");
    let added = before.with(&one, &range("^1.2"), None).unwrap();
    let lines = "\u{feff}[package]\r\nname = \"app\"\r\n\r\n[dependencies]\r\n";
    assert_eq!(text(&added), format!("{lines}\"{one}\" = \"^1.2\"\r\n"));
}

#[test]
fn a_misspelt_table_is_not_taken_for_a_project_that_needs_nothing() {
    for bad in ["[dependancies]", "[package.dependencie]", "[alias]\n[aliasses]", "[projects]"] {
        let refused = Requirements::parse("gpack.toml".into(), bad.as_bytes().to_vec()).unwrap_err();
        assert!(refused.to_string().contains("did you mean"), "{bad}: {refused}");
    }
    parse("licence = 'MIT'\n[badges]\n");
}

#[test]
fn a_comment_alone_stays_at_the_top() {
    let one = id(1, "a");
    let added = parse("# A project\n").with(&one, &range("^1"), None).unwrap();
    assert_eq!(text(&added), format!("# A project\n\n[dependencies]\n\"{one}\" = \"^1\"\n"));
}

#[test]
fn what_a_person_wrote_stays_as_it_is() {
    let (one, two, new) = (id(1, "a"), id(1, "c"), id(1, "b"));
    let before = format!(
        "# mine\nname = 'x' # short\nversion = \"0.1.0\"\n\n[dependencies] # what it needs\n\"{one}\" = \"^1\" # first\n\
         \"{two}\" = '^2'  # last\n\n[project]\nfolder = \"vendor\"\n"
    );
    let added = parse(&before).with(&new, &range("*"), None).unwrap();
    let expected = before.replace(&format!("\"{two}\""), &format!("\"{new}\" = \"*\"\n\"{two}\""));
    assert_eq!(text(&added), expected);
    assert_eq!(text(&added.without(&new).unwrap()), before);
    let changed = parse(&before).with(&one, &range("^1.5"), None).unwrap();
    assert_eq!(text(&changed), before.replace("\"^1\"", "\"^1.5\""));
    assert_eq!(changed.project().folder, Path::new("vendor"));
}

#[test]
fn dependencies_under_package_stay_there() {
    let (one, new) = (id(1, "a"), id(2, "b"));
    let before = format!("[package]\nname = \"x\"\n[package.dependencies]\n\"{one}\" = \"^1\"\n");
    let added = parse(&before).with(&new, &range("^2"), None).unwrap();
    assert_eq!(added.project().dependencies.len(), 2);
    assert!(!text(&added).contains("[dependencies]"), "{}", text(&added));
    assert_eq!(added.without(&one).unwrap().project().dependencies.len(), 1);
}

#[test]
fn another_short_name_takes_the_place_of_the_one_before_it() {
    let one = id(1, "a");
    let added = parse("").with(&one, &range("*"), Some(&"x".parse().unwrap())).unwrap();
    let again = added.with(&one, &range("*"), Some(&"y".parse().unwrap())).unwrap();
    assert_eq!(again.project().aliases, [("y".parse().unwrap(), one)].into());
}

#[test]
fn a_package_is_named_by_every_form_that_a_person_sees() {
    let (one, two, other) = (id(1, "a"), id(2, "a"), id(3, "transitive"));
    let project = parse("").with(&one, &range("*"), Some(&"x".parse().unwrap())).unwrap();
    let project = project.with(&two, &range("*"), None).unwrap();
    let named = |text: &str| project.named(text, [&other].into_iter());
    let publisher = one.publisher.to_string();
    assert_eq!(named("x"), [&one]);
    assert_eq!(named("a").len(), 2, "of two publishers");
    assert_eq!(named(&one.to_string()), [&one]);
    assert_eq!(named(&format!("{}…{}/a", &publisher[..9], &publisher[publisher.len() - 4..])), [&one]);
    assert_eq!(named("transitive"), [&other]);
    for nobody in ["", "b", "/a", "…/a", "gp1zzzz/a", "a/", "x/a/b"] {
        assert!(named(nobody).is_empty(), "{nobody}");
    }
}

#[test]
fn a_folder_never_leads_out_of_the_project() {
    for bad in ["..", "/tmp", "a/../../b", "", ".", "./a", ".git", "a/.git/hooks", "a\\nb", ".GIT"] {
        let text = format!("[project]\nfolder = \"{bad}\"\n");
        let parsed = Requirements::parse("gpack.toml".into(), text.into_bytes());
        assert!(matches!(parsed, Err(Error::Gpack(gpack::Error::Invalid { .. }))), "{bad:?}");
    }
    // What a project consists of itself would be written over, or taken away.
    let own = [crate::project::LOCK_FILE, crate::project::journal::FOLDER, "gpack.toml"];
    for bad in
        own.map(str::to_owned).into_iter().chain(own.map(|own| format!("{}/below", own.to_uppercase())))
    {
        let text = format!("[project]\nfolder = \"{bad}\"\n");
        let refused = Requirements::parse("gpack.toml".into(), text.into_bytes());
        assert!(refused.is_err(), "{bad}: {refused:?}");
    }
    assert_eq!(parse("[project]\nfolder = \"a/b c\"\n").project().folder, Path::new("a/b c"));
}

#[test]
fn short_names_are_names_of_one_package_each() {
    let one = id(1, "a");
    for bad in [
        format!("[aliases]\n\"..\" = \"{one}\"\n"),
        format!("[aliases]\nx = \"{one}\"\ny = \"{one}\"\n"),
        "[aliases]\nx = \"a\"\n".to_owned(),
        "aliases = 7\n".to_owned(),
        "[aliases]\nx = 7\n".to_owned(),
    ] {
        assert!(Requirements::parse("gpack.toml".into(), bad.clone().into_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_package_is_named_as_its_folder_and_as_a_tree_shows_it() {
    let (one, two) = (id(1, "web"), id(2, "web"));
    let asks = parse("").with(&one, &range("^1"), None).unwrap().with(&two, &range("^1"), None).unwrap();
    assert_eq!(asks.named("web", std::iter::empty()).len(), 2);
    let publisher = one.publisher.to_string();
    let short = format!("{}…{}", &publisher[..9], &publisher[publisher.len() - 4..]);
    for text in [format!("web@{publisher}"), format!("{publisher}/web"), format!("{short}/web")] {
        assert_eq!(asks.named(&text, std::iter::empty()), [&one], "{text}");
    }
}

#[test]
fn what_is_not_known_is_warned_of_by_line_and_a_home_directory_is_refused() {
    let asks = parse("licence = 'MIT'\n\n[dev-dependencies]\n\n[project]\nfolders = 'x'\n");
    let warnings = asks.project().warnings.join("\n");
    for part in [
        "line 1: the key licence is not known and is ignored. Did you mean license?",
        "line 3: the key dev-dependencies is not known and is ignored. Did you mean dependencies?",
        "line 6: the key project.folders is not known and is ignored. Did you mean project.folder?",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let home = Requirements::parse("gpack.toml".into(), b"[project]\nfolder = '~/x'\n".to_vec()).unwrap_err();
    assert!(home.to_string().contains("does not stand for your home directory"), "{home}");
}
