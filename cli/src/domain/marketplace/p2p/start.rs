//! `start`: runs a node, here or in the background.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

use super::status;
use crate::{
    domain::marketplace::p2p_state::{self, Place, Started, daemon},
    page::Page,
    session::{Exit, Finished, Session},
    values,
};

/// Start a node, in the foreground or as a daemon.
#[derive(Debug, Args)]
#[command(
    long_about = "Start a node, in the foreground or as a daemon.\n\n\
        The first start writes a configuration file and makes the node's keys. Flags win over environment variables, these over the \
        configuration file, and the file over the defaults. Flags count for this start only, unless you give --save. Every value that is \
        not the default is shown, with where it comes from. Only one node can run on a state folder.",
    after_help = "\
Examples:
  ggen marketplace p2p start
  ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001
  ggen marketplace p2p start --bootstrap /dnsaddr/bootstrap.libp2p.io --daemon
  ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001 --dht-server --daemon
  ggen marketplace p2p start --topology hub-and-spoke --role hub --listen /ip4/0.0.0.0/tcp/4001 --daemon
  ggen marketplace p2p start --topology hub-and-spoke --hub /ip4/192.0.2.1/tcp/4001
  ggen marketplace p2p start --topology hybrid --role ephemeral --bootstrap /ip4/192.0.2.1/tcp/4001
  ggen marketplace p2p start --no-mdns
  ggen marketplace p2p start --config ~/.ggen/p2p-config.toml"
)]
pub(crate) struct Start {
    #[command(flatten)]
    flags: Flags,
    /// Run in the background; returns once the node is ready.
    #[arg(long)]
    daemon: bool,
    /// Keep the flags given here in the configuration file.
    #[arg(long)]
    save: bool,
    /// This process is the daemon: it reports on stdout to the one that started it.
    #[arg(long, hide = true)]
    daemon_child: bool,
}

/// What a start can be told; kept for `restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Flags {
    /// An address to listen on, such as /ip4/0.0.0.0/tcp/4001; repeatable, instead of the configured ones.
    #[arg(long, value_name = "MULTIADDR", value_parser = values::listen)]
    pub(crate) listen: Vec<String>,
    /// A peer to join the network through; repeatable, instead of the configured ones.
    #[arg(long, value_name = "MULTIADDR", value_parser = values::dial)]
    pub(crate) bootstrap: Vec<String>,
    /// The configuration file [default: p2p-config.toml in the state folder].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Whether to answer DHT queries of others; the flag alone means true.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    pub(crate) dht_server: Option<bool>,
    /// How the network is laid out: mesh, hub-and-spoke or hybrid.
    #[arg(long, value_name = "TOPOLOGY", value_parser = values::topology)]
    pub(crate) topology: Option<String>,
    /// What this node is in it: peer; hub or spoke; permanent or ephemeral.
    #[arg(long, value_name = "ROLE", value_parser = values::role)]
    pub(crate) role: Option<String>,
    /// A hub to stay connected with; repeatable, instead of the configured ones.
    #[arg(long, value_name = "MULTIADDR", value_parser = values::dial)]
    pub(crate) hub: Vec<String>,
    /// Neither look for peers on the local network nor be found there.
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Do not ask the router to map ports, by UPnP or NAT-PMP.
    #[arg(long)]
    pub(crate) no_upnp: bool,
    /// Refuse a configuration file with unknown keys, instead of warning.
    #[arg(long)]
    pub(crate) strict_config: bool,
}

impl Flags {
    /// Those that the configuration does not have: with `--save` it has their values, and may be given others.
    pub(crate) fn not_saved(&self, save: bool) -> Self {
        match save {
            true => {
                Self { config: self.config.clone(), strict_config: self.strict_config, ..Self::default() }
            }
            false => self.clone(),
        }
    }

    /// These flags, and those of an earlier start that were not given again. A role and hubs belong to their topology, and go
    /// with it.
    pub(super) fn over(self, before: Self) -> Self {
        let or = |given: Vec<String>, before: Vec<String>| if given.is_empty() { before } else { given };
        let (role, hub) = match &self.topology {
            Some(anew) if before.topology.as_ref() != Some(anew) => (None, Vec::new()),
            _ => (before.role, before.hub),
        };
        Self {
            listen: or(self.listen, before.listen),
            bootstrap: or(self.bootstrap, before.bootstrap),
            config: self.config.or(before.config),
            dht_server: self.dht_server.or(before.dht_server),
            topology: self.topology.or(before.topology),
            role: self.role.or(role),
            hub: or(self.hub, hub),
            no_mdns: self.no_mdns || before.no_mdns,
            no_upnp: self.no_upnp || before.no_upnp,
            strict_config: self.strict_config || before.strict_config,
        }
    }
}

impl Start {
    /// Whether the node becomes a process of its own.
    pub(crate) fn is_launched_apart(&self) -> bool {
        self.daemon && !self.daemon_child
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        if self.is_launched_apart() {
            return launch(session, &self.flags, self.save).await;
        }
        if self.daemon_child {
            return daemon::become_one(session, &self.flags, self.save).await;
        }
        p2p_state::run(session, &self.flags, self.save, Place::Foreground, |started| {
            session.print(started, show)?;
            session.note("Stop it with Ctrl-C, or: ggen marketplace p2p stop");
            Ok(())
        })
        .await
    }
}

/// Starts a daemon and shows where it is.
pub(super) async fn launch(session: &Session, flags: &Flags, save: bool) -> Finished<Exit> {
    let started = daemon::launch(session, flags, save).await?;
    session.print(&started, show)?;
    Ok(Exit::Ok)
}

fn show(started: &Started, page: &mut Page) {
    page.heading(format!("Node {} is ready", started.peer_id))
        .list("listens on", &started.listen_addresses)
        .field("pid", started.pid)
        .field("socket", &started.socket)
        .optional("log", started.log.as_deref())
        .optional("configuration", Some(&started.config));
    let uses: Vec<String> =
        started.uses.iter().map(|used| format!("{} = {}  ({})", used.key, used.value, used.origin)).collect();
    page.list("uses", &uses).warnings(&started.warnings);
    status::bootstrap_lines(&started.bootstrap_lines, page);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn what_is_not_said_anew_stays_as_it_was() {
        let before = Flags {
            listen: list(&["/ip4/127.0.0.1/tcp/1"]),
            bootstrap: list(&["/ip4/192.0.2.1/tcp/1"]),
            dht_server: Some(false),
            no_mdns: true,
            no_upnp: true,
            strict_config: true,
            ..Flags::default()
        };
        assert_eq!(Flags::default().over(before.clone()), before);
        let anew = list(&["/ip4/127.0.0.1/tcp/2"]);
        let given = Flags { listen: anew.clone(), dht_server: Some(true), ..Flags::default() };
        let expected = Flags { listen: anew, dht_server: Some(true), ..before.clone() };
        assert_eq!(given.over(before), expected);
    }

    #[test]
    fn another_topology_takes_the_role_and_the_hubs_of_the_one_before_with_it() {
        let spoke = Flags {
            topology: Some("hub-and-spoke".to_owned()),
            role: Some("spoke".to_owned()),
            hub: list(&["/ip4/192.0.2.1/tcp/1"]),
            ..Flags::default()
        };
        let mesh = Flags { topology: Some("mesh".to_owned()), ..Flags::default() };
        assert_eq!(mesh.clone().over(spoke.clone()), mesh);
        let same = Flags { topology: spoke.topology.clone(), ..Flags::default() };
        assert_eq!(same.over(spoke.clone()), spoke);
        let hub = Flags { role: Some("hub".to_owned()), ..Flags::default() };
        assert_eq!(hub.over(spoke.clone()).topology, spoke.topology);
    }
}
