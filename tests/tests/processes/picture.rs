//! The picture of the demonstration in the README shows what the demonstration prints.
//!
//! `GGEN_WRITE_PICTURES=1` writes it again.

use std::{fs, path::Path};

use crate::world::Home;

/// Columns of the terminal in the picture.
const COLUMNS: usize = 116;
/// What was typed.
const COMMAND: &str = "$ ggen marketplace p2p demo";

/// Lines that are not longer than the terminal; what goes on keeps the indentation.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let indent = " ".repeat(line.chars().take_while(|char| *char == ' ').count());
        let mut current = indent.clone();
        for word in line[indent.len()..].split(' ') {
            let is_first = current.chars().count() == indent.len();
            if !is_first && current.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push(current);
                current = format!("{indent}{word}");
            } else {
                current.push_str(if is_first { "" } else { " " });
                current.push_str(word);
            }
        }
        lines.push(current.trim_end().to_owned());
    }
    lines
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture of a terminal with these lines: light on dark, whatever stands around it.
fn svg(lines: &[String]) -> String {
    const LINE: usize = 18;
    const TOP: usize = 44;
    let height = TOP + LINE * lines.len() + 14;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {height}\" role=\"img\" aria-label=\"A terminal that runs the \
         demonstration\">\n<style>text {{ font-family: ui-monospace, \"SF Mono\", Menlo, Consolas, \"DejaVu Sans Mono\", monospace; \
         font-size: 13px; fill: #d7dde5; white-space: pre }} .strong {{ fill: #8ab8f0; font-weight: 600 }}</style>\n\
         <rect width=\"960\" height=\"{height}\" rx=\"8\" fill=\"#14191f\"/>\n\
         <circle cx=\"20\" cy=\"18\" r=\"6\" fill=\"#e5655a\"/><circle cx=\"40\" cy=\"18\" r=\"6\" fill=\"#e0b341\"/>\
         <circle cx=\"60\" cy=\"18\" r=\"6\" fill=\"#58b368\"/>\n"
    );
    for (at, line) in lines.iter().enumerate() {
        let is_strong = !line.starts_with(' ');
        let class = if is_strong { " class=\"strong\"" } else { "" };
        let y = TOP + LINE * at + 10;
        picture.push_str(&format!(
            "<text xml:space=\"preserve\" x=\"16\" y=\"{y}\"{class}>{}</text>\n",
            escaped(line)
        ));
    }
    picture.push_str("</svg>\n");
    picture
}

/// The lines of a picture.
fn lines_of(picture: &str) -> Vec<String> {
    let texts =
        picture.split("<text ").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text>"));
    let plain = |line: &str| line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    texts.map(|(line, _)| plain(line)).collect()
}

/// A text without what is another one in each run: ids, ports, times, sizes, the temporary folder, and where lines end.
fn settled(lines: &[String]) -> String {
    let mut text = String::new();
    let mut run = String::new();
    let mut is_folder = false;
    for char in lines.join(" ").chars().chain([' ']) {
        if char.is_alphanumeric() || char == '.' {
            run.push(char);
            continue;
        }
        let (word, dot) = run.strip_suffix('.').map_or((run.as_str(), ""), |word| (word, "."));
        let has_digit = word.chars().any(|char| char.is_ascii_digit());
        let differs = has_digit && (word.len() >= 5 || word.contains('.'));
        text.push_str(if differs || is_folder { "#" } else { word });
        text.push_str(dot);
        is_folder = text.ends_with("ggen-demo") && char == '-';
        text.push(char);
        run.clear();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_picture_of_the_demonstration_shows_what_it_prints() {
    let home = Home::new();
    let answer = home.run(&["demo"]).exits(0);
    let printed = wrapped(&format!("{COMMAND}\n{}{}", answer.stderr, answer.stdout));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/demo.svg");
    if std::env::var_os("GGEN_WRITE_PICTURES").is_some() {
        fs::write(&file, svg(&printed)).unwrap();
    }
    let picture = fs::read_to_string(&file).unwrap();
    let shown = lines_of(&picture);
    assert_eq!(
        settled(&shown),
        settled(&printed),
        "GGEN_WRITE_PICTURES=1 cargo test -p ggen-tests --test processes picture"
    );
    assert_eq!(svg(&shown), picture, "nobody changed it by hand");
}

#[test]
fn what_differs_from_run_to_run_is_left_out_and_nothing_else() {
    let of = |text: &str| settled(&[text.to_owned()]);
    assert_eq!(of("node 1 is /ip4/127.0.0.1/tcp/41195/p2p/12D3KooWQJ"), "node 1 is /ip4/#/tcp/#/p2p/#");
    assert_eq!(of("in /tmp/ggen-demo-abcdef/x. It took 0.6 s"), "in /tmp/ggen-demo-#/x. It took # s");
    assert_ne!(of("node 1 in 24 files"), of("node 2 in 24 files"));
    assert_eq!(lines_of(&svg(&["a <b> & c".to_owned()])), ["a <b> & c"]);
    let long = format!("  {}", "word ".repeat(30));
    assert!(wrapped(&long).iter().all(|line| line.starts_with("  word") && line.chars().count() <= COLUMNS));
}
