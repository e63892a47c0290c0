//! Stands before one record of the DHT, nearer to its key than every honest node: whoever stores the record or looks for it comes
//! by here.
//!
//! It takes what is stored and drops it, shows the newest head that it had when it was honest, and tells of nobody but its fellows
//! ([arXiv 2307.12212](https://arxiv.org/abs/2307.12212)). Its id was ground: see [`placement`](crate::placement).

use ggen_marketplace::{
    package::PackageId,
    release::{VerifiedHead, dht_key},
};
use libp2p::kad::{self, InboundRequest, store::RecordStore};

use super::{Bite, Script, Stage};

/// Hides what is newer than what it shows.
#[derive(Debug)]
pub(super) struct Eclipse {
    package: Option<PackageId>,
    shows: Option<VerifiedHead>,
}

impl Eclipse {
    pub(super) fn new(package: Option<PackageId>) -> Self {
        Self { package, shows: None }
    }
}

impl Script for Eclipse {
    /// What the honest node knew comes first, and that is what it shows from then on.
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        if self.shows.is_some() || Some(head.package_id()) != self.package {
            return;
        }
        let record = kad::Record::new(head.dht_key().to_vec(), head.bytes().to_vec());
        if stage.swarm.behaviour_mut().kad.store_mut().put(record).is_ok() {
            self.shows = Some(head.clone());
        }
    }

    fn asked(&mut self, stage: &mut Stage, request: &InboundRequest) {
        let has_hidden = match request {
            // It holds no other record.
            InboundRequest::GetRecord { present_locally, .. } => *present_locally,
            InboundRequest::PutRecord { record: Some(record), .. } => {
                self.package.as_ref().is_some_and(|package| record.key.as_ref() == dht_key(package))
            }
            _ => false,
        };
        if has_hidden {
            stage.bit(Bite::Eclipsed, None);
        }
    }
}
