//! A few results, for tests of the report.

use super::peers::{Peers, tests::peers as two_peers};
use crate::limits::names::{PLAIN_2, TIMELY_2};
use crate::results::{Axis, Entry, Figure, Group, Line, Measured, Results, Series, Speed, Stamp, Unit};
use crate::stats::Spread;

pub(super) fn peers() -> Peers {
    two_peers()
}

fn measured(name: &str, rates: [f64; 3], cpu: f64, peak: f64) -> Measured {
    Measured {
        name: name.to_owned(),
        rate: Spread::of(rates),
        cpu_per_million: Spread::once(cpu),
        peak: Spread::of([peak, peak - 20e6]),
    }
}

fn speed(id: &str, group: Group, title: &str, ran: &str, rate: f64, limits: Vec<Measured>) -> Entry {
    let ours = measured("shardflow, 2 workers", [rate, rate * 0.9, rate * 1.1], 0.35, 208e6);
    let (id, title, ran) = (id.to_owned(), title.to_owned(), ran.to_owned());
    Entry::Speed(Speed { id, group, title, ran, records: 10_000_000, ours, limits })
}

/// A row with limits, two rows of a sweep with their line, and a figure.
pub(super) fn results() -> Results {
    let limits = vec![measured(TIMELY_2, [7.5e6; 3], 0.26, 77e6), measured(PLAIN_2, [8.6e6; 3], 0.22, 198e6)];
    let epochs = |name: &str, rate| {
        speed(&format!("epochs-metering-{name}"), Group::Epochs, name, "Epochs vary.", rate, Vec::new())
    };
    let axis = |label: &str, log| Axis { label: label.to_owned(), log };
    let line = Line { name: "metering".to_owned(), points: vec![(200.0, 4.8), (600_000.0, 6.0)] };
    let series = Series {
        id: "epochs".to_owned(),
        group: Group::Epochs,
        title: "Rate against epochs".to_owned(),
        x: axis("ms", true),
        y: axis("M records/s", false),
        lines: vec![line],
    };
    let figure = Figure {
        id: "latency-running-50k-p50".to_owned(),
        group: Group::Latency,
        title: "running result, p50".to_owned(),
        value: Spread::once(0.28),
        unit: Unit::Millis,
        notes: "open loop".to_owned(),
    };
    let stamp = |date: &str| Stamp {
        date: date.to_owned(),
        commit: "abc1234+changes".to_owned(),
        cpu: "A CPU".to_owned(),
        cores: 2,
        memory: 16_000_000_000,
        system: "Debian, Linux 6.1".to_owned(),
    };
    let mut results = Results::default();
    results.replace(vec![Entry::Figure(figure)], &stamp("2026-11-24 10:00 UTC"));
    let metering = speed("metering-10m", Group::Metering, "10 M records", "The job.", 5.4e6, limits);
    results.replace(vec![metering], &stamp("2026-11-25 10:00 UTC"));
    let sweep = vec![epochs("off", 6e6), epochs("200ms", 4.8e6), Entry::Series(series)];
    results.replace(sweep, &stamp("2026-11-25 10:00 UTC"));
    results
}
