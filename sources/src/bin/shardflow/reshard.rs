//! `shardflow stream reshard`.

use shardflow_sources::stream::{Goal, Plan, Stream};

use crate::args::{Aim, Reshard};
use crate::json;
use crate::out::{Out, Stop};

pub(crate) async fn run(stream: &Stream, args: &Reshard) -> Result<(), Stop> {
    let goal = match args.goal {
        Aim { split_hottest: Some(count), .. } => Goal::SplitHottest(count),
        Aim { merge_coldest: Some(count), .. } => Goal::MergeColdest(count),
        // The command line has one of the three.
        Aim { to_count, .. } => Goal::ToCount(to_count.unwrap_or(1)),
    };
    if matches!(goal, Goal::SplitHottest(_) | Goal::MergeColdest(_)) && args.sample.is_zero() {
        return Err(Stop::Failed("could not tell hot from cold: --sample 0s measures nothing".to_owned()));
    }
    if stream.summary().await?.mode == "ON_DEMAND" {
        let place = stream.describe_place();
        return Err(Stop::Failed(format!("could not reshard {place}: it is ON_DEMAND, and AWS reshards it by itself")));
    }
    let shards = stream.shards().await?;
    let loads = stream.sample(&shards, args.sample).await?;
    let plan = Plan::new(&shards, loads, goal)?;
    let shown = if args.json { format!("{:#}\n", json::plan(&plan)) } else { plan.to_string() };
    match Out::print(&shown) {
        // Whoever has seen enough of the plan has not taken back that it is to be done.
        Err(Stop::NobodyReads) if !args.dry_run => {}
        printed => printed?,
    }
    if args.dry_run {
        return Ok(());
    }
    let of = plan.steps.len();
    let told = |number: usize, step: &_| eprintln!("done {number} of {of}: {step}");
    match stream.reshard(&plan, args.step_timeout, told).await {
        Ok(()) => Ok(()),
        Err(stopped) => {
            for (number, step) in (1..).zip(&plan.steps).skip(stopped.done) {
                eprintln!("NOT done {number} of {of}: {step}");
            }
            Err(Stop::Failed(stopped.to_string()))
        }
    }
}
