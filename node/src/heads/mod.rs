//! What becomes of a head that comes from another node, how one is looked for, where its record goes, and how two nodes come to have
//! the same heads.
//!
//! A head comes in by four doors ([`Door`]): a neighbour announces it, a peer stores it here as a record of the DHT, a node of the DHT
//! answers a lookup with it, or a peer gives it in the exchange. [`offer`](offer()) is the one judgement for all of them: it is
//! told what this node knows of the package ([`Known`]) and says what to do ([`Verdict`]). Its caller fetches the one and
//! carries out the other. [`blame`] says what a peer is charged with for what is no genuine head.
//!
//! [`lookup`] says whom a lookup in the DHT asks, past the dead, and how it ended; [`copies`] which of the records that it found counts.
//! [`moves`] says who is given a copy of a record when nodes come and go. [`exchange`] is the exchange with all peers; [`compare`]
//! finds the differences of two catalogues by their [`item`](mod@item)s.
//!
//! **Invariant:** nothing here touches the network, the database, the runtime or a clock; `now` is an argument. The same head, the
//! same knowledge and the same time give the same verdict.

pub mod compare;
pub mod copies;
pub mod exchange;
pub mod handing;
pub mod item;
pub mod lookup;
pub mod moves;
pub mod offer;
pub mod patience;

pub use exchange::Exchange;
pub use item::{Id, Ids, Item, item, item_of};
pub use offer::{Blame, Door, Forward, Known, Standing, Verdict, blame, offer, proves, stand};
