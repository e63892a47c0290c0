//! The packages that a run publishes, as files.

use std::{fs, io, path::Path};

use rand_chacha::rand_core::Rng;

use crate::{
    draw::{Draws, Publishers},
    host::PlannedStep,
    placement,
    scenario::{Action, Need, Scenario},
};

/// Bytes of one file of a package.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Writes the packages that will be published, and names the folder of every step.
pub(crate) fn folders(scenario: &Scenario, draws: Draws, scratch: &Path) -> io::Result<Vec<PlannedStep>> {
    let mut steps = Vec::new();
    for (number, step) in scenario.steps.iter().enumerate() {
        let folder = scratch.join(number.to_string());
        if let Action::Publish { .. } = &step.action {
            write_package(&folder, &step.action, scenario, draws)?;
        }
        steps.push(PlannedStep { number, at: step.at, action: step.action.clone(), folder });
    }
    Ok(steps)
}

/// Writes what a step publishes, where it publishes something.
fn write_package(folder: &Path, step: &Action, scenario: &Scenario, draws: Draws) -> io::Result<()> {
    let Action::Publish { package: name, version, bytes, tags, categories, needs } = step else {
        return Ok(());
    };
    fs::create_dir(folder)?;
    let mut description =
        format!("name = {name:?}\nversion = {version:?}\ndescription = \"Simulated {name}\"\n");
    for (key, words) in [("tags", tags), ("categories", categories)] {
        if !words.is_empty() {
            description += &format!("{key} = {words:?}\n");
        }
    }
    if !needs.is_empty() {
        description += "[dependencies]\n";
        for Need { node, package, range } in needs {
            let publisher = draws.publisher(&scenario.nodes[*node].name, placement::created()).id();
            description += &format!("\"{publisher}/{package}\" = {range:?}\n");
        }
    }
    fs::write(folder.join("gpack.toml"), description)?;
    let mut left = *bytes;
    for file in 0.. {
        let size = left.min(FILE_BYTES_MAX);
        let mut content = vec![0; usize::try_from(size).expect("a megabyte at most")];
        draws.generator("content", &format!("{name}@{version}"), file).fill_bytes(&mut content);
        fs::write(folder.join(format!("content-{file}.bin")), content)?;
        left -= size;
        if left == 0 {
            break;
        }
    }
    Ok(())
}
