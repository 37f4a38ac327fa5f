"""The jobs in Flink's SQL, and the settings they run with. Text only: `flink_job` runs it.

README.md beside this folder gives the reason for each setting.
"""

from __future__ import annotations

from pathlib import Path

from . import counts

PARALLELISM = 2
BACKENDS = ("hashmap", "rocksdb")
#: The one JVM holds client, job manager and task manager.
JVM_ARGS = {"hashmap": "-Xmx4g -XX:+UseParallelGC", "rocksdb": "-Xmx2g"}
#: Beside the heap: RocksDB's memory, and the buffers of aggregations.
MANAGED_MEMORY = {"hashmap": "512m", "rocksdb": "2g"}
#: The event time of a record is at most 4 s behind those before it; our job's lag is the same 5 s.
WATERMARK_DELAY_S = 5
WINDOW_MINUTES = 1


def settings(backend: str, scratch: Path) -> dict[str, str]:
    """Flink's configuration for both jobs; what it writes lies below `scratch`."""
    return {
        "parallelism.default": str(PARALLELISM),
        "taskmanager.numberOfTaskSlots": str(PARALLELISM),
        "execution.runtime-mode": "STREAMING",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.storage": "filesystem",
        "execution.checkpointing.dir": (scratch / "checkpoints").as_uri(),
        "execution.checkpointing.incremental": str(backend == "rocksdb").lower(),
        # A job that fails is a failed measurement, and no longer one.
        "restart-strategy.type": "none",
        "state.backend.type": backend,
        "state.backend.rocksdb.predefined-options": "FLASH_SSD_OPTIMIZED",
        "state.backend.rocksdb.use-bloom-filter": "true",
        "io.tmp.dirs": str(scratch / "tmp"),
        "taskmanager.memory.managed.size": MANAGED_MEMORY[backend],
        "taskmanager.memory.network.min": "256m",
        "taskmanager.memory.network.max": "256m",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
    }


def mini_batch() -> dict[str, str]:
    """Updates of a key within a second become one, for aggregations without a window."""
    return {
        "table.exec.mini-batch.enabled": "true",
        "table.exec.mini-batch.allow-latency": "1 s",
        "table.exec.mini-batch.size": "50000",
    }


def metering(source: Path, out: Path) -> tuple[list[str], str]:
    """Tables, and the statement that is measured: one row a window, account and meter."""
    tables = [
        f"""CREATE TABLE usage_records (
            id STRING,
            account STRING,
            meter STRING,
            qty BIGINT,
            `at` BIGINT,
            event_time AS TO_TIMESTAMP_LTZ(`at`, 3),
            WATERMARK FOR event_time AS event_time - INTERVAL '{WATERMARK_DELAY_S}' SECOND
        ) WITH (
            'connector' = 'filesystem',
            'path' = '{source.as_uri()}',
            'format' = 'json',
            'json.ignore-parse-errors' = 'true'
        )""",
        f"""CREATE TABLE charges (
            account STRING,
            meter STRING,
            window_start TIMESTAMP(3),
            window_end TIMESTAMP(3),
            qty BIGINT,
            `count` BIGINT,
            `max` BIGINT
        ) WITH ('connector' = 'filesystem', 'path' = '{out.as_uri()}', 'format' = 'json')""",
    ]
    insert = f"""INSERT INTO charges
        SELECT account, meter, window_start, window_end, SUM(qty), COUNT(*), MAX(qty)
        FROM TABLE(TUMBLE(TABLE usage_records, DESCRIPTOR(event_time), INTERVAL '{WINDOW_MINUTES}' MINUTES))
        GROUP BY account, meter, window_start, window_end"""
    return tables, insert


def running(keys: int) -> tuple[list[str], str, str]:
    """Views over a table `numbers` (n BIGINT); the statement that is measured, and the one that is checked."""
    tables = [
        f"""CREATE TEMPORARY VIEW counted AS
            SELECT k, COUNT(*) AS c FROM (SELECT {counts.key_sql("n", keys)} AS k FROM numbers) GROUP BY k""",
        """CREATE TABLE latest (k BIGINT, c BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'blackhole')""",
    ]
    return tables, "INSERT INTO latest SELECT k, c FROM counted", counts.totals_sql("counted")
