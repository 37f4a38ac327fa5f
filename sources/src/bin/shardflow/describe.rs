//! `shardflow stream describe`.

use shardflow_sources::stream::Stream;

use crate::args::Describe;
use crate::json;
use crate::out::{Out, Stop};

pub(crate) async fn run(stream: &Stream, args: &Describe) -> Result<(), Stop> {
    let description = stream.describe(args.lag).await?;
    if args.json {
        return Out::print(&format!("{:#}\n", json::description(&description)));
    }
    Out::print(&description.to_string())
}
