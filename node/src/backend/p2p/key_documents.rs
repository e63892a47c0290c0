//! Which chains of key documents of a publisher are known: what its next document follows where its key is not here, and what it
//! must not contradict.

use tokio::time::Duration;

use super::{
    confirm,
    failure::fail,
    meant::{meant_in, publisher_in},
    node::Node,
    view::{View, head_here},
};
use crate::{
    catalog,
    code::Code,
    control::api::{Failure, KeyDocuments, KeyDocumentsRequest},
    identity::{KeyLog, PublisherId, hex},
    release::VerifiedHead,
    store::{Store, heads},
};

/// How long peers and the DHT may take to say whether there are later documents.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Chains that are told: the one that is followed here, and those that contradict it.
const CHAINS_MAX: usize = 4;

impl Node {
    /// The chains of key documents of a publisher that this node and those that it reaches know.
    pub(super) async fn key_documents(&self, request: KeyDocumentsRequest) -> Result<KeyDocuments, Failure> {
        let publisher = match is_publisher(&request.of) {
            true => {
                let of = request.of.clone();
                self.offload_store(move |store| publisher_in(store, &of, None)).await?
            }
            false => {
                let meant = self.meant(&request.of).await?;
                self.resolve_to_look(&meant.reference).await?.head().publisher
            }
        };
        let confirmed = match request.ask {
            true => self.later_documents(publisher).await,
            false => Vec::new(),
        };
        let kept = self.keys.kept_documents(&publisher);
        let known =
            self.offload_store(move |store| known_here(store, publisher, kept.into_iter().collect())).await?;
        let known = known.into_iter().chain(confirmed).collect();
        told(publisher, known, request.ask && !self.is_alone().await)
    }

    /// Asks peers and the DHT for later documents: heads that come are listed, and what confirmations have is yielded.
    async fn later_documents(&self, publisher: PublisherId) -> Vec<KeyLog> {
        self.await_entrance(ASK_TIMEOUT).await;
        self.network.heads_read(ASK_TIMEOUT).await;
        let (_, confirmations) = tokio::join!(
            self.network.refresh(ASK_TIMEOUT),
            self.network.get_confirmations(publisher, ASK_TIMEOUT),
        );
        // Nothing of the DHT is no answer that speaks against going on.
        let confirmations = confirmations.map(|(found, _)| found).unwrap_or_default();
        confirmations.iter().map(|confirmation| confirmation.key_log().clone()).collect()
    }

    /// Keeps the documents of the publishers whose keys are here, and of those whose keys were: see [`crate::identity::documents`].
    pub(super) async fn keep_key_documents(&self) -> Result<(), Failure> {
        let own = self.with_store(|store| {
            let own = store.read(heads::list_all)?.into_iter();
            let logs = own.filter_map(|own| VerifiedHead::verify_stored(&own.bytes).ok());
            Ok(KeyLog::longest(logs.map(|head| head.key_log().clone())))
        });
        let (keys, own) = (self.keys.clone(), own.await?);
        let kept = self.offload.run(move || keys.keep_documents(&own)).await;
        kept.ok_or_else(|| super::gone("the key documents"))?
    }
}

impl View {
    /// The chains of key documents of a publisher, or of that of a package, that this machine knows.
    ///
    /// # Errors
    /// [`Code::NotFound`] where it knows none.
    pub async fn key_documents(&self, request: KeyDocumentsRequest) -> Result<KeyDocuments, Failure> {
        self.with(move |store| {
            let publisher = match is_publisher(&request.of) {
                true => publisher_in(store, &request.of, None)?,
                false => head_here(store, &meant_in(store, &request.of)?.reference)?.0.head().publisher,
            };
            told(publisher, known_here(store, publisher, Vec::new())?, false)
        })
        .await
    }
}

/// Whether a text names a publisher and no package.
fn is_publisher(text: &str) -> bool {
    text.starts_with("gp1") && !text.contains('/')
}

/// The chains that a store has of a publisher, its own first; `known` are known besides, and come before them.
pub(super) fn known_here(
    store: &Store,
    publisher: PublisherId,
    known: Vec<KeyLog>,
) -> Result<Vec<KeyLog>, Failure> {
    let (own, listed, disputed) = store
        .read(|conn| {
            let own: Vec<Vec<u8>> = heads::list_all(conn)?
                .into_iter()
                .filter(|own| own.package.publisher == publisher)
                .map(|own| own.bytes)
                .collect();
            Ok((own, catalog::heads_of(conn, publisher)?, catalog::disputed(conn, &publisher)?))
        })
        .map_err(fail)?;
    let confirmed = confirm::held(store, publisher).map_err(fail)?;
    let heads = own.iter().chain(&listed).filter_map(|bytes| VerifiedHead::verify_stored(bytes).ok());
    let disputed = disputed.into_iter().flat_map(|disputed| disputed.heads);
    let logs = heads.chain(disputed).map(|head| head.key_log().clone());
    let confirmed = confirmed.map(|(confirmation, _)| confirmation.key_log().clone());
    Ok(known.into_iter().chain(logs).chain(confirmed).collect())
}

fn told(publisher: PublisherId, known: Vec<KeyLog>, has_asked: bool) -> Result<KeyDocuments, Failure> {
    let chains: Vec<Vec<String>> = KeyLog::longest(known)
        .iter()
        .filter(|log| log.publisher() == publisher)
        .take(CHAINS_MAX)
        .map(|log| log.documents().map(hex::encode).collect())
        .collect();
    if chains.is_empty() {
        return Err(Failure::new(
            Code::NotFound,
            format!("No key document of publisher {publisher} is known."),
            "They come with any package of the publisher, from a peer that has one. Where no node runs: ggen marketplace p2p start --daemon",
        ));
    }
    Ok(KeyDocuments { publisher: publisher.to_string(), chains, has_asked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Source,
        release::fixture::{NOW, head, publisher, rotated},
    };

    #[test]
    fn the_longest_chain_is_told_and_each_that_contradicts_it() {
        let store = Store::in_memory().unwrap();
        let (old, other) = (publisher(1), publisher(9));
        let (own, thief) = (rotated(&old, 2), rotated(&old, 3));
        for by in [&old, &other, &own, &thief] {
            let head = head(by, &["1.0.0"]);
            store.write(|tx| Ok(catalog::insert(tx, &head, &Source::unknown(), NOW)?)).unwrap();
        }
        let known = |first: Vec<KeyLog>| {
            let known = known_here(&store, old.id(), first).unwrap();
            told(old.id(), known, true).unwrap().chains
        };
        let text = |by: &crate::identity::Publisher| -> Vec<String> {
            by.key_log().documents().map(hex::encode).collect()
        };
        assert_eq!(known(Vec::new()), [text(&own), text(&thief)]);
        let later = rotated(&own, 4);
        assert_eq!(known(vec![later.key_log().clone()]), [text(&later), text(&thief)]);
        assert_eq!(told(publisher(5).id(), Vec::new(), true).unwrap_err().code, Code::NotFound);
    }
}
