"""Whether a source server can make its COMMITs wait for targets, and what that will be like. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gravity.check.finding import Finding, Findings
from gravity.semi_sync import ServerSemiSync

TIMEOUT_MS_MIN: Final = 5_000
"""A stage that is started again is away for some seconds."""
TIMEOUT_MS_MAX: Final = 60_000
"""Writers hang as long when a target is away."""
_MASTER: Final = "rpl_semi_sync_master_"


def check_semi_sync(find: Findings, server: ServerSemiSync) -> Iterator[Finding]:
    """The findings about a server whose source has `semi-sync`."""
    prefix = server.prefix
    if not prefix:
        yield find.bad(
            "semi-sync",
            "the server has no semi-synchronous replication",
            "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so' (before MySQL 8.0.26: "
            "rpl_semi_sync_master SONAME 'semisync_master.so'); MariaDB has had it built in since 10.3",
        )
        return
    if not server.is_enabled:
        remedy = f"SET GLOBAL {prefix}enabled=ON, also in the server's configuration file"
        yield find.bad(f"{prefix}enabled", "OFF: no COMMIT waits", remedy)
    else:
        yield find.good(f"{prefix}enabled", "ON")
    point = f"{prefix}wait_point"
    if server.waits_after_sync:
        yield find.good(point, "AFTER_SYNC")
    else:
        yield find.doubtful(
            point,
            "AFTER_COMMIT: other sessions see a row at the source before the targets have it",
            f"SET GLOBAL {point}=AFTER_SYNC",
        )
    yield _timeout(find, server)
    if not server.waits_without_replica:
        name = f"{prefix}wait_no_{'slave' if prefix == _MASTER else 'replica'}"
        yield find.doubtful(
            name,
            "OFF: while the collector is away COMMITs return at once",
            f"SET GLOBAL {name}=ON",
        )
    if server.others_may_answer:
        yield find.doubtful(
            "semi-sync replicas",
            f"{server.clients}, of which {server.answers_wanted} must answer: a COMMIT may return before the "
            "targets have it",
            "let no other replica of the server be semi-synchronous",
        )


def _timeout(find: Findings, server: ServerSemiSync) -> Finding:
    name, shown = f"{server.prefix}timeout", f"{server.timeout_ms} ms"
    told = "then COMMITs return without the targets, and none waits until these have caught up"
    if server.timeout_ms < TIMEOUT_MS_MIN:
        return find.doubtful(
            name,
            f"{shown}: {told}; a stage that is started again takes longer",
            f"SET GLOBAL {name}=10000",
        )
    if server.timeout_ms > TIMEOUT_MS_MAX:
        return find.doubtful(
            name,
            f"{shown}: writers hang so long when a target is away",
            f"SET GLOBAL {name}=10000",
        )
    return find.good(name, f"{shown}, {told}")
