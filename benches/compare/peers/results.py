"""Figures: medians of runs, and the file that other programs read. Pure but for `store`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Sequence


def short(number: int) -> str:
    """10000000 as 10M, 500000 as 500k."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)


def peer(name: str, version: str, backend: str, parallelism: int) -> str:
    """What a column is called: "Flink 2.3 rocksdb p2"."""
    return f"{name} {'.'.join(version.split('.')[:2])} {backend} p{parallelism}"


def figures(runs: Sequence[dict], records: int) -> dict:
    """The medians of a peer's runs, each figure by itself. `peak_bytes` is the greatest, as memory must be there for all."""
    def middle(name: str) -> float:
        return median(run[name] for run in runs)

    millions = records / 1e6
    return {
        "rate": records / middle("elapsed"),
        "rate_with_jvm_start": records / middle("elapsed_with_jvm_start"),
        "cpu_s_per_m": middle("cpu") / millions,
        "cpu_s_per_m_without_jvm_start": middle("cpu_of_job") / millions,
        "peak_bytes": max(run["peak"] for run in runs),
        "records": records,
        "runs": len(runs),
        "elapsed_s": [round(run["elapsed"], 3) for run in runs],
    }


def our_figures(runs: Sequence, records: int) -> dict:
    """The medians of our own runs on the same input, from process start to process end."""
    return {
        "rate": records / median(run.elapsed for run in runs),
        "cpu_s_per_m": median(run.cpu for run in runs) / (records / 1e6),
        "peak_bytes": max(run.peak for run in runs),
        "elapsed_s": [round(run.elapsed, 3) for run in runs],
    }


def merged(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Old entries, replaced where there is a new one of the same peer and row."""
    key = lambda entry: (entry["row"], entry["peer"])  # noqa: E731
    entries = {key(entry): entry for entry in [*old, *new]}
    return [entries[name] for name in sorted(entries)]


def store(file: Path, new: Sequence[dict]) -> None:
    """Puts entries into the file, whole or not at all."""
    try:
        old = json.loads(file.read_text())
    except FileNotFoundError:
        old = []
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(json.dumps(merged(old, new), indent=2) + "\n")
    beside.replace(file)


def table(entries: Sequence[dict]) -> str:
    """For people."""
    lines = [f"{'row':<14} {'peer':<24} {'M/s':>7} {'with start':>10} {'CPU-s/M':>8} {'peak MB':>8}"]
    for entry in entries:
        lines.append(_line(entry["row"], entry["peer"], entry))
        if "ours" in entry:
            lines.append(_line("", "  ours, beside it", entry["ours"]))
    return "\n".join(lines)


def _line(row: str, name: str, entry: dict) -> str:
    with_start = entry.get("rate_with_jvm_start", entry["rate"]) / 1e6
    rate, memory = entry["rate"] / 1e6, entry["peak_bytes"] / 1e6
    return f"{row:<14} {name:<24} {rate:>7.2f} {with_start:>10.2f} {entry['cpu_s_per_m']:>8.2f} {memory:>8.0f}"
