//! Asking the router before this machine to map ports to it, with NAT-PMP, and with UPnP where nothing answers that.
//!
//! What the router says is believed by nobody here: [`mapping`](super::mapping) has peers connect to it first. It is asked only while
//! a NAT is known to stand before this node, runs beside the loop, and everything that comes is bounded: by time, by bytes, and in
//! how many are listened to. libp2p's own behaviour for UPnP, and the crate below it, read whole answers of any length from any place
//! that an answer names, with no end to how long they may take; and what the router confirms they announce. Here an answer leads to who
//! gave it, and is heard from the link of the gateway alone: anyone can write another address into it, behind a tunnel perhaps.
//!
//! A mapping lasts for an hour and is renewed three times in it. It has another port than the one that is listened on. Behind some
//! NATs peers that this node has dialled can connect to the latter; so that they can connect to another one shows that it is mapped.
//! It is also no port that somebody has forwarded by hand. It follows from the peer id, so that it is the same after a restart.

mod pmp;
mod routes;
mod soap;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    pin::pin,
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use libp2p::PeerId;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use self::{
    routes::Link,
    soap::{Call, Place, Service},
};
use super::standing::Ports;
use crate::limits::{ROUTER_ANSWER_BYTES_MAX, ROUTER_ANSWER_TIME_MAX, ROUTERS_HEARD_MAX, ROUTERS_TRIED_MAX};

/// For how long a mapping is asked.
const LEASE: Duration = Duration::from_secs(3600);
/// A router that maps for less than this is asked again no sooner.
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(60);
/// After how long a router is looked for again where none was found, or none mapped anything.
const LOOKED_FOR_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How long answers to a search are waited for.
const SEARCH_TIME: Duration = Duration::from_secs(3);
/// Where routers with UPnP are searched for.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// Bytes of an answer to a search.
const FOUND_BYTES_MAX: usize = 2048;
/// How long the first answer of a gateway with NAT-PMP is waited for; then it is asked again, and waited for twice as long.
const PMP_WAIT: Duration = Duration::from_millis(250);
/// How often it is asked.
const PMP_TRIES: u32 = 4;
/// Outer ports that are tried, where others have the first ones.
const PORTS_TRIED: u32 = 4;
/// Outer ports: none below 1024, and none that systems give to connections that go out.
const OUTER_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::network) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// By what a router was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// UPnP.
    Upnp,
    /// NAT-PMP.
    NatPmp,
}

impl By {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upnp => "UPnP",
            Self::NatPmp => "NAT-PMP",
        }
    }
}

/// What is to be mapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::network) struct Wanted {
    /// The ports that are listened on; none where nothing is to be mapped.
    pub(in crate::network) ports: Ports,
    /// Counts how often this machine came somewhere else.
    pub(in crate::network) moved: u64,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.ports == Ports::default()
    }
}

/// What a router said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) enum Told {
    /// No router answers.
    Nobody,
    /// None maps anything, for this reason.
    Refused(String),
    /// It says that it maps these outer ports.
    Mapped { by: By, outer: Ipv4Addr, ports: Ports },
}

/// A port that a router maps, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    protocol: Protocol,
    inner: u16,
    outer: u16,
}

/// Why nothing was mapped.
#[derive(Debug)]
enum Failure {
    /// Nobody answers, or not in time, or what came is no answer.
    Silent,
    /// The router says no.
    Refused(Option<u32>, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "a router does not answer");
        Self::Silent
    }
}

/// A router, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Router {
    Pmp(SocketAddrV4),
    Upnp(Service),
}

/// What a router maps now, as it says.
#[derive(Debug)]
struct Held {
    router: Router,
    carried: Vec<Carried>,
}

/// Where routers are looked for.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// The gateway, for NAT-PMP.
    gateway: Option<SocketAddrV4>,
    /// The group that routers with UPnP listen to.
    group: SocketAddrV4,
    /// Where those are that are heard; anywhere where that is not known.
    link: Option<Link>,
}

impl Places {
    fn of_machine() -> Self {
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        let gateway = routes::gateway(&routes);
        Self {
            gateway: gateway.map(|it| SocketAddrV4::new(it.at, pmp::PORT)),
            group: GROUP,
            link: gateway.map(|it| it.link),
        }
    }
}

/// Has ports mapped for as long as that is wanted, and tells what the router says. Ends with the other end of `wanted`, and then
/// maps nothing any more.
pub(super) async fn run(local: PeerId, mut wanted: watch::Receiver<Wanted>, tell: mpsc::Sender<Told>) {
    let mut held: Option<Held> = None;
    let mut before = Wanted::default();
    loop {
        let now = *wanted.borrow_and_update();
        if now != before
            && let Some(held) = held.take_if(|_| now.moved == before.moved)
        {
            held.release().await;
        }
        if now.moved != before.moved {
            // That was another router.
            held = None;
        }
        before = now;
        let again = if now.is_nothing() {
            None
        } else {
            let (told, lease) = map(&local, now.ports, Places::of_machine(), &mut held).await;
            // Nobody listens where the node has stopped: that shows below.
            let _ = tell.send(told).await;
            Some(lease.map_or(LOOKED_FOR_AGAIN, |lease| (lease / 3).max(RENEWED_AFTER_MIN)))
        };
        let rest = async {
            match again {
                Some(again) => sleep(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { biased;
            changed = wanted.changed() => if changed.is_err() {
                if let Some(held) = held {
                    held.release().await;
                }
                return;
            },
            () = rest => {}
        }
    }
}

/// Has these ports mapped: by the router that did so before, or else by one that is found.
async fn map(
    local: &PeerId,
    ports: Ports,
    places: Places,
    held: &mut Option<Held>,
) -> (Told, Option<Duration>) {
    let before = held.take();
    let carried = before.as_ref().map(|held| held.carried.clone()).unwrap_or_default();
    let mut routers = Vec::from_iter(before.map(|held| held.router));
    if routers.is_empty() {
        routers.extend(places.gateway.map(Router::Pmp));
    }
    let mut refused = None;
    let mut is_searched = false;
    loop {
        for router in routers.drain(..) {
            match router.map(local, ports, &carried).await {
                Ok((told, lease, carried)) => {
                    *held = Some(Held { router, carried });
                    return (told, Some(lease));
                }
                Err(Failure::Refused(_, why)) => refused = Some(why),
                Err(Failure::Silent) => {}
            }
        }
        if is_searched {
            break;
        }
        is_searched = true;
        routers = search(places).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "no router is searched for");
            Vec::new()
        });
    }
    (refused.map_or(Told::Nobody, Told::Refused), None)
}

/// The outer port that is asked for.
fn outer_port(local: &PeerId, inner: u16, attempt: u32) -> u16 {
    let mut hash = Sha256::new();
    hash.update(b"ggen/outer-port");
    hash.update(local.to_bytes());
    hash.update(attempt.to_be_bytes());
    let hash = hash.finalize();
    let drawn = u16::from_be_bytes([hash[0], hash[1]]);
    let among = OUTER_PORTS.end - OUTER_PORTS.start;
    let port = OUTER_PORTS.start + drawn % among;
    if port == inner { port + 1 } else { port }
}

impl Router {
    /// Has ports mapped: what the router says, for how long, and which.
    async fn map(
        &self,
        local: &PeerId,
        ports: Ports,
        before: &[Carried],
    ) -> Result<(Told, Duration, Vec<Carried>), Failure> {
        let outer = self.outer_address().await?;
        let (mut carried, mut mapped, mut lease, mut failed) = (Vec::new(), Ports::default(), LEASE, None);
        let wanted = [(Protocol::Tcp, ports.tcp), (Protocol::Udp, ports.udp)];
        for (protocol, inner) in wanted.into_iter().filter_map(|(protocol, port)| Some((protocol, port?))) {
            let had =
                before.iter().find(|it| (it.protocol, it.inner) == (protocol, inner)).map(|it| it.outer);
            let drawn = (0..PORTS_TRIED).map(|attempt| outer_port(local, inner, attempt));
            for outer in had.into_iter().chain(drawn) {
                match self.carry(Carried { protocol, inner, outer }, LEASE).await {
                    Ok((it, for_time)) => {
                        carried.push(it);
                        lease = lease.min(for_time);
                        match protocol {
                            Protocol::Tcp => mapped.tcp = Some(it.outer),
                            Protocol::Udp => mapped.udp = Some(it.outer),
                        }
                        break;
                    }
                    Err(failure) => {
                        let is_taken = matches!(failure, Failure::Refused(Some(soap::CONFLICT), _));
                        failed = Some(failure);
                        if !is_taken {
                            break;
                        }
                    }
                }
            }
        }
        match failed {
            Some(failure) if carried.is_empty() => Err(failure),
            _ => Ok((Told::Mapped { by: self.by(), outer, ports: mapped }, lease, carried)),
        }
    }

    fn by(&self) -> By {
        match self {
            Self::Pmp(_) => By::NatPmp,
            Self::Upnp(_) => By::Upnp,
        }
    }

    async fn outer_address(&self) -> Result<Ipv4Addr, Failure> {
        match self {
            Self::Pmp(gateway) => match ask(*gateway, &pmp::outer_address()).await? {
                pmp::Answer::Outer(ip) => Ok(ip),
                pmp::Answer::Refused(code) => Err(Failure::Refused(None, format!("error {code}"))),
                pmp::Answer::Mapped(..) => Err(Failure::Silent),
            },
            Self::Upnp(service) => {
                let answer =
                    say(&service.place, &soap::outer_address(service), "GetExternalIPAddress").await?;
                soap::outer_address_in(&answer).ok_or(Failure::Silent)
            }
        }
    }

    /// Asks to map one port; yields which it is, and for how long.
    async fn carry(&self, it: Carried, lease: Duration) -> Result<(Carried, Duration), Failure> {
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
        match self {
            Self::Pmp(gateway) => {
                let question = pmp::map(it.protocol, it.inner, it.outer, seconds);
                match ask(*gateway, &question).await? {
                    // For longer than was asked is for as long as was asked.
                    pmp::Answer::Mapped(outer, told) if outer != 0 => {
                        Ok((Carried { outer, ..it }, Duration::from_secs(told.min(seconds).into())))
                    }
                    pmp::Answer::Refused(code) => Err(Failure::Refused(None, format!("error {code}"))),
                    _ => Err(Failure::Silent),
                }
            }
            Self::Upnp(service) => {
                let inner = inner_address(service.place.at).await?;
                say(&service.place, &soap::add(service, &it, inner, seconds), "AddPortMapping").await?;
                Ok((it, lease))
            }
        }
    }

    /// Asks to map one port no longer.
    async fn release(&self, it: &Carried) -> Result<(), Failure> {
        match self {
            Self::Pmp(gateway) => {
                ask(*gateway, &pmp::map(it.protocol, it.inner, 0, 0)).await?;
            }
            Self::Upnp(service) => {
                say(&service.place, &soap::remove(service, it), "DeletePortMapping").await?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// Has the router map nothing any more. Where it does not hear of that, the mappings end by themselves.
    async fn release(self) {
        for it in &self.carried {
            if let Err(failure) = self.router.release(it).await {
                tracing::debug!(?failure, port = it.outer, "a mapping is left to end by itself");
            }
        }
    }
}

/// Searches for routers with UPnP; the gateway comes first.
async fn search(Places { gateway, group, link }: Places) -> io::Result<Vec<Router>> {
    let gateway = gateway.map(|it| *it.ip());
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let end = Instant::now() + SEARCH_TIME;
    let mut places: Vec<Place> = Vec::new();
    // Twice, since datagrams get lost.
    for until in [end - SEARCH_TIME * 2 / 3, end] {
        for question in soap::searches() {
            socket.send_to(question.as_bytes(), group).await?;
        }
        let mut bytes = [0; FOUND_BYTES_MAX];
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut bytes)).await {
            let (length, from) = received?;
            let IpAddr::V4(from) = from.ip() else { continue };
            let is_local = (from.is_private() || from.is_link_local() || from.is_loopback())
                && link.is_none_or(|link| link.holds(from));
            let place = soap::found(&bytes[..length], from).filter(|_| is_local);
            places.extend(place.filter(|place| !places.contains(place) && places.len() < ROUTERS_HEARD_MAX));
        }
        if !places.is_empty() {
            break;
        }
    }
    places.sort_by_key(|place| Some(*place.at.ip()) != gateway);
    let hosts: BTreeSet<Ipv4Addr> = places.iter().map(|place| *place.at.ip()).collect();
    tracing::debug!(?hosts, "routers that say that they map ports");
    let mut routers = Vec::new();
    for place in places.into_iter().take(ROUTERS_TRIED_MAX) {
        let request = Request::builder().method(Method::GET).body(String::new()).expect("a request");
        match exchange(&place, request).await {
            Ok((StatusCode::OK, description)) => {
                routers.extend(soap::described(&description, place.at).map(Router::Upnp));
            }
            Ok((status, _)) => tracing::debug!(%status, at = %place.at, "a router does not describe itself"),
            Err(error) => tracing::debug!(%error, at = %place.at, "a router does not describe itself"),
        }
    }
    Ok(routers)
}

/// The address of this machine that a router sees.
async fn inner_address(router: SocketAddrV4) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(router).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Calls a router's service; yields the answer where it is one to this call.
async fn say(place: &Place, call: &Call, name: &str) -> Result<String, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
        .header("SOAPAction", call.action.as_str())
        .body(call.body.clone())
        .map_err(io::Error::other)?;
    let (status, answer) = exchange(place, request).await?;
    match status {
        StatusCode::OK if soap::is_answer(&answer, name) => Ok(answer),
        StatusCode::OK => Err(Failure::Silent),
        _ => {
            let (code, said) = soap::refusal(&answer);
            Err(Failure::Refused(code, said))
        }
    }
}

/// Sends a request to a place and reads the answer: so many bytes in so much time, whatever comes.
async fn exchange(place: &Place, mut request: Request<String>) -> io::Result<(StatusCode, String)> {
    *request.uri_mut() = place.path.parse().map_err(io::Error::other)?;
    let host = header::HeaderValue::from_str(&place.at.to_string()).map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, host);
    let exchanged = async {
        let stream = TcpStream::connect(place.at).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(ROUTER_ANSWER_BYTES_MAX);
        let (mut sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ROUTER_ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (mut answered, mut connection) = (pin!(answered), pin!(connection));
        tokio::select! { biased;
            answered = &mut answered => return answered,
            // What came before its end is still to be read.
            _ = &mut connection => {}
        }
        answered.await
    };
    timeout(ROUTER_ANSWER_TIME_MAX, exchanged).await?
}

/// Asks a gateway with NAT-PMP.
async fn ask(gateway: SocketAddrV4, question: &[u8]) -> Result<pmp::Answer, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // From here on nobody else is heard.
    socket.connect(gateway).await?;
    for attempt in 0..PMP_TRIES {
        socket.send(question).await?;
        let until = Instant::now() + PMP_WAIT * 2_u32.pow(attempt);
        let mut bytes = [0; pmp::ANSWER_BYTES_MAX];
        while let Ok(received) = timeout_at(until, socket.recv(&mut bytes)).await {
            if let Some(answer) = pmp::answer(question, &bytes[..received?]) {
                return Ok(answer);
            }
        }
    }
    Err(Failure::Silent)
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
