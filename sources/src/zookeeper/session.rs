//! A session with ZooKeeper: the calls that are made, each bounded in time, with the client's types left behind.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error};

use super::SpoutNodes;
use super::memory::Standing;

/// A connect string `host:2181/path` names a node under which all others lie, and which nobody but its owner creates.
const NO_CHROOT: &str = "the node that the connect string names after the servers does not exist";

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server, the network or the session is gone, and with it maybe the answer to a write that was done. A new session
    /// may help.
    Lost(String),
    /// The server will not do it, however often it is asked.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn of(attempted: &str, error: &Error) -> Self {
        let text = format!("could not {attempted}: {error}");
        match error {
            Error::NoAuth
            | Error::AuthFailed
            | Error::InvalidAcl
            | Error::BadArguments(_)
            | Error::QuotaExceeded
            | Error::NoChildrenForEphemerals
            | Error::Unimplemented => Self::Refused(text),
            _ => Self::Lost(text),
        }
    }
}

/// A node and when it was last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) standing: Standing,
    /// The number of the transaction that last wrote it. Unlike the version it also tells a node from one that was deleted
    /// and created again.
    pub(super) changed: i64,
}

/// One session. Dropping it closes it.
pub(super) struct Session {
    client: Client,
    /// How long one call may take. A call to a server that is gone would wait for as long as the session lives.
    patience: Duration,
}

impl Session {
    /// Connects to one of the servers, trying each once.
    pub(super) async fn open(settings: &SpoutNodes) -> Result<Self, Failure> {
        // As to a server of 3.4, which is that of Storm's days: what is asked here, later ones know too.
        let connector = Client::connector().with_server_version(3, 4, 0).with_fail_eagerly();
        let mut connector = connector.with_session_timeout(settings.session_timeout);
        if let Some(digest) = &settings.digest {
            connector = connector.with_auth("digest", digest.expose().as_bytes());
        }
        let attempted = format!("connect to ZooKeeper at \"{}\"", settings.connect);
        let connected = bounded(settings.connect_timeout, &attempted, connector.connect(&settings.connect)).await?;
        let client = connected.map_err(|error| Failure::of(&attempted, &error))?;
        Ok(Self { client, patience: settings.session_timeout })
    }

    /// Makes the server catch up, so that what is read next is no older than what anybody has written before.
    pub(super) async fn catch_up(&self, path: &str) -> Result<(), Failure> {
        // Nothing to catch up with where there is no such node.
        self.call("catch up with", path, self.client.sync(path)).await.map(drop)
    }

    /// A node; `None` where there is none.
    pub(super) async fn read(&self, path: &str) -> Result<Option<Found>, Failure> {
        let found = self.call("read", path, self.client.get_data(path)).await?;
        Ok(found.map(|(data, stat)| Found { standing: Standing { data, version: stat.version }, changed: stat.mzxid }))
    }

    /// The names of the nodes below one; `None` where there is no such node.
    pub(super) async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        self.call("list", path, self.client.list_children(path)).await
    }

    /// Replaces what a node holds, if it has this version. Gives its new version; `None` where it does not have the old one.
    pub(super) async fn replace(&self, path: &str, data: &[u8], version: i32) -> Result<Option<i32>, Failure> {
        let attempted = format!("write \"{path}\"");
        match bounded(self.patience, &attempted, self.client.set_data(path, data, Some(version))).await? {
            Ok(stat) => Ok(Some(stat.version)),
            Err(Error::BadVersion | Error::NoNode) => Ok(None),
            Err(error) => Err(Failure::of(&attempted, &error)),
        }
    }

    /// Creates a node and those above it. Gives its version; `None` where it is there already. New nodes get the access list of the nearest node above that is
    /// there, so that a spout that could write below that before still can.
    pub(super) async fn create(&self, path: &str, data: &[u8]) -> Result<Option<i32>, Failure> {
        let (mut above, mut missing) = (parent(path), Vec::new());
        let access = loop {
            let access = self.call("read the access list of", above, self.client.get_acl(above)).await?;
            match access {
                Some((access, _)) => break access,
                None if above == "/" => return Err(Failure::Refused(NO_CHROOT.to_owned())),
                None => missing.push(above),
            }
            above = parent(above);
        };
        for above in missing.into_iter().rev() {
            // Empty, as the spout's library leaves them.
            self.create_one(above, &[], &access).await?;
        }
        Ok(self.create_one(path, data, &access).await?.then_some(0))
    }

    /// Whether it was not there before.
    async fn create_one(&self, path: &str, data: &[u8], access: &[Acl]) -> Result<bool, Failure> {
        let attempted = format!("create \"{path}\"");
        let options = CreateMode::Persistent.with_acls(Acls::from(access));
        match bounded(self.patience, &attempted, self.client.create(path, data, &options)).await? {
            Ok(_) => Ok(true),
            Err(Error::NodeExists) => Ok(false),
            Err(error) => Err(Failure::of(&attempted, &error)),
        }
    }

    /// A call that reads; `None` where there is no such node.
    async fn call<T>(
        &self,
        what: &str,
        path: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Failure> {
        let attempted = format!("{what} \"{path}\"");
        match bounded(self.patience, &attempted, call).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(Failure::of(&attempted, &error)),
        }
    }
}

/// The path of the node above.
fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        None | Some(("", _)) => "/",
        Some((above, _)) => above,
    }
}

async fn bounded<T>(time: Duration, attempted: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(time, work).await.map_err(|_| Failure::Lost(format!("could not {attempted} within {time:?}")))
}
