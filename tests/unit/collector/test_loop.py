"""Who waits is told at once: no pause on the way from the binlog to the marker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gravity_collector.acknowledger import Acknowledger
from gravity_collector.cut_desk import CutDesk
from gravity_collector.event import AckAsked
from gravity_collector.loop import Loop
from gravity_collector.marker_pace import SOON_S, MarkerPace

from gravity.clock import monotonic_s, now_us
from gravity.cut import CutMark
from gravity.ingest_log import Checkpoint, Fences
from gravity.position import Position
from gravity.recency import Frontier
from gravity.semi_sync import ServerSemiSync
from gravity.topic import cut_request_key, cut_result_key
from tests.unit.collector.world import Control

ASKED = AckAsked("b.1", 1, 100)


class Binlog:
    """Gives what it is told to, and remembers how long it was to be waited for."""

    is_semi_sync = True

    def __init__(self, *reads: list[Any]) -> None:
        self.reads = list(reads)
        self.waits: list[float] = []

    def read(self, timeout_s: float) -> list[Any]:
        self.waits.append(timeout_s)
        return self.reads.pop(0) if self.reads else []


class Stream:
    """Rows, questions, and whether it is between transactions."""

    is_between_transactions = True
    plan_version = 1
    position = Position(1, 1, 4)
    merges = False
    next_position = position
    gtids = ""
    ets = seq = 0

    def __init__(self) -> None:
        self.has_rows = False
        self.rows = self.transactions = 0
        self.asked: list[AckAsked] = []
        self.sent: list[str] = []

    def take(self, events: list[Any]) -> None:
        self.asked += [one for one in events if isinstance(one, AckAsked)]
        self.has_rows = self.has_rows or bool(set(events) - {"other", "full"})
        self.rows += events.count("full")
        self.transactions += bool(events)
        self.is_between_transactions = self.is_between_transactions and "begin" not in events

    def take_asked(self) -> list[AckAsked]:
        asked, self.asked = self.asked, []
        return asked

    def end_span(self) -> None:
        self.rows += self.has_rows
        self.has_rows = False
        self.sent.append("span")

    def publish_marker(self, *, plan: int, quiet: int, cut: str) -> None:
        assert (plan, quiet) == (1, 0)
        self.sent.append(f"marker {cut}" if cut else "marker")

    def publish_progress(self, *_: Any) -> None:
        pass


class Nobody:
    """Neither frontier nor server are known; existing rows are being copied, so nothing is joined."""

    frontier: Frontier | None = None
    failure = None
    state = None
    looks = 0
    is_busy = True

    def progress(self) -> dict[str, Any]:
        return {}


def loop_of(binlog: Binlog, stream: Stream, *, awaited: bool, pace_s: float = 1e9) -> Loop:
    nobody: Any = Nobody()
    acknowledger = Acknowledger("s", ("t",), 1, watch=nobody, server=nobody)
    parts: Any = {"binlog": binlog, "stream": stream, "publisher": stream, "copier": nobody}
    parts |= {"markers": MarkerPace(), "cuts": _asked()}
    loop = Loop(source="s", keeper=nobody, bucket=nobody, pace_s=pace_s, **parts)
    loop.acknowledger = acknowledger if awaited else None
    loop._due.last_span_s = 1e12
    return loop


def turn(loop: Loop) -> None:
    loop._read()
    if loop.acknowledger is not None:
        loop._acknowledge(loop.acknowledger)


def test_a_marker_follows_a_commit_that_waits_with_nothing_more_to_read() -> None:
    binlog, stream = Binlog(["row", ASKED], ["row", ASKED]), Stream()
    loop = loop_of(binlog, stream, awaited=True)
    for _ in range(3):
        turn(loop)
    assert stream.sent == ["span", "marker"]
    assert binlog.waits[1:] == [0, 0]
    turn(loop)
    assert stream.sent == ["span", "marker"], "one is enough"


def test_a_commit_that_waits_is_marked_amid_a_flood_too() -> None:
    stream = Stream()
    loop = loop_of(Binlog(*[["row", ASKED]] * 9), stream, awaited=True, pace_s=0)
    turn(loop)
    turn(loop)
    assert stream.sent == ["span", "marker"]


def test_a_transaction_that_is_being_read_is_not_cut_for_those_who_wait() -> None:
    binlog, stream = Binlog(["row", ASKED], ["begin"]), Stream()
    loop = loop_of(binlog, stream, awaited=True, pace_s=0)
    loop._due.progress_s = 1e12
    loop.markers.marked(1e12, rows=0, transactions=0)
    for _ in range(3):
        turn(loop)
    assert stream.sent == []
    assert binlog.waits[-1] > 0, "its rest is waited for"
    stream.is_between_transactions = True
    turn(loop)
    assert stream.sent == ["span", "marker"]


def test_rows_that_nobody_waits_for_are_gathered() -> None:
    binlog, stream = Binlog(["row"]), Stream()
    loop = loop_of(binlog, stream, awaited=True)
    turn(loop)
    turn(loop)
    assert stream.sent == []
    assert binlog.waits[-1] > 1


def served(*reads: list[Any], turns: int, copies: bool = False) -> list[str]:
    """What a source that nobody's COMMIT waits for sends, a marker having been sent just before."""
    stream = Stream()
    loop = loop_of(Binlog(*reads), stream, awaited=False, pace_s=0)
    loop.copier.is_busy = copies
    loop._due.last_span_s = 0.0
    loop.markers.marked(monotonic_s() - SOON_S, rows=0, transactions=0)
    for _ in range(turns):
        loop._read()
        loop._serve_what_is_due()
    return stream.sent


def test_a_marker_follows_rows_at_once_when_nothing_more_is_there_to_read() -> None:
    assert served(["row"], turns=3) == ["span", "span", "marker"], "the second ends an empty span"
    assert served(*[["full"]] * 9, turns=9) == [], "spans have been sent, and more is coming"
    assert served(*[["full"]] * 9, turns=10) == ["span", "marker"]


def test_while_existing_rows_are_copied_no_marker_comes_before_its_second() -> None:
    assert served(["full"], turns=3, copies=True) == []


def test_no_marker_follows_rows_of_other_tables_at_once() -> None:
    assert served(["other"], turns=3) == []


class Close:
    """Targets that are half a second behind, so that it is worth holding the source up for them."""

    failure = None

    @property
    def frontier(self) -> Frontier:
        return Frontier(Position(1, 1, 500), "", now_us() - 500_000)


def test_a_source_that_is_held_up_for_its_targets_is_read_on_when_existing_rows_wait_for_it() -> (
    None
):
    """A chunk goes out once the binlog has been read to where it was seen."""
    stream, copier = Stream(), Nobody()
    copier.is_busy = False
    loop = loop_of(Binlog(), stream, awaited=True)
    loop.copier = cast("Any", copier)
    stream.position = Position(1, 1, 1000)
    server: Any = SimpleNamespace(state=ServerSemiSync("rpl_", is_enabled=True), looks=1)
    acknowledger = Acknowledger("s", ("t",), 1, watch=cast("Any", Close()), server=server)
    loop.acknowledger = acknowledger
    loop.open_joined = cast("Any", lambda _: loop.binlog)
    turn(loop)
    assert acknowledger.is_holding
    copier.is_busy = True
    loop._acknowledge(acknowledger)
    assert not acknowledger.is_holding


def _asked(*marks: CutMark) -> CutDesk:
    """A desk that has requests for these cuts."""
    desk = CutDesk("s", 1, Fences())
    desk.look({cut_request_key("s", m.cut_id): m.record for m in marks})
    return desk


def test_a_cut_is_marked_behind_all_that_has_been_read() -> None:
    mark, stream = CutMark(5, 1000, "t"), Stream()
    stream.has_rows = True
    stream.seq = 9
    loop = loop_of(Binlog(), stream, awaited=False)
    loop.copier = cast("Any", SimpleNamespace(is_busy=False))
    loop.cuts = _asked(mark)
    loop._mark_cuts()
    loop._mark_cuts()
    assert stream.sent == ["span", f"marker {mark}"]


def test_no_cut_is_marked_while_existing_rows_are_read() -> None:
    control, stream = Control(), Stream()
    loop = loop_of(Binlog(), stream, awaited=False)
    loop.cuts = _asked(CutMark(5, 1000, "t"))
    loop._mark_cuts()
    assert stream.sent == []
    loop.cuts.write(control, Checkpoint(100, stream.seq, Position(1, 1, 4), "", 0, ""))
    told = control.records[cut_result_key("s", 5)]
    assert told == {
        "id": 5, "error": "existing rows are being read: a cut would lack some", "owner": 1, "offset": 100,
    }  # fmt: skip
