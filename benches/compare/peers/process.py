"""A program as a child process: run to its end, and what it used."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

#: Lines of a failed program's log that are quoted.
QUOTED = 12
#: How long what a program started may outlive it.
ENDS_WITHIN_S = 30


class Failed(Exception):
    """What a person is told in one line."""


class Usage(NamedTuple):
    """What a run took: seconds from before the start to the end, seconds of processor time, bytes at the peak."""

    elapsed: float
    cpu: float
    peak: int


def run(
    command: Sequence[object],
    log: Path,
    timeout_s: float,
    environment: Optional[Mapping[str, str]] = None,
    folder: Optional[Path] = None,
) -> Usage:
    """Runs `command`, its output in `log`. Nothing that it started is left when this returns."""
    words = [str(word) for word in command]
    with log.open("wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        started = time.monotonic()
        child = subprocess.Popen(words, **streams, env=environment, cwd=folder, start_new_session=True)
        late = threading.Timer(timeout_s, _signal, (child.pid, signal.SIGKILL))
        late.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
            elapsed = time.monotonic() - started
            # The child is waited for, and Popen need not do so again.
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            late.cancel()
            _end_group(child.pid)
            if child.returncode is None:
                child.wait()
    if child.returncode != 0:
        why = f"ended with {child.returncode}" if elapsed < timeout_s else f"took more than {timeout_s:.0f} s"
        raise Failed(f"{Path(words[0]).name} {why}:\n{quoted(log)}")
    return Usage(elapsed, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def quoted(log: Path) -> str:
    """The end of a log; of a log of Java, the causes that it ends with."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    causes = [line for line in lines if line.lstrip().startswith("Caused by:")]
    lines = causes or lines
    return "\n".join(f"  {line}" for line in lines[-QUOTED:])


def _signal(group: int, number: int) -> bool:
    """Whether there was anyone to tell."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _end_group(group: int) -> None:
    """Ends what is left of a group, a JVM above all, so that it takes no time from the next run."""
    begun = time.monotonic()
    while _signal(group, signal.SIGTERM if time.monotonic() - begun < ENDS_WITHIN_S else signal.SIGKILL):
        if time.monotonic() - begun > 2 * ENDS_WITHIN_S:
            # What is left was killed and nobody has waited for it.
            return
        time.sleep(0.05)
