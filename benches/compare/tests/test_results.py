"""Figures come from the middle run, and the file keeps what was not measured anew."""

import json
import tempfile
import unittest
from pathlib import Path

from peers import results
from peers.process import Usage


def run(elapsed, cpu=10.0, peak=1):
    return {"elapsed": elapsed, "elapsed_with_jvm_start": elapsed + 5, "cpu": cpu, "cpu_of_job": cpu - 4, "peak": peak}


def entry(peer, row, rate):
    return {"peer": peer, "row": row, "rate": rate}


class Results(unittest.TestCase):
    def test_the_middle_run_counts_and_the_greatest_memory(self):
        figures = results.figures([run(5, peak=7), run(20, cpu=30.0), run(4, cpu=8.0)], 2_000_000)
        self.assertEqual(figures["rate"], 400_000)
        self.assertEqual(figures["rate_with_jvm_start"], 200_000)
        self.assertEqual(figures["cpu_s_per_m"], 5)
        self.assertEqual(figures["cpu_s_per_m_without_jvm_start"], 3)
        self.assertEqual(figures["peak_bytes"], 7)
        self.assertEqual(figures["elapsed_s"], [5, 20, 4])

    def test_ours_are_medians_too(self):
        figures = results.our_figures([Usage(2.0, 1.0, 5), Usage(1.0, 3.0, 4), Usage(4.0, 2.0, 6)], 1_000_000)
        self.assertEqual((figures["rate"], figures["cpu_s_per_m"], figures["peak_bytes"]), (500_000, 2, 6))

    def test_rows_and_columns_have_names(self):
        found = [results.short(number) for number in (10_000_000, 500_000, 2_500_000, 7)]
        self.assertEqual(found, ["10M", "500k", "2500k", "7"])
        self.assertEqual(results.peer("Flink", "2.3.0", "rocksdb", 2), "Flink 2.3 rocksdb p2")

    def test_new_figures_replace_their_own_and_no_others(self):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "bench" / "peers.json"
            results.store(file, [entry("a", "metering-10M", 1), entry("b", "metering-10M", 2)])
            results.store(file, [entry("b", "metering-10M", 3), entry("a", "running-5M", 4)])
            wanted = [entry("a", "metering-10M", 1), entry("b", "metering-10M", 3), entry("a", "running-5M", 4)]
            self.assertEqual(json.loads(file.read_text()), wanted)
            self.assertEqual([path.name for path in file.parent.iterdir()], ["peers.json"])
