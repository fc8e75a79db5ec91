"""`python -m gravity_resolver CONFIG`: runs the resolver until it is told to stop."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from gravity.config import load_config
from gravity.faust_app import run_faust
from gravity.stage import run_stage
from gravity_resolver.app import build_app


def main() -> None:
    """Runs the stage with the configuration file that the command line names."""
    parser = argparse.ArgumentParser(prog="gravity-resolver", description="Merges sources.")
    parser.add_argument("config", type=Path, help="configuration file")
    path = parser.parse_args().config

    def body(_stop: threading.Event) -> None:
        run_faust(build_app(load_config(path).config))

    run_stage("resolver", body)


if __name__ == "__main__":
    main()
