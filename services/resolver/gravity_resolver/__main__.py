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
    parser.add_argument(
        "--session-timeout-ms",
        type=int,
        default=10000,
        help="silence after which Kafka gives this process's partitions to another",
    )
    parser.add_argument("--member", default="", help="a name that stays the same after a restart")
    arguments = parser.parse_args()

    def body(stop: threading.Event) -> None:
        config = load_config(arguments.config).config
        timeout_s = arguments.session_timeout_ms / 1000
        app = build_app(config, session_timeout_s=timeout_s, member=arguments.member)
        if not stop.is_set():
            run_faust(app)

    run_stage("resolver", body)


if __name__ == "__main__":
    main()
