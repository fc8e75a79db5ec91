"""What the histories of a seed hold, and the laws that are broken on purpose to see them missed.

A broken law is looked for in histories that hold what it is about and no more: so the first seed that
catches it stays where it is when other histories are added.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

from gravity.plan_part import Scope

YOUNG = 4
"""One seed in so many begins with empty shared tables."""


@dataclass(frozen=True, slots=True)
class Histories:
    """What happens beside row changes, copies of existing rows, faults and upgrades."""

    resolving: bool = False
    """Sources also write the tables RESOLVED, and an operator decides about their rows."""
    young: bool = False
    """Shared tables begin empty: nothing is to be copied, so deletes are forgotten early."""
    rewrites: bool = False
    """Tables' values change without a word in the binlog, and are read again."""
    truncates: float = 0.0
    """Share of TRUNCATEs among what a source commits."""

    alters: float = 0.0
    """Share of ALTERs among what a source commits: they add a column, rename it, make it wider, drop it."""

    scope: Scope = "key"
    """What stands still while sources disagree about a row of table `stop`."""
    on_down: Literal["", "stall", "release"] = ""
    """Rows leave in the order of their commit times; what is done where a source is silent. Empty: no such order."""
    merges: Literal["time-ordered", "by-table"] = "time-ordered"
    """Whether that order is one of all tables, or of each table."""

    parks: bool = False
    """Sources also write tables with foreign keys, which a MySQL target has, too."""
    sets_aside: bool = False
    """What foreign keys refuse becomes a dead letter now and then."""
    fails_over: bool = False
    """A source is several servers; the one that is read fails now and then, others are behind."""

    @property
    def one_lane(self) -> bool:
        """Whether all tables of a target have one order."""
        return self.scope == "job" or (self.on_down != "" and self.merges == "time-ordered")

    @property
    def forgets(self) -> bool:
        """Whether rows that all sources have deleted are forgotten early.

        Not beside TRUNCATEs: one moves the time of a tombstone that is remembered and of none that is
        forgotten (conflicts.md, floors), so what is right would depend on when.
        """
        return not self.truncates

    @property
    def judged_by_log(self) -> bool:
        """Whether what shared tables come to depends on which rows a source had told when something happened."""
        return self.resolving or self.truncates > 0 or self.alters > 0


@dataclass(frozen=True, slots=True)
class Break:
    """A law that is broken on purpose."""

    law: str
    histories: Histories = Histories()
    target: str = ""
    """The kind of target that it takes."""
    focus: str = ""
    """The kind of process that faults are aimed at, where it shows rarely."""

    def aims_at(self, role: tuple[str, Any]) -> bool:
        """Whether faults are aimed at processes of this role."""
        kind, what = role
        return kind == self.focus and (kind != "sink" or what[0] == self.target)


RESOLVING = Histories(resolving=True)
ALTERING = Histories(alters=0.1)
MOVING = Histories(fails_over=True)
ALTERING_OFTEN = Histories(alters=0.3)
PARKS = FAILS_OVER = SETS_ASIDE = 0.4
SCOPES: tuple[Scope, ...] = ("key", "key", "key", "table", "job")
ON_DOWN: tuple[Literal["", "stall", "release"], ...] = ("", "", "", "stall", "release")
MERGES: tuple[Literal["time-ordered", "by-table"], ...] = ("time-ordered", "by-table")
TRUNCATING = Histories(truncates=0.3)

BREAKS = {
    "drop-by-position": Break("the resolver drops repeats by binlog position"),
    "save-before-ack": Break("the resolver saves its state before its outputs are acknowledged"),
    "no-fence-check": Break("the router ignores the fences of the collectors"),
    "no-tx-fencing": Break("the changelog producer is not fenced by its transactional id"),
    "no-cas": Break("the MySQL sink writes its progress without compare-and-set", target="mysql"),
    "ch-version-offset": Break(
        "the ClickHouse version is the ingest number, not the output number", target="clickhouse"
    ),
    "out-seq-not-restored": Break("the resolver starts again with the out_seq of a fresh state"),
    "commit-before-send": Break("the router commits its input before its outputs are sent"),
    "one-owner-key": Break("control keeps one owner record per source"),
    "checkpoint-unfenced": Break("a void collector's checkpoint in control is believed"),
    "version-from-control": Break(
        "the router takes the newest plan in control, not the one a message names"
    ),
    "finish-chunk": Break(
        "an incomplete snapshot chunk is finished by reading the rest again", focus="collector"
    ),
    "count-in-router": Break("filtered rows are counted by the stateless router"),
    "no-term": Break(
        "a new version of the resolver's function starts without a fence", focus="resolver"
    ),
    "request-forgotten": Break(
        "chunks done before a table is asked for again are believed", Histories(rewrites=True)
    ),
    "read-at-next": Break("a snapshot's row stands at the place of the next transaction"),
    "no-tie-break": Break(
        "of two changes of one time the one that came last wins, whatever the ranks", RESOLVING
    ),
    "tombstone-dropped": Break("the resolver forgets that a source has deleted a row", RESOLVING),
    "decision-forgotten": Break("an operator's decision is not saved with the row", RESOLVING),
    "hold-sends": Break("while sources disagree the best one's row is sent", RESOLVING),
    "mysql-real-truncate": Break(
        "the MySQL sink empties a table outside its compare-and-set transaction",
        TRUNCATING,
        target="mysql",
        focus="sink",
    ),
    "ch-real-truncate": Break(
        "the ClickHouse sink empties a table instead of writing tombstones",
        TRUNCATING,
        target="clickhouse",
        focus="sink",
    ),
    "floor-forgotten": Break(
        "the resolver does not save that a source has emptied its table",
        Histories(resolving=True, truncates=0.1),
    ),
    "truncate-everywhere": Break(
        "a TRUNCATE takes the rows of other partitions as well", TRUNCATING
    ),
    "no-wait-for-alter": Break(
        "a sink applies rows to a table that another lane is altering", ALTERING
    ),
    "moved-again": Break(
        "who finishes an alteration renames and drops what has been renamed and dropped",
        ALTERING_OFTEN,
    ),
    "alter-forgotten": Break(
        "the resolver does not save that a source's table has another column",
        Histories(resolving=True, alters=0.1),
    ),
    "scope-ignored": Break(
        "the table goes on while sources disagree about a row of it",
        Histories(resolving=True, scope="table"),
    ),
    "merge-waits-for-nobody": Break(
        "rows leave in their order although a source may have earlier ones",
        Histories(resolving=True, on_down="stall"),
    ),
    "table-waits-for-nobody": Break(
        "rows leave in their table's order although a source may have earlier ones",
        Histories(resolving=True, on_down="stall", merges="by-table"),
    ),
    "parked-apart": Break(
        "refused rows are put aside behind the transaction that moves the progress past them",
        Histories(parks=True),
        target="mysql",
        focus="sink",
    ),
    "letter-behind-commit": Break(
        "a row is counted as dead before its letter is written",
        Histories(parks=True, sets_aside=True),
        target="mysql",
    ),
    "parked-stays": Break(
        "a row goes on waiting though a later change of its key was taken",
        Histories(parks=True),
        target="mysql",
    ),
    "place-elsewhere": Break(
        "a place in one server's binlog is taken for one in another's", MOVING
    ),
    "carried-again": Break(
        "what the log has is taken in again when another server brings it", MOVING
    ),
    "time-elsewhere": Break(
        "at another server event time goes on from the end of a span that is not whole",
        MOVING,
        focus="collector",
    ),
    "epoch-not-raised": Break("positions at another server are of the same epoch", MOVING),
    "span-ends-early": Break(
        "at another server a span ends before all has passed that the log has behind the last one",
        MOVING,
        focus="collector",
    ),
    "repeats-not-dropped": Break("the resolver takes in rows that it has seen", RESOLVING),
}


def histories_of(seed: int, broken: str | None) -> Histories:
    """What the seed's histories hold; all kinds of them turn up where nothing is broken."""
    if broken is not None:
        histories = BREAKS[broken].histories
    else:
        rng = random.Random(f"histories of {seed}")  # The world's own numbers are not touched.
        histories = Histories(
            resolving=True,
            rewrites=True,
            truncates=rng.choice((0.0, 0.05)),
            alters=rng.choice((0.0, 0.12)),
            scope=rng.choice(SCOPES),
            on_down=rng.choice(ON_DOWN),
            parks=rng.random() < PARKS,
            fails_over=rng.random() < FAILS_OVER,
            merges=rng.choice(MERGES),
            sets_aside=rng.random() < SETS_ASIDE,
        )
    return replace(histories, young=histories.resolving and seed % YOUNG == YOUNG - 1)
