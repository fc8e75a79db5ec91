"""The folder of things that are made once per machine: downloads and empty data folders."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/gravity`, or `~/.cache/gravity`; made if missing."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home).absolute() / "gravity"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(name: str, build: Callable[[Path], None]) -> Path:
    """The cache entry `name`, filled by `build(empty_folder)` if nobody has done so before.

    Safe between threads and processes. An entry is visible only when complete: what a killed
    builder left is thrown away by the next one.
    """
    entry = cache_folder() / name
    if entry.exists():
        return entry
    with _locked(name):
        if not entry.exists():
            partial = entry.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                build(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            partial.rename(entry)
    return entry


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Holds the machine-wide lock of one cache entry."""
    locks = cache_folder() / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
