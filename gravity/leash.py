"""Runs a program that the kernel kills when its parent goes, however that goes.

    python -I -S leash.py PARENT_ID PROGRAM ARGUMENT…

Run as a file, by an interpreter that loads nothing else: it becomes the program within
milliseconds. A `preexec_fn` would do the same between fork and exec, where other threads' locks may
be held for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent, then becomes the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    # The signal comes when the parent's *thread* ends, so the parent starts children from its main one.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # It went before the leash was on.
    os.execv(program[0], program)  # noqa: S606 - the program our own supervisor names


if __name__ == "__main__":
    main()
