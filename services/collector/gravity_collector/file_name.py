"""Names of binlog files."""

from __future__ import annotations

from gravity.errors import PositionLostError


def file_index_of(file_name: str) -> int:
    """The number of a binlog file: `binlog.1000000` is the millionth, after `binlog.999999`.

    Raises:
        PositionLostError: the name has no number.
    """
    number = file_name.rpartition(".")[2]
    if not number.isdecimal():
        raise PositionLostError(
            f"binlog file name {file_name!r} has no number", remedy="check log_bin at the source"
        )
    return int(number)
