"""Runs one job on Flink in this process' JVM and writes down what it took: `python -m peers.flink_job SPEC RESULT`.

The only module that needs PyFlink. Python says what to run and reads the clock; no record passes through it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from pyflink.common import Configuration, WatermarkStrategy
from pyflink.common.typeinfo import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment
from pyflink.version import __version__

from . import flink_sql

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """SPEC is a JSON object: job, backend, records, keys, input, out, scratch."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    tables = environment(spec)
    jvm = Jvm(get_gateway().jvm.java.lang.ProcessHandle.current().pid())
    measure = {"metering": metering, "running": running, "running-check": check}[spec["job"]]
    result = measure(tables, spec, jvm)
    result.update(version=__version__, java=get_gateway().jvm.java.lang.System.getProperty("java.version"))
    Path(sys.argv[2]).write_text(json.dumps(result))


def environment(spec: dict) -> "Tables":
    scratch = Path(spec["scratch"])
    values = flink_sql.settings(spec["backend"], scratch)
    if spec["job"] != "metering" and (spec["mini_batch"] or spec["job"] == "running-check"):
        values.update(flink_sql.mini_batch())
    values.update(spec.get("settings", {}))
    configuration = Configuration()
    for name, value in values.items():
        configuration.set_string(name, value)
    stream = StreamExecutionEnvironment.get_execution_environment(configuration)
    table = StreamTableEnvironment.create(stream)
    for name, value in values.items():
        table.get_config().set(name, value)
    return Tables(stream, table)


class Tables:
    """Flink's two environments, which belong together."""

    def __init__(self, stream: StreamExecutionEnvironment, table: StreamTableEnvironment) -> None:
        self.stream = stream
        self.table = table

    def create(self, statements: list[str]) -> None:
        for statement in statements:
            self.table.execute_sql(statement)

    def numbers(self, count: int) -> None:
        """The table `numbers`: 0 to count - 1, one half of them in each of two readers."""
        source = NumberSequenceSource(0, count - 1)
        numbers = self.stream.from_source(source, WatermarkStrategy.no_watermarks(), "numbers", Types.LONG())
        self.table.create_temporary_view("numbers", self.table.from_data_stream(numbers).alias("n"))


class Jvm:
    """The process that does the work."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        """Seconds of processor time until now, user and system, all threads."""
        user, system = self._stat()[11:13]
        return (int(user) + int(system)) / TICKS

    def age(self) -> float:
        """Seconds since it was started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(self._stat()[19]) / TICKS

    def peak(self) -> int:
        """The most memory that was resident, in bytes."""
        lines = self.folder.joinpath("status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def _stat(self) -> list[str]:
        # The name before it may hold spaces and brackets.
        return self.folder.joinpath("stat").read_text().rpartition(")")[2].split()


def metering(tables: Tables, spec: dict, jvm: Jvm) -> dict:
    create, insert = flink_sql.metering(Path(spec["input"]), Path(spec["out"]))
    tables.create(create)
    return timed(tables, insert, jvm)


def running(tables: Tables, spec: dict, jvm: Jvm) -> dict:
    create, insert, _ = flink_sql.running(spec["keys"])
    tables.numbers(spec["records"])
    tables.create(create)
    return timed(tables, insert, jvm)


def timed(tables: Tables, insert: str, jvm: Jvm) -> dict:
    """Submits a statement and waits for its end. `elapsed` is Flink's own figure: from the job's creation to its end."""
    before = jvm.cpu()
    client = tables.table.execute_sql(insert).get_job_client()
    ended = client.get_job_execution_result().result()
    elapsed = ended.get_net_runtime() / 1000
    age, cpu = jvm.age(), jvm.cpu()
    return {
        "elapsed": elapsed,
        "elapsed_with_jvm_start": age,
        "cpu": cpu,
        "cpu_of_job": cpu - before,
        "peak": jvm.peak(),
    }


def check(tables: Tables, spec: dict, jvm: Jvm) -> dict:
    """The totals over all running counts, kept up from their changes; the last is what they came to."""
    create, _, totals = flink_sql.running(spec["keys"])
    tables.numbers(spec["records"])
    tables.create(create)
    last = None
    with tables.table.execute_sql(totals).collect() as changes:
        for change in changes:
            last = change
    return {"totals": list(last) if last is not None else None, "elapsed_with_jvm_start": jvm.age()}


if __name__ == "__main__":
    main()
