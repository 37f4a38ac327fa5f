//! What can go wrong, and the plan that decides when. Pure: the same calls meet the same faults.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A call on its way to the server, as a rule sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GetRecords`: what follows the last dot of `x-amz-target`; the HTTP method where there is none.
    pub operation: String,
    /// Counts the calls of this operation, from 1; a retry is a call of its own.
    pub nth: u64,
    /// The shard that the body names, or that its iterator was given for.
    pub shard: Option<String>,
    /// Counts the calls of this operation for this shard, from 1. Unlike `nth` it does not depend on how shards interleave.
    pub nth_of_shard: u64,
    /// The body, or null where it is no JSON.
    pub body: serde_json::Value,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Pass,
    /// `ProvisionedThroughputExceededException`, status 400; the server is not asked.
    Throttle,
    /// `InternalFailure`, status 500; the server is not asked.
    Error500,
    /// Status 503 with a page that is no JSON, as a load balancer gives it; the server is not asked.
    Error503,
    /// `ExpiredIteratorException`, status 400; the server is not asked.
    Expired,
    /// An error of this code, status 400; the server is not asked.
    Refused(&'static str),
    /// The connection is reset and the server is not asked.
    ResetBefore,
    /// The server has done the work; the connection is reset in place of the answer.
    ResetAfter,
    /// Half of the answer, then a reset.
    ResetMidBody,
    /// Half of the announced answer, then an orderly end.
    Truncated,
    /// The whole answer, a few bytes at a time; takes about half a second.
    SlowBytes,
    /// The call is held for so long before it goes on. A client that leaves before then takes it along: the server is not
    /// asked.
    Delay(Duration),
    /// The server has done the work; its answer is held for so long, or until the client has left.
    Hold(Duration),
    /// `GetRecords` gives the answer again that gave the iterator it is called with: old records, and that iterator. The
    /// server is not asked. Only a client that compares sequence numbers notices. Any other call passes, as does the first
    /// after `GetShardIterator`.
    Duplicate,
    /// An event stream breaks after so many events (the initial response is none). Any other call passes.
    EndStreamEarly {
        after: usize,
        how: End,
    },
    /// `PutRecords` takes some of the records: the first of every so many is not passed on, and its answer says that it was
    /// throttled or failed. Any other call passes.
    SomeFail {
        every: usize,
    },
    /// `BatchWriteItem` goes on without each so-many-th of its requests, which the answer has as unprocessed. Any other call
    /// passes.
    Unprocessed {
        every: usize,
    },
    /// The call goes on without its condition `If-None-Match`: a store that silently ignores put-if-absent.
    Unconditional,
    /// The event at the end of a shard, which names its children, has null for a continuation, as AWS gives it and as no
    /// stand-in does. Any other call passes.
    NullAtEnd,
}

/// How an event stream breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The HTTP body ends in order, between two events.
    Clean,
    /// The connection is reset between two events.
    Reset,
    /// Half of the next event, then the HTTP body ends in order.
    MidFrame,
    /// The first 12 bytes of the next event (its lengths and their checksum), then the HTTP body ends in order.
    AfterPrelude,
    /// An exception of this type comes as an event; then the HTTP body ends in order.
    Exception(&'static str),
    /// Nothing more comes, and nothing ends.
    Silence,
}

impl Fault {
    /// The fault by its kind, for counting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Throttle => "throttle",
            Self::Error500 => "error 500",
            Self::Error503 => "error 503",
            Self::Expired => "expired",
            Self::Refused(_) => "refused",
            Self::ResetBefore => "reset before",
            Self::ResetAfter => "reset after",
            Self::ResetMidBody => "reset mid-body",
            Self::Truncated => "truncated",
            Self::SlowBytes => "slow bytes",
            Self::Delay(_) => "delay",
            Self::Hold(_) => "hold",
            Self::Duplicate => "duplicate",
            Self::EndStreamEarly { how, .. } => match how {
                End::Clean => "stream ended",
                End::Reset => "stream reset",
                End::MidFrame => "stream ended mid-frame",
                End::AfterPrelude => "stream ended after a prelude",
                End::Exception(_) => "stream exception",
                End::Silence => "stream silent",
            },
            Self::SomeFail { .. } => "some fail",
            Self::Unprocessed { .. } => "unprocessed",
            Self::Unconditional => "unconditional",
            Self::NullAtEnd => "null at the end",
        }
    }
}

/// Faults drawn at random; the draw for a call depends on the seed and on which call it is, never on timing.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    rates: Vec<(Fault, f64)>,
    operations: Vec<&'static str>,
}

impl Plan {
    /// Each fault comes with its probability; what is left of 1 passes. The seed is printed, as `SHARDFLOW_FAULT_SEED=…`.
    pub fn random(seed: u64, rates: &[(Fault, f64)]) -> Self {
        eprintln!("faults are drawn with SHARDFLOW_FAULT_SEED={seed}");
        assert!(rates.iter().map(|(_, rate)| rate).sum::<f64>() < 1.0, "a call must be able to pass");
        Self { seed, rates: rates.to_vec(), operations: Vec::new() }
    }

    /// The seed in `SHARDFLOW_FAULT_SEED`, to repeat a run; otherwise a new one.
    pub fn seed() -> u64 {
        match std::env::var("SHARDFLOW_FAULT_SEED") {
            Ok(seed) => seed.parse().expect("SHARDFLOW_FAULT_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(1, |time| mixed(u64::from(time.subsec_nanos()))),
        }
    }

    /// Lets every other operation pass.
    pub fn only(mut self, operations: &[&'static str]) -> Self {
        self.operations = operations.to_vec();
        self
    }

    /// What happens to this call.
    pub fn fault(&self, request: &Request) -> Fault {
        if !self.operations.is_empty() && !self.operations.contains(&request.operation.as_str()) {
            return Fault::Pass;
        }
        let mut drawn = self.draw(request);
        for &(fault, rate) in &self.rates {
            if drawn < rate {
                return fault;
            }
            drawn -= rate;
        }
        Fault::Pass
    }

    /// What [`FaultProxy::inject`](super::FaultProxy::inject) takes.
    pub fn rule(self) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
        move |request| self.fault(request)
    }

    /// A number in [0, 1).
    fn draw(&self, request: &Request) -> f64 {
        let nth = if request.shard.is_some() { request.nth_of_shard } else { request.nth };
        let shard = request.shard.as_deref().unwrap_or_default();
        let bytes = request.operation.bytes().chain([0]).chain(shard.bytes());
        let call = bytes.fold(mixed(self.seed), |hash, byte| mixed(hash ^ u64::from(byte)));
        // The 53 bits that a double holds exactly.
        (mixed(call ^ nth) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// SplitMix64's step: neighbouring numbers come out unlike each other.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How many calls of each operation met which fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    met: Counts,
    done: Counts,
}

/// By operation and kind of fault.
type Counts = BTreeMap<(String, &'static str), u64>;

impl Seen {
    pub fn count(&mut self, operation: &str, fault: Fault) {
        *self.met.entry((operation.to_owned(), fault.name())).or_default() += 1;
    }

    pub(crate) fn count_done(&mut self, operation: &str, fault: Fault) {
        *self.done.entry((operation.to_owned(), fault.name())).or_default() += 1;
    }

    /// The calls of `operation` that met a fault of this kind, whatever its details.
    pub fn of(&self, operation: &str, fault: Fault) -> u64 {
        self.met.get(&(operation.to_owned(), fault.name())).copied().unwrap_or(0)
    }

    /// Those of them that the server itself has answered with success, whatever became of the answer. Event streams are not
    /// counted.
    pub fn done(&self, operation: &str, fault: Fault) -> u64 {
        self.done.get(&(operation.to_owned(), fault.name())).copied().unwrap_or(0)
    }

    /// The calls of `operation`.
    pub fn calls(&self, operation: &str) -> u64 {
        self.met.iter().filter(|((of, _), _)| of == operation).map(|(_, count)| count).sum()
    }

    /// The calls that did not simply pass.
    pub fn faults(&self) -> u64 {
        self.broken(|_| true)
    }

    /// Those of `operation`.
    pub fn faults_of(&self, operation: &str) -> u64 {
        self.broken(|of| of == operation)
    }

    fn broken(&self, is_counted: impl Fn(&str) -> bool) -> u64 {
        let harmless = [Fault::Pass.name(), Fault::NullAtEnd.name()];
        let broken = self.met.iter().filter(|((of, fault), _)| is_counted(of) && !harmless.contains(fault));
        broken.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((operation, fault), count) in &self.met {
            writeln!(f, "{operation}: {fault} {count}")?;
        }
        Ok(())
    }
}
