//! Where the sites of a run are: their addresses, lines, and the routers before them.
//!
//! Where a scenario says nothing of that, all are in one private network, as in a laboratory. Otherwise each site without a router is in
//! a public network of its own, and each router has an address in another one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ggen_harness::fabric::{Host, nat};

use crate::{
    draw::Draws,
    scenario::{Access, Before, Nat, Scenario},
};

/// How long it takes between two hosts behind one router.
pub(crate) const LAN: Duration = Duration::from_millis(1);

/// The first numbers of the addresses of sites without a router.
const PUBLIC: u8 = 11;
/// Those of routers that one site has.
const ROUTERS: u8 = 12;
/// Those of routers that have a name.
const SHARED: u8 = 13;

/// The address of a site: of a private network, as a laboratory has it.
pub(crate) fn ip(site: usize) -> IpAddr {
    let [_, a, b, c] = u32::try_from(site + 1).expect("a thousand sites at most").to_be_bytes();
    Ipv4Addr::new(10, a, b, c).into()
}

/// An address in a /24 that nothing else is in.
fn alone(first: u8, number: usize, last: u8) -> IpAddr {
    let [.., a, b] = u32::try_from(number).expect("a thousand sites at most").to_be_bytes();
    Ipv4Addr::new(first, a, b, last).into()
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Places {
    sites: Vec<(IpAddr, Host)>,
    by_ip: BTreeMap<IpAddr, usize>,
    shared: BTreeMap<String, nat::Settings>,
}

impl Places {
    /// Draws which kind of access each site has, as far as there is a choice.
    pub(crate) fn draw(scenario: &Scenario, draws: Draws) -> Self {
        let shared: BTreeMap<String, nat::Settings> = scenario
            .accesses
            .routers
            .iter()
            .enumerate()
            .map(|(number, (name, nat))| (name.clone(), settings(*nat, alone(SHARED, number, 1))))
            .collect();
        let sites: Vec<(IpAddr, Host)> = (0..scenario.sites)
            .map(|site| {
                let access = access(scenario, draws, site);
                let router = match access.before {
                    None | Some(Before::Nothing) => None,
                    Some(Before::Own(nat)) => Some(settings(nat, alone(ROUTERS, site, 1))),
                    Some(Before::Shared(name)) => Some(shared[&name]),
                };
                let is_public = scenario.accesses.are_said && router.is_none();
                let ip = if is_public { alone(PUBLIC, site, 1) } else { ip(site) };
                let firewall = access.firewall.unwrap_or_default();
                (ip, Host { up: access.up, down: access.down, router, firewall })
            })
            .collect();
        let by_ip = sites.iter().enumerate().map(|(site, (ip, _))| (*ip, site)).collect();
        Self { sites, by_ip, shared }
    }

    /// The address of a site itself.
    pub(crate) fn ip(&self, site: usize) -> IpAddr {
        self.sites[site].0
    }

    /// The site of an address.
    pub(crate) fn site(&self, ip: IpAddr) -> Option<usize> {
        self.by_ip.get(&ip).copied()
    }

    /// How a site is connected at the start.
    pub(crate) fn host(&self, site: usize) -> &Host {
        &self.sites[site].1
    }

    /// Where somebody at another site has to look for a site: at its router, unless that is the router of both.
    pub(crate) fn seen(&self, site: usize, from: Option<usize>) -> IpAddr {
        match self.host(site).router {
            Some(router) if from.is_none_or(|from| !self.are_together(site, from)) => router.outside,
            _ => self.ip(site),
        }
    }

    /// Whether two sites stand behind one router.
    pub(crate) fn are_together(&self, one: usize, other: usize) -> bool {
        let outside = |site: usize| self.host(site).router.map(|router| router.outside);
        one == other || outside(one).is_some() && outside(one) == outside(other)
    }

    /// The router that a site comes to stand behind at its `move`-th move, from one: that of a name, or its own with another address.
    pub(crate) fn next_router(&self, site: usize, name: Option<&str>, moves: usize) -> Option<nat::Settings> {
        if let Some(name) = name {
            return self.shared.get(name).copied();
        }
        let last = u8::try_from(1 + moves % 250).ok()?;
        Some(nat::Settings { outside: alone(ROUTERS, site, last), ..self.host(site).router? })
    }
}

fn settings(nat: Nat, outside: IpAddr) -> nat::Settings {
    let Nat { kind, idle, hairpins } = nat;
    nat::Settings { kind, outside, idle, hairpins }
}

/// What a site has: what is said of its node, and of the rest what the kind says that is drawn for it.
fn access(scenario: &Scenario, draws: Draws, site: usize) -> Access {
    let node = &scenario.nodes[site];
    let shares: Vec<_> = scenario.accesses.shares.iter().filter(|share| share.is_for(node)).collect();
    // A kind that is for certain roles counts before those that are for all.
    let own: Vec<_> = shares.iter().copied().filter(|share| !share.roles.is_empty()).collect();
    let shares = if own.is_empty() { shares } else { own };
    let all = shares.iter().map(|share| share.weight).sum();
    let mut drawn = draws.below(all, "access", &node.name, 0);
    let chosen = shares.into_iter().find(|share| {
        let is_it = drawn < share.weight;
        drawn = drawn.saturating_sub(share.weight);
        is_it
    });
    chosen.map_or_else(|| node.access.clone(), |share| node.access.or(&share.access))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ggen_harness::fabric::nat::Kind;

    use super::*;

    fn scenario(added: &str) -> Scenario {
        let text = format!(
            "duration = \"60s\"\nlatency = \"10ms\"\nengine = \"fabric\"\n\
             [topology]\nkind = \"hub-and-spoke\"\nnodes = 400\nhubs = 100\n{added}"
        );
        Scenario::parse(Path::new("small.toml"), &text).unwrap()
    }

    #[test]
    fn a_scenario_that_says_nothing_is_one_private_network() {
        let places = Places::draw(&scenario(""), Draws::new(1));
        assert_eq!(places.ip(299), IpAddr::from([10, 0, 1, 44]));
        assert!((0..400).all(|site| places.ip(site) == ip(site) && places.site(ip(site)) == Some(site)));
        assert!(places.host(0).router.is_none() && places.host(0).up.is_none());
    }

    #[test]
    fn kinds_of_access_are_drawn_by_weight_and_role_and_nobody_else_changes() {
        let text = "[[access]]\nroles = [\"hub\"]\nup = \"1Gbit/s\"\n\
                    [[access]]\nweight = 3\nnat = \"symmetric\"\nnat-idle = \"1m\"\nup = \"8Mbit/s\"\n\
                    [[access]]\nnat = \"none\"\n\
                    [[access]]\nweight = 0\nnat = \"address-dependent\"\n";
        let own = "[[nodes]]\nname = \"spoke-7\"\nnat = \"endpoint-independent\"\nfirewall = true\n";
        let (plain, said) = (scenario(text), scenario(&format!("{text}{own}")));
        let places = Places::draw(&plain, Draws::new(1));
        assert!(
            (0..100).all(|hub| places.host(hub).up == Some(125_000_000) && places.host(hub).router.is_none())
        );
        let kinds = |places: &Places| -> Vec<Option<Kind>> {
            (100..400).map(|site| places.host(site).router.map(|router| router.kind)).collect()
        };
        let drawn = kinds(&places);
        let symmetric = drawn.iter().filter(|kind| **kind == Some(Kind::Symmetric)).count();
        assert!((195..255).contains(&symmetric), "{symmetric} of 300");
        assert_eq!(drawn.iter().filter(|kind| kind.is_none()).count(), 300 - symmetric);
        let mut others = kinds(&Places::draw(&said, Draws::new(1)));
        assert_eq!(others[7], Some(Kind::EndpointIndependent));
        others[7] = drawn[7];
        assert_eq!(others, drawn, "nobody else changes");
        assert_ne!(kinds(&Places::draw(&plain, Draws::new(2))), drawn);
        let host = places.host(100 + drawn.iter().position(Option::is_some).unwrap());
        assert_eq!((host.up, host.router.unwrap().idle), (Some(1_000_000), Duration::from_secs(60)));
    }

    #[test]
    fn whoever_stands_behind_one_router_is_told_the_inside_and_others_the_outside() {
        let behind = |node: &str| format!("[[nodes]]\nname = \"{node}\"\nrouter = \"office\"\n");
        let text = format!(
            "[routers.office]\nnat = \"symmetric\"\nhairpins = true\n[routers.cafe]\nnat = \"address-dependent\"\n\
             {}{}[[nodes]]\nname = \"hub-3\"\nnat = \"endpoint-independent\"\n\
             [[faults]]\nkind = \"moves\"\nat = \"5s\"\nrouter = \"cafe\"\nnodes = [\"hub-3\"]\n",
            behind("hub-1"),
            behind("hub-2")
        );
        let places = Places::draw(&scenario(&text), Draws::new(1));
        let outside = places.host(1).router.unwrap().outside;
        assert!(places.host(1).router == places.host(2).router && places.host(1).router.unwrap().hairpins);
        assert_eq!((places.seen(1, Some(2)), places.seen(1, Some(0))), (ip(1), outside));
        assert_eq!(places.seen(0, Some(1)), IpAddr::from([11, 0, 0, 1]));
        assert!(places.are_together(1, 2) && !places.are_together(1, 3) && !places.are_together(0, 4));
        let cafe = places.next_router(3, Some("cafe"), 1).unwrap();
        assert_eq!(cafe.kind, Kind::AddressDependent);
        let again = places.next_router(3, None, 1).unwrap();
        assert!(
            again.outside != places.host(3).router.unwrap().outside
                && again.kind == Kind::EndpointIndependent
        );
    }
}
