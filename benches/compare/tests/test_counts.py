"""The formula of keys, and the sums that are expected, against counting."""

import unittest
from collections import Counter

from peers import counts


class Counts(unittest.TestCase):
    def test_each_block_of_numbers_has_each_key_once(self):
        for keys in (7, 1_000, 5_000):
            for block in range(3):
                found = {counts.key(number, keys) for number in range(block * keys, (block + 1) * keys)}
                self.assertEqual(found, set(range(keys)))

    def test_neighbours_and_halves_do_not_meet_the_same_keys(self):
        keys, numbers = 5_000_000, 20_000_000
        near = {counts.key(number, keys) for number in range(100_000)}
        far = {counts.key(number, keys) for number in range(numbers // 2, numbers // 2 + 100_000)}
        self.assertEqual(len(near), 100_000)
        self.assertFalse(near & far)

    def test_expected_totals_are_those_of_counting(self):
        for numbers, keys in ((0, 7), (5, 7), (7, 7), (20, 7), (2_500, 1_000)):
            with self.subTest(numbers=numbers, keys=keys):
                found = Counter(counts.key(number, keys) for number in range(numbers))
                totals = counts.Totals(
                    len(found),
                    sum(found.values()),
                    sum(c * c for c in found.values()),
                    sum(k * c for k, c in found.items()),
                    sum(k * k % counts.PRIME * c for k, c in found.items()),
                )
                self.assertEqual(counts.expected(numbers, keys), totals)

    def test_a_number_counted_for_a_wrong_key_changes_the_totals(self):
        right = counts.expected(20, 7)
        found = Counter(counts.key(number, 7) for number in range(20))
        found[2] -= 1
        found[3] += 1
        self.assertNotEqual(sum(k * c for k, c in found.items()), right.weighted)

    def test_keys_that_the_step_does_not_go_through_are_refused(self):
        with self.assertRaises(ValueError):
            counts.expected(10, counts.STEP)

    def test_sql_has_the_constants_of_the_formula(self):
        wanted = "CAST(MOD((n + n / 5000000 * 1910000) * 3090169, 5000000) AS BIGINT)"
        self.assertEqual(counts.key_sql("n", 5_000_000), wanted)
