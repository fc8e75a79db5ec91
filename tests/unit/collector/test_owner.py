"""Takeover, step by step: who wins, where it goes on, and what is never believed."""

from collections.abc import Mapping
from typing import Any

import pytest
from gravity_collector.chunk import Chunk
from gravity_collector.owner import (
    Resume,
    assert_same_server,
    assert_still_owner,
    checkpoint_of,
    checkpoint_record,
    fence_name,
    take_over,
)

from gravity.errors import FatalError, FencedError, OffsetLostError
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import PENDING, Checkpoint
from gravity.position import Position
from tests.unit.collector.world import SERVER, Control, Died, Log, stands_all


def _take(control: Control, log: Log, name: str = "me") -> object:
    return take_over(
        control, log, source="s", process=name, server=SERVER, plan=1, stands=stands_all
    )


def _marker(log: Log, owner: int, seq: int, offset: int) -> int:
    place = Position(1, 1, offset)
    return log.append(
        IngestHeader(
            IngestKind.MARKER,
            "s",
            owner,
            seq,
            from_=place,
            to=place,
            gtids=f"0-1-{offset}",
            ets=offset,
        )
    )


def _point(offset: int, seq: int, place: int) -> dict[str, object]:
    return checkpoint_record(
        Checkpoint(offset, seq, Position(1, 1, place), f"0-1-{place}", place, SERVER)
    )


def test_the_first_owner_starts_from_nothing() -> None:
    control, log = Control(), Log()
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert (owned.owner, owned.seq, owned.resume) == (1, 0, None)
    assert control.records == {"owner/s/1": {"offset": 0}}


def test_the_next_owner_goes_on_where_the_last_one_ended() -> None:
    control, log = Control(), Log()
    _take(control, log, "first")
    _marker(log, 1, 1, 100)
    _marker(log, 1, 2, 200)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert (owned.owner, owned.seq) == (2, 2)
    assert owned.resume == Resume(Position(1, 1, 200), "0-1-200", 200, SERVER, 0)


@pytest.mark.parametrize("is_pointed", [False, True])
def test_a_chunk_that_is_not_done_leaves_event_time_as_it_was(is_pointed: bool) -> None:
    """Its rows have no time; the stream's goes on from what the last marker has promised."""
    control, log = Control(), Log()
    _take(control, log, "first")
    marker = _marker(log, 1, 1, 100)
    if is_pointed:
        control.records["point/s/1"] = _point(marker + 1, 1, 100)
    place = Position(1, 1, 100)
    log.append(
        IngestHeader(
            IngestKind.CHUNK, "s", 1, 2, from_=place, to=place, gtids="0-1-100", table="app.t", rows=3
        )
    )  # fmt: skip
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert owned.resume.ets == 100


def test_a_pending_number_is_never_used_again() -> None:
    control, log = Control(), Log()
    control.records["owner/s/7"] = {"offset": PENDING}
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.owner == 8


def test_an_owner_that_died_before_recording_its_fence_still_voids_what_lies_behind_it() -> None:
    control, log = Control(), Log()
    _take(control, log, "old")
    _marker(log, 1, 1, 100)
    control.dies_at = control.writes + 2
    with pytest.raises(Died):
        _take(control, log, "dies")
    assert control.records["owner/s/2"] == {"offset": PENDING}
    _marker(log, 1, 2, 900)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert owned.resume.next_position.offset == 100, (
        "the frozen owner's late message counts for nothing"
    )


def test_the_newest_checkpoint_is_where_the_scan_begins() -> None:
    control, log = Control(), Log()
    _take(control, log)
    _marker(log, 1, 1, 100)
    _marker(log, 1, 2, 200)
    control.records["point/s/1"] = _point(3, 2, 200)
    log.low = 3
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert (owned.seq, owned.resume.next_position.offset) == (2, 200)


def test_a_zombies_checkpoint_is_void_like_its_messages() -> None:
    control, log = Control(), Log()
    _take(control, log)
    _marker(log, 1, 1, 100)
    _take(control, log)
    zombie = _marker(log, 1, 2, 900)
    control.records["point/s/1"] = _point(zombie + 1, 2, 900)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert owned.resume.next_position.offset == 100


def test_messages_behind_a_fence_before_the_checkpoint_are_void_too() -> None:
    control, log = Control(), Log()
    _take(control, log)
    _marker(log, 1, 1, 100)
    _take(control, log)
    _marker(log, 2, 2, 200)
    control.records["point/s/2"] = _point(len(log.messages), 2, 200)
    _marker(log, 1, 3, 900)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert (owned.seq, owned.resume.next_position.offset) == (2, 200)


def test_a_source_that_was_read_before_and_has_neither_log_nor_checkpoint_halts() -> None:
    control, log = Control(), Log()
    control.records["owner/s/3"] = {"offset": 40}
    for _ in range(3):
        with pytest.raises(OffsetLostError, match="has been read before"):
            _take(control, log)


def test_a_log_that_was_deleted_halts_however_often_one_tries() -> None:
    control, log = Control(), Log()
    control.records["owner/s/3"] = {"offset": 40}
    control.records["point/s/3"] = _point(50, 9, 900)
    for _ in range(3):
        with pytest.raises(OffsetLostError, match="was the ingest topic deleted"):
            _take(control, log)


def test_a_checkpoint_that_retention_has_passed_halts() -> None:
    control, log = Control(), Log()
    _take(control, log)
    for seq in range(1, 9):
        _marker(log, 1, seq, seq * 100)
    control.records["point/s/1"] = _point(3, 2, 200)
    log.low = 5
    with pytest.raises(OffsetLostError, match="stands for offset 3"):
        _take(control, log)


def test_fence_records_that_retention_has_passed_are_deleted_but_the_greatest() -> None:
    control, log = Control(), Log()
    for _ in range(3):
        _take(control, log)
    _marker(log, 3, 1, 100)
    control.records["point/s/3"] = _point(4, 1, 100)
    log.low = 4
    _take(control, log)
    assert sorted(key for key in control.records if key.startswith("owner")) == [
        "owner/s/3",
        "owner/s/4",
    ]


def test_a_running_collector_ends_when_a_greater_owners_fence_is_there_and_not_before() -> None:
    records = {
        "owner/s/1": {"offset": 0},
        "owner/s/2": {"offset": PENDING},
        "owner/other/9": {"offset": 5},
    }
    assert_still_owner(records, "s", 1)
    records["owner/s/2"] = {"offset": 7}
    with pytest.raises(FencedError, match="taken this source over"):
        assert_still_owner(records, "s", 1)


def test_another_server_behind_the_source_halts() -> None:
    resume = Resume(Position(1, 1, 4), "", 0, "mysql:a", 1)
    assert_same_server(resume, "mysql:a", "s")
    with pytest.raises(FatalError, match="another one: mysql:b instead of mysql:a"):
        assert_same_server(resume, "mysql:b", "s")


def test_who_only_fenced_does_not_make_its_server_the_right_one() -> None:
    """It halts since the server is another one; the next start must halt too, not go on there."""
    control, log = Control(), Log()
    _take(control, log)
    _marker(log, 1, 1, 100)
    for number in range(3):
        owned = take_over(
            control,
            log,
            source="s",
            process=f"p{number}",
            server="mariadb:other",
            plan=1,
            stands=stands_all,
        )
        assert owned.resume is not None
        with pytest.raises(FatalError, match="another one"):
            assert_same_server(owned.resume, "mariadb:other", "s")


@pytest.mark.parametrize("pointed", [False, True])
def test_of_rivals_under_one_number_only_the_first_says_which_server_and_copy_it_is(
    pointed: bool,
) -> None:
    control, log = Control(), Log()
    _take(control, log)
    read = _marker(log, 1, 1, 100)
    if pointed:
        control.records["point/s/1"] = _point(read + 1, 1, 100)
    rival = fence_name("rival", "mariadb:other", 7)
    log.append(IngestHeader(IngestKind.FENCE, "s", 1, chunk=rival))
    _marker(log, 1, 2, 200)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume == Resume(Position(1, 1, 200), "0-1-200", 200, SERVER, 0)
    assert owned.snapshot_round == 0


def test_a_zombies_checkpoint_behind_a_fence_not_yet_recorded_is_void() -> None:
    control, log = Control(), Log()
    _take(control, log)
    _marker(log, 1, 1, 100)
    control.dies_at = control.writes + 2
    with pytest.raises(Died):
        _take(control, log, "dies")
    zombie = _marker(log, 1, 2, 900)
    control.records["point/s/1"] = _point(zombie + 1, 2, 900)
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert owned.resume is not None
    assert owned.resume.next_position.offset == 100


def test_a_checkpoint_survives_json() -> None:
    checkpoint = Checkpoint(
        3, 2, Position(1, 7, 100), "0-1-5", 99, SERVER, ('["d","t",null,[1]]',), snapshot_done=True
    )
    assert checkpoint_of(checkpoint_record(checkpoint)) == checkpoint


def test_a_lower_owner_that_fences_behind_us_does_not_make_a_new_source_look_lost() -> None:
    class Waking(Control):
        """Owner 1 had written its number only; it wakes up when we have fenced."""

        def refresh(self) -> Mapping[str, Any]:
            if len(log.messages) == 1:
                offset = log.append(IngestHeader(IngestKind.FENCE, "s", 1, plan=1, chunk="late"))
                self.records["owner/s/1"] = {"offset": offset}
            return super().refresh()

    control, log = Waking(), Log()
    control.records["owner/s/1"] = {"offset": PENDING}
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=1, stands=stands_all
    )
    assert (owned.owner, owned.resume) == (2, None)


def _copied(log: Log, seq: int, table: str, plan: int) -> None:
    """Says that all rows of shop.`table` are in the log."""
    here = Position(1, 1, 100)
    chunk = Chunk(("shop", table), None, None).chunk_id
    log.append(
        IngestHeader(
            IngestKind.CHUNK_DONE, "s", 1, seq, from_=here, to=here, plan=plan, table=f"shop.{table}",
            chunk=chunk,
        )
    )  # fmt: skip


def _marker_under(log: Log, seq: int, plan: int) -> None:
    here = Position(1, 1, 100 + seq)
    log.append(IngestHeader(IngestKind.MARKER, "s", 1, seq, from_=here, to=here, plan=plan))


def _tables_done(control: Control, log: Log, *, left_out: tuple[int, str]) -> set[str]:
    """What counts as copied when one plan leaves one table out."""
    owned = take_over(
        control, log, source="s", process="me", server=SERVER, plan=3,
        stands=lambda _, plan, table: (plan, table[1]) != left_out,
    )  # fmt: skip
    return {Chunk.parse(chunk).table[1] for chunk in owned.chunks_done}


def test_a_table_that_a_plan_left_out_for_a_while_is_copied_again() -> None:
    """Its changes of that time were not read; no checkpoint had to be written for that."""
    control, log = Control(), Log()
    _take(control, log)
    _copied(log, 1, "t", 1)
    _copied(log, 2, "u", 1)
    assert _tables_done(control, log, left_out=(2, "t")) == {"t", "u"}, "no plan 2 was in force"
    log.messages[:] = log.messages[:3]
    _marker_under(log, 3, 2)
    _marker_under(log, 4, 3)
    assert _tables_done(control, log, left_out=(2, "t")) == {"u"}


def test_a_table_that_is_copied_again_after_it_was_left_out_counts() -> None:
    control, log = Control(), Log()
    _take(control, log)
    _copied(log, 1, "t", 1)
    _marker_under(log, 2, 2)
    _copied(log, 3, "t", 3)
    assert _tables_done(control, log, left_out=(2, "t")) == {"t"}


def test_a_plan_that_only_a_fence_names_leaves_nothing_out() -> None:
    """Whoever has only fenced has read nothing past anything."""
    control, log = Control(), Log()
    _take(control, log)
    _copied(log, 1, "t", 1)
    take_over(control, log, source="s", process="b", server=SERVER, plan=2, stands=stands_all)
    assert _tables_done(control, log, left_out=(2, "t")) == {"t"}


def test_what_was_copied_under_a_plan_that_sends_rows_elsewhere_is_copied_again() -> None:
    """Wherever the checkpoint was written, and whoever comes later: the log says where the plan changed."""

    def done(control: Control, log: Log) -> set[str]:
        owned = take_over(
            control, log, source="s", process="me", server=SERVER, plan=2,
            stands=lambda before, plan, table: before in (0, plan) or table[1] != "t",
        )  # fmt: skip
        return {Chunk.parse(chunk).table[1] for chunk in owned.chunks_done}

    for with_checkpoint in (False, True):
        for moved_again in (False, True):
            control, log = Control(), Log()
            _take(control, log)
            _copied(log, 1, "t", 1)
            _copied(log, 2, "u", 1)
            if with_checkpoint:
                chunks = tuple(Chunk(("shop", t), None, None).chunk_id for t in "tu")
                control.records["point/s/1"] = checkpoint_record(
                    Checkpoint(3, 2, Position(1, 1, 2), "", 0, SERVER, chunks_done=chunks, plan=1)
                )
            _marker_under(log, 3, 2)
            if moved_again:
                _copied(log, 4, "t", 2)
            assert done(control, log) == ({"t", "u"} if moved_again else {"u"})
