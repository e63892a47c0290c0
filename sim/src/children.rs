//! Runs in processes of their own, several at once: a run is repeatable once a process.
//!
//! A child that takes too long is killed. What a child says is a file each, so that none waits for a reader.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{engine::Engine, report::Report};

/// How often it is looked whether a child has ended.
const POLL: Duration = Duration::from_millis(20);
/// Bytes that are kept of what a child said on standard error.
const STDERR_BYTES_MAX: usize = 4_096;
/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code of a program that panicked, as Rust has it.
pub const PANICKED: u8 = 101;

/// A run to make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// The scenario.
    pub file: PathBuf,
    /// The variant, where it has several.
    pub variant: Option<String>,
    /// The seed.
    pub seed: u64,
    /// What runs it, in the place of what the scenario says.
    pub engine: Option<Engine>,
}

/// What came of a child.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The run.
    pub job: Job,
    /// Its exit code; 1 where it was killed.
    pub exit_code: u8,
    /// Its report, where it has one.
    pub report: Option<Report>,
    /// Why it has none.
    pub error: Option<String>,
    /// Real seconds that it took.
    pub wall_secs: f64,
}

/// How runs are made.
#[derive(Debug, Clone)]
pub struct Children {
    /// The program `ggen-sim`.
    pub program: PathBuf,
    /// How many run at once, at least one.
    pub at_once: usize,
    /// How long one may take, in real time.
    pub timeout: Duration,
}

impl Job {
    /// The command that makes this run, as it is typed into a shell.
    pub fn command(&self) -> String {
        let mut command =
            format!("ggen-sim run {} --seed {}", quoted(&self.file.to_string_lossy()), self.seed);
        if let Some(variant) = &self.variant {
            command.push_str(&format!(" --variant {}", quoted(variant)));
        }
        if let Some(engine) = self.engine {
            command.push_str(&format!(" --engine {}", engine.as_str()));
        }
        command
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["run".into(), "--seed".into(), self.seed.to_string().into()];
        if let Some(variant) = &self.variant {
            arguments.extend(["--variant".into(), variant.into()]);
        }
        if let Some(engine) = self.engine {
            arguments.extend(["--engine".into(), engine.as_str().into()]);
        }
        arguments.extend(["--format".into(), "json".into(), "--".into(), self.file.clone().into()]);
        arguments
    }
}

impl Ran {
    /// The names of what did not hold.
    pub fn failing(&self) -> Vec<String> {
        let invariants = self.report.iter().flat_map(|report| &report.invariants);
        invariants.filter(|invariant| !invariant.holds).map(|invariant| invariant.name.clone()).collect()
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+,:@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Children {
    /// Makes all runs, in their order as far as they run one after the other; `done` is told of each as it ends. Yields them
    /// in the order of the jobs.
    ///
    /// # Errors
    /// Where no folder for their answers can be made. A run that fails is no error.
    pub fn run(&self, jobs: &[Job], mut done: impl FnMut(&Ran)) -> io::Result<Vec<Ran>> {
        let next = AtomicUsize::new(0);
        let mut all: Vec<Option<Ran>> = vec![None; jobs.len()];
        let job = || Some(jobs.get(next.fetch_add(1, Ordering::Relaxed))?.clone());
        self.each(jobs.len(), job, |number, ran| {
            done(&ran);
            all[number] = Some(ran);
        })?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Makes runs as long as `next` names one; `done` is told of each as it ends.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_while(
        &self,
        next: impl Fn() -> Option<Job> + Sync,
        mut done: impl FnMut(Ran),
    ) -> io::Result<()> {
        self.each(self.at_once, next, |_, ran| done(ran))
    }

    /// `done` is told which run it was: they are counted in the order in which `next` named them, where one asks after the other.
    fn each(
        &self,
        most: usize,
        next: impl Fn() -> Option<Job> + Sync,
        mut done: impl FnMut(usize, Ran),
    ) -> io::Result<()> {
        let folder = TempDir::with_prefix("ggen-sim-children-")?;
        let named = Mutex::new(0);
        let name = || {
            let mut named = named.lock().unwrap_or_else(PoisonError::into_inner);
            let number = *named;
            *named += 1;
            Some((number, next()?))
        };
        let (ended, ends) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.at_once.clamp(1, most.max(1)) {
                let (name, ended, folder) = (&name, ended.clone(), folder.path());
                scope.spawn(move || {
                    while let Some((number, job)) = name() {
                        if ended.send((number, self.one(&job, folder, number))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(ended);
            for (number, ran) in ends {
                done(number, ran);
            }
        });
        Ok(())
    }

    fn one(&self, job: &Job, folder: &Path, number: usize) -> Ran {
        #[expect(clippy::disallowed_methods, reason = "real time, to say how long it took")]
        let began = std::time::Instant::now();
        let (exit_code, report, error) = self
            .attempt(job, folder, number)
            .unwrap_or_else(|error| (FAILED, None, Some(format!("the process could not be run: {error}"))));
        Ran { job: job.clone(), exit_code, report, error, wall_secs: began.elapsed().as_secs_f64() }
    }

    fn attempt(
        &self,
        job: &Job,
        folder: &Path,
        number: usize,
    ) -> io::Result<(u8, Option<Report>, Option<String>)> {
        let (out, err) = (folder.join(format!("{number}.json")), folder.join(format!("{number}.txt")));
        let mut child = Command::new(&self.program)
            .args(job.arguments())
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()?;
        let status = wait(&mut child, self.timeout)?;
        let (said, complained) = (fs::read(&out)?, fs::read(&err)?);
        // What a run says may be megabytes, and there may be thousands of runs.
        fs::remove_file(&out)?;
        fs::remove_file(&err)?;
        let Some(status) = status else {
            let error = format!("killed after {} s of real time", self.timeout.as_secs_f64());
            return Ok((FAILED, None, Some(error)));
        };
        let exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED);
        match serde_json::from_slice::<Report>(&said) {
            Ok(report) => Ok((exit_code, Some(report), None)),
            Err(_) => Ok((exit_code.max(FAILED), None, Some(complaint(status, &said, &complained)))),
        }
    }
}

/// Waits for a child; kills it after `timeout`, which yields none.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if waited >= timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
        waited += POLL;
    }
}

/// Why a child has no report: its own words, or how it ended. Of a panic the words are on standard error.
fn complaint(status: ExitStatus, said: &[u8], complained: &[u8]) -> String {
    let tail = &complained[complained.len().saturating_sub(STDERR_BYTES_MAX)..];
    let tail = String::from_utf8_lossy(tail);
    if status.code() == Some(PANICKED.into()) {
        return format!("panicked: {}", tail.trim());
    }
    let told = serde_json::from_slice::<Value>(said).ok();
    if let Some(message) = told.as_ref().and_then(|it| it["error"]["message"].as_str()) {
        return message.to_owned();
    }
    if tail.trim().is_empty() { status.to_string() } else { format!("{status}: {}", tail.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Ran {
        // `sh run --seed …` runs the script named `run`.
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut mode = fs::metadata(&program).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o700);
        fs::set_permissions(&program, mode).unwrap();
        let children = Children { program, at_once: 2, timeout };
        let job = Job { file: "x.toml".into(), variant: None, seed: 3, engine: None };
        children.run(&[job], |_| ()).unwrap().remove(0)
    }

    #[test]
    fn a_child_that_hangs_is_killed_and_counts_as_failed() {
        let ran = shell("exec sleep 600", Duration::from_millis(100));
        assert_eq!((ran.exit_code, ran.report.is_none()), (1, true));
        assert_eq!(ran.error.unwrap(), "killed after 0.1 s of real time");
    }

    #[test]
    fn a_child_without_a_report_fails_even_if_it_says_otherwise() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("exit 0", minute).exit_code, 1);
        let ran = shell("echo oh >&2; exit 9", minute);
        assert_eq!((ran.exit_code, ran.error.as_deref()), (9, Some("exit status: 9: oh")));
        let ran = shell("echo '{\"error\":{\"message\":\"no such key\"}}'; exit 7", minute);
        assert_eq!((ran.exit_code, ran.error.as_deref()), (7, Some("no such key")));
        let ran = shell("echo '{\"error\":{\"message\":\"see above\"}}'; echo oh >&2; exit 101", minute);
        assert_eq!((ran.exit_code, ran.error.as_deref()), (101, Some("panicked: oh")));
        assert!(shell("kill -9 $$", minute).error.unwrap().contains("signal"));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let job = |file: &str, variant: Option<&str>| Job {
            file: file.into(),
            variant: variant.map(str::to_owned),
            seed: 7,
            engine: None,
        };
        assert_eq!(job("scenarios/a.toml", None).command(), "ggen-sim run scenarios/a.toml --seed 7");
        assert_eq!(
            job("my file's.toml", Some("nodes=8")).command(),
            r"ggen-sim run 'my file'\''s.toml' --seed 7 --variant nodes=8"
        );
    }
}
