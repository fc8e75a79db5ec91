"""A source's servers: how they are named, and what is refused."""

import pytest
from pydantic import ValidationError

from gravity.config.source import Source, parse_address


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("db1", ("db1", 3306)),
        ("db1:3307", ("db1", 3307)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[::1]:3307", ("::1", 3307)),
        ("fe80::1", ("fe80::1", 3306)),
    ],
)
def test_an_address_may_have_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_address(text, 3306) == endpoint


@pytest.mark.parametrize("text", ["", "db1:", "db1:x", "a b", "db1:0", "db1:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_address(text, 3306)


def test_hosts_keep_their_order_and_take_the_port_of_the_source() -> None:
    source = Source(name="s", hosts=("b:1", "a"), port=3310)
    assert source.endpoints == (("b", 1), ("a", 3310))
    assert Source(name="s", host="h").endpoints == (("h", 3306),)


def test_a_server_is_named_once() -> None:
    with pytest.raises(ValidationError, match="named twice"):
        Source(name="s", hosts=("a", "a:3306"))
