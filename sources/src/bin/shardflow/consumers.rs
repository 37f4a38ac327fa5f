//! `shardflow stream consumers`.

use shardflow_sources::stream::{Consumer, Stream};

use crate::args::Consumers;
use crate::json;
use crate::out::{Out, Stop};

pub(crate) async fn run(stream: &Stream, task: &Consumers) -> Result<(), Stop> {
    match task {
        Consumers::List { json: false, .. } => Out::print(&Consumer::table(&stream.consumers().await?)),
        Consumers::List { json: true, .. } => {
            Out::print(&format!("{:#}\n", json::consumers(&stream.consumers().await?)))
        }
        Consumers::Register(args) => {
            let consumer = stream.register_consumer(&args.name, args.timeout).await?;
            // What a subscriber needs, alone on its line.
            Out::print(&format!("{}\n", consumer.arn))
        }
        Consumers::Deregister(args) => Ok(stream.deregister_consumer(&args.name, args.timeout).await?),
    }
}
