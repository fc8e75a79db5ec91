"""Transforms: how a target's table differs from the source's, in name and in columns.

Pure: no I/O. `rule` is a transform as the plan has it; `naming` fills names in; `fit` turns values into
another type, `disguise` masks and hashes them; `shape` compiles a rule for one table; `change` translates
schema changes; `sharing` watches over source tables that become one.
"""
