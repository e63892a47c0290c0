//! The way out of this machine, as Linux's table of routes names it (`/proc/net/route`). Pure.

use std::net::Ipv4Addr;

const UP: u16 = 1;
const UP_BY_GATEWAY: u16 = 3;

/// The addresses that are reached without a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    net: Ipv4Addr,
    mask: Ipv4Addr,
}

impl Link {
    /// Whether an address is one of them.
    pub(super) fn holds(self, ip: Ipv4Addr) -> bool {
        ip & self.mask == self.net & self.mask
    }
}

/// A router that leads to everywhere, and the link that it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) at: Ipv4Addr,
    pub(super) link: Link,
}

/// A line of the table.
struct Route<'a> {
    interface: &'a str,
    link: Link,
    gateway: Ipv4Addr,
    flags: u16,
    metric: u32,
}

fn route(line: &str) -> Option<Route<'_>> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let ip = |at: usize| {
        let number = u32::from_str_radix(columns.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    Some(Route {
        interface: columns.first()?,
        link: Link { net: ip(1)?, mask: ip(7)? },
        gateway: ip(2)?,
        flags: u16::from_str_radix(columns.get(3)?, 16).ok()?,
        metric: columns.get(6)?.parse().ok()?,
    })
}

/// The gateway of the default route with the lowest metric.
pub(super) fn gateway(routes: &str) -> Option<Gateway> {
    let all: Vec<Route<'_>> = routes.lines().skip(1).filter_map(route).collect();
    let everywhere = Link { net: Ipv4Addr::UNSPECIFIED, mask: Ipv4Addr::UNSPECIFIED };
    let default = all.iter().filter(|it| it.link == everywhere && it.flags & UP_BY_GATEWAY == UP_BY_GATEWAY);
    let default = default.min_by_key(|it| (it.metric, it.gateway))?;
    let at = default.gateway;
    let links = all.iter().filter(|it| {
        it.interface == default.interface
            && it.link != everywhere
            && it.flags & UP_BY_GATEWAY == UP
            && it.link.holds(at)
    });
    // Where it is on no link that is named, nobody is next to it.
    let alone = Link { net: at, mask: Ipv4Addr::BROADCAST };
    let link = links.map(|it| it.link).max_by_key(|link| link.mask).unwrap_or(alone);
    Some(Gateway { at, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the kernel writes it, on a machine whose bytes stand in the order of this one.
    fn line(on: &str, to: [u8; 4], by: [u8; 4], flags: &str, metric: u32, mask: [u8; 4]) -> String {
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        format!("{on}\t{}\t{}\t{flags}\t0\t0\t{metric}\t{}\t0\t0\t0\n", hex(to), hex(by), hex(mask))
    }

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    #[test]
    fn the_gateway_is_the_one_of_the_default_route_with_the_lowest_metric() {
        let routes = [
            HEAD.to_owned(),
            line("wlan0", [0; 4], [10, 0, 0, 1], "0003", 600, [0; 4]),
            line("eth0", [0; 4], [192, 168, 1, 1], "0003", 100, [0; 4]),
            line("eth0", [192, 168, 1, 0], [0; 4], "0001", 0, [255, 255, 255, 0]),
            "garbage\n".to_owned(),
        ];
        assert_eq!(gateway(&routes.concat()).map(|it| it.at), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway(&routes[0]), None);
        assert_eq!(gateway(""), None);
    }

    #[test]
    fn what_is_behind_a_tunnel_or_another_router_is_not_on_the_link_of_the_gateway() {
        let routes = [
            HEAD.to_owned(),
            line("eth0", [0; 4], [192, 168, 1, 1], "0003", 100, [0; 4]),
            line("tun0", [10, 0, 0, 0], [0; 4], "0001", 0, [255, 0, 0, 0]),
            line("tun0", [192, 168, 1, 0], [0; 4], "0001", 0, [255, 255, 255, 192]),
            line("eth0", [172, 16, 0, 0], [192, 168, 1, 2], "0003", 0, [255, 240, 0, 0]),
            line("eth0", [192, 168, 1, 0], [0; 4], "0001", 0, [255, 255, 255, 0]),
        ];
        let link = gateway(&routes.concat()).unwrap().link;
        assert!(link.holds([192, 168, 1, 1].into()) && link.holds([192, 168, 1, 254].into()));
        for elsewhere in [[10, 1, 2, 3], [192, 168, 2, 1], [172, 16, 0, 1], [127, 0, 0, 1], [169, 254, 1, 1]]
        {
            assert!(!link.holds(elsewhere.into()), "{elsewhere:?}");
        }
        let alone = gateway(&routes[..2].concat()).unwrap().link;
        assert!(alone.holds([192, 168, 1, 1].into()) && !alone.holds([192, 168, 1, 2].into()));
    }
}
