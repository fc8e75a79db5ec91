"""Seeded simulation of delivery: the product's own cores over append-only logs, under every fault.

Every process is a generator; each `yield` is a place where it may be crashed, frozen, overtaken or
rebalanced away. Encoding, fences, takeover scan, routing, the resolver's replica, the sink's admission
and the row versions are the product's; the world around them, the oracle and the checks are not.

Left out until the product has them: append-only balancing, TRUNCATE (sinks refuse it by name) and
fan-out to two tables inside one target (a plan feeds each target once).
"""
