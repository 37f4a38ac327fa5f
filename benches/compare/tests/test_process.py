"""A child is measured, its failure is told, and nothing that it started outlives it."""

import os
import sys
import tempfile
import unittest
from pathlib import Path

from peers import install, process


class Process(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def python(self, script, timeout_s=60.0):
        return process.run([sys.executable, "-c", script], self.folder / "log", timeout_s, folder=self.folder)

    def test_a_child_that_worked_has_used_time_and_memory(self):
        used = self.python("import time\nwhile time.process_time() < 0.2: pass")
        self.assertGreaterEqual(used.cpu, 0.2)
        self.assertGreater(used.elapsed, 0.05)
        self.assertGreater(used.peak, 1_000_000)

    def test_a_child_that_fails_is_quoted(self):
        with self.assertRaisesRegex(process.Failed, "(?s)ended with 3.*no input"):
            self.python("print('no input', flush=True)\nraise SystemExit(3)")

    def test_of_a_java_program_the_causes_are_quoted(self):
        script = "print('Traceback')\nprint('Caused by: java.lang.RuntimeException: no event time')\nprint('\\tat x.Y' * 40)"
        with self.assertRaises(process.Failed) as raised:
            self.python(script + "\nraise SystemExit(1)")
        self.assertIn("no event time", str(raised.exception))
        self.assertNotIn("at x.Y", str(raised.exception))

    def test_a_child_that_takes_too_long_is_ended(self):
        with self.assertRaisesRegex(process.Failed, "took more than"):
            self.python("import time\ntime.sleep(600)", timeout_s=0.2)

    def test_what_a_child_leaves_running_is_ended(self):
        sleeper = "import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        self.python(sleeper + "print(p.pid, flush=True)\np.returncode = 0")
        left = Path(f"/proc/{int((self.folder / 'log').read_text())}/stat")
        # A zombie that nobody has waited for yet has ended too.
        self.assertTrue(not left.exists() or left.read_text().rpartition(")")[2].split()[0] == "Z")

    def test_the_version_of_java_is_found(self):
        self.assertEqual(install.java_version('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime'), 17)
        self.assertEqual(install.java_version('java version "1.8.0_402"'), 8)
        self.assertEqual(install.java_version('openjdk version "21" 2023-09-19'), 21)
        self.assertIsNone(install.java_version("no such thing"))

    def test_missing_java_is_told_in_one_line(self):
        before = os.environ.get("JAVA_HOME")
        self.addCleanup(lambda: os.environ.pop("JAVA_HOME") if before is None else os.environ.update(JAVA_HOME=before))
        os.environ["JAVA_HOME"] = str(self.folder)
        with self.assertRaises(process.Failed) as raised:
            install.java()
        self.assertEqual(len(str(raised.exception).splitlines()), 1)
        self.assertIn("Java is missing", str(raised.exception))
