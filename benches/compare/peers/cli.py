"""The command line, and the order of things."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Sequence

from . import counts, flink_sql, install, results, rows
from .process import Failed, Usage, run

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
#: As `make bench` has it.
SEED = 7
#: One a reader: Flink's readers each read their files one after the other, hours of event time apart.
FILES = flink_sql.PARALLELISM
#: A run that takes longer is stuck.
TIMEOUT_S = 1800


def main() -> int:
    """Measures what was asked for. Exit code 1 and one line where that could not be done."""
    arguments = parse(sys.argv[1:])
    try:
        measure(arguments)
    except Failed as failure:
        print(f"compare: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    about = "Measures the same jobs on Apache Flink and checks that the rows agree."
    parser = argparse.ArgumentParser(prog="run", description=about)
    parser.add_argument("--only", choices=("metering", "running"), help="one of the two jobs")
    parser.add_argument("--backend", choices=flink_sql.BACKENDS, help="one of Flink's two state backends")
    parser.add_argument("--records", type=int, default=10_000_000, help="records of metering [%(default)s]")
    parser.add_argument("--numbers", type=int, default=20_000_000, help="records of the running count [%(default)s]")
    parser.add_argument("--keys", type=int, default=5_000_000, help="keys of the running count [%(default)s]")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median counts [%(default)s]")
    quick = "a tenth of everything, one run: whether it works, not how fast"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--install", action="store_true", help="only installs what is needed")
    parser.add_argument("--mini-batch", action="store_true", help="the running count with Flink's mini-batches")
    setting = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--set", **setting, help="a setting of Flink, to try it out")
    parser.add_argument("--jvm-args", help="the JVM's arguments, in place of ours")
    parser.add_argument("--metering", type=Path, default=target / "release" / "metering", help="our program")
    scratch = target / "bench" / "compare"
    parser.add_argument("--dir", type=Path, default=scratch, help="where input is kept and programs write")
    parser.add_argument("--out", type=Path, default=target / "bench" / "peers.json", help="the figures, as JSON")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.records //= 10
        arguments.numbers //= 10
        arguments.keys //= 10
        arguments.runs = 1
    if min(arguments.records, arguments.numbers, arguments.keys, arguments.runs) < 1:
        parser.error("all numbers must be at least 1")
    if not all("=" in setting for setting in arguments.set):
        parser.error("--set takes NAME=VALUE")
    return arguments


def measure(arguments: argparse.Namespace) -> None:
    install.java()
    python = install.python()
    if arguments.install:
        return
    bench = Bench(arguments, python)
    entries = []
    if arguments.only != "running":
        entries += bench.metering()
    if arguments.only != "metering":
        entries += bench.running()
    print(results.table(entries))
    if arguments.set or arguments.jvm_args or arguments.mini_batch:
        print("all rows agree; figures are not kept, as settings were tried")
        return
    results.store(arguments.out, entries)
    print(f"all rows agree; figures are in {arguments.out}")


class Bench:
    """One invocation."""

    def __init__(self, arguments: argparse.Namespace, python: Path) -> None:
        self.arguments = arguments
        self.python = python
        self.backends = (arguments.backend,) if arguments.backend else flink_sql.BACKENDS
        self.dir = arguments.dir.resolve()
        self.scratch = self.dir / "scratch"

    def metering(self) -> list[dict]:
        """Ours and Flink's in turn; the rows of every run are compared."""
        files = self.input()
        ours: list[Usage] = []
        flinks: dict[str, list[dict]] = {backend: [] for backend in self.backends}
        wanted = None
        for turn in range(1, self.arguments.runs + 1):
            self.say(f"metering, run {turn} of {self.arguments.runs}: ours")
            usage, written = self.our_metering(files)
            ours.append(usage)
            wanted = wanted or written
            self.agree("another run of ours", wanted, written)
            for backend, runs in flinks.items():
                self.say(f"metering, run {turn} of {self.arguments.runs}: Flink, {backend}")
                scratch = self.fresh()
                out = scratch / "out"
                runs.append(self.flink("metering", backend, scratch, input=str(files), out=str(out)))
                self.agree(f"Flink, {backend}", wanted, rows.read(out, rows.flink_row))
        beside = results.our_figures(ours, self.arguments.records)
        row = f"metering-{results.short(self.arguments.records)}"
        entries = (self.entry(row, backend, runs, self.arguments.records) for backend, runs in flinks.items())
        return [{**entry, "ours": beside} for entry in entries]

    def running(self) -> list[dict]:
        """Timed into a sink that throws away; one more run for each backend sums the counts up, which must be right."""
        numbers, keys = self.arguments.numbers, self.arguments.keys
        wanted = counts.expected(numbers, keys)
        flinks: dict[str, list[dict]] = {backend: [] for backend in self.backends}
        for backend in self.backends:
            self.say(f"running count, check: Flink, {backend}")
            found = self.flink("running-check", backend, self.fresh(), records=numbers, keys=keys)["totals"]
            if found != list(wanted):
                raise Failed(f"Flink, {backend}, counted {found}, not {wanted}")
        for turn in range(1, self.arguments.runs + 1):
            for backend, runs in flinks.items():
                self.say(f"running count, run {turn} of {self.arguments.runs}: Flink, {backend}")
                runs.append(self.flink("running", backend, self.fresh(), records=numbers, keys=keys))
        row = f"running-{results.short(keys)}"
        return [self.entry(row, backend, runs, numbers) for backend, runs in flinks.items()]

    def entry(self, row: str, backend: str, runs: list[dict], records: int) -> dict:
        """Called only after every row was compared."""
        version = runs[0]["version"]
        return {
            "peer": results.peer("Flink", version, backend, flink_sql.PARALLELISM),
            "row": row,
            **results.figures(runs, records),
            "rows_agree": True,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "version": version,
            "java": runs[0]["java"],
        }

    def agree(self, who: str, wanted: Counter, written: Counter) -> None:
        if differ := rows.differences(wanted, written):
            raise Failed(f"rows of {who} are not ours: {differ.describe()}")

    def our_metering(self, files: Path) -> tuple[Usage, Counter]:
        scratch = self.fresh()
        out = scratch / "out"
        command = [self.arguments.metering, "run", "--workers", flink_sql.PARALLELISM, "--dedupe-ms", 0]
        command += ["--source", f"file:{files}", "--out", out, "--state", scratch / "state"]
        usage = run(command, scratch / "log", TIMEOUT_S)
        written = rows.read(out / "charges", rows.our_row)
        counted, all_of_them = rows.records(written), self.arguments.records
        if counted != all_of_them:
            raise Failed(f"{counted} of {all_of_them} records are in our rows, and none should be late")
        return usage, written

    def flink(self, job: str, backend: str, scratch: Path, **more: object) -> dict:
        """Runs a job in a JVM of its own."""
        spec = {"job": job, "backend": backend, "scratch": str(scratch), **more}
        spec["mini_batch"] = self.arguments.mini_batch
        spec["settings"] = dict(setting.split("=", 1) for setting in self.arguments.set)
        (scratch / "tmp").mkdir()
        asked, answered = scratch / "spec.json", scratch / "result.json"
        asked.write_text(json.dumps(spec))
        jvm = f"{self.arguments.jvm_args or flink_sql.JVM_ARGS[backend]} -Djava.io.tmpdir={scratch / 'tmp'}"
        environment = {**os.environ, "JVM_ARGS": jvm, "FLINK_LOG_DIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        # The installed Flink, with the settings it came with.
        for name in ("FLINK_HOME", "FLINK_CONF_DIR", "PYTHONPATH", "PYFLINK_GATEWAY_PORT"):
            environment.pop(name, None)
        run([self.python, "-m", "peers.flink_job", asked, answered], scratch / "log", TIMEOUT_S, environment, HERE)
        return json.loads(answered.read_text())

    def input(self) -> Path:
        """The records, generated once for each number of them and kept."""
        if not self.arguments.metering.is_file():
            raise Failed(f'"{self.arguments.metering}" is missing: build it first, as make compare does')
        base = self.dir / f"input-{self.arguments.records}"
        files, note = base / "files", base / "spec.txt"
        # Without late and bad records, see README.md.
        asked = ["generate", "--records", self.arguments.records, "--seed", SEED, "--files", FILES, "--late", 0, "--bad", 0]
        wanted = " ".join(map(str, asked)) + "\n"
        if not note.exists() or note.read_text() != wanted:
            self.say(f"generates {self.arguments.records} records")
            shutil.rmtree(base, ignore_errors=True)
            base.mkdir(parents=True)
            run([self.arguments.metering, *asked, "--out", files], base / "log", TIMEOUT_S)
            note.write_text(wanted)
        return files

    def fresh(self) -> Path:
        """An empty folder, in place of what the last run left."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        return self.scratch

    def say(self, what: str) -> None:
        print(f"compare: {what}", file=sys.stderr, flush=True)
