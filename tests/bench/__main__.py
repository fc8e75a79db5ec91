"""All benchmarks, or the ones named: `python -m tests.bench [decode codec routing contended restore sink snapshot drain latency many]`.

Each prints JSON lines with at least `bench`, `case`, `rows_per_s`, `cpu_s_per_100k`, `ratio` and `ratio_to`,
and runs in a process of its own, so that none finds the memory of another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = (
    "decode", "codec", "routing", "contended", "restore", "sink", "snapshot", "drain", "latency", "many",
)  # fmt: skip


def main() -> None:
    """Runs them in order; the exit code is that of the first that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(NAMES))
    names = parser.parse_args().names or NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: {' '.join(NAMES)}")
    for name in names:
        code = subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
