"""Seeded simulation of delivery: the product's own cores over append-only logs, under every fault.

Every process is a generator; each `yield` is a place where it may be crashed, frozen, overtaken or
rebalanced away. The collector's stream, publisher, chunks and way to another server, encoding, fences,
takeover scan, routing, the resolver's replica, the sink's admission and the row versions are the product's;
the world around them, the oracle and the checks are not.

Left out: append-only balancing and fan-out to two tables inside one target, which the product does not
have; schema changes beyond TRUNCATE and ALTERs of one column (of a table of several sources: beyond ADD
COLUMN), which have worlds of their own (tests/unit/sink, tests/unit/resolver, tests/prove); spans that end
inside a transaction (tests/unit/collector).
"""
