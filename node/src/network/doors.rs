//! The doors by which single heads come in: gossip, and records of the DHT. What comes is judged beside the loop, and the loop
//! carries out what follows.

use libp2p::{
    PeerId,
    gossipsub::{Message, MessageAcceptance, MessageId},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Event,
    driver::Driver,
    intake::{self, Judged, Offered, Way},
    serve::Work,
};
use crate::{
    catalog::Source,
    heads::{Blame, Door, Forward, Standing, Verdict},
    release::VerifiedHead,
    sync,
    time::Timestamp,
};

impl Driver {
    /// Takes an announcement to be judged before it is forwarded, unless its author or its neighbour has used up its budget.
    pub(super) fn announced(&mut self, from: PeerId, id: MessageId, message: Message) {
        let now = Instant::now();
        let digest: [u8; 32] = Sha256::digest(&message.data).into();
        let author = message.source;
        let way = Way::Gossip { id, author, digest };
        if self.announcements.admits(&digest, author, from, now) {
            self.offer(Offered { from, bytes: message.data, way });
        } else {
            self.answer_gossip(from, way, MessageAcceptance::Ignore, false);
        }
    }

    /// Puts a head among those that wait to be judged.
    pub(super) fn offer(&mut self, offered: Offered) {
        let Some(Offered { from, way, .. }) = self.intake.offer(offered) else { return };
        tracing::warn!("more heads come than can be judged; the exchange will bring the rest again");
        self.answer_gossip(from, way, MessageAcceptance::Ignore, false);
    }

    /// Tells gossip, where that is how a head came, whether to pass it on.
    fn answer_gossip(&mut self, from: PeerId, way: Way, acceptance: MessageAcceptance, is_checked: bool) {
        let Way::Gossip { id, author, digest } = way else { return };
        let is_taken = matches!(acceptance, MessageAcceptance::Accept);
        if is_taken {
            self.announcements.accepted(digest, author, Instant::now());
        }
        self.outbox.observer.tell_of(|| Event::Announced { from, digest, is_checked, is_taken });
        self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &from, acceptance);
    }

    /// Has what waits judged and written, beside the loop.
    pub(super) fn take_heads(&mut self) {
        if let Some(offered) = self.intake.begin_judging() {
            self.beside.run(
                move |store, verified| {
                    let judged = intake::judge(store, verified, &offered, Timestamp::now());
                    (
                        offered,
                        judged.inspect_err(|error| tracing::warn!(%error, "heads were not judged")).ok(),
                    )
                },
                |ended| {
                    let (offered, judged) = ended.unwrap_or_default();
                    Work::Judged { offered, judged }
                },
            );
        }
        if let Some(batch) = self.intake.begin_writing() {
            self.beside.run(
                move |store, _| sync::write(store, &batch, Timestamp::now()),
                |written| Work::Written {
                    heads: match written {
                        Some(Ok(written)) => written.new,
                        Some(Err(error)) => {
                            tracing::warn!(%error, "heads were not written; the exchange will bring them again");
                            0
                        }
                        None => 0,
                    },
                },
            );
        }
    }

    /// Carries out what follows for heads that were judged; for none of them where the database failed.
    pub(super) fn judged(&mut self, offered: Vec<Offered>, judged: Option<Vec<Judged>>) {
        self.intake.end_judging();
        let mut judged = judged.unwrap_or_default().into_iter();
        for offered in offered {
            let door = offered.door();
            let Offered { from, way, .. } = offered;
            match judged.next() {
                Some(Judged::Head { head, verdict, listed }) => {
                    let is_told = self.carry_out(door, Some(from), &head, verdict, listed.as_deref());
                    let acceptance =
                        if is_told { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
                    match way {
                        Way::Gossip { .. } => self.answer_gossip(from, way, acceptance, true),
                        Way::Record { record, held } if verdict.keep_record => {
                            self.keep_record(from, record, held);
                        }
                        Way::Record { .. } => {}
                    }
                }
                Some(Judged::Confirmation { pass_on, keep_record }) => {
                    let acceptance =
                        if pass_on { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
                    match way {
                        Way::Gossip { .. } => self.answer_gossip(from, way, acceptance, true),
                        Way::Record { record, held } if keep_record => self.keep_record(from, record, held),
                        Way::Record { .. } => {}
                    }
                }
                Some(Judged::NoHead(blame, error)) => {
                    self.intake.count_refused(1);
                    tracing::debug!(peer = %from, code = %error.code(), %error, "no head");
                    let acceptance = match blame {
                        Blame::Nothing | Blame::Fault => MessageAcceptance::Ignore,
                        Blame::Announcement | Blame::Ban => MessageAcceptance::Reject,
                    };
                    self.answer_gossip(from, way, acceptance, true);
                    if blame == Blame::Ban {
                        self.block(from, "it stores forged heads in the DHT".to_owned());
                    }
                }
                None => self.answer_gossip(from, way, MessageAcceptance::Ignore, true),
            }
        }
    }

    /// Takes a head towards the catalogue where its verdict says so, and tells others of a proof; tells whether gossip may pass
    /// the head on.
    pub(super) fn carry_out(
        &mut self,
        door: Door,
        from: Option<PeerId>,
        head: &VerifiedHead,
        verdict: Verdict,
        listed: Option<&VerifiedHead>,
    ) -> bool {
        if !verdict.list && !matches!(verdict.standing, Standing::Same | Standing::Full) {
            self.intake.count_refused(1);
            tracing::debug!(peer = ?from, standing = ?verdict.standing, "a head was not taken");
        }
        if verdict.list || verdict.proof {
            let source = from.map_or_else(Source::unknown, |from| self.source_of(&from));
            if !self.intake.accept(source, head.clone()) {
                tracing::warn!("more heads come than can be written; the exchange will bring the rest again");
            }
        }
        match verdict.forward {
            Forward::Nothing => false,
            Forward::Head => true,
            // What contradicts what is listed is passed on by the node that hears of it first; the listed one goes to those
            // that have heard only of the other.
            Forward::Both => {
                let is_admitted = self.admits_proof();
                if let Some(listed) = listed.filter(|_| is_admitted) {
                    self.announce(listed.bytes().to_vec());
                    // What came by gossip goes on as the message that it is.
                    if door != Door::Gossip {
                        self.announce(head.bytes().to_vec());
                    }
                }
                is_admitted
            }
        }
    }

    /// Whom what a peer brings is counted for.
    pub(super) fn source_of(&self, peer: &PeerId) -> Source {
        Source::of(peer, self.peers.network_of(peer))
    }

    /// Whether there is room for one more proof among what this node announces.
    pub(super) fn admits_proof(&mut self) -> bool {
        let local = *self.swarm.local_peer_id();
        self.announcements.pace.admits_proof(local, Instant::now())
    }
}
