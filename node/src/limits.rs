//! Every bound in one place, with its unit and its reason.
//!
//! Whatever a peer sends, a file holds, or a caller asks for is checked against one of these before it is parsed, stored or
//! waited for.

use std::time::Duration;

/// Largest block: one chunk of a file. A directory or file node is always smaller (1024 links, 256 KiB directories).
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Blocks from this size on share their place on the disk with installed files, where the file system can: smaller ones would cost as much
/// for being aligned as they save.
pub const SHARED_BYTES_MIN: usize = 64 << 10;
/// What such file systems share at least, and all that begins and ends at multiples of it. One with larger pages copies.
pub const SHARED_PAGE_BYTES: usize = 4096;
/// Size of a file's chunks, as the profile `unixfs-v1-2025` has it.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Children of one file node, as the profile has it.
pub const LINKS_MAX: usize = 1024;
/// A directory node over this size becomes a sharded one, as the profile has it.
pub const DIRECTORY_BYTES_MAX: usize = 256 << 10;
/// Files in one package.
pub const FILES_MAX: usize = 100_000;
/// Directories in one package: as many as files may be. Each is a block of its own, and a folder on every disk; without a
/// limit, files deep in directories of their own would be 64 times as many.
pub const DIRECTORIES_MAX: usize = FILES_MAX;
/// Bytes in one package, all files together.
pub const PACKAGE_BYTES_MAX: u64 = 16 << 30;
/// Bytes in one file.
pub const FILE_BYTES_MAX: u64 = 8 << 30;
/// Bytes of a signed manifest; 100 000 files at about 250 bytes, rounded up.
pub const MANIFEST_BYTES_MAX: usize = 32 << 20;
/// Bytes of a path inside a package.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of one component of a path: what file systems take.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Directories above a file.
pub const DEPTH_MAX: usize = 64;
/// Bytes of a `gpack.toml`.
pub const GPACK_BYTES_MAX: usize = 1 << 20;
/// An ignore file of a package: a pattern takes hundreds of times its own bytes once it is compiled.
pub const IGNORE_FILE_BYTES_MAX: u64 = 64 << 10;
/// Nesting of tables and arrays in a `gpack.toml` or a configuration file.
pub const TOML_DEPTH_MAX: usize = 32;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Bytes of a package name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a version.
pub const VERSION_BYTES_MAX: usize = 64;
/// Bytes of a version requirement that a person types: some ten comparators.
pub const REQUIREMENT_BYTES_MAX: usize = 256;
/// Files that are named where they differ from what was signed; the others are counted.
pub const DIFFERENCES_NAMED_MAX: usize = 20;
/// Letters of a publisher id, beside `gp1`, below which nothing is taken for its short form: four letters are 20 bits, so that
/// two of the publishers that one person deals with hardly ever share them.
pub const SHORT_ID_LETTERS_MIN: usize = 4;
/// The same for a publisher of whom nothing is installed, pinned or published here: whoever wants to be taken for another one makes
/// keys until the short form of their id is the same, and four letters take seconds.
pub const STRANGER_ID_LETTERS_MIN: usize = 8;
/// Publishers that are looked at to find out which one a short id means; more are called ambiguous.
pub const SHORT_ID_FITTING_MAX: usize = 64;
/// Bytes of a description; with all other fields at their limits a head stays below [`HEAD_BYTES_MAX`].
pub const DESCRIPTION_BYTES_MAX: usize = 512;
/// Tags, and categories, of one package.
pub const LABELS_MAX: usize = 16;
/// Bytes of one tag or category.
pub const LABEL_BYTES_MAX: usize = 32;
/// Authors of one package.
pub const AUTHORS_MAX: usize = 32;
/// Bytes of one author, of a licence expression, or of a repository address.
pub const FIELD_BYTES_MAX: usize = 256;
/// Dependencies of one package.
pub const DEPENDENCIES_MAX: usize = 512;
/// Bytes of a project's lock file: ten thousand packages of a kilobyte each, with what each of them needs.
pub const LOCK_BYTES_MAX: usize = 32 << 20;
/// Bytes of what a project notes beside its packages: as much as its lock file.
pub const PROJECT_NOTE_BYTES_MAX: usize = LOCK_BYTES_MAX;
/// Packages of a project that are fetched at once: each asks several peers itself.
pub const PROJECT_FETCHES_MAX: usize = 4;
/// Packages that one `add`, `remove` or `update` names: more than a person types.
pub const PROJECT_NAMED_MAX: usize = 256;

/// Bytes of a signed head: it travels in gossip, and in DHT records beside the addresses of twenty peers, within the 16 KiB of a
/// message of Kademlia.
pub const HEAD_BYTES_MAX: usize = 9 << 10;
/// Bytes of a publisher's chain of key documents: all else that a head says fits beside it.
pub const KEY_CHAIN_BYTES_MAX: usize = 6 << 10;
/// Documents that revoke a key for which room is kept in a chain: whoever has a key stolen can say so.
pub const KEY_REVOCATIONS_RESERVED: usize = 2;
/// Bytes of a signed log entry: a resolve that names [`RESOLVED_ENTRIES_MAX`] entries and keeps [`RESOLVED_VERSIONS_MAX`] versions.
pub const ENTRY_BYTES_MAX: usize = 32 << 10;
/// Branches of a log that one entry resolves: each machine that signed apart from the others makes one.
pub const RESOLVED_BRANCHES_MAX: usize = 8;
/// Entries of the branches that one entry resolves.
pub const RESOLVED_ENTRIES_MAX: usize = 64;
/// Versions that one entry keeps or withdraws: those of two machines that published apart from each other for months.
pub const RESOLVED_VERSIONS_MAX: usize = 128;
/// Entries that a head names as resolved, eight bytes each: all of the newest resolve, within [`HEAD_BYTES_MAX`].
pub const RESOLVED_NAMES_MAX: usize = RESOLVED_ENTRIES_MAX;
/// Bytes of a signed key document.
pub const KEY_DOCUMENT_BYTES_MAX: usize = 2 << 10;
/// Keys in one key document.
pub const KEYS_MAX: usize = 8;
/// Entries in one package's log.
pub const LOG_ENTRIES_MAX: usize = 10_000;
/// Bytes of all entries of one log: as many of them as there may be, each as large as those that we sign. They are in memory
/// together until the log is verified.
pub const LOG_BYTES_MAX: usize = 24 << 20;
/// Bytes of a signed confirmation: as a head, since both travel in gossip and in DHT records.
pub const CONFIRMATION_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// Heads that a confirmation lists itself, some two kilobytes; more are listed in a block of their own.
pub const CONFIRMED_LISTED_MAX: usize = 64;
/// The shortest time for which a publisher may promise its next confirmation: more often would be a load for others.
pub const CONFIRM_INTERVAL_MIN: Duration = Duration::from_secs(24 * 3600);
/// The longest time for which it may: a promise for longer says nothing about an update that somebody needs.
pub const CONFIRM_INTERVAL_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long after a release a confirmation may be missing before it is called overdue: it travels apart from the head.
pub const CONFIRM_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Between two confirmations of one publisher that pass through gossip; those between them come by the exchange of heads.
pub const CONFIRM_GOSSIP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Confirmations that are held, each of one publisher: some 25 MB.
pub const CONFIRMATIONS_MAX: usize = 50_000;
/// Bytes of confirmations in one page of the exchange.
pub const CONFIRMATIONS_PAGE_BYTES: usize = 64 << 10;
/// How far ahead of our clock a head may have been made.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10 * 60);

/// How long what a node said of its run may take to come to its twin, through a third one: two rounds of greetings.
pub const HELLO_FRESH: Duration = Duration::from_secs(10 * 60);
/// How often everybody is greeted again.
pub const HELLO_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long nothing is signed where a peer told of an earlier run of this node: until that run, if it goes on, has shown it.
pub const RUN_UNSETTLED: Duration = Duration::from_secs(5);
/// Bytes of a greeting: a time, and the words of so many runs.
pub const HELLO_BYTES_MAX: usize = 1 << 10;
/// Words of runs in one greeting. Two are enough to say that there are two.
pub const HELLO_WORDS_MAX: usize = 4;
/// Greetings of one peer, and answers to ours, that are looked at at once.
pub const HELLOS_PER_PEER_MAX: u32 = 16;
/// How long until it may say one more.
pub const HELLO_REFILL: Duration = Duration::from_secs(4);
/// How far the wall clock may be from that of most peers: half of what others tolerate of what is signed.
pub const CLOCK_OFF_MAX: Duration = Duration::from_secs(5 * 60);
/// Peers whose clocks are remembered.
pub const CLOCKS_MAX: usize = 64;

/// Heads that the catalogue holds, over all publishers.
pub const CATALOG_HEADS_MAX: usize = 200_000;
/// Heads that the catalogue holds of one publisher: those that were released last, beside what is kept.
pub const CATALOG_HEADS_PER_PUBLISHER_MAX: usize = 10_000;
/// Heads that count as provided because one peer says so, or the peers of one public network together: as many as a peer may have
/// provider records of.
pub const CATALOG_PROVIDED_PER_SOURCE_MAX: usize = DHT_KEYS_PER_PROVIDER_MAX;
/// Heads that count as provided because one tree is: a few packages have the same files, and one word must not mark all of a catalogue.
pub const CATALOG_PROVIDED_PER_TREE_MAX: usize = 16;
/// Publishers of one name that are told apart by name; the rest is counted.
pub const CLAIMS_LISTED_MAX: usize = 20;
/// Seconds that a search may ask others: at least, and at most.
pub const SEARCH_SECONDS: std::ops::RangeInclusive<f64> = 0.001..=3_600.0;
/// Matches whose providers are looked up where only those with a reputation are wanted: each costs a lookup.
pub const SEARCH_FILTERED_MAX: usize = 2_000;
/// Matches of one search that are counted; where there are more, only that is said: a word may stand in every package.
pub const SEARCH_COUNTED_MAX: usize = 5_000;
/// Results of one search.
pub const SEARCH_RESULTS_MAX: usize = 1_000;
/// Equal matches of a search that are put in order; each costs a microsecond.
pub const SEARCH_SORTED_MAX: usize = 512;
/// Words of one package among which a misspelt one is looked for: those of its name and labels first, then of its description.
pub const SPELLED_WORDS_MAX: usize = 48;
/// New words after which those are removed that no package has any more.
pub const SPELLED_SWEEP: i64 = 1 << 18;
/// Events that wait for one listener; of a slower one the oldest are left out.
pub const EVENTS_QUEUED_MAX: usize = 1_024;
/// Bytes of a query's text.
pub const QUERY_BYTES_MAX: usize = 1_024;

/// Peers in the address book.
pub const PEERS_MAX: usize = 10_000;
/// Addresses kept of one peer.
pub const ADDRESSES_PER_PEER_MAX: usize = 16;
/// Events kept of one peer's history.
pub const PEER_EVENTS_MAX: usize = 1_000;

/// Streams of one connection, both directions together: somewhat more than all protocols have open at once. Each may hold 256 KiB
/// that were sent and are not read yet, which no setting makes less.
pub const STREAMS_PER_CONNECTION_MAX: usize = 192;
/// Bytes of one stream over QUIC that were sent and are not read yet: as much as a peer sends in a round trip of 50 milliseconds at
/// 80 MB/s.
pub const QUIC_STREAM_BYTES_MAX: u32 = 4 << 20;
/// Those of all streams of one connection over QUIC.
pub const QUIC_CONNECTION_BYTES_MAX: u32 = 8 << 20;
/// Handshakes over QUIC that others may begin at once.
pub const QUIC_HANDSHAKES_AT_ONCE_MAX: u32 = 200;
/// How often they may begin one more. Each costs a fraction of a millisecond, whoever it says that it is.
pub const QUIC_HANDSHAKES_REFILL: Duration = Duration::from_millis(5);
/// Streams of one connection that have not agreed on a protocol yet; others wait. Each may hold a line of 16 KiB.
pub const STREAMS_NEGOTIATING_MAX: usize = 20;
/// DHT value records held for others.
pub const DHT_RECORDS_MAX: usize = 8_192;
/// Those of them that one peer brought: a quarter.
pub const DHT_RECORDS_PER_PEER_MAX: usize = DHT_RECORDS_MAX / 4;
/// Those of them that the peers of one public network brought: half, however many ids it has.
pub const DHT_RECORDS_PER_NETWORK_MAX: usize = DHT_RECORDS_MAX / 2;
/// Records, of values and of providers, that are taken from one peer at once; a large node renews its own at once, and sends
/// again later what found no room.
pub const DHT_WRITES_PER_PEER_MAX: u32 = 4_096;
/// Until one more of it is taken: a hundred a second.
pub const DHT_WRITES_PER_PEER_REFILL: Duration = Duration::from_millis(10);
/// Lookups of one peer that are answered at once: each costs a search of the routing table.
pub const DHT_READS_PER_PEER_MAX: u32 = 8_192;
/// Until one more of them is answered: a thousand a second, more than a node asks that renews ten thousand packages among twenty
/// nodes, a hundred of them at a time.
pub const DHT_READS_PER_PEER_REFILL: Duration = Duration::from_millis(1);
/// Requests of one peer for the DHT, of whatever kind, that are borne at once: several times what is looked at. A peer that sends more
/// is blocked for a while.
pub const DHT_REQUESTS_BORNE_MAX: u32 = 4 * (DHT_READS_PER_PEER_MAX + DHT_WRITES_PER_PEER_MAX);
/// Until one more of them is borne: four thousand a second.
pub const DHT_REQUESTS_BORNE_REFILL: Duration = Duration::from_micros(250);
/// Keys for which provider records are held.
pub const DHT_PROVIDED_KEYS_MAX: usize = 32_768;
/// Provider records held of one key.
pub const DHT_PROVIDERS_PER_KEY_MAX: usize = 20;
/// Provider records held of one peer.
pub const DHT_KEYS_PER_PROVIDER_MAX: usize = 8_192;
/// Provider records held of the peers of one public network, however many ids it has: half of the keys.
pub const DHT_KEYS_PER_NETWORK_MAX: usize = DHT_PROVIDED_KEYS_MAX / 2;
/// Provider records of one key that are held of the peers of one public network: half, so that ids ground near a key do not keep
/// everybody else out.
pub const DHT_PROVIDERS_PER_NETWORK_MAX: usize = DHT_PROVIDERS_PER_KEY_MAX / 2;
/// Addresses kept of one provider record.
pub const DHT_ADDRESSES_PER_PROVIDER_MAX: usize = 8;

/// How often one peer may say who it is at once: once a connection, once in five minutes, and once for each address that its machine
/// gains or loses.
pub const IDENTITIES_PER_PEER_MAX: u32 = 16;
/// Until it may say it once more.
pub const IDENTITIES_PER_PEER_REFILL: Duration = Duration::from_secs(10);
/// How often a peer may say who it is, in vain too, before it is blocked for a while.
pub const IDENTITIES_BORNE_MAX: u32 = 512;
/// Until once more is borne.
pub const IDENTITIES_BORNE_REFILL: Duration = Duration::from_secs(1);
/// How often one peer is a new listener to the topic at once.
pub const LISTENER_PER_PEER_MAX: u32 = 16;
/// Until it is once more.
pub const LISTENER_PER_PEER_REFILL: Duration = Duration::from_secs(10);

/// Networks of which is remembered where they see this node, and what they say that they came to, each; and addresses that are listened on.
pub const REACH_NETWORKS_MAX: usize = 64;
/// Networks of which is remembered that they were dialled: as many as a hub has connections with, and a full set proves nothing any more.
pub const REACH_DIALLED_MAX: usize = 1024;
/// Addresses that others are told of because strangers came to them: libp2p tells of twenty in all, and relays are among those.
pub const REACH_PROVED_MAX: usize = 8;
/// Addresses of which is remembered that they lead to this node no longer: the router and those who try name a few.
pub const REACH_DOUBTED_MAX: usize = 16;
/// Networks of this machine's interfaces that are looked at: containers make dozens.
pub const NEARBY_NETS_MAX: usize = 64;
/// Peers of the local network that are remembered: an office, or a class.
pub const NEARBY_PEERS_MAX: usize = 64;
/// Addresses of each: two interfaces, two kinds of addresses, two transports.
pub const NEARBY_ADDRESSES_MAX: usize = 8;
/// Peers of the local network that are dialled at once: anyone there can name addresses where nobody answers.
pub const NEARBY_DIALLED_AT_ONCE_MAX: usize = 8;
/// Peers of the local network whose connections are not closed for being too many: those that come first to be fetched from.
pub const NEARBY_KEPT_MAX: usize = 8;
/// What was seen of the local network and waits for the loop; what is more is seen again.
pub const NEARBY_QUEUED_MAX: usize = 64;
/// Answers on the local network that libp2p's mDNS may hold before it is begun again.
pub const MDNS_RECORDS_MAX: usize = 1_024;
/// Time of the CPU that mDNS may use of a second: an honest network of a hundred nodes takes a thousandth of it. What it holds grows with it.
pub const MDNS_CPU_PER_SECOND_MAX: Duration = Duration::from_millis(100);
/// How long nobody is looked for on the local network where that was exceeded.
pub const MDNS_REST: Duration = Duration::from_secs(10 * 60);
/// Bytes of one answer of a router, and of its head: descriptions have some thousand.
pub const ROUTER_ANSWER_BYTES_MAX: usize = 1 << 16;
/// How long a router may take for one answer, however it comes.
pub const ROUTER_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Routers that are heard of in one search: anyone on the local network can answer.
pub const ROUTERS_HEARD_MAX: usize = 8;
/// Routers of those that are asked to describe themselves.
pub const ROUTERS_TRIED_MAX: usize = 3;
/// Peers, each of another network, that are asked at once whether they get through a port that the router maps, or through a relay.
pub const DIALS_BACK_ASKED_MAX: usize = 3;
/// Bytes of that question, and of its answer: two ports, and the id of a relay.
pub const DIAL_BACK_BYTES_MAX: usize = 64;
/// Peers that are dialled at once because they ask for it.
pub const DIALS_BACK_AT_ONCE_MAX: usize = 16;
/// How often in a row peers of one network are dialled because they ask for it: a node asks every twenty minutes.
pub const DIALS_BACK_PER_NETWORK_MAX: u32 = 8;
/// Until it is once more.
pub const DIALS_BACK_PER_NETWORK_REFILL: Duration = Duration::from_secs(60);
/// How often in a row peers are dialled because they ask for it, of all networks.
pub const DIALS_BACK_MAX: u32 = 64;
/// Until it is once more.
pub const DIALS_BACK_REFILL: Duration = Duration::from_secs(1);
/// Relays on which a node that nobody can connect to is reached: one that fails, and one that is left.
pub const RELAYS_MAX: usize = 2;
/// Relays that are asked at once, so that one that does not answer holds up no other.
pub const RELAYS_ASKED_MAX: usize = 4;
/// Relays that failed and are remembered.
pub const RELAYS_FAILED_MAX: usize = 64;
/// Nodes that are reached through this one as their relay: each costs a connection, and a renewal every half hour.
pub const RELAY_RESERVATIONS_MAX: usize = 128;
/// Connections that this node relays at once: each has two buffers of 8 KiB.
pub const RELAY_CIRCUITS_MAX: usize = 64;
/// Those of them that one peer dialled, and reservations of one peer.
pub const RELAY_CIRCUITS_PER_PEER_MAX: usize = 4;
/// Bytes of one relayed connection, both ways together: some packages where no direct connection can be made. With the two numbers
/// around it, all relayed connections together move 3.6 MB a second at most.
pub const RELAY_CIRCUIT_BYTES_MAX: u64 = 32 << 20;
/// How long one relayed connection lasts at most: what is worth more is direct, or dialled again.
pub const RELAY_CIRCUIT_TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// How long a relay keeps a place for a node that does not renew it.
pub const RELAY_RESERVATION_TIME: Duration = Duration::from_secs(3600);
/// Relayed connections, and reservations, that one peer may begin at once.
pub const RELAY_REQUESTS_PER_PEER_MAX: u32 = 30;
/// Until it may begin one more.
pub const RELAY_REQUESTS_PER_PEER_REFILL: Duration = Duration::from_secs(60);
/// The same of all peers of one public network.
pub const RELAY_REQUESTS_PER_NETWORK_MAX: u32 = 120;
/// Until they may begin one more.
pub const RELAY_REQUESTS_PER_NETWORK_REFILL: Duration = Duration::from_secs(15);
/// Public networks whose requests to a relay are counted.
pub const RELAY_NETWORKS_MAX: usize = 4_096;
/// How many times as much a hub relays.
pub const RELAY_HUB_FACTOR: usize = 8;
/// Addresses of a peer that are dialled in one attempt to make a hole in two NATs. It comes with the peer's own word alone, and
/// there are three attempts.
pub const PUNCH_ADDRESSES_MAX: usize = 3;

/// Bytes of one gossip message: a head and its envelope.
pub const GOSSIP_BYTES_MAX: usize = 16 << 10;
/// Announcements of one author that are looked at at once; more come by the exchange of heads.
pub const ANNOUNCEMENTS_PER_AUTHOR_MAX: u32 = 64;
/// Until one more of it is looked at: four a second, many times what people publish.
pub const ANNOUNCEMENTS_PER_AUTHOR_REFILL: Duration = Duration::from_millis(250);
/// Announcements from one neighbour that are looked at at once, whoever their authors are.
pub const ANNOUNCEMENTS_PER_NEIGHBOUR_MAX: u32 = 1_024;
/// Until one more of it is looked at: a hundred a second.
pub const ANNOUNCEMENTS_PER_NEIGHBOUR_REFILL: Duration = Duration::from_millis(10);
/// Announcements that are looked at at once, whoever brings them: as many as three neighbours may bring. With what is filled again
/// meanwhile, and sixty microseconds for each of two signatures, that is less than half a second of one core.
pub const ANNOUNCEMENTS_MAX: u32 = 3 * ANNOUNCEMENTS_PER_NEIGHBOUR_MAX;
/// Until one more of it is looked at: four hundred a second.
pub const ANNOUNCEMENTS_REFILL: Duration = Duration::from_micros(2_500);
/// Messages of gossip that one neighbour may send at once, repetitions too: four times what an honest node takes, and so passes
/// on, at once. Whoever sends more is sent away.
pub const GOSSIP_MESSAGES_BORNE_MAX: u32 = 4 * ANNOUNCEMENTS_MAX;
/// Until one more of them is borne: a thousand a second, more than twice what an honest node passes on.
pub const GOSSIP_MESSAGES_BORNE_REFILL: Duration = Duration::from_millis(1);
/// Messages of gossip without a valid signature that one neighbour may send at once. An honest node sends none.
pub const GOSSIP_INVALID_BORNE_MAX: u32 = 16;
/// Until one more of them is borne.
pub const GOSSIP_INVALID_BORNE_REFILL: Duration = Duration::from_secs(10);
/// Authors, and neighbours, whose announcements are counted.
pub const ANNOUNCERS_MAX: usize = 4_096;
/// Proofs against publishers that a node announces at once; the exchange of heads brings the others.
pub const PROOFS_ANNOUNCED_MAX: u32 = 16;
/// Until one more of it is announced.
pub const PROOFS_ANNOUNCED_REFILL: Duration = Duration::from_secs(10);
/// Commands that wait for the driver loop.
pub const COMMANDS_QUEUED_MAX: usize = 1_024;
/// Heads that came by gossip or as records and wait to be judged, and such that wait to be written to the catalogue; more are dropped
/// and come again by the exchange of heads.
pub const HEADS_QUEUED_MAX: usize = 4_096;
/// Heads that are judged in one go beside the network's loop: what the first of them waits for the last, at about 0.1 ms each.
pub const HEADS_JUDGED_AT_ONCE_MAX: usize = 64;
/// Jobs that run at once beside the network's loop, on threads of their own; more wait for their turn.
pub const JOBS_AT_ONCE_MAX: usize = 16;
/// Heads written in one transaction.
pub const HEADS_WRITTEN_AT_ONCE_MAX: usize = 512;

/// Ids in one request for blocks.
pub const FETCH_IDS_MAX: usize = 256;
/// Bytes of blocks in one answer: one block of the largest size, or many small ones.
pub const FETCH_ANSWER_BYTES: usize = 1 << 20;
/// How long one request for blocks may bring nothing, or less than [`FETCH_PROGRESS_BYTES`].
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a message that must move within [`FETCH_TIMEOUT`] for the rest of it to be waited for: some 200 bytes a second, which
/// sixteen answers over one line of 30 kB a second have many times, and one over a line that loses three of ten segments.
pub const FETCH_PROGRESS_BYTES: usize = 4 << 10;
/// How long one request for blocks may take, however it gets on: a block of the largest size at 4 kB a second.
pub const FETCH_TIMEOUT_MAX: Duration = Duration::from_secs(6 * 60);
/// Requests for blocks that are served at once; more are told `busy`.
pub const FETCH_SERVED_AT_ONCE_MAX: usize = 128;
/// Bytes of the answers in progress together: what those who do not read them may cost.
pub const FETCH_SERVED_BYTES_MAX: u64 = 24 << 20;
/// Requests for blocks that are served at once for one peer, or for one public network; fewer where many are served.
pub const FETCH_SERVED_PER_PEER_MAX: usize = 16;

/// Trees that are followed here, and as many that this node fetches: those take no place from these.
pub const SWARM_TREES_MAX: usize = 1_024;
/// Trees that the peers of one public network follow here.
pub const SWARM_TREES_PER_NETWORK_MAX: usize = 256;
/// Followers of one tree that are the same peer: one, and that of a connection that is gone and has not closed yet.
pub const SWARM_FOLLOWERS_PER_PEER_MAX: usize = 2;
/// Trees that one peer begins to follow over one stream in a burst: a project of many packages.
pub const SWARM_FOLLOWS_MAX: u32 = 256;
/// How often it may begin with one more after that.
pub const SWARM_FOLLOWS_REFILL: Duration = Duration::from_millis(50);
/// Followers of one tree here.
pub const SWARM_FOLLOWERS_MAX: usize = 256;
/// Trees that one peer follows over one stream: a project's packages are fetched a few at a time.
pub const SWARM_FOLLOWED_MAX: usize = 64;
/// Blocks of one tree that a node says it has: 512 KiB of marks a follow.
pub const SWARM_MARKS_MAX: usize = 64 << 10;
/// Those that one retrieval is told by all peers together, and remembers: about 20 MiB.
pub const SWARM_MARKS_IN_ALL_MAX: usize = 1 << 20;
/// Those of one message: 8 KiB.
pub const SWARM_MARKS_AT_ONCE_MAX: usize = 1_024;
/// Others who fetch a tree, of whom one follower is told.
pub const SWARM_MEMBERS_MAX: usize = 64;
/// Those of one message.
pub const SWARM_MEMBERS_AT_ONCE_MAX: usize = 16;
/// Addresses of one of them.
pub const SWARM_ADDRESSES_MAX: usize = 4;
/// Bytes of one message about a tree: sixteen members with four addresses of 240 bytes.
pub const SWARM_MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Requests for logs at once.
pub const LOGS_ASKED_MAX: usize = 256;
/// Requests for logs to one peer at once.
pub const LOGS_ASKED_PER_PEER_MAX: usize = 8;
/// Bytes of a request for a log, with a little room for later fields.
pub const LOG_REQUEST_BYTES_MAX: usize = 512;
/// Bytes of entries with which a frame of a log is full: either side holds a few frames, and no more of the log.
pub const LOG_FRAME_BYTES: usize = 64 << 10;
/// Entries in one frame of a log: more than fit of the smallest that there are.
pub const LOG_FRAME_ENTRIES_MAX: usize = 512;
/// Bytes of one whole frame on the wire: it is full with the entry that reaches the bound, and each costs three bytes more.
pub const LOG_FRAME_BYTES_MAX: usize = LOG_FRAME_BYTES + ENTRY_BYTES_MAX + 3 * LOG_FRAME_ENTRIES_MAX + 64;

/// Bytes of heads in one page of the exchange.
pub const HEADS_PAGE_BYTES: usize = 512 << 10;
/// Heads in one page of the exchange.
pub const HEADS_PAGE_MAX: usize = 512;
/// Bytes of one whole page on the wire.
pub const HEADS_PAGE_BYTES_MAX: usize = HEADS_PAGE_BYTES + HEAD_BYTES_MAX + (64 << 10);
/// Bytes of a message that compares two sets, from the side that asks: a fingerprint takes some 22 of them.
pub const HEADS_COMPARING_BYTES: usize = 16 << 10;
/// The same of the side that answers, which lists ids: 4 096 of them, so many as may wait to be taken of one peer.
pub const HEADS_COMPARED_BYTES: usize = 128 << 10;
/// Turns of one comparison. All ids of a full catalogue are listed in fifty.
pub const HEADS_TURNS_MAX: u32 = 64;
/// Comparisons that one peer may begin or go on with at once: each turn reads all of a node's items, a millisecond or two.
pub const HEADS_TURNS_PER_PEER_MAX: u32 = 2 * HEADS_TURNS_MAX;
/// Until one more turn is answered: four a second.
pub const HEADS_TURNS_PER_PEER_REFILL: Duration = Duration::from_millis(250);
/// Bytes of answers with heads that count as one portion; every question counts as one too.
pub const HEADS_PORTION_BYTES: usize = 16 << 10;
/// Portions that one peer is given at once: 128 MiB, a full catalogue of heads as they are.
pub const HEADS_PORTIONS_PER_PEER_MAX: u32 = 8_192;
/// One more portion each time that this has passed: 64 KiB, or four questions, a second.
pub const HEADS_PORTIONS_PER_PEER_REFILL: Duration = Duration::from_millis(250);
/// How many times as much the peers of one public network have together.
pub const HEADS_PORTIONS_PER_NETWORK: u32 = 4;
/// Questions for heads of one peer, answered or not, that are borne: four times as many as it is given portions.
pub const HEADS_PORTIONS_BORNE_MAX: u32 = 4 * HEADS_PORTIONS_PER_PEER_MAX;
/// One more each time that this has passed.
pub const HEADS_PORTIONS_BORNE_REFILL: Duration = Duration::from_millis(10);
/// Heads that are taken from one peer at once, whatever becomes of them: more than a full catalogue.
pub const HEADS_GIVEN_PER_PEER_MAX: u32 = 1 << 18;
/// One more each time that this has passed: a hundred times what a network of 200 000 packages that all change once a week brings.
pub const HEADS_GIVEN_PER_PEER_REFILL: Duration = Duration::from_millis(30);
/// How many times as many are taken from the peers of one public network together.
pub const HEADS_GIVEN_PER_NETWORK: u32 = 2;
/// Heads in one request by ids: their heads fit into one page unless they are large.
pub const HEADS_IDS_MAX: usize = 256;
/// Ids that a peer is told that it lacks in one message, which fits into a request.
pub const HEADS_LACKED_AT_ONCE: usize = 480;
/// The same in all; where there are more, the other side compares itself.
pub const HEADS_LACKED_MAX: usize = 4 * HEADS_LACKED_AT_ONCE;
/// Ids that wait to be taken, of all peers together. Who has listed some goes on only when they were taken.
pub const HEADS_WANTED_MAX: usize = 64 << 10;
/// Heads that a peer listed and does not give, before the rest is not asked for.
pub const HEADS_NOT_GIVEN_MAX: usize = 1_024;
/// Heads of one peer that were declined and are remembered, so that they are not listed again: 160 KiB.
pub const HEADS_DECLINED_PER_PEER_MAX: usize = 4_096;
/// The same of all peers that are gone together.
pub const HEADS_DECLINED_MAX: usize = 64 << 10;
/// Heads that are read by the order of changes; where more has changed, sets are compared: most of it is known from others.
pub const HEADS_LAG_MAX: u32 = 64;
/// Heads of one stretch of these, which one peer is asked for.
pub const HEADS_STRETCH: usize = 2_048;
/// Such stretches at most; they are longer where there are more heads.
pub const HEADS_STRETCHES_MAX: usize = 128;
/// Bytes of a request: a message that compares, and a little around it.
pub const HEADS_REQUEST_BYTES_MAX: usize = HEADS_COMPARING_BYTES + (1 << 10);
/// Pages read from one peer in one go; the rest follows in the next round.
pub const HEADS_PAGES_MAX: usize = 512;
/// Pages read from one peer in one go that bring nothing new and are hardly held either; the rest follows in the next round.
pub const HEADS_PAGES_BARREN_MAX: usize = 16;
/// Malformed heads in one page that are passed over: a row of its disk may be damaged.
pub const HEADS_MALFORMED_PER_PAGE_MAX: usize = 8;
/// The same over all pages of one connection.
pub const HEADS_MALFORMED_PER_PEER_MAX: usize = 64;
/// Pages of heads that are verified at once: signatures are the dearest that a peer can ask of us.
pub const HEADS_PAGES_CHECKED_AT_ONCE_MAX: usize = 2;
/// Peers of which is remembered how far their heads were read when they left.
pub const HEADS_CURSORS_MAX: usize = 4_096;
/// How often the heads of connected peers are asked for again.
pub const HEADS_INTERVAL: Duration = Duration::from_secs(60);

/// Names that one key document may be limited to.
pub const SCOPES_MAX: usize = 8;
/// Key documents in one chain; a head holds the whole chain, which is why [`KEY_CHAIN_BYTES_MAX`] ends it much earlier.
pub const KEY_DOCUMENTS_MAX: usize = 64;
/// Chains of keys that are remembered as verified while they are asked for, twice: those of now and those of before. Each takes
/// about a kilobyte beside its documents.
pub const KEY_CHAINS_MAX: usize = 4_096;
/// Bytes of their documents, also twice.
pub const KEY_CHAINS_BYTES: usize = 2 << 20;
/// Bytes of a key file: the longest chain in hexadecimal, and the lines around it.
pub const KEY_FILE_BYTES_MAX: usize = KEY_DOCUMENTS_MAX * (2 * KEY_DOCUMENT_BYTES_MAX + 16) + 1024;
/// Bytes of the name of a publisher key.
pub const KEY_NAME_BYTES_MAX: usize = 32;
/// Bytes of a reason or message in a log entry.
pub const REASON_BYTES_MAX: usize = 512;
/// Bytes of what to use in place of a deprecated package: its head holds it, within [`HEAD_BYTES_MAX`].
pub const DEPRECATION_BYTES_MAX: usize = 160;
/// Bytes of the yanked versions that a head names, within [`HEAD_BYTES_MAX`]: some twenty; the log has all of them.
pub const YANKED_NAMED_BYTES_MAX: usize = 160;
/// The least that the line may be limited to, in bytes of blocks and logs a second: one block of the largest size takes a minute.
pub const LINE_BYTES_PER_SECOND_MIN: u64 = 16 << 10;
/// Spans of time of a schedule of limits: four a day, each day another.
pub const SCHEDULE_SPANS_MAX: usize = 28;
/// Bytes of one line of a schedule; a full one has some fifty.
pub const SCHEDULE_LINE_BYTES_MAX: usize = 128;
/// Pins of content.
pub const KEPT_MAX: usize = 10_000;
/// Bytes of the name of a pin of content: a full id with version fits.
pub const KEPT_NAME_BYTES_MAX: usize = 256;
/// Nesting of maps and arrays in a signed structure.
pub const SIGNED_DEPTH_MAX: usize = 16;
/// Ends of a package's log that are remembered until a log is read that holds them: the oldest is never forgotten for a
/// newer one.
pub const CATALOG_PLACES_MAX: usize = 8;
/// Packages whose last seen sequence is remembered after their head is gone: rollback is refused this far back.
pub const CATALOG_SEEN_MAX: usize = 1_000_000;
/// Words of a query's text; all of them must match.
pub const QUERY_WORDS_MAX: usize = 32;
/// Categories, and tags, that one query may name.
pub const QUERY_LABELS_MAX: usize = 32;
/// Packages that one peer may claim to provide without having served a block of them.
pub const CLAIMS_PER_PEER_MAX: usize = 1_000;
/// Unproved claims over all peers, so that many peers cannot fill the disk with words.
pub const CLAIMS_MAX: usize = 200_000;
/// Peers whose last sign of life waits in memory for the next write.
pub const RECENT_PEERS_MAX: usize = 4_096;
/// Bytes of a multiaddr's text; the longest real ones, through a relay, stay below 400.
pub const MULTIADDR_BYTES_MAX: usize = 1_024;
/// Addresses in one list of the configuration.
pub const CONFIG_ADDRESSES_MAX: usize = 256;
/// Bytes of a Gossipsub topic.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Problems that are listed of one configuration file; the rest is counted.
pub const CONFIG_PROBLEMS_MAX: usize = 64;
/// Proofs that a publisher contradicted itself, two heads each; the packages stay frozen when the proof is dropped.
pub const CATALOG_PROOFS_MAX: usize = 10_000;
/// Proofs that are kept of one package: each machine that signed apart from the others adds one.
pub const CATALOG_PROOFS_PER_PACKAGE_MAX: usize = 4;
/// Publishers of whose keys two chains are held, two heads each: some eight megabytes.
pub const TWO_CHAINS_MAX: usize = 1_000;
/// The longest time that a caller can ask for, in seconds; a clock cannot be told to wait for just any number.
pub const ASKED_SECS_MAX: u64 = 24 * 3600;
/// Addresses that one request may ask to dial.
pub const DIALLED_AT_A_TIME_MAX: usize = 1_024;
/// Bytes on the disk of the state folder below which writes fail, or soon will. Above it a large package may not fit, and `publish` or
/// `install` says so.
pub const DISK_FREE_MIN: u64 = 16 << 20;
