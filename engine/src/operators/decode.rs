//! The decode operator: raw records in, values and rejected records out. Stateless.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::context::JobContext;
use super::guard::guarded;
use super::{Flowing, SplitEvents, SplitMessage};
use crate::decode::{Decoder, RawRecord, Rejected};
use crate::metrics::{self, StepMetrics};
use crate::source::RawBatch;
use crate::vocabulary::{Event, SourceId, SplitId, StepName};

/// Decoded and rejected records, each by split.
type Decoded<'scope, T> = (SplitEvents<'scope, T>, Flowing<'scope, SplitMessage<Vec<Rejected>>>);

/// Decodes the records of the source `step`, which reads `source`.
pub(crate) fn decode<'scope, D: Decoder>(
    context: &Arc<JobContext>,
    step: &StepName,
    source: SourceId,
    stream: Flowing<'scope, SplitMessage<RawBatch>>,
    decoder: D,
) -> Decoded<'scope, D::Output> {
    let mut builder = OperatorBuilder::new(format!("decode {step}"), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (values, good) = builder.new_output();
    let (rejects, bad) = builder.new_output();
    let mut values = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(values);
    let mut rejects = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(rejects);
    builder.set_notify_for(0, FrontierInterest::Never);
    let context = Arc::clone(context);
    let name = format!("decode after {step}");
    let metrics = StepMetrics::register(step);
    let rejected_count = metrics::rejected(step);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            guarded(&context, &name, || {
                let (mut values, mut rejects) = (values.activate(), rejects.activate());
                input.for_each(|capability, data| {
                    for message in data.drain(..) {
                        let mut rejected = None;
                        let decoded = message.map_batch(|split, batch| {
                            let (good, bad) = decode_batch(&decoder, &source, split, &batch);
                            metrics.batch(batch.len(), good.len());
                            if !bad.is_empty() {
                                rejected_count.increment(bad.len() as u64);
                                let split = Arc::clone(split);
                                rejected = Some(SplitMessage::Records { split, at_end: false, batch: bad });
                            }
                            good
                        });
                        if let Some(rejected) = rejected {
                            rejects.session(&capability).give(rejected);
                        }
                        values.session(&capability).give(decoded);
                    }
                });
                Ok(())
            });
        }
    });
    (good, bad)
}

fn decode_batch<D: Decoder>(
    decoder: &D,
    source: &SourceId,
    split: &SplitId,
    batch: &RawBatch,
) -> (Vec<Event<D::Output>>, Vec<Rejected>) {
    let mut good = Vec::with_capacity(batch.len());
    let mut bad = Vec::new();
    for record in RawRecord::of(source, split, batch) {
        let decoded = record.fault().map_or_else(|| decoder.decode_record(&record), |fault| Err(fault.to_owned()));
        match decoded {
            Ok(value) => good.push(Event::untimed(value)),
            Err(error) => bad.push(Rejected {
                error,
                raw: String::from_utf8_lossy(record.bytes()).into_owned(),
                source: source.to_string(),
                split: split.to_string(),
                position: record.position(),
            }),
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::lines;
    use crate::source::{Position, RecordMeta};
    use crate::vocabulary::{EventTime, RecordId};

    #[test]
    fn a_rejected_record_tells_where_it_stands() {
        let mut batch = RawBatch::with_positions(Position::new("after:12"));
        batch.push(b"good", "11");
        batch.push(b"b\xffd", "12");
        let (good, bad) = decode_batch(&lines(), &"stream".into(), &"shard-0".into(), &batch);
        assert_eq!(good.into_iter().map(|event| event.value).collect::<Vec<_>>(), ["good"]);
        assert_eq!(bad.len(), 1);
        assert_eq!(
            (bad[0].raw.as_str(), bad[0].source.as_str(), bad[0].split.as_str(), bad[0].position.as_str()),
            ("b\u{fffd}d", "stream", "shard-0", "12")
        );
    }

    #[test]
    fn a_record_the_source_marked_is_rejected_undecoded() {
        let mut batch = RawBatch::with_positions(Position::new("after:1"));
        batch.push(b"cut off", "1");
        batch.mark_fault(0, "record is longer than 7 bytes");
        let (good, bad) = decode_batch(&lines(), &"stream".into(), &"shard-0".into(), &batch);
        assert!(good.is_empty());
        assert_eq!(bad[0].error, "record is longer than 7 bytes");
    }

    #[test]
    fn a_sourced_value_knows_what_its_source_says_of_it() {
        let mut batch = RawBatch::with_positions(Position::new("after:12"));
        let meta = RecordMeta {
            partition_key: Some("acme".to_owned()),
            arrived: Some(EventTime::from_millis(7)),
            ..RecordMeta::default()
        };
        batch.push_with(b"one", "12:3", meta.clone());
        let (good, _) = decode_batch(&lines().sourced(), &"stream".into(), &"shard-0".into(), &batch);
        let value = &good[0].value;
        assert_eq!(value.source.as_str(), "stream");
        assert_eq!((value.value.as_str(), value.split.as_str(), value.position.as_str()), ("one", "shard-0", "12:3"));
        assert_eq!(value.meta, meta);
    }

    /// The ids of records that stand there: decoded, or refused where they are no text.
    fn ids(source: &str, split: &str, positions: &[&str]) -> Vec<RecordId> {
        let mut batch = RawBatch::with_positions(Position::new("after:12"));
        positions.iter().for_each(|position| batch.push(b"same", position));
        let (good, _) = decode_batch(&lines().sourced(), &source.into(), &split.into(), &batch);
        let mut refused = RawBatch::with_positions(Position::new("after:12"));
        positions.iter().for_each(|position| refused.push(b"\xff", position));
        let (_, bad) = decode_batch(&lines(), &source.into(), &split.into(), &refused);
        let ids: Vec<RecordId> = good.iter().map(|event| event.value.id()).collect();
        assert_eq!(bad.iter().map(Rejected::id).collect::<Vec<_>>(), ids, "a record has one id, readable or not");
        ids
    }

    #[test]
    fn records_have_one_id_wherever_their_batch_is_cut_and_another_in_any_other_place() {
        let positions = ["11", "12:0", "12:1", "120"];
        let all = ids("stream", "shard-0", &positions);
        let cut = [&positions[..1], &positions[1..2], &positions[2..]];
        assert_eq!(cut.map(|positions| ids("stream", "shard-0", positions)).concat(), all);
        let others = [ids("stream", "shard-1", &positions), ids("stream-2", "shard-0", &positions)].concat();
        let mut distinct = [all, others].concat();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 12);
    }
}
