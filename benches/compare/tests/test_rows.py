"""The checker must see every difference, and none where there is none."""

import tempfile
import unittest
from collections import Counter
from pathlib import Path

from peers import rows

OURS = '{"account":"a","meter":"m","window_start":1700000040000,"window_end":1700000100000,"qty":5,"count":2,"max":3}'
FLINKS = (
    '{"account":"a","meter":"m","window_start":"2023-11-14 22:14:00","window_end":"2023-11-14 22:15:00",'
    '"qty":5,"count":2,"max":3}'
)


def ours(*lines):
    return rows.multiset(lines, rows.our_row)


def flinks(*lines):
    return rows.multiset(lines, rows.flink_row)


class Rows(unittest.TestCase):
    def test_one_row_written_by_both_is_the_same(self):
        self.assertEqual(rows.our_row(OURS), rows.flink_row(FLINKS))
        self.assertFalse(rows.differences(ours(OURS), flinks(FLINKS)))

    def test_order_does_not_matter(self):
        other = OURS.replace('"max":3', '"max":4')
        self.assertFalse(rows.differences(ours(OURS, other), ours(other, "\n", OURS)))

    def test_each_field_matters(self):
        changes = [
            ('"account":"a"', '"account":"b"'),
            ('"meter":"m"', '"meter":"n"'),
            ("22:14:00", "22:13:00"),
            ("22:15:00", "22:16:00"),
            ('"qty":5', '"qty":6'),
            ('"count":2', '"count":1'),
            ('"max":3', '"max":2'),
        ]
        for before, after in changes:
            with self.subTest(after):
                changed = FLINKS.replace(before, after)
                self.assertNotEqual(changed, FLINKS)
                found = rows.differences(ours(OURS), flinks(changed))
                self.assertEqual(found.missing, ours(OURS))
                self.assertEqual(found.extra, flinks(changed))
                self.assertIn("1 missing", found.describe())
                self.assertIn("1 not ours", found.describe())

    def test_a_row_written_twice_and_a_row_not_written_are_differences(self):
        twice = rows.differences(ours(OURS), flinks(FLINKS, FLINKS))
        self.assertEqual((sum(twice.missing.values()), sum(twice.extra.values())), (0, 1))
        none = rows.differences(ours(OURS), Counter())
        self.assertEqual((sum(none.missing.values()), sum(none.extra.values())), (1, 0))

    def test_records_are_counted_as_often_as_their_rows(self):
        self.assertEqual(rows.records(ours(OURS, OURS)), 4)

    def test_numbers_that_are_no_integers_are_refused(self):
        for number in ("5.0", "null", "true", '"5"'):
            with self.subTest(number), self.assertRaises(ValueError):
                rows.our_row(OURS.replace('"qty":5', f'"qty":{number}'))

    def test_timestamps_have_milliseconds(self):
        self.assertEqual(rows.milliseconds("1970-01-01 00:00:01"), 1000)
        self.assertEqual(rows.milliseconds("1970-01-01 00:00:01.5"), 1500)
        self.assertEqual(rows.milliseconds("1970-01-01 00:00:01.025"), 1025)

    def test_folders_are_read_without_what_is_hidden(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path in ("part-0", "deep/part-1", ".part-2.inprogress", ".staging/part-3"):
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(OURS + "\n")
            self.assertEqual(rows.read(folder, rows.our_row), Counter({rows.our_row(OURS): 2}))
