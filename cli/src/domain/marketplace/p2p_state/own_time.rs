//! A node that lives as long as one command: for a verb that needs the network where no node runs.
//!
//! It dials and is not dialled, so that it takes no port from anybody, and it answers on the control socket like any other, so
//! that commands that are run meanwhile find it. It changes neither the configuration nor the flags of the last start.

use std::{path::Path, sync::Arc, time::Duration};

use ggen_marketplace::{
    code::Code,
    control::{client::Client, server::Server, service::Outcome},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Flags, descriptors, effective, failure, make_home,
    node::{self, Node},
};
use crate::session::{Finished, Session};

/// How long the node of another command, which began in the same moment, is waited for.
const TURN_DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether the folder is free, or others are done.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the node may take to end.
const END_DEADLINE: Duration = Duration::from_millis(3_500);

/// How often a verb is begun again whose node, which was that of another command, had ended before it was asked.
const TRIES: usize = 5;

/// Runs a verb against the running node, or, where none runs and one may be started, against one that ends with it.
///
/// A verb says [`Code::NotRunning`] where it found no node to ask. It is begun again then: the node that was there a moment ago was that
/// of another command.
pub(crate) async fn with_node<T>(
    session: &Session,
    may_start: bool,
    verb: impl AsyncFn(Client) -> Outcome<T>,
) -> Finished<T> {
    if !may_start {
        return Ok(verb(session.client()).await?);
    }
    let mut tries = 0;
    loop {
        let client = session.client();
        if !is_answered(&client).await
            && let Some(node) = open(session, &client).await?
        {
            session.note("No node runs: one is started for this command, and stops with it.");
            let outcome = work(session.home(), Arc::clone(&node), client, &verb).await;
            if tokio::time::timeout(END_DEADLINE, node.shutdown()).await.is_err() {
                session.warn("the node of this command did not stop in time");
            }
            return Ok(outcome?);
        }
        tries += 1;
        match verb(client).await {
            Err(failure) if failure.code == Code::NotRunning && tries < TRIES => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Runs a verb that takes nothing from others against the running node, or, where none runs, `here` on its state folder: no node is
/// started for it.
pub(crate) async fn without_network<T>(
    session: &Session,
    may_work_here: bool,
    verb: impl AsyncFn(Client) -> Outcome<T>,
    here: impl AsyncFn() -> Outcome<T>,
) -> Finished<T> {
    let deadline = Instant::now() + TURN_DEADLINE;
    loop {
        match verb(session.client()).await {
            Err(failure) if failure.code == Code::NotRunning && may_work_here => {}
            outcome => return Ok(outcome?),
        }
        match here().await {
            // Another command works there, or its node is about to answer.
            Err(failure) if failure.code == Code::AlreadyRunning && Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

async fn is_answered(client: &Client) -> bool {
    !matches!(client.is_ready().await, Err(failure) if failure.code == Code::NotRunning)
}

/// Opens a node; none where another one answers by then.
async fn open(session: &Session, client: &Client) -> Outcome<Option<Arc<impl Node>>> {
    descriptors::ensure()?;
    let mut config = effective(session.home(), &Flags::default())?.config;
    let _ = descriptors::fit(&mut config, descriptors::room());
    config.listen_addresses = Vec::new();
    config.dht_server_mode = false;
    // Its command has ended before anyone is found so.
    config.mdns = false;
    make_home(session.home())?;
    let deadline = Instant::now() + TURN_DEADLINE;
    loop {
        match node::open(config.clone()).await {
            Ok(node) => return Ok(Some(Arc::new(node))),
            Err(failure) if failure.code == Code::AlreadyRunning && Instant::now() < deadline => {
                if is_answered(client).await {
                    return Ok(None);
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Serves the socket for as long as the verb works.
async fn work<N: Node, T>(
    home: &Path,
    node: Arc<N>,
    client: Client,
    verb: impl AsyncFn(Client) -> Outcome<T>,
) -> Outcome<T> {
    node.listen().await?;
    let server = Server::bind(home).map_err(|error| failure(error.code(), &error, error.hint()))?;
    let (done, is_done) = oneshot::channel::<()>();
    let working = async {
        let outcome = verb(client).await;
        drop(done);
        outcome
    };
    let others = server.in_progress();
    let end = async move {
        drop(is_done.await);
        // Another command may have found this node meanwhile: what it asked for is done first.
        while !others.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let serving = server.serve(Arc::clone(&node), end);
    let (_, outcome) = tokio::join!(serving, working);
    outcome
}
