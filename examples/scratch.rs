//! scratch
#![allow(missing_docs, clippy::all)]
use shardflow::decode::Decoder;
use shardflow::source::*;
use shardflow::vocabulary::SplitId;
use shardflow::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct Mem {
    splits: u64,
    per: u64,
}
impl Source for Mem {
    fn identity(&self) -> String {
        "mem".into()
    }
    fn open(&self, _c: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let s = self.clone();
        Box::pin(async move { Ok(Box::new(s) as Box<dyn Enumerator>) })
    }
}
impl Enumerator for Mem {
    fn interval(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let splits = (0..self.splits)
            .map(|i| Split { id: SplitId::new(format!("s{i}")), parents: vec![], start: Position::new("0") })
            .collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }
    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let i: u64 = split.as_str()[1..].parse().unwrap();
        Ok(Box::new(R { i, n: self.splits, next: position.as_str().parse().unwrap(), per: self.per }))
    }
}
struct R {
    i: u64,
    n: u64,
    next: u64,
    per: u64,
}
impl Reader for R {
    fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        if self.next >= self.per {
            return Poll::Ready(Ok(None));
        }
        let end = (self.next + 8192).min(self.per);
        let mut buf = Vec::with_capacity(8 * 8192);
        let mut spans = Vec::with_capacity(8192);
        for k in self.next..end {
            let s = buf.len() as u32;
            buf.extend_from_slice(&(k * self.n + self.i).to_le_bytes());
            spans.push((s, s + 8));
        }
        let base = self.next * 8;
        self.next = end;
        Poll::Ready(Ok(Some(RawBatch::from_offsets(buf, spans, base, Position::new(end.to_string())))))
    }
}
#[derive(Clone)]
struct D;
impl Decoder for D {
    type Output = u64;
    fn decode(&self, b: &[u8]) -> std::result::Result<u64, String> {
        Ok(u64::from_le_bytes(b.try_into().unwrap()))
    }
}

fn mix(n: u64) -> u64 {
    let x = n.wrapping_mul(0x9e3779b97f4a7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8feb86659fd93);
    x ^ (x >> 32)
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let get = |k: &str, d: u64| a.iter().position(|x| x == k).map_or(d, |i| a[i + 1].parse().unwrap());
    let kind = a[1].clone();
    let (records, keys, workers, epoch, mem) =
        (get("-n", 20_000_000), get("-k", 5_000_000), get("-w", 2), get("-e", 200), get("-m", 12_000_000_000));
    let val = get("-v", 0) as usize;
    let keep = a.iter().position(|x| x == "-d").map(|i| a[i + 1].clone());
    let dir = tempfile::tempdir_in("/work/main/target").unwrap();
    let state = keep.map_or(dir.path().join("state"), |p| p.into());
    let seen = Arc::new(AtomicU64::new(0));
    let sum = Arc::new(AtomicU64::new(0));
    let s2 = (seen.clone(), sum.clone());
    let start = Instant::now();
    let first = Arc::new(std::sync::OnceLock::new());
    let f2 = first.clone();
    let commit = Arc::new(AtomicU64::new(0));
    let c2 = commit.clone();
    init_logging().unwrap();
    Job::named("scratch")
        .workers(workers as usize)
        .state(&state)
        .epoch(Duration::from_millis(epoch))
        .state_memory(mem)
        .on_commit(move |i: &CommitInfo<'_>| {
            let now = start.elapsed().as_secs_f64();
            let before = c2.swap(i.records, Ordering::SeqCst);
            if std::env::var("V").is_ok() {
                eprintln!("{now:.2} {} {}", i.records, i.records - before)
            }
        })
        .run(move |flow| {
            let (numbers, _rej) = flow.source("numbers", Mem { splits: 4, per: records / 4 }).decode(D);
            let timed = numbers.event_time(|n| EventTime::from_millis(n / 10), Lag::of(millis(100)));
            let (seen, sum) = s2.clone();
            let f3 = f2.clone();
            match kind.as_str() {
                "count" => {
                    timed
                        .key_by(move |n| mix(*n) % keys)
                        .running()
                        .count("count")
                        .filter(move |r| {
                            f3.get_or_init(|| start.elapsed());
                            let _ = (&seen, &sum, r);
                            false
                        })
                        .map(|_| 0u64)
                        .sink("none", shardflow::testing::Collected::new());
                }
                "wide" => {
                    timed
                        .key_by(move |n| mix(*n) % keys)
                        .running()
                        .fold("count", move || (0u64, vec![7u8; val]), |t, _| t.0 += 1)
                        .filter(move |r| {
                            f3.get_or_init(|| start.elapsed());
                            let _ = (&seen, &sum, r);
                            false
                        })
                        .map(|_| 0u64)
                        .sink("none", shardflow::testing::Collected::new());
                }
                _ => {
                    timed
                        .key_by(move |n| mix(*n) % keys)
                        .window(tumbling(minutes(1)).grace(millis(0)))
                        .discard_late()
                        .count("count")
                        .filter(move |r| {
                            f3.get_or_init(|| start.elapsed());
                            let _ = (&seen, &sum, r);
                            false
                        })
                        .map(|_| 0u64)
                        .sink("none", shardflow::testing::Collected::new());
                }
            }
        })
        .unwrap();
    let t = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let hwm = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let cpu = (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0;
    println!(
        "{:.2} M/s  {t:.2} s  cpu {:.2} s/M  {hwm}  first {:?}",
        records as f64 / t / 1e6,
        cpu / records as f64 * 1e6,
        first.get()
    );
}
