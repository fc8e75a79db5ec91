"""A restored local copy, as a crash right behind the restore would leave it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gravity_resolver.store import PartitionStore
from rocksdict import Options, Rdict

from gravity.kafka.admin import TopicAdmin
from tests.resolver_installation import TARGET, Installation

pytestmark = pytest.mark.stack

ROWS = {b"r\x00%d" % number: b"row %d" % number for number in range(12_000)}
"""More than are written at a time."""


def test_what_was_restored_is_on_disk_before_anything_newer_is(
    install: Installation, tmp_path: Path
) -> None:
    topic = install.topics.state(TARGET)
    topic_id = TopicAdmin(install.cluster).topic_id(topic)

    def store(name: str) -> PartitionStore:
        return PartitionStore(
            install.cluster, topic=topic, topic_id=topic_id, partition=0, group="g", folder=tmp_path / name
        )  # fmt: skip

    first = store("first")
    first.open()
    first.save(ROWS)
    first.close()
    second = store("second")
    assert second.open() == len(ROWS)
    second.save({b"r\x00new": b"newer"})
    # The files as they are while the process still has the rest in its memory.
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "second" / "0", crashed)
    second.close()
    left = Rdict(str(crashed), Options(raw_mode=True))
    found = {key: value for key, value in left.items(from_key=b"r\x00") if key[:2] == b"r\x00"}
    left.close()
    assert found == {**ROWS, b"r\x00new": b"newer"}
