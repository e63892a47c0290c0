//! How fast one package goes from one node to another, and how much of the processors that takes.
//!
//! Two processes of this program, each with one node, TCP over loopback with Noise and Yamux between them, on memory-backed storage where
//! there is some. Prints a line a shape: megabytes a second, and the CPU-seconds of both ends, which hardly depend on what else
//! the machine does. `--shape NAME` measures one shape alone.

mod real;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use ggen_marketplace::control::{
    api::{InstallRequest, PublishRequest},
    service::{Cancel, ProgressSender, Service},
};
use libp2p::Multiaddr;
use real::{Outcome, Shape, failed, listed, node, now, write_tree};
use tempfile::TempDir;
use tokio::runtime::Builder;

/// Ticks of a processor's time in a second, as Linux tells them to programs.
const TICKS: f64 = 100.0;
/// Where memory is a file system on Linux.
const MEMORY: &str = "/dev/shm";

const SHAPES: [Shape; 4] = [
    Shape { name: "1-file-of-1GiB", files: 1, file_bytes: 1 << 30 },
    Shape { name: "100-files-of-10MB", files: 100, file_bytes: 10_000_000 },
    Shape { name: "5000-files-of-2kB", files: 5_000, file_bytes: 2_000 },
    Shape { name: "20000-files-of-500B", files: 20_000, file_bytes: 500 },
];
/// Where it is only seen whether all of this runs.
const IN_TEST: [Shape; 1] = [Shape { name: "3-files-of-1MB", files: 3, file_bytes: 1_000_000 }];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().skip_while(|it| *it != name).nth(1);
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    if let Some(home) = after("--end") {
        let known = after("--known").map(|it| it.parse()).transpose()?;
        return Builder::new_multi_thread().enable_all().build()?.block_on(end(Path::new(home), known));
    }
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    for shape in if is_test { &IN_TEST[..] } else { &SHAPES[..] } {
        if after("--shape").is_none_or(|name| name == shape.name) {
            measure(*shape)?;
        }
    }
    Ok(())
}

/// One node: does what its standard input says, line by line, and answers each line with one.
async fn end(home: &Path, known: Option<Multiaddr>) -> Outcome<()> {
    let (node, address) = node(home, known).await?;
    say(&address.to_string())?;
    for line in io::stdin().lines() {
        let line = line?;
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["publish", path] => {
                let request = PublishRequest { path: path.to_owned(), ..PublishRequest::default() };
                let (progress, cancel) = (ProgressSender::discard(), Cancel::default());
                Service::publish(&node, request, progress, cancel).await.map_err(failed)?;
            }
            ["await", name] => listed(&node, name).await?,
            ["install", package, to] => {
                let request = InstallRequest {
                    package: package.to_owned(),
                    to: to.to_owned(),
                    ..InstallRequest::default()
                };
                Service::install(&node, request, ProgressSender::discard()).await.map_err(failed)?;
            }
            _ => return Err(format!("what is {line:?}?").into()),
        }
        say("done")?;
    }
    node.shutdown().await;
    Ok(())
}

fn measure(shape: Shape) -> Outcome<()> {
    let place = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { env::temp_dir() };
    let folder = TempDir::with_prefix_in("ggen-wire-", place)?;
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    write_tree(&source, &name(shape), shape, 1)?;
    let mut author = End::start(&folder.path().join("author"), None)?;
    let address = author.line()?;
    let mut reader = End::start(&folder.path().join("reader"), Some(&address))?;
    reader.line()?;
    let published = author.tell(&format!("publish\t{}", source.display()))?;
    reader.tell(&format!("await\t{}", name(shape)))?;
    let installed = reader.tell(&format!("install\t{}\t{}", name(shape), target.display()))?;
    let megabytes = (shape.files * shape.file_bytes) as f64 / 1e6;
    for (what, cost, of_reader) in [("publish", &published, 0.0), ("install", &installed, installed.cpu)] {
        let of_author = if what == "publish" { cost.cpu } else { author.since() };
        say(&format!(
            "{:<20} {what}: {:>7.3} s, {:>6.0} MB/s, CPU-seconds {:>5.2} (author {of_author:.2}, reader {of_reader:.2})",
            shape.name,
            cost.took.as_secs_f64(),
            megabytes / cost.took.as_secs_f64(),
            of_author + of_reader,
        ))?;
    }
    Ok(())
}

/// What a line took.
struct Cost {
    took: Duration,
    cpu: f64,
}

/// A process with a node.
struct End {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// CPU-seconds when it last ended what it was told.
    spent: f64,
}

impl End {
    fn start(home: &Path, known: Option<&str>) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--end").arg(home).args(known.map(|it| ["--known", it]).into_iter().flatten());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let from = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { to: child.stdin.take(), child, from, spent: 0.0 })
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.is_empty() { Err("a node ended early".into()) } else { Ok(line.trim().to_owned()) }
    }

    fn tell(&mut self, line: &str) -> Outcome<Cost> {
        let (before, began) = (self.cpu(), now());
        let to = self.to.as_mut().ok_or("no input")?;
        writeln!(to, "{line}")?;
        self.line()?;
        let took = began.elapsed();
        self.spent = self.cpu();
        Ok(Cost { took, cpu: self.spent - before })
    }

    /// CPU-seconds that it spent on what it was not told to do.
    fn since(&self) -> f64 {
        self.cpu() - self.spent
    }

    /// CPU-seconds of the process; none where the system does not tell.
    fn cpu(&self) -> f64 {
        let told = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name of the program is in parentheses and may have spaces.
        let fields = told.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|it| it.parse::<f64>().ok()).sum();
        ticks / TICKS
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.to = None;
        let _ = self.child.wait();
    }
}

fn name(shape: Shape) -> String {
    format!("measured-{}", shape.name.to_lowercase())
}

fn say(line: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
