"""`python -m tests.fault.simulation --seeds 1000`, `--seed 7`, `--break no-cas`, `--breaks`."""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import sys

from gravity.errors import GravityError

from .breaks import BREAKS
from .interleavings import INTERLEAVINGS
from .oracle import check
from .scheduler import Scheduler
from .world import ViolationError, World


def one(seed: int, broken: str | None = None) -> tuple[int, str | None, dict[str, int]]:
    """Runs one seed; (seed, the law that was broken or None, what happened)."""
    world = World(seed, broken)
    try:
        Scheduler(world).run()
        check(world)
    except (ViolationError, GravityError) as error:
        return seed, str(error) or type(error).__name__, dict(world.stats)
    except Exception as error:  # noqa: BLE001 - whatever a core raises, the seed is told.
        return seed, f"{type(error).__name__}: {error}", dict(world.stats)
    world.stats["rows"] = sum(len(t) for source in world.source for t in source.binlog)
    return seed, None, dict(world.stats)


def _job(arguments: tuple[int, str | None]) -> tuple[int, str | None, dict[str, int]]:
    return one(*arguments)


def run(
    first: int, seeds: int, broken: str | None, jobs: int
) -> tuple[list[tuple[int, str]], collections.Counter[str]]:
    """Runs seeds side by side; with `broken` only until the first one is caught."""
    total: collections.Counter[str] = collections.Counter()
    failed: list[tuple[int, str]] = []
    with multiprocessing.Pool(jobs) as pool:
        work = ((seed, broken) for seed in range(first, first + seeds))
        for seed, error, stats in pool.imap(_job, work, chunksize=2):
            total.update(stats)
            if error:
                failed.append((seed, error))
                if broken:
                    pool.terminate()
                    break
    return failed, total


def main() -> int:
    """Exit code 0 when the laws hold, and every broken variant is caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS))
    parser.add_argument("--breaks", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.seed is not None:
        print(one(options.seed, options.broken))
        return 0
    if options.breaks:
        missed = 0
        for name in BREAKS:
            failed, _ = run(options.first, options.seeds, name, options.jobs)
            missed += not failed
            text = f"caught by seed {failed[0][0]}: {failed[0][1][:90]}" if failed else "NOT caught"
            print(f"{name:22} {text}", flush=True)
        for name, interleaving in INTERLEAVINGS.items():
            law = interleaving(name)
            missed += law is None
            print(f"{name:22} {'built by hand:':14} {(law or 'NOT caught')[:90]}", flush=True)
        return missed
    failed, total = run(options.first, options.seeds, options.broken, options.jobs)
    print(f"{options.seeds} seeds, {len(failed)} failed; {dict(total)}")
    for seed, error in failed[:10]:
        print(f"  seed {seed}: {error[:300]}")
    return int(bool(failed) != bool(options.broken))


if __name__ == "__main__":
    sys.exit(main())
