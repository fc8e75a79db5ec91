"""Handing a partition from one version of the resolver's function to another.

Two versions give the same number another content. So the new one first makes sure that nothing of
the old one lies behind the saved state, and fences what the old one may still be sending.
"""

from __future__ import annotations

from gravity.errors import FatalError, FormatError
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity_resolver.replica import FUNCTION_VERSION, PartitionState
from gravity_resolver.store import PartitionStore


def last_valid_seq(reader: LogReader, topic: str, partition: int) -> int:
    """The greatest number in the target partition that no fence makes void."""
    low, high = reader.bounds(topic, partition)
    term = last = 0
    for message in reader.read(topic, partition, low, high):
        header = TargetHeader.from_kafka(message.headers)
        if header.term >= term:
            term = header.term
            last = max(last, header.out_seq)
    return last


def adopt_function_version(
    state: PartitionState,
    store: PartitionStore,
    producer: LogProducer,
    reader: LogReader,
    *,
    topic: str,
    partition: int,
) -> None:
    """Makes this version of the function the one that goes on with `state`.

    Raises FatalError when the older version had sent more than it saved: it must finish first.
    """
    if state.function_version == FUNCTION_VERSION:
        return
    if state.function_version > FUNCTION_VERSION:
        raise FormatError(
            f"the state was written by version {state.function_version} of the resolver's function",
            where=f"{topic}/{partition}",
            remedy=f"this build has version {FUNCTION_VERSION}: upgrade it",
        )
    state.term += 1
    _save(state, store)
    fence = TargetHeader(RoutedHeader(RoutedKind.CODE, "", 0), state.resolver_epoch, 0, state.term)
    producer.send(topic, partition, b"", fence.to_kafka())
    producer.flush()
    last = last_valid_seq(reader, topic, partition)
    if last != state.out_seq:
        raise FatalError(
            f"finish with version {state.function_version} of the resolver first",
            where=f"{topic}/{partition}: sent up to {last}, saved up to {state.out_seq}",
            remedy="start the older version, stop it with SIGTERM, then upgrade",
        )
    state.function_version = FUNCTION_VERSION
    _save(state, store)


def _save(state: PartitionState, store: PartitionStore) -> None:
    store.save(state.take_delta())
    state.delta_saved()
