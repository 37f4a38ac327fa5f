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


def java() -> str:
    """The version of the Java that Flink will run on."""
    home = os.environ.get("JAVA_HOME")
    program = Path(home, "bin", "java") if home else "java"
    try:
        said = subprocess.run([program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Failed("Java is missing: install a JRE, 17 for instance (Debian: apt-get install openjdk-17-jre-headless)") from None
    version = java_version(said.stderr + said.stdout)
    if version is None or version < OLDEST_JAVA:
        raise Failed(f"Java {version or 'of an unknown version'} is too old for Flink: install 17")
    return str(version)


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
        wanted, found = f"{least[0]}.{least[1]} to {most[0]}.{most[1]}", f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Failed(f"Flink's Python package needs Python {wanted}, this is {found}: PYTHON=python3.11 make compare")
    named = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache() / f"flink-py{sys.version_info[0]}.{sys.version_info[1]}-{named}"
    program, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        print(f"compare: installs Flink into {folder}, about 900 MB", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _step([sys.executable, "-m", "venv", folder], "could not make a Python environment (Debian: apt-get install python3-venv)")
        pip = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        _step(pip, "could not install Flink's Python package")
        whole.touch()
    return program


def _step(command: list[object], what: str) -> None:
    try:
        subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Failed(what) from None
