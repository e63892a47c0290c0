//! `ggen-sim prove`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use ggen_sim::prove::{self, Proof};

use super::{Failure, Format, NOT_DETERMINISTIC, Which, print, print_json, run::Leaking};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Lets the real world in, to see that it is noticed.
    #[arg(long, hide = true, value_enum)]
    leak_on_purpose: Option<Leaking>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let Which { file, seed, variant, .. } = &arguments.which;
    // A scenario that is invalid is so in both processes: it is said once.
    arguments.which.scenario()?;
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut more: Vec<OsString> = Vec::new();
    if let Some(leaking) = arguments.leak_on_purpose.and_then(|it| it.to_possible_value()) {
        more.extend(["--leak-on-purpose".into(), leaking.get_name().into()]);
    }
    if let Some(variant) = variant {
        more.extend(["--variant".into(), variant.into()]);
    }
    if let Some(engine) = arguments.which.engine() {
        more.extend(["--engine".into(), engine.as_str().into()]);
    }
    let proof = prove::prove(&program, file, *seed, &more).map_err(|error| match error {
        prove::Error::Panicked(_) => Failure::panicked(error),
        other => Failure::failed(other),
    })?;
    match format {
        Format::Human => print(&describe(&proof))?,
        Format::Json => print_json(&proof)?,
    }
    Ok(if proof.is_deterministic { 0 } else { NOT_DETERMINISTIC })
}

fn describe(proof: &Proof) -> String {
    let [one, other] = &proof.trace_hashes;
    if proof.is_deterministic {
        let Proof { seed, events, .. } = proof;
        return format!("the same in two processes: seed {seed}, {events} events, trace {one}\n");
    }
    let mut text = format!("NOT the same in two processes with seed {}:\n  {one}\n  {other}\n", proof.seed);
    if let Some(agreed) = &proof.agreed {
        let secs = agreed.at_nanos as f64 / 1e9;
        text.push_str(&format!("they agree over the first {} events, to {secs:.3} s\n", agreed.events));
    }
    if let Some(difference) = &proof.first_difference {
        text.push_str(&format!("the first event that differs is number {}:\n", difference.event));
        for line in &difference.lines {
            text.push_str(&format!("  {}\n", line.as_deref().unwrap_or("(none: the trace has ended)")));
        }
    }
    text
}
