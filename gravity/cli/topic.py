"""`gravity topics` and `gravity tail`: the topics of an installation, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gravity.cli.option import (
    AsJson,
    ConfigFile,
    Offline,
    WaitSeconds,
    print_json,
    read_config,
    screen,
)
from gravity.config import load_config
from gravity.config.kafka import KafkaCluster
from gravity.config.problem import did_you_mean
from gravity.errors import FatalError
from gravity.tail import message_json, rows_json
from gravity.telemetry.log import configure_logging
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.kafka.reader import LogMessage, LogReader

_CLIENT = "gravity-tail"


def topics(
    config: ConfigFile,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list: make nothing, put no plan in force.")
    ] = False,
    offline: Offline = False,
    wait_s: WaitSeconds = 60.0,
) -> None:
    """Make the topics and put the routing plan in force; list the topics.

    `gravity run` does the same. On machines of their own the stages need it once beforehand. While they run,
    `gravity reload` puts a changed configuration in force.
    """
    from gravity.activation import activate, installation_topics
    from gravity.kafka.admin import TopicAdmin

    loaded = read_config(config, quiet=as_json)
    configure_logging("gravity")
    admin = TopicAdmin(loaded.config.kafka)
    before = admin.partition_counts(timeout_s=wait_s) if dry_run else {}
    plan = None
    if not dry_run:
        plan = activate(loaded.config, offline=offline, timeout_s=wait_s)
        before = admin.partition_counts()
    names = Topics(loaded.config.kafka.topic_prefix, 1 if plan is None else plan.resolver_epoch)
    rows = [
        {
            "topic": spec.name,
            "partitions": before.get(spec.name, spec.partitions),
            "cleanup": spec.cleanup,
            "exists": spec.name in before,
            "purpose": _purpose(spec.name, names),
        }
        for spec in installation_topics(loaded.config, names)
    ]
    if as_json:
        print_json({"plan": None if plan is None else plan.version, "topics": rows})
        return
    table = Table("topic", "partitions", "cleanup", "there", "purpose")
    for row in rows:
        there = "yes" if row["exists"] else "[red]no[/]"
        table.add_row(
            str(row["topic"]),
            str(row["partitions"]),
            str(row["cleanup"]),
            there,
            str(row["purpose"]),
        )
    screen.print(table)
    if plan is not None:
        screen.print(f"routing plan {plan.version} is in force")


def _purpose(topic: str, names: Topics) -> str:
    purposes = {
        names.control: "owners, checkpoints, routing plans, operators' decisions",
        names.progress: "how far each stage is, for `gravity status`",
        names.conflicts: "one record per conflict between sources",
        names.dead_letters: "rows a target can't take, with the reason",
    }
    if topic in purposes:
        return purposes[topic]
    kind, _, name = topic.removeprefix(names.prefix).partition(".")
    return {
        "ingest": f"changes of source {name} in the order of its binlog",
        "routed": f"what the router decided for target {name}",
        "target": f"what target {name} is to apply, in order per partition",
        "state": f"the resolver's memory for target {name}",
    }[kind]


def tail(
    topic: Annotated[
        str, typer.Argument(help="The topic; with --config its prefix may be left out.")
    ],
    *,
    config: Annotated[
        Path | None, typer.Option(help="Where the cluster is: a configuration file.")
    ] = None,
    brokers: Annotated[
        str | None,
        typer.Option(help="Where the cluster is: `host:port`, several separated by commas."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="`beginning`, `end` (new messages only, as they come), or an offset.",
        ),
    ] = "beginning",
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only this partition; left out: all of them.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many lines.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="One line for each row instead of each message.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="At the end, wait for new messages.")
    ] = False,
) -> None:
    """Print the messages of any topic as JSON lines.

    Our own messages are decoded by what their headers say; all others are shown as JSON or text where
    they are such. Bytes appear as {"base64": "…"}. Stops at the present end unless told to --follow.
    """
    from gravity.kafka.reader import LogReader

    cluster, prefix = _cluster(config, brokers)
    if not re.fullmatch(r"beginning|end|\d+", start):
        raise typer.BadParameter("takes beginning, end, or an offset", param_hint="--from")
    reader = LogReader(cluster, _CLIENT)
    try:
        name = _topic_name(reader, cluster, topic, prefix)
        count = reader.partitions(name)
        if partition is not None and partition >= count:
            raise typer.BadParameter(f"{name} has partitions 0 to {count - 1}")
        chosen = range(count) if partition is None else [partition]
        messages = _messages(reader, name, list(chosen), start, follow=follow or start == "end")
        printed = 0
        for message in messages:
            for line in rows_json(message) if rows else [message_json(message)]:
                print_json(line)
                printed += 1
                if printed == limit:
                    return
    except KeyboardInterrupt:
        return
    finally:
        reader.close()


def _cluster(config: Path | None, brokers: str | None) -> tuple[KafkaCluster, str]:
    """Where the cluster is, and the prefix its topics may have."""
    if (config is None) == (brokers is None):
        raise typer.BadParameter("say where the cluster is: --config FILE or --brokers HOST:PORT")
    if brokers is not None:
        addresses = tuple(part.strip() for part in brokers.split(","))
        if not all(addresses):
            raise typer.BadParameter("an address is missing: HOST:PORT", param_hint="--brokers")
        return KafkaCluster(brokers=addresses), ""
    assert config is not None
    cluster = load_config(config).config.kafka
    return cluster, cluster.topic_prefix


def _topic_name(reader: LogReader, cluster: KafkaCluster, topic: str, prefix: str) -> str:
    for name in dict.fromkeys((prefix + topic, topic)):
        if reader.partitions(name):
            return name
    from gravity.kafka.admin import TopicAdmin

    known = sorted(TopicAdmin(cluster).partition_counts())
    raise FatalError(
        f"no topic is called {topic}{did_you_mean(prefix + topic, known)}",
        where=",".join(cluster.brokers),
        remedy="`gravity topics CONFIG` makes and lists those of a configuration",
    )


def _messages(
    reader: LogReader, topic: str, partitions: list[int], start: str, *, follow: bool
) -> Iterator[LogMessage]:
    """Partition by partition up to the present end; then, if asked, whatever comes."""
    ends = {}
    for partition in partitions:
        low, high = reader.bounds(topic, partition)
        ends[topic, partition] = high
        first = high if start == "end" else low if start == "beginning" else max(low, int(start))
        yield from reader.read(topic, partition, first, high)
    if follow:
        reader.assign(ends)
        while True:
            yield from reader.poll(1.0)
