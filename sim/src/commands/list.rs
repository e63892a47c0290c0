//! `ggen-sim list`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_sim::{corpus, report::number, scenario::Scenario};
use serde::Serialize;

use super::{Failure, Format, print, print_json, question, variants};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder.
    #[arg(default_value = "scenarios")]
    folder: PathBuf,
}

/// A scenario, as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    file: PathBuf,
    question: Option<String>,
    nodes: usize,
    duration_secs: f64,
    seeds: Vec<u64>,
    variants: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let listed = files(&arguments.folder)?.iter().map(|file| listed(file)).collect::<Result<Vec<_>, _>>()?;
    match format {
        Format::Human => print(&table(&listed))?,
        Format::Json => print_json(&listed)?,
    }
    Ok(0)
}

/// The scenarios of a folder, by name.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::invalid(format!("{} cannot be read: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_scenario = path.extension().is_some_and(|it| it == "toml");
        if is_scenario && path.file_name().is_none_or(|name| name != corpus::FILE_NAME) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn listed(file: &Path) -> Result<Listed, Failure> {
    let scenario = Scenario::read(file).map_err(Failure::invalid)?;
    Ok(Listed {
        question: question(file),
        nodes: scenario.nodes.len(),
        duration_secs: scenario.duration.as_secs_f64(),
        seeds: scenario.seeds,
        variants: variants(file)?.into_iter().flatten().collect(),
        name: scenario.name,
        file: file.to_owned(),
    })
}

fn table(listed: &[Listed]) -> String {
    let width = listed.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for it in listed {
        let (duration, question) = (number(it.duration_secs), it.question.as_deref().unwrap_or_default());
        let (nodes, seeds) = (it.nodes, it.seeds.len());
        let many = if seeds == 1 { "" } else { "s" };
        text.push_str(&format!(
            "{:width$}  {nodes:>4} nodes  {duration:>5} s  {seeds:>3} seed{many:1}  {question}\n",
            it.name
        ));
        for variant in &it.variants {
            text.push_str(&format!("{:width$}  variant {variant}\n", ""));
        }
    }
    text
}
