"""Three sources on two servers, one of them idle, merged by commit time into one topic."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline, wait_for
from gravity.config import load_config
from gravity.errors import TransientError
from gravity.kafka.reader import LogReader

ROWS = 150


@pytest.mark.timeout(400)
def test_an_audit_topic_has_the_rows_of_all_sources_by_commit_time(
    stack: Stack, tmp_path: Path
) -> None:
    stack.start_all(["kafka", "mysql:order-db", "mariadb:user-master"])
    servers = {
        "x": stack.mysql("order-db"), "y": stack.mariadb("user-master"), "idle": stack.mysql("order-db"),
    }  # fmt: skip
    prefix, brokers = f"merge{os.getpid()}", stack.kafka().brokers
    cursors = {name: server.connect().cursor() for name, server in servers.items()}
    for name, cursor in cursors.items():
        cursor.execute(f"CREATE DATABASE {prefix}_{name}")
        cursor.execute(f"CREATE TABLE {prefix}_{name}.t (id INT PRIMARY KEY, v VARCHAR(9))")
    sources = "\n".join(
        f"  - {{name: {name}, type: {server.flavor}, host: {server.host}, port: {server.port}, "
        f"username: {server.user}, password: '{server.password}', databases: [{prefix}_{name}]}}"
        for name, server in servers.items()
    )
    path = tmp_path / "gravity.yaml"
    path.write_text(f"""
kafka: {{brokers: ["{brokers}"], topic-prefix: {prefix}-, partitions: 2}}
state: {{folder: {tmp_path / "state"}}}
sources:
{sources}
targets:
  - {{name: audit, type: kafka, brokers: ["{brokers}"], topic: {prefix}-audit, partitions: 1}}
merge: {{strategy: time-ordered}}
""")
    reader, topic = LogReader(load_config(path).config.kafka, "test"), f"{prefix}-audit"
    written: set[tuple[str, int]] = set()

    def write(name: str) -> None:
        written.add((name, len(written)))
        cursors[name].execute(
            f"INSERT INTO {prefix}_{name}.t VALUES (%s, %s)", (len(written) - 1, "v")
        )

    def audit() -> list[dict[str, Any]]:
        """The rows in the topic, in its order."""
        try:
            end = reader.bounds(topic, 0, timeout_s=1.0)
        except TransientError:
            return []  # The topic is made with the first row.
        return [json.loads(message.value or b"") for message in reader.read(topic, 0, *end)]

    def has(rows: set[tuple[str, int]]) -> bool:
        return rows <= {(row["_gravity"]["source"], row["id"]) for row in audit()}

    rng = random.Random(5)
    with Pipeline(path) as pipeline:
        for name in ("x", "y"):
            write(name)
        # Existing rows or changes: that depends on when their source is first read.
        wait_for(lambda: has(written), pipeline, timeout_s=120, what="the first rows")
        for _ in range(ROWS):
            write(rng.choice("xxxy"))
        wait_for(lambda: has(written), pipeline, timeout_s=60, what="all rows")
        rows = audit()
    assert len(rows) == len(written), "each row once"
    changes = [row["_gravity"] for row in rows if row["_gravity"]["op"] != "read"]
    assert len(changes) >= ROWS
    times = [change["commit_us"] for change in changes]
    assert times == sorted(times)
    assert not any("late" in change for change in changes)
