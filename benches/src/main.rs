//! The program `ggen-measure`: one simulated run, and its figures as JSON.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use ggen_benches::{fanout, measure, world::Size};

/// Measures DHT lookups and gossip in one simulated run, and writes the figures as JSON.
#[derive(Debug, Parser)]
#[command(name = "ggen-measure", version)]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// The number that everything is drawn from.
    #[arg(long, default_value_t = ggen_benches::world::SEED)]
    seed: u64,
    /// Measures as little as shows anything.
    #[arg(long)]
    brief: bool,
    /// How far the simulation moves the time at once, in milliseconds. Finer is slower, and rounds durations less.
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    tick: u64,
    /// Measures in place of that how soon a fresh node finds something that was told of so many bootstrap nodes.
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u64).range(1..=fanout::ENTRIES_MAX as u64))]
    fanout: Option<u64>,
}

fn main() -> ExitCode {
    let Arguments { nodes, seed, brief, tick, fanout } = Arguments::parse();
    let size = if brief { Size::brief(nodes) } else { Size::of(nodes) };
    let size = Size { tick: Duration::from_millis(tick), ..size };
    let measured = match fanout {
        Some(entries) => {
            fanout::run(usize::try_from(entries).unwrap_or(usize::MAX), seed).map(serde_json::to_value)
        }
        None => measure::run(&size, seed).map(serde_json::to_value),
    };
    let written = measured
        .map_err(io::Error::other)
        .and_then(|measured| serde_json::to_writer(io::stdout().lock(), &measured?).map_err(io::Error::from));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told where standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
