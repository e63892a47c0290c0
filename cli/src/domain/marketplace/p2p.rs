//! The P2P commands: every verb of `ggen marketplace p2p`, one file each.
//!
//! A verb's file holds its arguments, what it asks of the node, and how it shows the answer. The node's own life – its state
//! folder, its lock, the daemon – is in [`p2p_state`](super::p2p_state).

mod add;
mod bootstrap;
mod cancel;
mod complete;
mod completions;
mod config;
mod connect;
mod demo;
mod deprecate;
mod disconnect;
mod doctor;
mod events;
mod explain;
mod gc;
mod info;
mod install;
mod key;
mod list;
mod logs;
mod outdated;
mod package;
mod peer_ban;
mod peer_info;
mod peer_list;
mod pin;
mod project;
mod publish;
mod remove;
mod restart;
mod search;
mod service;
pub(crate) mod start;
mod status;
mod stop;
mod tree;
mod trust;
mod update;
mod verify;
mod why;
mod yank;

use clap::{Args, Subcommand};

use crate::session::{Exit, Finished, Session};

/// `ggen marketplace p2p`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct P2p {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "\
Exit status:
  0 ok · 1 failed · 2 usage · 3 node not running · 4 not found · 5 network or timeout
  6 verification failed, or not as fresh as --fresh asks · 7 configuration or input invalid
  8 address in use · 9 conflict or already running · 10 partial result with --strict
  130 interrupted
A closed stdout ends a command quietly, with status 0.";

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Status(status::Status),
    Publish(publish::Publish),
    Package(package::Package),
    Yank(yank::Yank),
    Unyank(yank::Unyank),
    Deprecate(deprecate::Deprecate),
    Search(search::Search),
    Install(install::Install),
    Add(add::Add),
    Remove(remove::Remove),
    Update(update::Update),
    Outdated(outdated::Outdated),
    Tree(tree::Tree),
    Why(why::Why),
    Info(info::Info),
    List(list::List),
    Verify(verify::Verify),
    Gc(gc::Gc),
    Pin(pin::Pin),
    PeerList(peer_list::PeerList),
    PeerInfo(peer_info::PeerInfo),
    Bootstrap(bootstrap::Bootstrap),
    Connect(connect::Connect),
    Disconnect(disconnect::Disconnect),
    PeerBan(peer_ban::PeerBan),
    PeerUnban(peer_ban::PeerUnban),
    Explain(explain::Explain),
    Events(events::Events),
    Watch(events::Watch),
    Doctor(doctor::Doctor),
    Key(key::Key),
    Trust(trust::Trust),
    Config(config::Config),
    Service(service::Service),
    Logs(logs::Logs),
    Completions(completions::Completions),
    Complete(complete::Complete),
    Demo(demo::Demo),
}

impl Verb {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        match self {
            Self::Start(_) => "start the node",
            Self::Stop(_) => "stop the node",
            Self::Restart(_) => "restart the node",
            Self::Status(_) => "show the status of the node",
            Self::Publish(publish) => publish.purpose(),
            Self::Package(_) => "show the package",
            Self::Yank(_) => "yank the version",
            Self::Unyank(_) => "put the version back",
            Self::Deprecate(_) => "deprecate the package",
            Self::Search(_) => "search for packages",
            Self::Install(_) => "install the package",
            Self::Add(_) => "add to the project",
            Self::Remove(_) => "remove the package",
            Self::Update(_) => "update the project",
            Self::Outdated(_) => "look for newer versions",
            Self::Tree(_) => "show what the project uses",
            Self::Why(_) => "show who needs the package",
            Self::Info(_) => "show the package",
            Self::List(_) => "list the packages",
            Self::Verify(_) => "verify the package",
            Self::Gc(_) => "free the disk",
            Self::Pin(pin) => pin.purpose(),
            Self::PeerList(_) => "list the peers",
            Self::PeerInfo(_) => "show the peer",
            Self::Bootstrap(_) => "bootstrap the node",
            Self::Connect(_) => "connect to the peer",
            Self::Disconnect(_) => "disconnect from the peer",
            Self::PeerBan(ban) => ban.purpose(),
            Self::PeerUnban(_) => "lift the ban of the peer",
            Self::Explain(_) => "explain the package",
            Self::Events(_) => "listen to the node",
            Self::Watch(_) => "watch for packages",
            Self::Doctor(_) => "look at the node",
            Self::Key(key) => key.purpose(),
            Self::Trust(trust) => trust.purpose(),
            Self::Config(config) => config.purpose(),
            Self::Service(service) => service.purpose(),
            Self::Logs(_) => "show the log",
            Self::Completions(_) => "print the completions",
            Self::Complete(_) => "complete the line",
            Self::Demo(_) => "run the demonstration",
        }
    }
}

impl Verb {
    /// What to do where Ctrl-C ended the verb.
    pub(crate) fn after_interruption(&self) -> &'static str {
        match self {
            Self::Install(_) => "Run the same command again; what was verified is not fetched again.",
            _ => "Run the same command again.",
        }
    }

    /// Whether the verb says itself what Ctrl-C made of it.
    pub(crate) fn attends_itself(&self) -> bool {
        matches!(self, Self::Publish(_))
    }

    /// Whether the verb goes on until it is interrupted.
    pub(crate) fn is_endless(&self) -> bool {
        match self {
            Self::Events(_) | Self::Watch(_) => true,
            Self::Logs(logs) => logs.follows(),
            _ => false,
        }
    }

    /// Whether this process becomes the node.
    pub(crate) fn is_node(&self) -> bool {
        matches!(self, Self::Start(start) if !start.is_launched_apart())
    }

    /// Whether a node runs afterwards, here or as a process of its own.
    pub(crate) fn starts_node(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Restart(_))
    }
}

impl P2p {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        match self.verb {
            Verb::Start(verb) => verb.run(session).await,
            Verb::Stop(verb) => verb.run(session).await,
            Verb::Restart(verb) => verb.run(session).await,
            Verb::Status(verb) => verb.run(session).await,
            Verb::Publish(verb) => verb.run(session).await,
            Verb::Package(verb) => verb.run(session).await,
            Verb::Yank(verb) => verb.run(session).await,
            Verb::Unyank(verb) => verb.run(session).await,
            Verb::Deprecate(verb) => verb.run(session).await,
            Verb::Search(verb) => verb.run(session).await,
            Verb::Install(verb) => verb.run(session).await,
            Verb::Add(verb) => verb.run(session).await,
            Verb::Remove(verb) => verb.run(session).await,
            Verb::Update(verb) => verb.run(session).await,
            Verb::Outdated(verb) => verb.run(session).await,
            Verb::Tree(verb) => verb.run(session).await,
            Verb::Why(verb) => verb.run(session).await,
            Verb::Info(verb) => verb.run(session).await,
            Verb::List(verb) => verb.run(session).await,
            Verb::Verify(verb) => verb.run(session).await,
            Verb::Gc(verb) => verb.run(session).await,
            Verb::Pin(verb) => verb.run(session).await,
            Verb::PeerList(verb) => verb.run(session).await,
            Verb::PeerInfo(verb) => verb.run(session).await,
            Verb::Bootstrap(verb) => verb.run(session).await,
            Verb::Connect(verb) => verb.run(session).await,
            Verb::Disconnect(verb) => verb.run(session).await,
            Verb::PeerBan(verb) => verb.run(session).await,
            Verb::PeerUnban(verb) => verb.run(session).await,
            Verb::Explain(verb) => verb.run(session).await,
            Verb::Events(verb) => verb.run(session).await,
            Verb::Watch(verb) => verb.run(session).await,
            Verb::Doctor(verb) => verb.run(session).await,
            Verb::Key(verb) => verb.run(session).await,
            Verb::Trust(verb) => verb.run(session).await,
            Verb::Config(verb) => verb.run(session).await,
            Verb::Service(verb) => verb.run(session),
            Verb::Logs(verb) => verb.run(session).await,
            Verb::Completions(verb) => verb.run(session),
            Verb::Complete(verb) => verb.run(session).await,
            Verb::Demo(verb) => verb.run(session).await,
        }
    }
}
