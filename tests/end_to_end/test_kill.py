"""Whatever stage dies or is frozen in the middle of the load: nothing is lost, nothing twice."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from deploy.demo.pipeline import Pipeline, wait_for

from .conftest import World

STAGES = (
    "gravity_collector",
    "gravity_router",
    "gravity_resolver",
    "gravity_sink_mysql",
    "gravity_sink_clickhouse",
    "gravity_sink_kafka",
)


def test_a_stage_killed_under_load_loses_nothing_and_doubles_nothing(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(400)
    with world.pipeline() as pipeline:
        world.until_flowing(pipeline)
        load = world.load(300)
        load.start()
        try:
            for stage in STAGES:
                _kill_and_see_it_again(pipeline, stage)
                _until_more_is_applied(world, pipeline)
        finally:
            load.stop()
        assert not load.failures
        world.until_passed(pipeline)
        world.assert_equal()


def _kill_and_see_it_again(pipeline: Pipeline, stage: str) -> None:
    pid = pipeline.pid(stage)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: pipeline.pid(stage) not in (None, pid),
        pipeline,
        timeout_s=60,
        what=f"{stage} is started again",
    )


def _until_more_is_applied(world: World, pipeline: Pipeline) -> None:
    def applied() -> dict[str, int]:
        return {t.name: t.applied for t in world.reader.refresh().targets()}

    before = applied()
    wait_for(
        lambda: all(now > before[name] for name, now in applied().items()),
        pipeline,
        timeout_s=90,
        what="every target goes on",
    )


def test_the_whole_pipeline_killed_in_its_snapshot_goes_on_where_it_was(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(3000)
    first = world.pipeline()
    first.start()
    try:
        wait_for(
            lambda: any(target.applied for target in world.reader.refresh().targets()),
            first,
            timeout_s=120,
            what="the first row",
        )
    finally:
        first.kill()
    with world.pipeline() as pipeline:
        world.until_flowing(pipeline)
        world.until_passed(pipeline)
        world.assert_equal()


def test_frozen_stages_that_wake_up_after_a_takeover_harm_nobody(
    make_world: Callable[[int], World],
) -> None:
    world = make_world(400)
    with world.pipeline() as pipeline:
        world.until_flowing(pipeline)
        load = world.load(300, seed=5)
        load.start()
        frozen = [pid for stage in STAGES if (pid := pipeline.pid(stage)) is not None]
        assert len(frozen) == len(STAGES)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            # The rivals' disks are empty: their state comes from the changelog alone.
            with world.rivals(STAGES):
                _until_more_is_applied(world, pipeline)
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
                _until_more_is_applied(world, pipeline)
        finally:
            for pid in frozen:
                _wake(pid)
            load.stop()
        assert not load.failures
        world.until_passed(pipeline)
        world.assert_equal()


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
