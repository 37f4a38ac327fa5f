//! How RocksDB is set up: little memory, every check switched on.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

use crate::error::{Error, Result};

/// Sizes of the store. The defaults suit a job whose whole process should stay under 400 MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes of one write buffer; there are two. 8 MiB by default: a buffer is written out a few times a second under full load.
    pub write_buffer: usize,
    /// Changelogs are not folded before they have so many bytes. 8 MiB by default: smaller folds would write a key too often.
    pub fold_least: u64,
    /// They are folded at the latest at so many bytes, 32 MiB by default: a restore holds them in memory.
    pub fold_most: u64,
    /// With so many bytes of them that could be folded, 80 MiB by default, the sources wait: a start reads them all.
    pub backlog_most: u64,
    /// They are folded at the latest after so many epochs. 256 by default: a start reads a record of each.
    pub fold_epochs: u64,
    /// From so many bytes of changelogs on, what a fold writes is one sorted file; below, a batch. 1 MiB by default: a commit waits
    /// for one such batch at most.
    pub fold_file: u64,
    /// Bytes of changelogs that are merged at once, 8 MiB by default: the memory that a fold takes.
    pub fold_slice: u64,
}

/// How the levels of the database are compressed, the youngest first; the last entry is that of all further ones.
const YOUNG_TO_OLD: [DBCompressionType; 3] = [DBCompressionType::None, DBCompressionType::None, DBCompressionType::Lz4];

impl Default for Tuning {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            write_buffer: 8 << 20,
            fold_least: 8 * MIB,
            fold_most: 32 * MIB,
            backlog_most: 80 * MIB,
            fold_epochs: 256,
            fold_file: MIB,
            fold_slice: 8 * MIB,
        }
    }
}

impl Tuning {
    /// Options to create (`create`) or open the database.
    pub(super) fn options(&self, create: bool) -> Result<Options> {
        // Each log file names its predecessor's size and last number: a hole between two of them is found. The crate has
        // no setter for it.
        let mut options = Options::default()
            .get_options_from_string("track_and_verify_wals=true")
            .map_err(|error| Error::internal("could not set up RocksDB").caused_by(error))?;
        options.create_if_missing(create);
        options.set_error_if_exists(create);
        options.set_paranoid_checks(true);
        // A kill may leave half a record at the end of the log. Everything before it is whole.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_write_buffer_size(self.write_buffer);
        options.set_max_write_buffer_number(2);
        options.set_max_background_jobs(2);
        options.set_max_open_files(512);
        options.set_bytes_per_sync(1 << 20);
        // Of each file that is merged, a dozen at a time.
        options.set_compaction_readahead_size(256 << 10);
        // Every fold writes all over the base, and merging it down rewrites what it meets there: less often, and more at once.
        options.set_level_zero_file_num_compaction_trigger(8);
        // What is young is rewritten soon, and a dedupe's fingerprints do not shrink at all: compressing everything took 9 % of
        // the CPU time of a metering job. What has sunk below the first full level stays there for long. RocksDB counts from
        // that level, so a base of less than some 256 MB is not compressed at all.
        options.set_compression_per_level(&YOUNG_TO_OLD);
        options.set_allow_mmap_reads(false);
        options.set_allow_mmap_writes(false);
        // An idle job must cost nothing: no periodic statistics.
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_skip_stats_update_on_db_open(true);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_block_based_table_factory(&blocks());
        // A key that is asked for is there, mostly: the greatest level needs no filter.
        options.set_optimize_filters_for_hits(true);
        Ok(options)
    }

    /// Options of a file of base entries that is written outside the database.
    pub(super) fn sorted_file(&self) -> Options {
        let mut options = Options::default();
        // It comes in as the youngest level.
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&blocks());
        options
    }
}

fn blocks() -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(8 << 20));
    // Small, because state that is not in memory is read key by key.
    table.set_block_size(4 << 10);
    table.set_bloom_filter(10.0, false);
    table
}
