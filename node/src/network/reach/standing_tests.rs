use super::{
    super::proofs::{UNVISITED, WORD_TIME},
    *,
};

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

const HOLE: &str = "/ip4/203.0.113.21/tcp/4001";

/// A node with a clock, and a connection of its own for all that is said.
struct Node {
    standing: Standing,
    now: Instant,
    connections: usize,
}

impl std::ops::Deref for Node {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

impl std::ops::DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Standing {
        &mut self.standing
    }
}

impl Node {
    fn new(configured: config::Reach, listens: bool) -> Self {
        Self { standing: Standing::new(configured, listens), now: Instant::now(), connections: 0 }
    }

    fn dialled(&mut self, at: &Multiaddr) {
        self.standing.dialled(at, self.now);
    }

    /// Opens a connection, has the peer say where it sees this node, and yields the connection.
    fn seen(&mut self, at: &Multiaddr, dialled: Option<bool>, observed: &Multiaddr) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId::new_unchecked(self.connections);
        self.standing.opened(connection, at, dialled.is_some(), self.now);
        self.standing.seen(connection, at, dialled, observed, self.now);
        connection
    }

    /// Has strangers of two networks come, who stay.
    fn strangers_come(&mut self, to: &str) -> [ConnectionId; 2] {
        ["/ip4/5.5.5.5/tcp/50000", "/ip4/6.6.6.6/tcp/50000"].map(|from| self.seen(&at(from), None, &at(to)))
    }

    fn close(&mut self, connections: [ConnectionId; 2]) {
        connections.iter().for_each(|connection| self.standing.closed(*connection, self.now));
    }

    /// Comes to another network, where no connection stands any more.
    fn moved(&mut self) {
        let dead: Vec<ConnectionId> = (1..=self.connections).map(ConnectionId::new_unchecked).collect();
        self.standing.moved(&dead, self.now);
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        self.standing.expire(self.now);
    }

    fn checked(&mut self, leads_here: bool) {
        self.standing.checked(&at(HOLE), leads_here, self.now);
    }

    fn unvisited(&self) -> Vec<Multiaddr> {
        self.standing.unvisited(self.now)
    }

    fn mapped(&mut self, said: &[&str], works: &[&str]) {
        let [said, works] = [said, works].map(|it| it.iter().map(|it| at(it)).collect());
        self.standing.mapped(said, works);
    }

    fn told(&self) -> Vec<String> {
        self.for_others().iter().map(ToString::to_string).collect()
    }
}

/// A node that listens at a private address.
fn private() -> Node {
    let mut standing = Node::new(config::Reach::Auto, true);
    standing.bound(&at("/ip4/127.0.0.1/tcp/4001"));
    standing.bound(&at("/ip4/192.168.1.7/tcp/4001"));
    standing
}

#[test]
fn who_is_seen_where_nothing_listens_is_behind_a_nat() {
    let mut standing = private();
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
    standing.seen(&at("/ip4/192.168.1.9/tcp/1"), Some(true), &at("/ip4/192.168.1.7/tcp/4001"));
    assert_eq!(standing.verdict(), Verdict::Unknown, "in the same house");
    standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Steady)));
    assert_eq!(standing.ports(), Ports { tcp: Some(4001), udp: None });
    standing.seen(&at("/ip4/9.9.9.9/tcp/1"), Some(false), &at("/ip4/203.0.113.21/tcp/50000"));
    assert_eq!(standing.mapping(), Some(Mapping::Steady), "it was dialled from another port");
    standing.seen(&at("/ip4/9.9.9.9/tcp/1"), Some(true), &at("/ip4/203.0.113.21/tcp/50001"));
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Changing)));
}

#[test]
fn a_nat_may_give_tcp_and_udp_different_ports_and_is_steady() {
    let mut standing = private();
    standing.bound(&at("/ip4/192.168.1.7/udp/4002/quic-v1"));
    assert_eq!(standing.ports(), Ports { tcp: Some(4001), udp: Some(4002) });
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    standing.seen(&at("/ip4/9.9.9.9/udp/1/quic-v1"), Some(true), &at("/ip4/203.0.113.21/udp/9/quic-v1"));
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Behind, Some(Mapping::Steady)));
    standing.seen(&at("/ip4/1.1.1.1/udp/1/quic-v1"), Some(true), &at("/ip4/203.0.113.21/udp/8/quic-v1"));
    assert_eq!(standing.mapping(), Some(Mapping::Changing));
}

#[test]
fn a_machine_with_a_public_address_is_not_talked_out_of_it() {
    let mut standing = private();
    standing.bound(&at("/ip4/198.51.100.1/tcp/4001"));
    for n in 1..100 {
        standing.seen(&at(&format!("/ip4/8.8.{n}.8/tcp/1")), Some(true), &at(HOLE));
    }
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
    standing.unbound(&at("/ip4/198.51.100.1/tcp/4001"));
    assert_eq!(standing.verdict(), Verdict::Behind, "it moved into a house");
}

#[test]
fn strangers_of_two_networks_prove_an_address_and_nobody_who_was_dialled_does() {
    let mut standing = private();
    standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    // A NAT may let in whom something was sent to.
    standing.seen(&at("/ip4/8.8.8.8/tcp/50000"), None, &at(HOLE));
    standing.seen(&at("/ip4/8.8.8.9/tcp/50000"), None, &at(HOLE));
    // One network tells what it likes, and strangers tell different things.
    for n in 1..100 {
        standing.seen(&at("/ip4/9.9.9.9/tcp/50000"), None, &at(&format!("/ip4/9.9.{n}.1/tcp/1")));
        standing.seen(&at("/ip4/9.9.9.9/tcp/50000"), None, &at(HOLE));
    }
    standing.seen(&at("/ip4/1.1.1.1/tcp/50000"), None, &at("/ip4/10.0.0.1/tcp/4001"));
    assert_eq!((standing.verdict(), standing.proved().count()), (Verdict::Behind, 0));
    let mut standing = private();
    for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
        assert_ne!(standing.verdict(), Verdict::Direct);
        standing.seen(&at(from), None, &at(HOLE));
    }
    assert_eq!(
        (standing.verdict(), standing.proved().collect::<Vec<_>>()),
        (Verdict::Direct, vec![&at(HOLE)])
    );
}

const MAPPED: &str = "/ip4/203.0.113.21/tcp/12345";

/// A node behind a NAT, as one that it dialled says.
fn behind() -> Node {
    let mut standing = private();
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    standing
}

#[test]
fn a_router_is_asked_where_a_nat_stands_between_and_no_port_leads_through_it() {
    assert!(!private().wants_mapping(), "no NAT was seen");
    let mut standing = behind();
    assert!(standing.wants_mapping() && standing.verdict() == Verdict::Behind);
    standing.mapped(&[MAPPED], &[]);
    standing.strangers_come(MAPPED);
    assert!(standing.wants_mapping(), "strangers came to what the router maps, before those who were asked");
    let mut standing = behind();
    standing.strangers_come(HOLE);
    assert!(!standing.wants_mapping(), "somebody forwarded a port");
    standing.moved();
    assert!(!standing.wants_mapping());
    for (configured, listens) in
        [(config::Reach::Direct, true), (config::Reach::Relay, true), (config::Reach::Auto, false)]
    {
        let mut standing = Node::new(configured, listens);
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        assert!(!standing.wants_mapping());
    }
}

#[test]
fn a_node_whose_router_maps_its_port_no_longer_is_behind_a_nat_and_asks_again() {
    for (said, why) in [(&[][..], "the router refuses"), (&[MAPPED][..], "peers do not get through")] {
        let mut standing = behind();
        standing.mapped(&[MAPPED], &[MAPPED]);
        let strangers = standing.strangers_come(MAPPED);
        assert_eq!((standing.verdict(), standing.told()), (Verdict::Direct, vec![MAPPED.to_owned()]));
        standing.mapped(said, &[]);
        // They stay where the NAT keeps what it once let in, and say again where they came to.
        for (from, connection) in ["/ip4/5.5.5.5/tcp/1", "/ip4/6.6.6.6/tcp/1"].into_iter().zip(strangers) {
            let now = standing.now;
            standing.standing.seen(connection, &at(from), None, &at(MAPPED), now);
        }
        assert_eq!((standing.verdict(), standing.told()), (Verdict::Behind, Vec::new()), "{why}");
        assert!(standing.wants_mapping(), "{why}");
        standing.strangers_come(MAPPED);
        assert_eq!(standing.verdict(), Verdict::Direct, "it leads here after all");
    }
}

#[test]
fn others_are_told_of_what_is_proved_or_mapped_at_this_moment() {
    const OVER_QUIC: &str = "/ip4/203.0.113.21/udp/4001/quic-v1";
    for configured in [config::Reach::Auto, config::Reach::Direct] {
        let mut standing = Node::new(configured, true);
        standing.bound(&at("/ip4/192.168.1.7/tcp/4001"));
        standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
        standing.strangers_come(HOLE);
        assert_eq!(standing.told(), [HOLE]);
        standing.strangers_come(OVER_QUIC);
        assert_eq!(standing.told(), [HOLE, OVER_QUIC], "the same networks over QUIC");
        standing.mapped(&[MAPPED], &[MAPPED]);
        assert_eq!(standing.told(), [HOLE, MAPPED, OVER_QUIC]);
        standing.mapped(&[], &[]);
        assert_eq!(standing.told(), [HOLE, OVER_QUIC]);
        standing.moved();
        assert!(standing.told().is_empty());
    }
    let mut standing = Node::new(config::Reach::Relay, true);
    standing.strangers_come(HOLE);
    assert!(standing.told().is_empty(), "the configuration says that nobody can");
}

#[test]
fn that_nobody_comes_for_an_hour_has_peers_asked_and_ends_nothing() {
    let mut standing = behind();
    let strangers = standing.strangers_come(HOLE);
    standing.later(2 * WORD_TIME);
    assert!(standing.unvisited().is_empty(), "they are still here");
    assert_eq!(standing.told(), [HOLE]);
    standing.close(strangers);
    // In a small network everybody is dialled after a while.
    let dialled = ["/ip4/5.5.5.5/tcp/4001", "/ip4/6.6.6.6/tcp/4001"].map(at);
    dialled.iter().for_each(|there| standing.dialled(there));
    standing.later(UNVISITED);
    assert_eq!((standing.verdict(), standing.unvisited()), (Verdict::Direct, vec![at(HOLE)]));
    for _ in 0..48 {
        standing.checked(true);
        assert!(standing.unvisited().is_empty());
        standing.later(UNVISITED);
    }
    assert_eq!(standing.verdict(), Verdict::Direct, "for two days peers got through");
    standing.checked(false);
    assert_eq!((standing.verdict(), standing.told()), (Verdict::Behind, Vec::new()));
    assert!(standing.wants_mapping());
}

#[test]
fn what_was_proved_holds_for_a_day_where_nobody_can_be_asked() {
    let mut standing = behind();
    let strangers = standing.strangers_come(HOLE);
    standing.close(strangers);
    standing.later(WORD_TIME - UNVISITED);
    assert_eq!((standing.verdict(), standing.unvisited()), (Verdict::Direct, vec![at(HOLE)]));
    standing.later(UNVISITED);
    assert_eq!((standing.verdict(), standing.told()), (Verdict::Behind, Vec::new()));
}

#[test]
fn where_this_node_was_seen_before_does_not_outvote_where_it_is_seen_now() {
    const LATER: &str = "/ip4/203.0.113.77/tcp/4001";
    let mut standing = private();
    for n in 0..30 {
        standing.seen(&at(&format!("/ip4/8.8.{n}.8/tcp/1")), Some(true), &at(HOLE));
    }
    standing.strangers_come(HOLE);
    standing.later(SEEN_TIME);
    assert_eq!(standing.told(), [HOLE], "nobody says anything else");
    standing.seen(&at("/ip4/8.8.1.8/tcp/1"), Some(true), &at(LATER));
    standing.later(Duration::ZERO);
    assert_eq!(standing.told(), [HOLE], "one network");
    standing.seen(&at("/ip4/8.8.2.8/tcp/1"), Some(true), &at(LATER));
    standing.later(Duration::ZERO);
    assert_eq!(
        (standing.verdict(), standing.told()),
        (Verdict::Behind, Vec::new()),
        "it has another address"
    );
    for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
        standing.seen(&at(from), None, &at(LATER));
    }
    assert_eq!(standing.told(), [LATER]);
}

#[test]
fn the_port_to_forward_is_one_that_others_can_get_to() {
    let mut standing = Node::new(config::Reach::Auto, true);
    standing.bound(&at("/ip4/127.0.0.1/tcp/7001"));
    standing.bound(&at("/ip6/::1/udp/7002/quic-v1"));
    assert_eq!(standing.ports(), Ports::default());
    standing.bound(&at("/ip6/2001:db8::7/tcp/4006"));
    standing.bound(&at("/ip6/2001:db8::7/udp/4007/quic-v1"));
    assert_eq!(standing.ports(), Ports { tcp: Some(4006), udp: Some(4007) });
    standing.bound(&at("/ip4/192.168.1.7/tcp/4001"));
    assert_eq!(standing.ports(), Ports { tcp: Some(4001), udp: Some(4007) });
}

#[test]
fn strangers_prove_no_address_of_another_machine_than_the_dialled_see() {
    let mut standing = private();
    for from in ["/ip4/9.9.9.9/tcp/50000", "/ip4/1.1.1.1/tcp/50000"] {
        standing.seen(&at(from), None, &at("/ip4/203.0.113.99/tcp/4001"));
    }
    standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    assert_eq!((standing.verdict(), standing.proved().count()), (Verdict::Behind, 0));
    for from in ["/ip4/5.5.5.5/tcp/50000", "/ip4/6.6.6.6/tcp/50000"] {
        standing.seen(&at(from), None, &at(HOLE));
    }
    assert_eq!(standing.proved().collect::<Vec<_>>(), [&at(HOLE)]);
}

#[test]
fn a_machine_that_moved_knows_nothing_of_where_it_is() {
    let mut standing = private();
    standing.dialled(&at("/ip4/8.8.8.8/tcp/1"));
    standing.seen(&at("/ip4/8.8.8.8/tcp/1"), Some(true), &at(HOLE));
    assert_eq!(standing.verdict(), Verdict::Behind);
    standing.moved();
    assert_eq!((standing.verdict(), standing.mapping()), (Verdict::Unknown, None));
    for from in ["/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"] {
        standing.seen(&at(from), None, &at(HOLE));
    }
    assert_eq!(standing.verdict(), Verdict::Direct, "it was dialled from elsewhere");
}

#[test]
fn what_the_configuration_says_counts() {
    for (configured, listens, verdict) in [
        (config::Reach::Direct, true, Verdict::Direct),
        (config::Reach::Relay, true, Verdict::Behind),
        (config::Reach::Auto, false, Verdict::Behind),
        (config::Reach::Auto, true, Verdict::Unknown),
    ] {
        assert_eq!(Standing::new(configured, listens).verdict(), verdict);
    }
}
