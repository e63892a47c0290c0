//! Work on a project where no node runs and nothing is to be taken from others.

use crate::{
    backend::p2p::P2PRegistry,
    config::P2PConfig,
    control::{
        api::{Failure, ProjectDone, ProjectRequest},
        service::ProgressSender,
    },
};

/// Works on a project with what is in the state folder of a node that does not run. It opens no socket, and asks and tells nobody:
/// neither does what waits in the outbox leave it.
///
/// # Errors
/// As the running node with [`ProjectRequest::offline`], and [`Code::AlreadyRunning`](crate::code::Code::AlreadyRunning) where one runs.
pub async fn project_offline(
    config: P2PConfig,
    request: ProjectRequest,
    progress: ProgressSender,
) -> Result<ProjectDone, Failure> {
    let request = ProjectRequest { offline: true, ..request };
    P2PRegistry::alone(config, async |node| node.project(request, progress).await).await
}
