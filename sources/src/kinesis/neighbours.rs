//! Meets the programs that read the stream before this job, or that are to be able to after it.
//!
//! At a job's first start it takes over from where they have come, if that is asked for; at every start it makes what
//! follows the job's commits for their sake.

use shardflow::metrics::SourceMetrics;
use shardflow::source::SourceContext;
use shardflow::{Error, Result};

use super::Kinesis;
use super::client::Client;
use super::committed::{Committed, HashRanges};
use super::enumerator::list;
use super::follower::ShardFollower;
use super::start::{FirstStart, Start};

/// What is made for the sake of others: who follows the job's commits, if anybody does, and the hash keys that it tells of.
pub(super) type Followed = (Option<ShardFollower>, HashRanges);

/// Where the job starts, and who is to follow it.
pub(super) async fn meet(
    settings: &Kinesis,
    context: &SourceContext,
    client: &Client,
    metrics: &SourceMetrics,
    own: FirstStart,
) -> Result<(FirstStart, Followed)> {
    let ranges = HashRanges::default();
    if !has_any(settings) {
        return Ok((own, (None, ranges)));
    }
    refuse_two_beginnings(settings)?;
    let listed = list(client, settings.connect_timeout, metrics).await?;
    ranges.listed(&listed);
    let committed = Committed::new(context.known.clone(), ranges.clone());
    #[cfg(feature = "zookeeper")]
    let (own, mirror) = zookeeper::meet(settings, context, client, &listed, own).await?;
    #[cfg(feature = "kcl")]
    let (own, keeper) = kcl::meet(settings, context, client, metrics, &listed, own, &committed).await?;
    let follower = ShardFollower {
        #[cfg(feature = "zookeeper")]
        step: context.step.clone(),
        committed,
        runtime: context.runtime.clone(),
        #[cfg(feature = "kcl")]
        keeper,
        #[cfg(feature = "zookeeper")]
        mirror,
    };
    Ok((own, (Some(follower), ranges)))
}

/// Each of them says where the shards begin, and none of them is less than the others.
fn refuse_two_beginnings(settings: &Kinesis) -> Result<()> {
    let mut beginnings = Vec::new();
    if matches!(settings.start, Start::Shards(_)) {
        beginnings.push("Start::Shards");
    }
    #[cfg(feature = "kcl")]
    if settings.leases.as_ref().is_some_and(|leases| leases.takes_over() != crate::kcl::TakeOver::No) {
        beginnings.push("the lease table");
    }
    #[cfg(feature = "zookeeper")]
    if settings.spout.as_ref().is_some_and(crate::zookeeper::SpoutNodes::takes_over) {
        beginnings.push("the spout's nodes");
    }
    match beginnings.as_slice() {
        [first, second, ..] => Err(Error::config(format!(
            "could not tell where to start stream \"{}\": both {first} and {second} are to say so",
            settings.stream
        ))),
        _ => Ok(()),
    }
}

fn has_any(settings: &Kinesis) -> bool {
    #[cfg(feature = "kcl")]
    if settings.leases.is_some() {
        return true;
    }
    #[cfg(feature = "zookeeper")]
    if settings.spout.is_some() {
        return true;
    }
    false
}

#[cfg(feature = "zookeeper")]
mod zookeeper {
    use shardflow::Result;
    use shardflow::source::SourceContext;

    use super::super::Kinesis;
    use super::super::client::Client;
    use super::super::lineage::Shard;
    use super::super::position::ShardPosition;
    use super::super::start::{Begin, FirstStart};
    use crate::zookeeper::{Lineages, Mirror, take_over};
    use shardflow::retry::WallClock;

    /// Takes over from a topology at the first start, and mirrors to its nodes at every start.
    pub(super) async fn meet(
        settings: &Kinesis,
        context: &SourceContext,
        client: &Client,
        listed: &[Shard],
        own: FirstStart,
    ) -> Result<(FirstStart, Option<Mirror>)> {
        let Some(nodes) = &settings.spout else { return Ok((own, None)) };
        let stream = &client.stream.name;
        let taken = if context.first_start { take_over(nodes, stream, &WallClock).await? } else { None };
        let start = match taken {
            None => own,
            Some(taken) => {
                let lineages: Lineages = listed.iter().map(|shard| (shard.id.clone(), shard.parents.clone())).collect();
                let begins = taken.starts(&lineages, &own.others).into_iter();
                // What the spout knew and the stream no longer has was not read to its end, as far as anybody can tell.
                let gone = taken.gone(&lineages).into_iter().map(|shard| (shard, ShardPosition::TrimHorizon));
                let shards = begins.chain(gone).map(|(shard, at)| (shard, Begin::At(at))).collect();
                FirstStart { shards, ..own }
            }
        };
        let mirror = Mirror::start(nodes, stream, &context.runtime, WallClock)?;
        Ok((start, Some(mirror)))
    }
}

#[cfg(feature = "kcl")]
mod kcl {
    use std::sync::Arc;

    use shardflow::metrics::SourceMetrics;
    use shardflow::source::SourceContext;
    use shardflow::{Error, Result};

    use super::super::Kinesis;
    use super::super::client::Client;
    use super::super::committed::{Committed, ShardState, States};
    use super::super::lineage::Shard;
    use super::super::position::ShardPosition;
    use super::super::start::{Begin, FirstStart};
    use crate::kcl::{From, IfAbsent, Keeper, TakeOver, TakenOver, Terms, refuse_foreign, take_over};
    use shardflow::retry::{Clock, WallClock};

    /// Takes over from a fleet at the first start, and holds the leases from then on.
    pub(super) async fn meet(
        settings: &Kinesis,
        context: &SourceContext,
        client: &Client,
        metrics: &SourceMetrics,
        listed: &[Shard],
        own: FirstStart,
        committed: &Committed,
    ) -> Result<(FirstStart, Option<Keeper>)> {
        let Some(leases) = &settings.leases else { return Ok((own, None)) };
        let takes_over = context.first_start && leases.takes_over() != TakeOver::No;
        let if_absent = if takes_over { IfAbsent::Refuse } else { IfAbsent::Make };
        let region = client.stream.region().or(settings.region.as_deref());
        let table = leases.open(region, if_absent, metrics).await?;
        let prefix = format!("{}/", context.job);
        if context.first_start && !takes_over {
            refuse_foreign(&table, &WallClock, metrics, &prefix).await?;
        }
        let mut start = own;
        if takes_over {
            let taken = take_over(&table, &WallClock, leases.failover(), leases.takes_over(), metrics).await?;
            start = begin(taken, start)?;
        }
        let states = if context.first_start { first_states(&start, listed) } else { committed.states() };
        let predecessor = format!("{prefix}{}/{}/", context.state_id, boot());
        let nonce: u32 = rand::random();
        let terms = Terms {
            // A state folder that was copied or restored has its incarnations twice.
            owner: format!("{predecessor}{}-{nonce:08x}", context.incarnation),
            first_start: context.first_start,
            failover_time: leases.failover(),
            mirror_interval: leases.interval(),
            is_my_predecessor: Arc::new(move |owner| owner.starts_with(&predecessor)),
            metrics: metrics.clone(),
        };
        let keeper = Keeper::start(table, WallClock, terms, states, &context.runtime).await?;
        keeper.ready().await?;
        Ok((start, Some(keeper)))
    }

    /// This machine since it was started. An earlier run of the job on it is dead, since a state folder has one process at a
    /// time; of a folder that has moved here nobody knows.
    fn boot() -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id: String = id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        if id.is_empty() { format!("{:012x}", rand::random::<u64>()) } else { id }
    }

    /// Where the job begins in each shard that the fleet has a lease of.
    fn begin(taken: Vec<TakenOver>, own: FirstStart) -> Result<FirstStart> {
        let now = WallClock.wall_millis();
        let mut shards = std::collections::BTreeMap::new();
        for TakenOver { shard, from } in taken {
            let begin = match from {
                From::TrimHorizon => Begin::At(ShardPosition::TrimHorizon),
                From::Latest => Begin::At(ShardPosition::Time(now)),
                From::After(sequence) => Begin::At(ShardPosition::After(sequence)),
                From::Ended => Begin::Ended,
                From::AtTimestamp => match &own.others {
                    ShardPosition::Time(millis) => Begin::At(ShardPosition::Time(*millis)),
                    _ => {
                        return Err(Error::config(format!(
                            "could not take over shard \"{shard}\": the fleet begins it at a time that its lease table does \
                             not hold; start the source at that time (Start::At)"
                        )));
                    }
                },
            };
            shards.insert(shard, begin);
        }
        Ok(FirstStart { shards, ..own })
    }

    /// What is to be said of the shards before the first commit.
    fn first_states(start: &FirstStart, listed: &[Shard]) -> States {
        let mut begins = start.of(listed);
        let state = |shard: &Shard| {
            let (position, ended) = match begins.remove(&shard.id) {
                Some(Begin::At(position)) => (position, false),
                Some(Begin::Ended) => (ShardPosition::TrimHorizon, true),
                None => (ShardPosition::TrimHorizon, false),
            };
            let children = listed.iter().filter(|other| other.parents.contains(&shard.id));
            let state = ShardState {
                position,
                ended,
                is_read_to_its_end: ended,
                parents: shard.parents.clone(),
                hash_range: shard.hash_range,
                children: children.map(|child| child.id.clone()).collect(),
            };
            (shard.id.clone(), state)
        };
        listed.iter().map(state).collect()
    }
}
