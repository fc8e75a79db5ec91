"""The resolver as processes on a real broker: killed, frozen, overtaken, robbed of its disk.

However it went, a sink must see the outputs of the pure function of the log, in order and without a
hole, and the changelog must hold that function's state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from gravity_resolver.replica import META_KEY
from gravity_resolver.store import PartitionStore

from gravity.codec import decode_record
from gravity.errors import EXIT_HALTED, EXIT_RESTART
from gravity.fault import FaultPoint
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.kafka.admin import TopicAdmin
from gravity.schema_change import TableAction
from gravity.testing.routed_log import RoutedLog, RoutedMessage, RowChange
from gravity.testing.sink_process import SinkProcess
from gravity.testing.waiting import wait_until
from tests.resolver_installation import LOGS, TARGET, USERS, Installation, first_sights

pytestmark = pytest.mark.stack


class Writers:
    """Two sources that write the same rows, one of them a table of its own too."""

    def __init__(self, seed: int = 1) -> None:
        self._random = Random(seed)
        self._logs = [RoutedLog("a"), RoutedLog("b")]
        self._number = 0

    def write(self, count: int) -> list[RoutedMessage]:
        """So many messages of all kinds."""
        random = self._random
        made: list[RoutedMessage] = []
        while len(made) < count:
            self._number += 1
            log, now = random.choice(self._logs), self._number
            kind = random.random()
            if kind < 0.1:
                made.append(log.marker())
            elif kind < 0.13:
                made.append(log.schema_change("shop.users", TableAction.TRUNCATE, ets=now))
            elif kind < 0.3:
                made.append(self._logs[0].rows(LOGS, [RowChange("I", (now, "line"), now)]))
                made.append(self._logs[0].note(2))
            else:
                changes = [
                    RowChange(
                        random.choice("IUD"),
                        (random.randrange(6), f"{log.source}{now}.{row}"),
                        now - random.randrange(3),
                    )
                    for row in range(3)
                ]
                made.append(log.rows(USERS, changes))
        return made[:count]


def finish(install: Installation, tmp_path: Path, partitions: int = 1) -> None:
    """Lets a resolver come to the end of the log, stops it, and holds the laws to what is left."""
    process = install.start()
    wait_until(lambda: "partitions_assigned" in process.output(), what="an assignment")
    for partition in range(partitions):
        install.await_saved(partition)
    assert process.stop() == 0, process.output()
    for partition in range(partitions):
        install.check(tmp_path / "judge", partition)


def await_taken_in(install: Installation, process: SinkProcess) -> None:
    """Returns once a resolver has given out all that it must for the log so far, or has died."""
    count = len(install.function_of_the_log()[0])
    wait_until(
        lambda: not process.alive or len(first_sights(install.outputs())) >= count,
        what=f"{count} outputs, or the end of the resolver",
        tell=process.output,
    )


@pytest.mark.parametrize(
    ("point", "visit", "emptied"),
    [
        (FaultPoint.RESOLVER_APPLIED_NOT_SENT, 30, False),
        (FaultPoint.RESOLVER_SENT_IN_PART, 2, True),
        (FaultPoint.RESOLVER_SENT_NOT_SAVED, 1, False),
        (FaultPoint.RESOLVER_SENT_NOT_SAVED, 2, True),
        (FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED, 2, False),
        (FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED, 1, True),
        (FaultPoint.RESOLVER_SAVED_NOT_STORED, 2, False),
        (FaultPoint.RESOLVER_SAVED_NOT_STORED, 1, True),
        (FaultPoint.RESOLVER_STORED_NOT_ACKED, 1, False),
        (FaultPoint.RESOLVER_STORED_NOT_ACKED, 1, True),
    ],
)
def test_killed_between_any_two_steps(
    install: Installation, tmp_path: Path, point: FaultPoint, visit: int, emptied: bool
) -> None:
    writers = Writers()
    install.send(writers.write(25))
    process = install.start(fault=f"{point}:{visit}:kill")
    while process.alive:
        await_taken_in(install, process)
        install.send(writers.write(3))
    assert process.wait() == -9, process.output()
    if emptied:
        install.empty_disk()
    install.send(writers.write(10))
    finish(install, tmp_path)


@pytest.mark.parametrize(
    ("point", "visit"),
    [(FaultPoint.RESOLVER_FENCED_NOT_RESTORED, 1), (FaultPoint.RESOLVER_RESTORED_IN_PART, 3)],
)
def test_killed_while_it_restores(
    install: Installation, tmp_path: Path, point: FaultPoint, visit: int
) -> None:
    writers = Writers()
    install.send(writers.write(40))
    first = install.start()
    install.await_saved()
    first.kill()
    install.empty_disk()
    install.send(writers.write(5))
    second = install.start(fault=f"{point}:{visit}:kill")
    assert second.wait() == -9, second.output()
    finish(install, tmp_path)


@pytest.mark.parametrize(
    "point",
    [
        FaultPoint.RESOLVER_APPLIED_NOT_SENT,
        FaultPoint.RESOLVER_SENT_NOT_SAVED,
        FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED,
        FaultPoint.RESOLVER_SAVED_NOT_STORED,
        FaultPoint.RESOLVER_STORED_NOT_ACKED,
    ],
)
def test_a_frozen_resolver_that_wakes_up_harms_nobody(
    install: Installation, tmp_path: Path, point: FaultPoint
) -> None:
    writers = Writers()
    install.send(writers.write(30))
    visit = 20 if point is FaultPoint.RESOLVER_APPLIED_NOT_SENT else 2
    frozen = install.start(fault=f"{point}:{visit}:freeze")
    if visit == 2:
        install.await_outputs(5)
        wait_until(lambda: frozen.frozen or install.committed() > 0, what="the first save")
        install.send(writers.write(10))
    wait_until(lambda: frozen.frozen, what="the frozen resolver")
    install.send(writers.write(10))
    successor = install.start()
    install.await_saved()  # It goes on although the frozen one still holds its local copy.
    sent = len(install.outputs())
    frozen.thaw()
    # Whatever the frozen one had in hand can only be copies; a write of state is refused.
    saved = (FaultPoint.RESOLVER_SAVED_NOT_STORED, FaultPoint.RESOLVER_STORED_NOT_ACKED)
    wait_until(
        lambda: not frozen.alive or frozen.output().count("partitions_assigned") > 1,
        what="its end or its return",
    )
    if frozen.alive:
        assert point in saved, frozen.output()
        frozen.stop()
    else:
        assert frozen.wait() == EXIT_RESTART, frozen.output()
        assert "fenced" in frozen.output()
    if point is FaultPoint.RESOLVER_APPLIED_NOT_SENT:
        assert len(install.outputs()) > sent
    install.send(writers.write(10))
    install.await_saved()
    assert successor.stop() == 0, successor.output()
    install.empty_disk()
    install.send(writers.write(5))
    finish(install, tmp_path)


def test_sigterm_saves_and_acknowledges_everything(install: Installation, tmp_path: Path) -> None:
    writers = Writers()
    install.send(writers.write(30))
    process = install.start()
    install.await_outputs(len(install.function_of_the_log()[0]))
    assert process.stop() == 0, process.output()
    assert install.committed() == 30
    assert len(install.outputs()) == len(install.function_of_the_log()[0])
    install.check(tmp_path / "judge")


def test_a_second_resolver_takes_its_share(
    installed: Callable[[int], Installation], tmp_path: Path
) -> None:
    install = installed(2)
    writers = [Writers(1), Writers(2)]

    def write(count: int) -> None:
        for partition in (0, 1):
            install.send(writers[partition].write(count), partition)

    write(20)
    first = install.start()
    install.await_outputs(3, 0)
    write(10)
    second = install.start()
    wait_until(lambda: "partitions_assigned" in second.output(), what="a share")
    write(10)
    install.await_saved(0)
    install.await_saved(1)
    assert second.stop() == 0, second.output()
    write(5)
    install.await_saved(0)
    install.await_saved(1)
    assert first.stop() == 0, first.output()
    finish(install, tmp_path, partitions=2)


def test_a_damaged_message_is_set_aside_and_named(install: Installation) -> None:
    log = RoutedLog("a")
    header, value = log.rows(USERS, [RowChange("I", (1, "x"), 1)])
    install.send_raw([("other", b"program")], b"hello")
    install.send_raw(header.to_kafka(), value[:-3])
    good, content = log.rows(USERS, [RowChange("I", (2, "y"), 2)])
    install.send_raw(good.to_kafka(), content)
    install.flush()
    install.start()
    install.await_outputs(1)
    letters = [
        decode_record("dead_letter", data) for data in install.values(install.topics.dead_letters)
    ]
    topic = install.topics.routed(TARGET)
    assert [(x["topic"], x["partition"], x["offset"]) for x in letters] == [
        (topic, 0, 0),
        (topic, 0, 1),
    ]
    assert [x["value"] for x in letters] == [b"hello", value[:-3]]
    assert letters[1]["source"] == "a"


@pytest.mark.parametrize("where", ["header", "value"])
def test_a_newer_message_halts_by_name(install: Installation, where: str) -> None:
    header, value = RoutedLog("a").rows(USERS, [RowChange("I", (1, "x"), 1)])
    headers = header.to_kafka()
    if where == "header":
        headers[0] = ("gv", b"99")
    else:
        value = b"\x04" + value[1:]
    install.send_raw(headers, value)
    install.flush()
    process = install.start()
    assert process.wait() == EXIT_HALTED
    assert "NewerFormatError" in process.output()
    assert f"{install.topics.routed(TARGET)}/0 offset 0" in process.output()
    assert install.committed() == 0


def test_a_lost_changelog_halts_by_name(install: Installation) -> None:
    install.send(Writers().write(20))
    process = install.start()
    install.await_saved()
    assert process.stop() == 0
    admin = TopicAdmin(install.cluster)
    state = install.topics.state(TARGET)
    old = admin.topic_id(state)
    admin.delete([state])
    wait_until(lambda: state not in admin.partition_counts(), what="deletion")
    admin.ensure(install.topics.all_specs(["a", "b"], [TARGET], 1))
    wait_until(lambda: state in admin.partition_counts(), what="a topic of that name")
    wait_until(lambda: admin.topic_id(state) != old, what="a new topic")
    process = install.start()
    assert process.wait() == EXIT_HALTED, process.output()
    assert "changelog lost" in process.output()


def as_written_by_version(install: Installation, tmp_path: Path, version: int) -> None:
    """Makes the saved state one of another version of the function."""
    topic = install.topics.state(TARGET)
    store = PartitionStore(
        install.cluster,
        topic=topic,
        topic_id=TopicAdmin(install.cluster).topic_id(topic),
        partition=0,
        group=install.topics.group("resolver"),
        folder=tmp_path / "other version",
    )
    store.open()
    meta = store.get(META_KEY)
    assert meta is not None
    record = {**json.loads(meta), "function_version": version}
    store.save({META_KEY: json.dumps(record).encode()})
    store.close()


def test_another_version_begins_a_new_term(install: Installation, tmp_path: Path) -> None:
    writers = Writers()
    install.send(writers.write(20))
    process = install.start()
    install.await_saved()
    assert process.stop() == 0
    before = install.outputs()
    as_written_by_version(install, tmp_path, 0)
    install.send(writers.write(10))
    process = install.start()
    install.await_saved()
    assert process.stop() == 0, process.output()
    after = install.outputs()[len(before) :]
    assert (after[0][0].routed.kind, after[0][0].term) == (RoutedKind.CODE, 1)
    assert {header.term for header, _ in after} == {1}
    assert after[1][0].out_seq == before[-1][0].out_seq + 1


def test_what_another_version_left_unfinished_halts_by_name(
    install: Installation, tmp_path: Path
) -> None:
    install.send(Writers().write(20))
    process = install.start()
    install.await_saved()
    assert process.stop() == 0
    last = install.outputs()[-1][0].out_seq
    beyond = TargetHeader(RoutedHeader(RoutedKind.MARKER, "a", 999), 1, last + 1, 0)
    install.send_output(beyond, b"")
    as_written_by_version(install, tmp_path, 0)
    process = install.start()
    assert process.wait() == EXIT_HALTED, process.output()
    assert "finish with version 0" in process.output()
    newer = install.outputs()[-1][0]
    assert (newer.routed.kind, newer.term) == (RoutedKind.CODE, 1)


def test_a_state_of_a_newer_version_halts_by_name(install: Installation, tmp_path: Path) -> None:
    install.send(Writers().write(5))
    process = install.start()
    install.await_saved()
    assert process.stop() == 0
    as_written_by_version(install, tmp_path, 99)
    process = install.start()
    assert process.wait() == EXIT_HALTED, process.output()
    assert "version 99" in process.output()
