//! `service`: a unit file with which systemd runs the node of this user.

use std::{
    fs,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ggen_marketplace::{code::Code, control::api::Failure};
use serde::Serialize;

use crate::{
    domain::marketplace::p2p_state::daemon,
    page::Page,
    session::{Exit, Finished, Session},
};

/// The first line of every unit that this program wrote: no other file is replaced or removed.
const MARK: &str = "# Written by: ggen marketplace p2p service install";
/// Where systemd looks for the units of a user, below the folder of their configuration.
const UNITS: &str = "systemd/user";
/// Where `systemctl --user enable` links the units that [`unit`] says are wanted.
const WANTED: &str = "default.target.wants";
/// What is there where systemd runs the machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// Write, or remove, the unit file with which systemd runs the node.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "Write, or remove, the unit file with which systemd runs the node.\n\n\
        It is a unit of your user, for this state folder. The commands that make systemd use it are printed and not run.",
    after_help = "\
Examples:
  ggen marketplace p2p service install
  ggen marketplace p2p service install --name ggen-test --home /srv/ggen
  ggen marketplace p2p service uninstall"
)]
pub(crate) struct Service {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the unit file, and print the commands that start the node with it.
    Install {
        /// The name of the unit, for several state folders.
        #[arg(long, value_name = "NAME", default_value = "ggen", value_parser = name)]
        name: String,
    },
    /// Remove the unit file, and print the commands that stop the node.
    Uninstall {
        /// The name of the unit.
        #[arg(long, value_name = "NAME", default_value = "ggen", value_parser = name)]
        name: String,
    },
}

/// What was done, and what is left to do.
#[derive(Debug, Serialize)]
struct Answer {
    /// The unit file.
    path: String,
    /// Whether the file was written or removed now.
    changed: bool,
    /// Whether systemd runs this machine.
    systemd: bool,
    /// What to type next.
    commands: Vec<String>,
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'));
    match is_plain && (1..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits, '-' and '_'".to_owned()),
    }
}

impl Service {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match &self.action {
            Action::Install { .. } => "write the unit file",
            Action::Uninstall { .. } => "remove the unit file",
        }
    }

    pub(crate) fn run(self, session: &Session) -> Finished<Exit> {
        let systemd = Path::new(BOOTED).exists();
        let (name, installs) = match self.action {
            Action::Install { name } => (name, true),
            Action::Uninstall { name } => (name, false),
        };
        let path = folder()?.join(format!("{name}.service"));
        let there = read(&path)?;
        if there.as_ref().is_some_and(|text| !text.starts_with(MARK)) {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "{} is there and was not written by this program; nothing was changed.",
                    path.display()
                ),
                "Name the unit otherwise: --name <NAME>",
            )
            .into());
        }
        if there.as_ref().is_some_and(|text| !is_of(text, session.home())) {
            return Err(Failure::new(
                Code::Conflict,
                format!("{} starts the node of another state folder; nothing was changed.", path.display()),
                "Give each state folder a unit of its own: --name <NAME>",
            )
            .into());
        }
        let answer = match installs {
            true => install(session, &name, &path, there.as_deref(), systemd)?,
            false => uninstall(&name, &path, there.is_some(), systemd)?,
        };
        session.print(&answer, |answer, page| show(answer, installs, page))?;
        if !systemd {
            session.note(
                "systemd does not run this machine, so nothing uses the unit file here. Start the node so instead: \
                 ggen marketplace p2p start --daemon",
            );
        }
        Ok(Exit::Ok)
    }
}

fn install(
    session: &Session,
    name: &str,
    path: &Path,
    there: Option<&str>,
    systemd: bool,
) -> Result<Answer, Failure> {
    let failed = |error: io::Error| cannot(path, "written", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let text = unit(&program, session.home());
    let changed = there != Some(text.as_str());
    if changed {
        let parent = path.parent().unwrap_or(path);
        fs::create_dir_all(parent).map_err(failed)?;
        // Whole or not at all, and never through a link.
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
    }
    let commands = vec![
        "systemctl --user daemon-reload".to_owned(),
        format!("systemctl --user enable --now {name}.service"),
        "loginctl enable-linger    # so that it runs while you are not logged in".to_owned(),
        format!("journalctl --user -u {name}.service -f    # its log"),
    ];
    Ok(Answer { path: path.display().to_string(), changed, systemd, commands })
}

fn uninstall(name: &str, path: &Path, is_there: bool, systemd: bool) -> Result<Answer, Failure> {
    if !is_there {
        return Err(Failure::new(
            Code::NotFound,
            format!("There is no unit file {}.", path.display()),
            match systemd {
                true => "See which there are: systemctl --user list-unit-files".to_owned(),
                false => format!(
                    "Nothing was installed under this name: see what stands in {}",
                    path.parent().unwrap_or(path).display()
                ),
            },
        ));
    }
    // The link that `enable` made leads nowhere then, and `disable` does not find a unit without a file.
    let wanted = path.with_file_name(WANTED).join(format!("{name}.service"));
    let leads_here = fs::read_link(&wanted).is_ok_and(|to| to == path);
    fs::remove_file(path).map_err(|error| cannot(path, "removed", &error))?;
    if leads_here {
        fs::remove_file(&wanted).map_err(|error| cannot(&wanted, "removed", &error))?;
    }
    // What runs is stopped by its name for as long as systemd has not read its units again.
    let commands =
        vec![format!("systemctl --user stop {name}.service"), "systemctl --user daemon-reload".to_owned()];
    Ok(Answer { path: path.display().to_string(), changed: true, systemd, commands })
}

/// Whether a unit starts the node of this state folder.
fn is_of(text: &str, home: &Path) -> bool {
    text.contains(&format!(" --home {} ", quoted(home)))
}

/// The text of the unit.
fn unit(program: &Path, home: &Path) -> String {
    let (program, home) = (quoted(program), quoted(home));
    let (variable, tunables) = daemon::ALLOCATOR;
    format!(
        "{MARK}\n\
         [Unit]\n\
         Description=ggen package node\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={program} --home {home} marketplace p2p start\n\
         # Memory goes back to the system after transfers.\n\
         Environment={variable}={tunables}\n\
         # The node withdraws what it provides before it ends, which takes less than five seconds.\n\
         KillSignal=SIGTERM\n\
         TimeoutStopSec=15\n\
         Restart=on-failure\n\
         RestartSec=10\n\
         # A usage error, an invalid configuration, a port that is taken, a node that runs already: another start changes nothing.\n\
         RestartPreventExitStatus=2 7 8 9\n\
         LimitNOFILE=65536\n\
         NoNewPrivileges=true\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    )
}

/// A path as one word of a unit file (`systemd.syntax(7)`): quoted, with what is special there escaped.
fn quoted(path: &Path) -> String {
    let mut word = "\"".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => word.extend(['\\', char::from(*byte)]),
            b'%' => word.push_str("%%"),
            b'$' => word.push_str("$$"),
            b' '..=b'~' => word.push(char::from(*byte)),
            byte => word.push_str(&format!("\\x{byte:02x}")),
        }
    }
    word.push('"');
    word
}

/// Where the units of this user are.
fn folder() -> Result<PathBuf, Failure> {
    let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = configured.or_else(|| Some(std::env::home_dir()?.join(".config")));
    folder.map(|folder| folder.join(UNITS)).ok_or_else(|| {
        Failure::new(Code::Usage, "Your home folder is not known.", "Set HOME, or XDG_CONFIG_HOME.")
    })
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(path, "read", &error)),
    }
}

fn cannot(path: &Path, what: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => Code::DiskFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::ReadOnly,
        _ => Code::Io,
    };
    let message = format!("The unit file {} cannot be {what}: {error}.", path.display());
    Failure::new(code, message, "Name another folder for configurations: XDG_CONFIG_HOME=/path")
}

fn show(answer: &Answer, installs: bool, page: &mut Page) {
    page.line(match (installs, answer.changed) {
        (true, true) => format!("Wrote {}.", answer.path),
        (true, false) => format!("{} is there already, nothing changed.", answer.path),
        (false, _) => format!("Removed {}.", answer.path),
    });
    page.line(if installs { "To use it:" } else { "To stop the node, and let systemd forget it:" });
    for command in &answer.commands {
        page.line(format!("  {command}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn a_unit_belongs_to_one_state_folder() {
        let text = unit(Path::new("/usr/bin/ggen"), Path::new("/home/a b/.ggen"));
        assert!(is_of(&text, Path::new("/home/a b/.ggen")));
        assert!(!is_of(&text, Path::new("/home/a b")) && !is_of(&text, Path::new("/home/a b/.ggen2")));
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        for (path, word) in [
            ("/usr/bin/ggen", "\"/usr/bin/ggen\""),
            ("/a b/100%", "\"/a b/100%%\""),
            ("/\"x\"/$HOME\\", "\"/\\\"x\\\"/$$HOME\\\\\""),
            ("/new\nline", "\"/new\\x0aline\""),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
        assert_eq!(quoted(Path::new(OsStr::from_bytes(b"/\xff"))), "\"/\\xff\"");
        let unit = unit(Path::new("/x"), Path::new("/home\nExecStart=/bin/evil"));
        assert_eq!(unit.lines().filter(|line| line.starts_with("ExecStart=")).count(), 1, "{unit}");
    }
}
