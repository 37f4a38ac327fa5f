"""What the peers need, put where the project's own files are not: a Python environment in the user's cache.

An environment is named by what is in it, so another version gets one of its own, and an installation that was interrupted
is begun again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .process import Failed

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
#: What the pinned packages run on.
PYTHONS = ((3, 10), (3, 12))
OLDEST_JAVA = 11


def java() -> None:
    """Makes sure of the Java that Flink will run on."""
    home = os.environ.get("JAVA_HOME")
    program = Path(home, "bin", "java") if home else "java"
    try:
        asked = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": True}
        said = subprocess.run([program, "-version"], **asked)
    except (OSError, subprocess.CalledProcessError):
        hint = "install a JRE, 17 for instance (Debian: apt-get install openjdk-17-jre-headless)"
        raise Failed(f"Java is missing: {hint}") from None
    version = java_version(said.stderr + said.stdout)
    if version is None or version < OLDEST_JAVA:
        raise Failed(f"Java {version or 'of an unknown version'} is too old for Flink: install 17")


def java_version(said: str) -> int | None:
    """The major version in what `java -version` prints: 17 of "17.0.15", 8 of "1.8.0_402"."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', said)
    if not found:
        return None
    first, second = int(found[1]), int(found[2] or 0)
    return second if first == 1 else first


def cache() -> Path:
    """Where environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "shardflow" / "compare"


def python() -> Path:
    """The Python that has Flink, installed first where it is missing."""
    least, most = PYTHONS
    if not least <= sys.version_info[:2] <= most:
        wanted, found = (".".join(map(str, version)) for version in (least, sys.version_info[:2]))
        upto = ".".join(map(str, most))
        raise Failed(f"Flink needs Python {wanted} to {upto}, this is {found}: make compare PYTHON=python3.11")
    named = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache() / f"flink-py{sys.version_info[0]}.{sys.version_info[1]}-{named}"
    program, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        print(f"compare: installs Flink into {folder}, about 900 MB", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        hint = "(Debian: apt-get install python3-venv)"
        _step([sys.executable, "-m", "venv", folder], f"could not make a Python environment {hint}")
        pip = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        _step(pip, "could not install Flink's Python package")
        whole.touch()
    return program


def _step(command: list[object], what: str) -> None:
    try:
        subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Failed(what) from None
