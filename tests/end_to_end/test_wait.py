"""Who waits for what was written to a source reads it at the target; who is not sure is told so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline
from tests.prove.consistency_wait import (
    SOURCES,
    TARGET,
    World,
    ask,
    figures,
    make_world,
    served,
    until_copied,
    write_and_read,
)

WRITES = 64


def gravity(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("gravity"), words[0], world.path, *words[1:]]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=90, check=False
    )


def wait(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return gravity(world, "wait", "--target", TARGET, *words)


def wrote(world: World, source: str, *, key: int) -> None:
    with world.sources[source].connect() as client:
        client.cursor().execute(f"INSERT INTO {world.table(source)} VALUES ({key}, 'new')")


def read(world: World, source: str, *, key: int) -> list[Any]:
    with world.target.connect() as client, client.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {world.table(source)} WHERE id = {key}")
        return list(cursor.fetchall())


@pytest.mark.timeout(460)
def test_what_was_waited_for_is_read_and_what_is_not_there_is_refused(
    stack: Stack, tmp_path: Path
) -> None:
    world = make_world(stack, tmp_path, f"wait{os.getpid()}")
    before = wait(world, "--source", SOURCES[0], "--timeout", "1s")
    assert before.returncode == 78
    assert "no progress yet" in before.stderr
    assert gravity(world, "topics").returncode == 0
    early = wait(world, "--source", SOURCES[0], "--timeout", "500ms")
    assert early.returncode == 1
    assert "0 of 2 partitions" in early.stderr
    with Pipeline(world.path) as pipeline, served(world, "--waits-max", "9") as port:
        until_copied(world, pipeline, port)
        clients = write_and_read(world, port, WRITES, clients=8)
        assert not [text for client in clients for text in client.wrong]
        assert sum(len(client.waited_s) for client in clients) == WRITES
        sys.stdout.write(f"{figures(clients)}\n")
        _the_command_says_the_same(world)
        _nonsense_is_refused_by_name(world, port)
        _a_frozen_sink_makes_waits_end_without_an_answer(world, pipeline, port)


def _the_command_says_the_same(world: World) -> None:
    for number, source in enumerate(SOURCES):
        wrote(world, source, key=77 + number)
        done = wait(world, "--source", source, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["status"] == "applied"
        assert found["frontier"]["gtids"]
        assert read(world, source, key=77 + number)


def _nonsense_is_refused_by_name(world: World, port: int) -> None:
    mysql = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"
    for words, told in (
        (("--source", "nobody"), "no source is called 'nobody'"),
        (("--source", SOURCES[0], "--gtid", "seven"), "is no GTID"),
        (("--source", SOURCES[0], "--gtid", mysql), "but the source is MariaDB"),
        (("--source", SOURCES[1], "--gtid", "0-1-1"), "but the source is MySQL"),
        (("--source", SOURCES[1], "--gtid", ""), "the GTID is empty"),
    ):
        done = wait(world, *words)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    good = {"source": SOURCES[0], "target": TARGET}
    for body, told in (
        ({**good, "target": "nowhere"}, "no target is called 'nowhere'"),
        ({**good, "gtid": mysql}, "but the source is MariaDB"),
        ({**good, "gtid": 7}, "gtid is a text"),
        ({**good, "timeout": "soon"}, "timeout"),
        ({**good, "timeout": 1e9}, "timeout must be"),
        ({**good, "gtids": "0-1-1"}, "unknown: gtids"),
        ({"target": TARGET}, "source and target are needed"),
        ([], "must be a JSON object"),
        ("{", "no JSON"),
    ):
        status, found = ask(port, body)
        assert (status, told in found["error"]) == (400, True), found
    assert ask(port, good, kind="text/plain")[0] == 400


def _a_frozen_sink_makes_waits_end_without_an_answer(
    world: World, pipeline: Pipeline, port: int
) -> None:
    sink = pipeline.pid("gravity_sink_mysql")
    assert sink is not None
    source = SOURCES[0]
    os.kill(sink, signal.SIGSTOP)
    try:
        wrote(world, source, key=99)
        body = {"source": source, "target": TARGET, "timeout": "2s"}
        status, found = ask(port, body)
        assert (status, found["status"]) == (504, "timeout")
        assert "the target has" in found["lacks"]
        assert not read(world, source, key=99)
        done = wait(world, "--source", source, "--timeout", "1s", "--json")
        assert (done.returncode, json.loads(done.stdout)["status"]) == (1, "timeout")
        # More wait than may: the others are told so at once.
        statuses: list[int] = []
        waits = [
            threading.Thread(target=lambda: statuses.append(ask(port, {**body, "timeout": 5})[0]))
            for _ in range(12)
        ]
        for thread in waits:
            thread.start()
        for thread in waits:
            thread.join()
        assert sorted(statuses) == [429] * 3 + [504] * 9
    finally:
        os.kill(sink, signal.SIGCONT)
    assert wait(world, "--source", source).returncode == 0
    assert read(world, source, key=99)
