"""`python -m gravity_router CONFIG`: runs the router until it is told to stop."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from gravity.config import load_config
from gravity.faust_app import run_faust
from gravity.stage import run_stage
from gravity_router.app import build_app


def main() -> None:
    """Runs the stage with the configuration file that the command line names."""
    parser = argparse.ArgumentParser(prog="gravity-router", description="Routes changes.")
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("--member", default="", help="a name that stays the same after a restart")
    arguments = parser.parse_args()

    def body(_stop: threading.Event) -> None:
        run_faust(build_app(load_config(arguments.config).config, member=arguments.member))

    run_stage("router", body)


if __name__ == "__main__":
    main()
