//! Names of peers, resolved again each time that one is dialled.
//!
//! libp2p reads once, at its start, which name servers there are, and keeps answers as long as they say. A laptop that comes into
//! another network, or a peer that moves to another address, would be out of reach until a restart. Names are dialled rarely,
//! so that it costs little to read the configuration of the system each time (`/etc/resolv.conf`, `/etc/hosts`) and to ask again.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{
    FutureExt, TryFutureExt,
    future::{self, BoxFuture},
};
use hickory_resolver::{
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    system_conf,
};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    dns,
};

use super::dialling::innermost;
use crate::peers::policy;

/// Reasons of one failed dial that are told.
const REASONS_MAX: usize = 4;

/// Which name servers are asked.
#[derive(Debug, Clone)]
pub struct Names(Source);

#[derive(Debug, Clone)]
enum Source {
    /// Those that the system says at the time.
    System,
    /// Those that a file says at the time, at another port than usual.
    File { path: PathBuf, port: u16 },
    /// These.
    Servers(Box<(ResolverConfig, ResolverOpts)>),
}

impl Names {
    /// The name servers of the system, whichever they are at the time.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The name servers of a file with the syntax of resolv.conf(5), whichever they are at the time, asked at this port.
    pub fn of_file(path: impl Into<PathBuf>, port: u16) -> Self {
        Self(Source::File { path: path.into(), port })
    }

    /// These name servers and no others.
    pub fn servers(servers: ResolverConfig, options: ResolverOpts) -> Self {
        Self(Source::Servers(Box::new((servers, options))))
    }

    /// Which servers to ask now. Blocks.
    fn read(&self) -> (ResolverConfig, ResolverOpts) {
        match &self.0 {
            Source::System => system_conf::read_system_conf().unwrap_or_else(|error| {
                tracing::debug!(%error, "the system names no name server");
                local()
            }),
            Source::File { path, port } => {
                let text = std::fs::read(path).unwrap_or_default();
                let (servers, options) = system_conf::parse_resolv_conf(text).unwrap_or_else(|_| local());
                let at_port = |server: &NameServerConfig| {
                    let mut server = server.clone();
                    server.connections.iter_mut().for_each(|connection| connection.port = *port);
                    server
                };
                let name_servers = servers.name_servers().iter().map(at_port).collect();
                let (domain, search) = (servers.domain().cloned(), servers.search().to_vec());
                (ResolverConfig::from_parts(domain, search, name_servers), options)
            }
            Source::Servers(servers) => Box::clone(servers).as_ref().clone(),
        }
    }
}

/// The name server of this machine, which resolv.conf(5) has as the default where none is named. Names that stand in
/// `/etc/hosts` need none.
fn local() -> (ResolverConfig, ResolverOpts) {
    let server = NameServerConfig::udp_and_tcp(std::net::Ipv4Addr::LOCALHOST.into());
    (ResolverConfig::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default())
}

/// Why something failed below. A type of its own, since an `io::Error` inside of another one is no source of it: who wants to know
/// whether a port is taken would not find out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(#[source] io::Error);

/// A base transport that dials names too.
pub(super) struct Named<T> {
    inner: Shared<T>,
    names: Names,
}

impl<T> Named<T> {
    pub(super) fn new(inner: T, names: Names) -> Self {
        Self { inner: Shared(Arc::new(Mutex::new(inner))), names }
    }
}

impl<T> Transport for Named<T>
where
    T: Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Output: Send + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = Failed;
    type ListenerUpgrade = future::MapErr<T::ListenerUpgrade, fn(io::Error) -> Failed>;
    type Dial = BoxFuture<'static, Result<T::Output, Failed>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Failed>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(Failed))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Failed>> {
        if !policy::is_name(&address) {
            let dial = self.inner.dial(address, options).map_err(|error| error.map(Failed))?;
            return Ok(dial.map_err(Failed).boxed());
        }
        let (inner, names) = (self.inner.clone(), self.names.clone());
        let dial = async move {
            let (servers, how) = tokio::task::spawn_blocking(move || names.read()).await?;
            let mut resolving = dns::tokio::Transport::custom(inner, servers, how);
            let dialling = resolving.dial(address, options).map_err(io::Error::other)?;
            dialling.await.map_err(|error| io::Error::other(reason(&error)))
        };
        Ok(dial.map_err(Failed).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Failed>> {
        Pin::new(&mut self.inner)
            .poll(cx)
            .map(|event| event.map_upgrade(|upgrade| upgrade.map_err(Failed as fn(_) -> _)).map_err(Failed))
    }
}

/// Why the dial of a name failed, for people: the resolver shows its own structures.
fn reason(error: &dns::Error<io::Error>) -> String {
    match error {
        dns::Error::ResolveError(error) if error.is_no_records_found() => {
            "no address is found for this name".to_owned()
        }
        dns::Error::ResolveError(error) => format!("the name was not resolved: {}", innermost(error)),
        dns::Error::Dial(errors) => {
            let reasons: BTreeSet<String> = errors.iter().map(reason).collect();
            reasons.into_iter().take(REASONS_MAX).collect::<Vec<_>>().join("; ")
        }
        other => innermost(other),
    }
}

/// A transport that listens here, and is dialled by whatever resolves a name.
struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Transport + Unpin> Transport for Shared<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.lock().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.lock().remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        self.lock().dial(address, options)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, T::Error>> {
        Pin::new(&mut *self.lock()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(names: &Names) -> Vec<(String, u16)> {
        let (servers, _) = names.read();
        let of = |server: &NameServerConfig| (server.ip.to_string(), server.connections[0].port);
        servers.name_servers().iter().map(of).collect()
    }

    #[test]
    fn a_file_is_read_again_each_time_and_may_be_empty_or_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let names = Names::of_file(&path, 5_353);
        let local = vec![("127.0.0.1".to_owned(), 5_353)];
        assert_eq!(servers(&names), local);
        for (text, expected) in [
            ("", "127.0.0.1"),
            ("search example\nnameserver 192.0.2.1\n", "192.0.2.1"),
            ("nameserver 192.0.2.2 # the new network\n", "192.0.2.2"),
            ("nameserver nonsense\n\u{0}", "127.0.0.1"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(servers(&names), [(expected.to_owned(), 5_353)], "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(servers(&names), local);
    }
}
