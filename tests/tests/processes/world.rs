//! State folders, nodes that run on them, and commands that are run to their end.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpListener,
    ops::Deref,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

/// Where a node listens: loopback, on a port of its own.
pub(crate) const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";
/// How long a command may take on a busy machine before its test fails.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// How long a node may take to be ready on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// The program under test: the one that the workspace was built with.
pub(crate) fn ggen() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let program = profile.join("ggen");
        if !program.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "ggen-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(
                build.status().unwrap().success(),
                "{} is missing and cannot be built",
                program.display()
            );
        }
        program
    })
}

/// Looks again and again until there is something to see; fails at the deadline.
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Says that a test was passed over. Not by a macro, of which a test that passes shows nothing.
pub(crate) fn skipped(why: &str) {
    writeln!(io::stderr(), "skipped: {why}").expect("standard error takes a line");
}

/// Hosts in namespaces of the network; taken down when dropped.
pub(crate) struct Namespaces {
    script: PathBuf,
    prefix: String,
}

impl Namespaces {
    /// Those that a script of this folder makes, with these arguments; none where this machine does not allow it.
    pub(crate) fn new(script: &str, arguments: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("gg{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes").join(script);
        let namespaces = Self { script, prefix };
        let why = match namespaces.run("up", arguments) {
            Ok(output) if output.status.success() => return Some(namespaces),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        skipped(&format!("namespaces cannot be made: {why}"));
        None
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> io::Result<std::process::Output> {
        Command::new("sh").arg(&self.script).args([verb, &self.prefix]).args(arguments).output()
    }

    /// Runs a command on a host, which must succeed.
    pub(crate) fn on(&self, host: &str, command: &str) {
        let at = self.name(host);
        let done = Command::new("ip").args(["netns", "exec", &at, "sh", "-c", command]).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }

    /// The name of a host's namespace.
    pub(crate) fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// What has a port of the NAT before a host of `nat.sh` lead to it: the ports outside and inside.
    pub(crate) fn mapper(&self, host: &'static str) -> impl Fn(u16, u16) + Send + 'static {
        let (script, prefix) = (self.script.clone(), self.prefix.clone());
        move |outer, inner| {
            let ports = [outer.to_string(), inner.to_string()];
            let done = Command::new("sh").arg(&script).args(["map", &prefix, host]).args(ports).output();
            assert!(done.as_ref().is_ok_and(|it| it.status.success()), "{done:?}");
        }
    }

    /// Has a host behind a NAT send nothing of a protocol of IP any more.
    pub(crate) fn block(&self, host: &str, protocol: &str) {
        self.on(
            host,
            "nft add table ip block && nft add chain ip block out '{ type filter hook output priority 0; }'",
        );
        self.on(host, &format!("nft add rule ip block out oif eth ip protocol {protocol} drop"));
    }

    /// A node on a host, which listens on TCP.
    pub(crate) fn node(&self, host: &str, arguments: &[&str]) -> Node {
        self.start(host, &[&["--listen", "/ip4/0.0.0.0/tcp/4001"], arguments].concat())
    }

    /// A node on a host, which listens where these arguments say.
    pub(crate) fn start(&self, host: &str, arguments: &[&str]) -> Node {
        let home = Home::new();
        let mut command = home.program(Path::new("ip"));
        command.args(["netns", "exec", &format!("{}{host}", self.prefix)]).arg(ggen());
        command.args(["p2p", "start"]).args(arguments);
        Node::start_by(home, command)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.run("down", &[]);
    }
}

/// A port of loopback that nobody listens on.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    #[expect(dead_code, reason = "shown with the rest where a test fails")]
    command: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Demands an exit status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// The whole of stdout as one JSON document, with its version.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert_eq!(value["schema_version"], 1, "{self:#?}");
        value
    }

    /// Demands that a text stands in stdout or stderr.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Demands the absence of a panic.
    #[track_caller]
    pub(crate) fn calmly(self) -> Self {
        assert!(self.code != 101 && !self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: Command) -> Answer {
    let shown = format!("{command:?}");
    let output = assert_cmd::Command::from_std(command).timeout(COMMAND_DEADLINE).output().unwrap();
    Answer {
        code: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {shown}: {output:?}")),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        command: shown,
    }
}

/// The folders of one user: a home folder, a state folder, and room for packages.
pub(crate) struct Home {
    folder: TempDir,
    state: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with_state("state")
    }

    /// A home whose state folder has this name.
    pub(crate) fn with_state(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("ggen-processes-").tempdir().unwrap();
        fs::create_dir(folder.path().join("user")).unwrap();
        let state = folder.path().join(name);
        Self { folder, state }
    }

    /// A path in the folder, beside the state.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// The state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// A program in the environment of this user, without anything of the tester's own.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("user")).env("GGEN_HOME", &self.state);
        command.current_dir(self.folder.path());
        command
    }

    /// `ggen p2p …`, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(ggen());
        command.arg("p2p").args(arguments);
        command
    }

    /// Runs `ggen p2p …`.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        run(self.command(arguments))
    }

    /// Runs `ggen p2p … --format json`, which must succeed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--format", "json"]].concat()).exits(0).json()
    }

    /// Runs `ggen p2p … --format json`, which must fail with this status; returns the `error`.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, arguments: &[&str]) -> Value {
        let answer = self.run(&[arguments, &["--format", "json"]].concat()).calmly().exits(code);
        let value = answer.json();
        assert_eq!(value["exit_code"], code, "{value}");
        value["error"].clone()
    }

    /// Runs `ggen` from a shell under a limit, such as `ulimit -n 64`.
    pub(crate) fn limited(&self, limit: &str, arguments: &[&str]) -> Command {
        let mut shell = self.program(Path::new("sh"));
        shell.arg("-c").arg(format!("{limit}; exec \"$@\"")).arg("sh").arg(ggen()).arg("p2p").args(arguments);
        shell
    }
}

/// A process id that is killed when dropped, if it is still the node of the state folder that it was.
pub(crate) struct Guard {
    pid: u32,
    start: Option<String>,
}

impl Guard {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid, start: start_time(pid) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the same process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.start.is_some() && start_time(self.pid) == self.start
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill_process(Pid::from_raw(self.pid.try_into().unwrap()).unwrap(), signal);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The fields of `/proc/PID/stat` behind the name; none for a process that is gone or waits to be reaped.
pub(crate) fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<String> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
    (fields[0] != "Z" && fields[0] != "X").then_some(fields)
}

/// When a process was started: with its id, this names it for ever.
fn start_time(pid: u32) -> Option<String> {
    stat(pid)?.get(19).cloned()
}

/// A node in the foreground; killed when dropped.
pub(crate) struct Node {
    home: Home,
    running: Option<Running>,
    /// The peer id.
    pub(crate) peer: String,
    /// An address that others can dial, with the peer id.
    pub(crate) address: String,
}

struct Running {
    child: Child,
    /// Kept open, or the node would write into a closed pipe.
    _stdout: mpsc::Receiver<ChildStdout>,
}

impl Deref for Node {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Node {
    /// A new node that joins through others.
    pub(crate) fn start(bootstrap: &[&Node]) -> Self {
        Self::start_in(Home::new(), bootstrap)
    }

    /// A node on the folders of a user.
    pub(crate) fn start_in(home: Home, bootstrap: &[&Node]) -> Self {
        let mut node = Self { home, running: None, peer: String::new(), address: String::new() };
        node.start_again(bootstrap);
        node
    }

    /// A node on the folders of a user, started by a command of its own.
    pub(crate) fn start_by(home: Home, command: Command) -> Self {
        let mut node = Self { home, running: None, peer: String::new(), address: String::new() };
        node.start_with(command);
        node
    }

    /// Starts the node, which must not run.
    pub(crate) fn start_again(&mut self, bootstrap: &[&Node]) {
        let mut arguments = vec!["start", "--listen", LOOPBACK];
        for other in bootstrap {
            arguments.extend(["--bootstrap", &other.address]);
        }
        let command = self.home.command(&arguments);
        self.start_with(command);
    }

    /// Starts the node where it listened before.
    pub(crate) fn start_at_its_address(&mut self) {
        let before = self.address.split("/p2p/").next().unwrap().to_owned();
        let command = self.home.command(&["start", "--listen", &before]);
        self.start_with(command);
    }

    /// Starts the node with a command of its own, to which the format is added.
    pub(crate) fn start_with(&mut self, mut command: Command) {
        assert!(self.running.is_none(), "it runs");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.path("log")).unwrap();
        // A group of its own: a program that starts the node, as faketime does, leaves it behind when it is killed itself.
        command
            .args(["--format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let (stdout, received) = (child.stdout.take().unwrap(), mpsc::channel());
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = stdout;
            let first = serde_json::Deserializer::from_reader(stdout.by_ref()).into_iter::<Value>().next();
            let _ = sender.send(first);
            let _ = received.0.send(stdout);
        });
        self.running = Some(Running { child, _stdout: received.1 });
        match ready.recv_timeout(READY_DEADLINE) {
            Ok(Some(Ok(started))) if started["peer_id"].is_string() => {
                self.peer = started["peer_id"].as_str().unwrap().to_owned();
                let address = &started["listen_addresses"][0];
                self.address = address.as_str().unwrap_or_default().to_owned();
            }
            other => panic!("the node did not start: {other:?}\n{}", self.log()),
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.running.as_mut().unwrap().child;
        let status = eventually("the node ends", deadline, || child.try_wait().unwrap());
        self.running = None;
        status
    }

    /// Stops it in good order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(Duration::from_secs(10));
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path("log")).unwrap_or_default()
    }

    /// Demands that the node runs and never panicked.
    #[track_caller]
    pub(crate) fn is_well(&self) {
        self.json(&["status"]);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// The ids of the peers that it is connected with, sorted.
    pub(crate) fn peers(&self) -> Vec<String> {
        let list = self.json(&["peer-list"]);
        let mut peers: Vec<String> =
            list["peers"].as_array().unwrap().iter().map(|peer| text(&peer["peer_id"])).collect();
        peers.sort();
        peers
    }

    /// Waits until it is connected with exactly these.
    pub(crate) fn knows(&self, others: &[&Node]) {
        let mut wanted: Vec<String> = others.iter().map(|other| other.peer.clone()).collect();
        wanted.sort();
        eventually(&format!("connected with {wanted:?}"), Duration::from_secs(20), || {
            (self.peers() == wanted).then_some(())
        });
    }

    /// Searches until a package is found; returns it.
    pub(crate) fn finds(&self, query: &str, name: &str, deadline: Duration) -> Value {
        eventually(&format!("{name} is found by {query:?}"), deadline, || {
            let found = self.json(&["search", query]);
            found["packages"].as_array().unwrap().iter().find(|package| package["name"] == name).cloned()
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if let Some(group) = running.child.id().try_into().ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("node {} said last:", self.peer);
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// A string of an answer.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The strings of a list of an answer, sorted.
#[track_caller]
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    let mut texts: Vec<String> = list.iter().map(text).collect();
    texts.sort();
    texts
}
