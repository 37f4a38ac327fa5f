//! Follows a stream: the records of all its shards as they come, over splits and merges, parents before children.
//!
//! One task a shard reads pages and hands them over through a channel that holds few of them, so a slow listener slows the
//! reads down. The end of a shard comes through the same channel after its last record; only then are its children looked
//! for and opened. Between shards there is no order.

mod begin;
mod follow;
mod record;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use shardflow::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

pub use begin::Begin;
pub use record::Record;
#[cfg(test)]
pub(super) use record::tests;

use super::Stream;
use super::call::each;
use super::cursor::{At, Cursor};
use follow::{Following, Ready};
use record::open;

/// How often to look for shards that nobody announced. A reshard is seen at once, by its parents' end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many pages may wait for the listener.
const PAGES_WAITING: usize = 4;

/// How many shards are set to their first place at once.
const AT_ONCE: usize = 32;

/// What to follow.
#[derive(Debug, Clone, Default)]
pub struct TailOptions {
    /// Where shards that are listed now begin. Shards that appear later are read from their beginning.
    pub start: Begin,
    /// Only these shards and not their children; empty: all, and whatever they become.
    pub shards: BTreeSet<String>,
}

/// A stream that is being followed. Dropping it ends the reading.
#[derive(Debug)]
pub struct Tail {
    stream: Stream,
    options: TailOptions,
    following: Following,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    tasks: JoinSet<()>,
    look: Interval,
}

#[derive(Debug)]
enum Event {
    Records(Vec<Record>),
    Ended(String),
    Failed(Error),
}

impl Stream {
    /// Begins to follow the stream. With [`Begin::Latest`], what arrives after this has returned will come.
    ///
    /// # Errors
    /// The time to begin at has not come, there is no shard of a given id, the service refuses, or the failure lasts.
    pub async fn tail(&self, options: TailOptions) -> Result<Tail> {
        let now = Timestamp::now();
        if let Begin::At(time) = options.start
            && time > now
        {
            return Err(Error::config(format!("could not begin at {time}: that time has not come yet (it is {now})")));
        }
        let (sender, events) = mpsc::channel(PAGES_WAITING);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut tail = Tail {
            stream: self.clone(),
            options,
            following: Following::default(),
            sender,
            events,
            tasks: JoinSet::new(),
            look,
        };
        tail.begin().await?;
        Ok(tail)
    }
}

impl Tail {
    /// The records of one page; `None` once all shards that were asked for have been read to their end.
    ///
    /// # Errors
    /// A shard cannot be read on.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        loop {
            if self.is_over() {
                return Ok(None);
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(Event::Records(records)) => return Ok(Some(records)),
                    Some(Event::Ended(shard)) => {
                        self.following.ended(&shard);
                        self.look().await?;
                    }
                    Some(Event::Failed(error)) => return Err(error),
                    // This holds a sender itself.
                    None => return Err(Error::internal("could not go on: all shards' tasks are gone")),
                },
                _ = self.look.tick() => self.look().await?,
            }
        }
    }

    /// How many shards are being read now.
    #[must_use]
    pub fn open_shards(&self) -> usize {
        self.following.being_read()
    }

    /// A stream never ends, but a choice of its shards may.
    fn is_over(&self) -> bool {
        !self.options.shards.is_empty() && self.following.all_ended()
    }

    async fn begin(&mut self) -> Result<()> {
        let listed = self.stream.shards().await?;
        if let Some(missing) = self.options.shards.iter().find(|id| !listed.iter().any(|shard| shard.id == **id)) {
            let place = self.stream.describe_place();
            return Err(Error::config(format!("could not find shard \"{missing}\" of {place}")));
        }
        let only_new = self.options.start == Begin::Latest;
        self.following.first_listing(&self.chosen(listed), only_new);
        self.open_ready().await
    }

    async fn look(&mut self) -> Result<()> {
        if self.options.shards.is_empty() {
            let listed = self.stream.shards().await?;
            self.following.later_listing(&listed);
        }
        self.open_ready().await
    }

    fn chosen(&self, mut listed: Vec<super::Shard>) -> Vec<super::Shard> {
        let only = &self.options.shards;
        listed.retain(|shard| only.is_empty() || only.contains(&shard.id));
        listed
    }

    async fn open_ready(&mut self) -> Result<()> {
        let cursors = self.following.take_ready().into_iter().map(|Ready { shard, from_start }| {
            let at = match self.options.start {
                _ if !from_start => At::TrimHorizon,
                Begin::TrimHorizon => At::TrimHorizon,
                Begin::Latest => At::Latest,
                Begin::At(time) => At::Time(time),
            };
            (shard.clone(), Cursor::new(&self.stream, &shard, at))
        });
        let fix = |(shard, mut cursor): (String, Cursor)| async move {
            cursor.fix().await?;
            Ok((shard, cursor))
        };
        for (shard, cursor) in each(cursors.collect(), AT_ONCE, fix).await? {
            self.tasks.spawn(read(shard, cursor, self.options.start, self.sender.clone()));
        }
        Ok(())
    }
}

/// Reads a shard to its end, or until nobody listens.
async fn read(shard: String, mut cursor: Cursor, start: Begin, out: mpsc::Sender<Event>) {
    loop {
        let event = match cursor.next(None).await {
            Ok(page) => {
                let records: Vec<Record> = page
                    .records
                    .into_iter()
                    .flat_map(|raw| open(&shard, raw))
                    .filter(|record| record.is_of(start))
                    .collect();
                if !records.is_empty() && out.send(Event::Records(records)).await.is_err() {
                    return;
                }
                if !page.ended {
                    continue;
                }
                Event::Ended(shard)
            }
            Err(error) => Event::Failed(error),
        };
        // Whoever no longer listens does not care how it ended.
        let _ = out.send(event).await;
        return;
    }
}
