//! How far back a shard's records reach, by one read at each of its ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use shardflow::Result;

use crate::stream::call::each;
use crate::stream::cursor::{At, Cursor};
use crate::stream::{Shard, Stream};

/// How many shards are asked at once.
const AT_ONCE: usize = 16;

/// How many empty pages to turn in search of the oldest record: a sparse shard has many of them, and this is to be cheap.
const PAGES: usize = 5;

/// What GetRecords says at the two ends of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// `MillisBehindLatest` of a read at TRIM_HORIZON, in milliseconds: how far behind the shard's end a reader is that
    /// begins with the oldest record.
    pub oldest_behind: Option<u64>,
    /// When the oldest record arrived; `None` where the first few pages hold none.
    pub oldest_arrived: Option<Timestamp>,
    /// `MillisBehindLatest` of a read at LATEST, in milliseconds: 0 where the end can be read at all.
    pub newest_behind: Option<u64>,
}

impl Stream {
    /// The lag of each shard, by its id.
    pub(super) async fn lags(&self, shards: &[Shard]) -> Result<BTreeMap<String, Lag>> {
        let ids: Vec<String> = shards.iter().map(|shard| shard.id.clone()).collect();
        let lag = |id: String| {
            let stream = self.clone();
            async move {
                let lag = stream.lag(&id).await?;
                Ok((id, lag))
            }
        };
        Ok(each(ids, AT_ONCE, lag).await?.into_iter().collect())
    }

    async fn lag(&self, shard: &str) -> Result<Lag> {
        let mut oldest = Cursor::new(self, shard, At::TrimHorizon);
        let first = oldest.next(Some(1)).await?;
        let oldest_behind = first.behind;
        let mut page = first;
        for _ in 1..PAGES {
            if !page.records.is_empty() || page.is_the_end_for_now() {
                break;
            }
            page = oldest.next(Some(1)).await?;
        }
        let newest = Cursor::new(self, shard, At::Latest).next(Some(1)).await?;
        Ok(Lag {
            oldest_behind,
            oldest_arrived: page.records.first().and_then(|record| record.arrived),
            newest_behind: newest.behind,
        })
    }
}
