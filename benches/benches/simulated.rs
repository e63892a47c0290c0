//! DHT lookups and gossip in simulated time, and the speed of the simulation itself.
//!
//! Each size is one run in a process of its own. Criterion is given its single values, one a sample, so that what it says of
//! their spread is that of the lookups or deliveries; real time plays no part in it. Afterwards the figures stand beside
//! those of `baseline.json`.
//!
//! Environment: `GGEN_BENCH_SIZES=20,50` measures these sizes alone; `GGEN_BENCH_BASELINE=write` keeps the figures as the
//! baseline of these sizes.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use ggen_benches::{baseline, child, fanout, measure::Measured, world};

fn main() -> Result<(), Box<dyn Error>> {
    // As criterion itself decides: `cargo test --benches` runs everything once, `cargo bench` measures.
    let arguments: Vec<String> = env::args().collect();
    let is_bench = arguments.iter().any(|it| it == "--bench");
    let is_test = !is_bench || arguments.iter().any(|it| it == "--test");
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    let mut criterion = Criterion::default().configure_from_args();
    let measured = measure(is_test)?;
    for it in &measured {
        simulated(&mut criterion, "dht-lookup", it.figures.nodes, &it.lookup_ms);
        simulated(&mut criterion, "gossip-propagation", it.figures.nodes, &it.propagation_ms);
    }
    let fanout = fanout(is_test)?;
    for (entries, ms) in &fanout {
        simulated(&mut criterion, "bootstrap_fanout", *entries, &[*ms]);
    }
    speed(&mut criterion, is_test);
    criterion.final_summary();
    if is_test { Ok(()) } else { beside_baseline(&measured, &fanout) }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ggen-measure"))
}

fn measure(is_test: bool) -> Result<Vec<Measured>, Box<dyn Error>> {
    if is_test {
        return Ok(vec![child::measure(program(), 8, world::SEED, true)?]);
    }
    let sizes = match env::var("GGEN_BENCH_SIZES") {
        Ok(text) => text.split(',').map(|it| it.trim().parse()).collect::<Result<Vec<usize>, _>>()?,
        Err(_) => world::NODES.to_vec(),
    };
    let mut measured = Vec::new();
    for nodes in sizes {
        let it = child::measure(program(), nodes, world::SEED, false)?;
        let cost = it.cost;
        writeln!(
            io::stdout(),
            "{nodes} nodes: {} simulated seconds in {:.1} s ({:.2} a second, {:.2} a second of a processor), {} MiB at most",
            it.figures.simulated_secs,
            cost.wall_secs,
            cost.simulated_per_wall,
            cost.simulated_per_cpu,
            cost.peak_mib
        )?;
        measured.push(it);
    }
    Ok(measured)
}

/// Until a fresh node finds something, by the number of bootstrap nodes that it was told of, in milliseconds.
fn fanout(is_test: bool) -> Result<BTreeMap<usize, f64>, Box<dyn Error>> {
    let most = if is_test { 1 } else { fanout::ENTRIES_MAX };
    let measured = (1..=most).map(|entries| {
        let it = child::fanout(program(), entries, world::SEED)?;
        Ok((entries, it.first_result_ms))
    });
    measured.collect()
}

/// Hands the values of a run to criterion, one a sample.
fn simulated(criterion: &mut Criterion, name: &str, nodes: usize, values_ms: &[f64]) {
    let mut group = criterion.benchmark_group(format!("{name}/simulated"));
    group.sample_size(values_ms.len().clamp(10, 1_000));
    group.sampling_mode(SamplingMode::Flat);
    // Nothing is to be warmed up, and no time is needed.
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    // The values that are cycled through begin anew with each sample of the warm-up.
    let mut turn = 0;
    group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
        bencher.iter_custom(|iterations| {
            let value = values_ms[turn % values_ms.len()];
            turn += 1;
            Duration::from_secs_f64(value / 1_000.0 * iterations as f64)
        });
    });
    group.finish();
}

/// Real time that one simulated second takes.
fn speed(criterion: &mut Criterion, is_test: bool) {
    let nodes = if is_test { 8 } else { 20 };
    let mut group = criterion.benchmark_group("simulation/wall-per-second");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(30));
    group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
        bencher.iter_custom(|iterations| {
            let runs = (0..iterations).map(|_| {
                let measured = child::measure(program(), nodes, world::SEED, true).expect("it ran before");
                measured.cost.wall_secs / measured.figures.simulated_secs
            });
            Duration::from_secs_f64(runs.sum())
        });
    });
    group.finish();
}

fn beside_baseline(measured: &[Measured], fanout: &BTreeMap<usize, f64>) -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut kept = baseline::read(&path)?;
    let mut out = io::stdout().lock();
    for it in measured {
        writeln!(out, "{}", baseline::table(&it.figures, kept.sizes.get(&it.figures.nodes)))?;
    }
    writeln!(out, "{}", baseline::fanout_table(fanout, &kept.fanout))?;
    if env::var("GGEN_BENCH_BASELINE").is_ok_and(|it| it == "write") {
        kept.fanout.extend(fanout);
        kept.sizes.extend(measured.iter().map(|it| (it.figures.nodes, it.figures.clone())));
        baseline::write(&path, &kept)?;
        writeln!(out, "written to {}", path.display())?;
    }
    Ok(())
}
