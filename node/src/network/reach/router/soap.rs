//! What a router with [UPnP](https://openconnectivity.org/upnp-specs/UPnP-gw-WANIPConnection-v1-Service.pdf) is asked, and what it
//! answers.
//!
//! Anyone on the local network can answer in a router's place. So an answer leads nowhere but to who gave it; of XML only the few
//! elements are looked for that are needed, by their names, without a tree; and what is longer than it has to be is not read. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use hyper::Uri;

use super::Carried;
use crate::package::is_hidden;

/// What a router is looked for as.
const DEVICES: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];
/// The services that map ports.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// How a router says that somebody else has the port, or a mapping of it.
pub(super) const CONFLICT: u32 = 718;
/// Characters kept of what a router says.
const SAID_CHARACTERS_MAX: usize = 64;
/// Characters of an address within a router.
const PATH_CHARACTERS_MAX: usize = 512;

/// The questions by which routers are looked for.
pub(super) fn searches() -> [String; 2] {
    DEVICES.map(|device| {
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {device}\r\n\r\n"
        )
    })
}

/// A place at a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: SocketAddrV4,
    /// Begins with a slash.
    pub(super) path: String,
}

impl Place {
    /// Where a text leads that is a whole address or a path; nothing where that is not at `host`.
    fn at(text: &str, host: SocketAddrV4) -> Option<Self> {
        if text.len() > PATH_CHARACTERS_MAX || !text.chars().all(|it| it.is_ascii_graphic()) {
            return None;
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let is_other = text.contains("://");
            let path = format!("/{}", text.trim_start_matches('/'));
            return (!is_other && path.parse::<Uri>().is_ok()).then_some(Self { at: host, path });
        };
        let uri: Uri = format!("http://{rest}").parse().ok()?;
        let ip: Ipv4Addr = uri.host()?.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        (ip == *host.ip()).then(|| Self { at: SocketAddrV4::new(ip, uri.port_u16().unwrap_or(80)), path })
    }
}

/// Where the description of a router is that answered from `from`.
pub(super) fn found(answer: &[u8], from: Ipv4Addr) -> Option<Place> {
    let answer = std::str::from_utf8(answer).ok()?;
    let mut lines = answer.lines();
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split_whitespace().nth(1) != Some("200") {
        return None;
    }
    let header = |name: &str| {
        answer.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if !DEVICES.contains(&header("st")?) {
        return None;
    }
    // A path alone would be at no port that is known.
    Place::at(header("location")?, SocketAddrV4::new(from, 80))
        .filter(|_| header("location").is_some_and(|it| it.starts_with("http://")))
}

/// A service that maps ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: &'static str,
    pub(super) place: Place,
}

/// The service that a description names, which was read at `host`.
pub(super) fn described(description: &str, host: SocketAddrV4) -> Option<Service> {
    elements(description, "service").find_map(|service| {
        let told = text(service, "serviceType")?;
        let kind = SERVICES.into_iter().find(|kind| *kind == told)?;
        Some(Service { kind, place: Place::at(text(service, "controlURL")?, host)? })
    })
}

/// A call: its name, with the service, and what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) action: String,
    pub(super) body: String,
}

fn call(service: &Service, name: &str, arguments: &[(&str, String)]) -> Call {
    let kind = service.kind;
    let arguments: String =
        arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{name} xmlns:u=\"{kind}\">{arguments}</u:{name}>\
         </s:Body></s:Envelope>\r\n"
    );
    Call { action: format!("\"{kind}#{name}\""), body }
}

/// Asks for the outer address.
pub(super) fn outer_address(service: &Service) -> Call {
    call(service, "GetExternalIPAddress", &[])
}

/// Asks to map a port to this machine, for some seconds.
pub(super) fn add(service: &Service, it: &Carried, inner: Ipv4Addr, seconds: u32) -> Call {
    let arguments = [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", it.outer.to_string()),
        ("NewProtocol", it.protocol.as_str().to_owned()),
        ("NewInternalPort", it.inner.to_string()),
        ("NewInternalClient", inner.to_string()),
        ("NewEnabled", "1".to_owned()),
        ("NewPortMappingDescription", "ggen".to_owned()),
        ("NewLeaseDuration", seconds.to_string()),
    ];
    call(service, "AddPortMapping", &arguments)
}

/// Asks to map a port no longer.
pub(super) fn remove(service: &Service, it: &Carried) -> Call {
    let arguments = [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", it.outer.to_string()),
        ("NewProtocol", it.protocol.as_str().to_owned()),
    ];
    call(service, "DeletePortMapping", &arguments)
}

/// The outer address that an answer names.
pub(super) fn outer_address_in(answer: &str) -> Option<Ipv4Addr> {
    text(answer, "NewExternalIPAddress")?.parse().ok()
}

/// Whether an answer is one to that call: who serves something else answers too.
pub(super) fn is_answer(answer: &str, name: &str) -> bool {
    answer.contains(&format!("{name}Response"))
}

/// Why a router refuses, with its number where it says one.
pub(super) fn refusal(answer: &str) -> (Option<u32>, String) {
    let code = text(answer, "errorCode").and_then(|code| code.parse().ok());
    let said = text(answer, "errorDescription").unwrap_or("no reason");
    let said: String = said.chars().filter(|it| !is_hidden(*it)).take(SAID_CHARACTERS_MAX).collect();
    let said = code.map_or_else(|| said.clone(), |code: u32| format!("{said} ({code})"));
    (code, said)
}

/// The text of the first element of that name.
fn text<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    Some(elements(xml, name).next()?.trim())
}

/// What stands in the elements of that name, which do not contain each other.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find(&begin)? + begin.len()..];
            // `<service>` is not `<serviceType>`.
            if rest.starts_with(['>', ' ', '\t', '\r', '\n']) {
                break;
            }
        }
        let inner = &rest[rest.find('>')? + 1..];
        let (inner, after) = inner.split_at(inner.find(&end)?);
        rest = after;
        Some(inner)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Protocol, *};

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(location: &str) -> Vec<u8> {
        let device = DEVICES[0];
        format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nst: {device}\r\nLocation: {location}\r\n\r\n"
        )
        .into_bytes()
    }

    /// As miniupnpd describes itself, shortened.
    const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL></service></serviceList>
<deviceList><device><serviceList><service>
<serviceType> urn:schemas-upnp-org:service:WANIPConnection:1 </serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/ctl/IPConn</controlURL><eventSubURL>/evt/IPConn</eventSubURL></service></serviceList></device></deviceList></device></root>"#;

    #[test]
    fn an_answer_leads_to_nobody_but_who_gave_it() {
        let at =
            |port, path: &str| Some(Place { at: SocketAddrV4::new(ROUTER, port), path: path.to_owned() });
        assert_eq!(found(&answer("http://192.168.1.1:5000/rootDesc.xml"), ROUTER), at(5000, "/rootDesc.xml"));
        assert_eq!(found(&answer("http://192.168.1.1"), ROUTER), at(80, "/"));
        for location in [
            "http://192.168.1.2:5000/rootDesc.xml",
            "http://8.8.8.8/",
            "http://localhost:8080/",
            "http://router.example/",
            "http://192.168.1.1@8.8.8.8/",
            "https://192.168.1.1/",
            "file:///etc/passwd",
            "/rootDesc.xml",
            "",
            "http://192.168.1.1/a b",
            "http://192.168.1.1/\u{7}",
        ] {
            assert_eq!(found(&answer(location), ROUTER), None, "{location}");
        }
        let long = format!("http://192.168.1.1/{}", "x".repeat(PATH_CHARACTERS_MAX));
        assert_eq!(found(&answer(&long), ROUTER), None);
        for garbage in
            [&b""[..], b"\xff\xfe", b"HTTP/1.1 404 No\r\nst: x\r\n", b"NOTIFY * HTTP/1.1\r\n", b"HTTP/1.1"]
        {
            assert_eq!(found(garbage, ROUTER), None);
        }
    }

    #[test]
    fn the_service_is_found_and_leads_to_its_router() {
        let host = SocketAddrV4::new(ROUTER, 5000);
        let service = described(DESCRIPTION, host).unwrap();
        assert_eq!((service.kind, service.place.path.as_str()), (SERVICES[0], "/ctl/IPConn"));
        assert_eq!(service.place.at, host);
        let elsewhere = DESCRIPTION.replace("/ctl/IPConn", "http://10.0.0.1/ctl");
        assert_eq!(described(&elsewhere, host), None);
        let whole = DESCRIPTION.replace("/ctl/IPConn", "http://192.168.1.1:49152/ctl?x");
        let place = Place { at: SocketAddrV4::new(ROUTER, 49152), path: "/ctl?x".to_owned() };
        assert_eq!(described(&whole, host).unwrap().place, place);
        for cut in 0..DESCRIPTION.len() {
            let _ = described(&DESCRIPTION[..cut], host);
        }
        assert_eq!(described(&"<service".repeat(10_000), host), None);
        assert_eq!(described(&"<service>".repeat(7_000), host), None);
    }

    #[test]
    fn calls_and_answers_are_those_of_the_standard() {
        let service = described(DESCRIPTION, SocketAddrV4::new(ROUTER, 5000)).unwrap();
        let it = Carried { protocol: Protocol::Udp, inner: 4001, outer: 12345 };
        let Call { action, body } = add(&service, &it, Ipv4Addr::new(192, 168, 1, 7), 3600);
        assert_eq!(action, "\"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"");
        for part in [
            "<NewExternalPort>12345</NewExternalPort><NewProtocol>UDP</NewProtocol><NewInternalPort>4001</NewInternalPort>",
            "<NewInternalClient>192.168.1.7</NewInternalClient>",
            "<NewLeaseDuration>3600</NewLeaseDuration>",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        let said = "<u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:GetExternalIPAddressResponse>";
        assert_eq!(outer_address_in(said), Some(Ipv4Addr::new(203, 0, 113, 7)));
        assert_eq!(outer_address_in("<NewExternalIPAddress>x</NewExternalIPAddress>"), None);
        let refused = "<UPnPError><errorCode>718</errorCode><errorDescription>Con\u{202e}flict\u{1b}[31m</errorDescription></UPnPError>";
        assert_eq!(refusal(refused), (Some(CONFLICT), "Conflict[31m (718)".to_owned()));
        assert_eq!(refusal("<html>"), (None, "no reason".to_owned()));
    }
}
