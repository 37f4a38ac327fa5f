//! Where a partition key lies in a stream's hash keys.

use md5::{Digest, Md5};

/// The hash key of a partition key.
///
/// # Examples
/// ```
/// use shardflow_aws::hash::hash_of;
/// assert_eq!(hash_of("a"), 0x0cc175b9c0f1b6a831c399e269772661);
/// ```
#[must_use]
pub fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}
