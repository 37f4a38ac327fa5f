"""The numbers of the running count: which key each has, and what the counts must come to. Pure.

The formula is a permutation of the keys, gone through once for each block of as many numbers as there are keys, each block
beginning elsewhere in it. So all keys are met equally often, one key's numbers lie far apart, those of neighbouring numbers
too, and workers that read different parts of the sequence do not meet the same keys at the same time.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

#: Near the golden ratio's share of 5 M, and with no factor 2 or 5.
STEP = 3_090_169


def shift(keys: int) -> int:
    """How much later in the permutation each block begins: 0.382 of the keys."""
    return keys * 191 // 500


def key(number: int, keys: int) -> int:
    """The key of a number, from 0 to `keys` - 1."""
    return ((number + number // keys * shift(keys)) * STEP) % keys


def key_sql(number: str, keys: int) -> str:
    """The same in SQL, where the division of integers is one of integers too, and MOD is of its second argument's type."""
    return f"CAST(MOD(({number} + {number} / {keys} * {shift(keys)}) * {STEP}, {keys}) AS BIGINT)"


class Totals(NamedTuple):
    """What is checked of the counts of all keys. A count that went to a wrong key changes the last two."""

    keys: int
    numbers: int
    #: The sum of the squares of the counts.
    squares: int
    #: The sum of key times count.
    weighted: int
    #: The sum of (key squared, modulo a prime) times count.
    mixed: int


#: Keeps the squares of keys within SQL's BIGINT.
PRIME = 1_000_003


def totals_sql(counts: str) -> str:
    """A query of `Totals` over a view of (k, c)."""
    return f"SELECT COUNT(*), SUM(c), SUM(c * c), SUM(k * c), SUM(MOD(k * k, {PRIME}) * c) FROM {counts}"


def expected(numbers: int, keys: int) -> Totals:
    """What `numbers` numbers from 0 come to, by the formula alone."""
    if gcd(STEP, keys) != 1:
        raise ValueError(f"{keys} keys cannot be gone through in steps of {STEP}")
    whole, rest = divmod(numbers, keys)
    counted_once_more = [key(number, keys) for number in range(whole * keys, numbers)]
    used = keys if whole else rest
    squares = keys * whole * whole + rest * (2 * whole + 1)
    weighted = whole * (keys * (keys - 1) // 2) + sum(counted_once_more)
    mixed = whole * sum(k * k % PRIME for k in range(keys)) if whole else 0
    mixed += sum(k * k % PRIME for k in counted_once_more)
    return Totals(used, numbers, squares, weighted, mixed)
