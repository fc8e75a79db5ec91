"""The sources' threads of one process: each alone, started again or not by how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from gravity_collector.crew import FAILURES_MAX, FENCED_PAUSE_S, Crew

from gravity.errors import FatalError, FencedError
from gravity.testing.waiting import wait_until


class Work:
    """Sources that go on until they are stopped, or end as they are told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.running: list[str] = []
        self.starts: list[str] = []
        self.endings: dict[str, Callable[[], None]] = {}
        self.done: set[str] = set()

    def collect(self, name: str, stop: threading.Event) -> bool:
        self.starts.append(name)
        self.running.append(name)
        try:
            if name in self.endings:
                self.endings[name]()
            elif name not in self.done:
                stop.wait()
        finally:
            self.running.remove(name)
        return name in self.done

    def fails(self, name: str, error: Exception) -> None:
        def end() -> None:
            raise error

        self.endings[name] = end


@pytest.fixture
def work() -> Work:
    return Work()


def crew_of(work: Work, **options: float | None) -> Crew:
    return Crew(work.collect, monotonic=lambda: work.now_s, **options)  # type: ignore[arg-type]


def settle(crew: Crew, condition: Callable[[], bool]) -> None:
    def is_so() -> bool:
        if condition():
            return True
        crew.tend()
        return False

    wait_until(is_so, 10, what="what the crew is tended for", every_s=0.001)


def wait_for_thread(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)


def test_a_source_that_halts_by_name_is_left_down_and_the_others_go_on(work: Work) -> None:
    work.fails("bad", FatalError("no password"))
    crew = crew_of(work)
    crew.start(["bad", "good"])
    settle(crew, lambda: work.running == ["good"])
    work.now_s += 1e6
    crew.tend()
    crew.raise_if_all_halted(["bad", "good"])
    assert work.starts.count("bad") == 1
    assert crew.stop(["good", "bad"], within_s=5) == []


def test_when_all_have_halted_the_reason_is_raised_but_not_while_one_is_elsewhere(
    work: Work,
) -> None:
    work.fails("bad", FatalError("no password"))
    crew = crew_of(work)
    crew.start(["bad"])
    settle(crew, lambda: not work.running and work.starts == ["bad"])
    crew.raise_if_all_halted(["bad", "held by another"])

    def all_halted() -> bool:
        crew.tend()
        try:
            crew.raise_if_all_halted(["bad"])
        except FatalError as error:
            return error.what == "no password"
        return False

    settle(crew, all_halted)


def test_a_defect_is_tried_again_after_growing_pauses_and_ends_the_process_at_last(
    work: Work,
) -> None:
    work.fails("s", ZeroDivisionError("a defect"))
    crew = crew_of(work)
    crew.start(["s", "other"])
    with pytest.raises(ZeroDivisionError):
        while len(work.starts) < 100:
            wait_for_thread("s")
            crew.tend()
            work.now_s += 31
            crew.tend()
    assert work.starts.count("s") == FAILURES_MAX
    assert work.running == ["other"]


def test_a_pause_is_kept(work: Work) -> None:
    work.fails("s", FencedError("another took it"))
    crew = crew_of(work)
    crew.start(["s"])
    wait_for_thread("s")
    crew.tend()
    work.now_s += FENCED_PAUSE_S - 1
    crew.tend()
    assert work.starts == ["s"]
    work.now_s += 2
    settle(crew, lambda: len(work.starts) == 2)


def test_a_source_that_has_failed_is_not_started_again_at_once(work: Work) -> None:
    work.fails("s", ZeroDivisionError("a defect"))
    crew = crew_of(work)
    crew.start(["s"])
    for _ in range(5):
        wait_for_thread("s")
        crew.tend()
    assert work.starts == ["s"], "no time has passed"
    work.now_s += 31
    settle(crew, lambda: len(work.starts) == 2)


def test_whoever_waits_is_woken_by_a_thread_that_ends(work: Work) -> None:
    crew = crew_of(work)
    woken = threading.Event()
    crew.start(["good"])
    settle(crew, lambda: work.running == ["good"])
    waiter = threading.Thread(target=lambda: (crew.wait(3600), woken.set()), daemon=True)
    waiter.start()
    assert not woken.is_set()
    crew.stop(["good"], within_s=5)
    assert woken.wait(10), "it waits for its timeout"


def test_a_halted_source_is_not_done(work: Work) -> None:
    work.fails("bad", FatalError("no password"))
    work.done.add("copied")
    crew = crew_of(work)
    crew.start(["bad", "copied"])
    for name in ("bad", "copied"):
        wait_for_thread(name)
    crew.tend()
    assert crew.are_all_done(["copied"])
    assert not crew.are_all_done(["bad", "copied"])


def test_a_source_named_on_the_command_line_that_was_taken_over_ends_the_process(
    work: Work,
) -> None:
    work.fails("s", FencedError("another took it"))
    crew = crew_of(work, fenced_pause_s=None)
    crew.start(["s"])
    with pytest.raises(FencedError):
        settle(crew, lambda: False)


def test_giving_up_waits_no_longer_than_it_was_told_for_one_that_hangs(work: Work) -> None:
    freed = threading.Event()
    work.endings["hangs"] = lambda: freed.wait() and None  # type: ignore[func-returns-value]
    crew = Crew(work.collect)
    crew.start(["hangs", "good"])
    settle(crew, lambda: len(work.running) == 2)
    assert crew.stop(["hangs", "good"], within_s=0.05) == ["hangs"]
    assert list(crew.names) == []
    crew.start(["hangs"])
    settle(crew, lambda: work.starts.count("hangs") == 2)
    freed.set()
    crew.stop(["hangs"], within_s=5)


def test_a_source_that_is_done_for_good_is_not_started_again_and_ends_nobody_else(
    work: Work,
) -> None:
    work.done.add("copied")
    crew = crew_of(work)
    crew.start(["copied", "good"])
    settle(crew, lambda: work.running == ["good"])
    work.now_s += 1e6
    crew.tend()
    assert work.starts.count("copied") == 1
    assert not crew.are_all_done(["copied", "good"])
    assert not crew.are_all_done(["copied", "held by another"])
    assert crew.are_all_done(["copied"])
    crew.raise_if_all_halted(["copied"])
    assert crew.stop(["good", "copied"], within_s=5) == []
