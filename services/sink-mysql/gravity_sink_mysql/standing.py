"""A lane at a cut: it writes nothing until the target says that the cut is over."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from gravity import cut_table
from gravity.clock import monotonic_s
from gravity.cut import Arrival, CutState, CutView, Step, next_step, why_given_up
from gravity_sink_mysql.connection import Session
from gravity_sink_mysql.fence import Fence

log = structlog.get_logger()

LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class Standing:
    """One lane's. What counts is in the target; here is only at which cut it stands, and how long it may."""

    fence: Fence
    partitions: int
    cut_id: int | None = None
    """The cut that the lane stands at."""
    _until_s: float = 0.0
    _look_at_s: float = 0.0

    def arrive(self, session: Session, arrival: Arrival, *, next_offset: int, parked: int) -> None:
        """Notes that the lane stands before `next_offset`, in the transaction that takes it to the marker, as its last statement.

        A cut that is over, or that the target does not know, is passed.
        """
        if session.rows(cut_table.is_open(arrival.mark)):
            fence = self.fence
            session.execute(
                cut_table.arrive(
                    arrival,
                    resolver_epoch=fence.resolver_epoch,
                    part=fence.partition,
                    next_offset=next_offset,
                    parked=parked,
                )
            )

    def resume(self, session: Session) -> None:
        """Asks the target whether the lane stands: after it may have arrived, or after a takeover."""
        fence = self.fence
        found = session.rows(
            cut_table.where_it_stands(
                fence.target, resolver_epoch=fence.resolver_epoch, part=fence.partition
            )
        )
        if not found:
            self.cut_id = None
            return
        cut_id, left_ms = map(int, found[0])
        until_s = monotonic_s() + left_ms / 1000
        self._until_s = min(self._until_s, until_s) if cut_id == self.cut_id else until_s
        self.cut_id, self._look_at_s = cut_id, 0.0

    def look(self, session: Session) -> bool:
        """Whether the lane stands still; does what is to be done about the cut."""
        if self.cut_id is None:
            return False
        now_s = monotonic_s()
        if now_s < self._look_at_s:
            return True
        self._look_at_s = now_s + LOOK_EVERY_S
        for _ in range(2):
            view = self._view(session)
            step = next_step(view, partitions=self.partitions, is_overdue=now_s >= self._until_s)
            if step is Step.GO:
                log.info(
                    "cut_passed",
                    target=self.fence.target,
                    partition=self.fence.partition,
                    cut=self.cut_id,
                    state="unknown" if view is None else str(view.state),
                )
                self.cut_id = None
                return False
            if step is Step.RECORD:
                self._record(session)
            elif step is Step.GIVE_UP:
                assert view is not None
                reason = why_given_up(view, partitions=self.partitions)
                session.execute(cut_table.give_up(self.fence.target, self.cut_id, reason))
        return True

    def _view(self, session: Session) -> CutView | None:
        assert self.cut_id is not None
        fence = self.fence
        found = session.rows(cut_table.view(fence.target, self.cut_id, fence.resolver_epoch))
        if not found:
            return None
        state, is_late, arrived, places = found[0]
        return CutView(CutState(str(state)), str(is_late) == "1", int(arrived), int(places))

    def _record(self, session: Session) -> None:
        """Writes down where the target is.

        Rows are seen a moment before the server counts their transaction among those that it has executed. So
        the lane commits once more: what is counted when that returns includes everything that it saw.
        """
        assert self.cut_id is not None
        fence, cut_id = self.fence, self.cut_id
        session.execute(
            cut_table.look_again(
                fence.target, cut_id, resolver_epoch=fence.resolver_epoch, part=fence.partition
            )
        )
        target_gtids = session.rows(cut_table.TARGET_GTIDS[session.is_mariadb])[0][0]
        stood = session.rows(cut_table.stood(fence.target, cut_id, fence.resolver_epoch))
        if not stood:
            return  # Given up and forgotten meanwhile: the next look sees it.
        position, gtids, ets, held, parked, since = stood[0]
        session.execute(
            cut_table.record(
                fence.target,
                cut_id,
                position=str(position),
                gtids=str(gtids),
                ets=int(ets),
                target_gtids=None if target_gtids is None else "".join(str(target_gtids).split()),
                held=int(held),
                parked=int(parked),
                since=str(since),
            )
        )
