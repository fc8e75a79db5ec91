"""The cache: an entry is made once and seen only when complete."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gravity_devstack.cache import made_once


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_many_askers_build_once() -> None:
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "file").write_text("content")

    with ThreadPoolExecutor(8) as pool:
        entries = set(pool.map(lambda _: made_once("thing", build), range(32)))
    assert len(builds) == 1
    (entry,) = entries
    assert (entry / "file").read_text() == "content"


def test_a_failed_build_leaves_nothing_and_may_be_repeated() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  Any OSError is ours here.
        made_once("thing", fail)
    entry = made_once("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]


def test_remains_of_a_killed_build_are_thrown_away(tmp_path: Path) -> None:
    partial = tmp_path / "gravity/thing.partial"
    partial.mkdir(parents=True)
    (partial / "half").touch()
    entry = made_once("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]
