//! State larger than its memory budget.

/// The budget at which state is ten times as large, in bytes.
const BUDGET_AT_10X: u64 = 64 << 20;
/// What a job with that budget may take in all, in bytes.
pub(crate) const ALLOWED_AT_10X: f64 = BUDGET_AT_10X as f64 * 1.2 + 150e6;
