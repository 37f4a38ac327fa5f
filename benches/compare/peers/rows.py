"""What the metering job writes, read back and compared. Pure but for `read`.

A row is the same row whoever wrote it: times become milliseconds since 1970, and the order of rows and files is no matter.
How often a row was written is: a window that comes out twice is a difference.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple


class Row(NamedTuple):
    """The charge of one window."""

    start: int
    end: int
    account: str
    meter: str
    qty: int
    count: int
    max: int


class Differences(NamedTuple):
    """What the peer did not write although we did, and the other way round, as often as it lacks."""

    missing: Counter
    extra: Counter

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)

    def describe(self, shown: int = 3) -> str:
        """One line: how many rows differ, and the first of them."""
        sides = ((self.missing, "missing"), (self.extra, "not ours"))
        parts = []
        for rows, what in sides:
            if rows:
                first = "; ".join(str(tuple(row)) for row in sorted(rows)[:shown])
                parts.append(f"{sum(rows.values())} {what}, such as {first}")
        return ", ".join(parts) or "none"


def our_row(line: str) -> Row:
    """A line of `charges/` of `metering run`."""
    fields = json.loads(line)
    return _row(fields, fields["window_start"], fields["window_end"])


def flink_row(line: str) -> Row:
    """A line of Flink's JSON, whose times are SQL timestamps in UTC."""
    fields = json.loads(line)
    return _row(fields, milliseconds(fields["window_start"]), milliseconds(fields["window_end"]))


def _row(fields: dict, start: int, end: int) -> Row:
    row = Row(start, end, fields["account"], fields["meter"], fields["qty"], fields["count"], fields["max"])
    # JSON's true equals Python's 1, and 5.0 equals 5.
    if not all(type(number) is int for number in (row.start, row.end, row.qty, row.count, row.max)):
        raise ValueError(f"a row's numbers must be integers: {fields}")
    return row


@lru_cache(maxsize=4096)
def milliseconds(timestamp: str) -> int:
    """Milliseconds since 1970 of a timestamp in UTC, such as "2023-11-14 22:13:00" or "2023-11-14 22:13:00.5"."""
    whole, _, fraction = timestamp.partition(".")
    seconds = int(datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp())
    return seconds * 1000 + (int(fraction[:3].ljust(3, "0")) if fraction else 0)


def differences(ours: Counter, peers: Counter) -> Differences:
    """What differs between two multisets of rows."""
    return Differences(missing=ours - peers, extra=peers - ours)


def records(rows: Counter) -> int:
    """How many records are in the windows."""
    return sum(row.count * times for row, times in rows.items())


def multiset(lines: Iterable[str], parse: Callable[[str], Row]) -> Counter:
    """The rows of lines, empty ones left out."""
    return Counter(parse(line) for line in lines if line.strip())


def read(folder: Path, parse: Callable[[str], Row]) -> Counter:
    """The rows of all files below `folder`. Hidden ones are not committed and do not count."""
    return multiset(_lines(folder), parse)


def _lines(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            with path.open(encoding="utf-8") as file:
                yield from file
