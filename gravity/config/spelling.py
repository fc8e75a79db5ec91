"""The several ways to write one thing, brought to one form before anything is checked."""

from __future__ import annotations

from gravity.config.kafka import BROKERS_TEMPLATE
from gravity.config.model import UNDERSCORED
from gravity.config.problem import Notice, Problem, nearest_name
from gravity.config.tree import Tree

ROOT = "gravity"
ROLES = ("primary", "backup")
NAMES_AS_KEYS = frozenset(
    {
        "sources",
        "targets",
        "routing-rules",
        "source-priorities",
        "columns",
        "order-by",
        "format",
        "fields",
    }
)
"""Mappings whose keys are the user's own names, so their hyphens and underscores stay."""
TRANSFORMS = "transforms"
NAMES_IN_TRANSFORMS = frozenset({"rename", "add", "cast", "mask"})
"""The same inside a transform, where `columns` has keys of ours."""

CLICKHOUSE_PORTS = {9000: 8123, 9440: 8443}
"""Native protocol port -> HTTP port of the same server, without and with TLS."""


class Speller:
    """Rewrites a tree in place; `problems` and `notices` say what was found on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notices: list[Notice] = []

    def normalise(self, tree: Tree) -> None:
        """Brings an unwrapped tree to the one form that the model reads."""
        self.hyphenate(tree)
        self.roles_to_failover(tree)
        for key in ("sources", "targets", "routing-rules"):
            self.mapping_to_list(tree, key)
        self.conflict_keys(tree)
        self.merge_word(tree)
        self.hoist_alerts(tree)
        self.target_forms(tree)

    def unwrap(self, tree: Tree) -> Tree:
        """Without the optional root key `gravity:`."""
        # Keys such as x-defaults are the user's place for YAML anchors.
        for key in [key for key in tree.mapping if key.startswith("x-")]:
            del tree.mapping[key]
        root = tree.mapping.get(ROOT)
        if root is None:
            return tree
        for key, child in tree.mapping.items():
            if key != ROOT:
                self.problems.append(Problem(child.place, f"must stand under {ROOT}:"))
        if root.value is None:
            return Tree(root.place, {})
        if not isinstance(root.value, dict):
            self.problems.append(Problem(root.place, "must be a mapping of keys"))
            return Tree(root.place, {})
        return root

    def default_brokers(self, tree: Tree) -> None:
        """Where `kafka.brokers` is left out, the environment says it."""
        kafka = tree.mapping.setdefault("kafka", Tree(tree.place, {}))
        if kafka.value is None:
            kafka.value = {}
        kafka.mapping.setdefault("brokers", Tree(kafka.place, BROKERS_TEMPLATE))

    def hyphenate(
        self, tree: Tree, *, names: bool = False, named: frozenset[str] = NAMES_AS_KEYS
    ) -> None:
        """Spells keys with hyphens; keys that are `names` are left as they are, and those under a key in `named`."""
        for key, child in list(tree.mapping.items()):
            hyphenated = key.replace("_", "-")
            wanted = next((k for k in UNDERSCORED if k.replace("_", "-") == hyphenated), hyphenated)
            inside = NAMES_IN_TRANSFORMS if wanted == TRANSFORMS and not names else named
            self.hyphenate(child, names=wanted in named and not names, named=inside)
            if not names and wanted != key:
                self.rename(tree, key, wanted)
        for child in tree.items:
            self.hyphenate(child, named=named)

    def rename(self, tree: Tree, key: str, wanted: str) -> None:
        """Moves the value of `key`, if there is one, to the key `wanted`."""
        child = tree.mapping.pop(key, None)
        if child is None:
            return
        if wanted in tree.mapping:
            line = tree.mapping[wanted].place.line
            self.problems.append(Problem(child.place, f"says the same as {wanted} on line {line}"))
            return
        tree.mapping[wanted] = child

    def roles_to_failover(self, tree: Tree) -> None:
        """`targets: {primary: [...], backup: [...]}` becomes part of `failover`."""
        targets = tree.mapping.get("targets")
        for role in ROLES:
            if targets is None or not isinstance(targets.mapping.get(role, tree).value, list):
                continue
            names = targets.mapping.pop(role)
            failover = tree.mapping.setdefault("failover", Tree(names.place, {}))
            if failover.value is None:
                failover.value = {}
            if role in failover.mapping:
                line = failover.mapping[role].place.line
                self.problems.append(
                    Problem(names.place, f"given twice, first under failover on line {line}")
                )
            failover.mapping.setdefault(role, names)

    def mapping_to_list(self, tree: Tree, key: str) -> None:
        """`key: {a: {...}}` becomes `key: [{name: a, ...}]`."""
        parts = tree.mapping.get(key)
        if parts is None:
            return
        if parts.value is None:
            parts.value = []
        if not isinstance(parts.value, dict):
            return
        listed: list[Tree] = []
        for name, part in parts.value.items():
            if part.value is None:
                part.value = {}
            if isinstance(part.value, dict):
                given = part.value.pop("name", None)
                if given is not None and given.value != name:
                    self.problems.append(Problem(given.place, "differs from the key above it"))
                part.value = {"name": Tree(part.place, name), **part.value}
            listed.append(part)
        parts.value = listed

    def conflict_keys(self, tree: Tree) -> None:
        """One name for what the two spellings of conflict resolution call differently."""
        conflicts = tree.mapping.get("conflict-resolution")
        if conflicts is None:
            return
        self.rename(conflicts, "strategy", "default-strategy")
        for key in ("custom-rules", "special-rules"):
            self.rename(conflicts, key, "rules")
        for rule in conflicts.select("rules", "*"):
            match = rule.mapping.pop("match", None)
            if match is not None:
                if not isinstance(match.value, dict):
                    form = "must be a mapping of keys, such as {target: shop, table: users}"
                    self.problems.append(Problem(match.place, form))
                for key, child in match.mapping.items():
                    if key not in ("target", "table", "tables"):
                        known = ("target", "table", "tables")
                        self.problems.append(
                            Problem(child.place, "unknown key", nearest_name(key, known))
                        )
                    elif key in rule.mapping:
                        line = rule.mapping[key].place.line
                        self.problems.append(
                            Problem(child.place, f"given twice, also on line {line}")
                        )
                    else:
                        rule.mapping[key] = child
            self.rename(rule, "table", "tables")

    def merge_word(self, tree: Tree) -> None:
        """`merge: time-ordered` is `merge: {strategy: time-ordered}`."""
        merge = tree.mapping.get("merge")
        if merge is not None and isinstance(merge.value, str):
            word = Tree(merge.place, merge.value, merge.from_environment)
            tree.mapping["merge"] = Tree(merge.place, {"strategy": word})

    def hoist_alerts(self, tree: Tree) -> None:
        """`monitoring: {alerts: ...}` is `alerts`."""
        monitoring = tree.mapping.get("monitoring")
        alerts = monitoring.mapping.pop("alerts", None) if monitoring else None
        if alerts is None:
            return
        if "alerts" in tree.mapping:
            line = tree.mapping["alerts"].place.line
            self.problems.append(Problem(alerts.place, f"given twice, also on line {line}"))
            return
        tree.mapping["alerts"] = alerts

    def target_forms(self, tree: Tree) -> None:
        """`table:` of a transform is `tables`; `type: mariadb` is `mysql`; a ClickHouse native port is answered with the HTTP port."""
        for transform in tree.select("targets", "*", TRANSFORMS, "*"):
            self.rename(transform, "table", "tables")
        for target in tree.select("targets", "*"):
            kind = target.mapping.get("type")
            if kind is None:
                continue
            if kind.value == "mariadb":
                kind.value = "mysql"
            port = target.mapping.get("port")
            if kind.value != "clickhouse" or port is None:
                continue
            http = CLICKHOUSE_PORTS.get(_number(port))
            if http is not None:
                self.notices.append(Notice(port.place, _port_notice(_number(port), http)))
                port.value = http


def _number(tree: Tree) -> int:
    text = str(tree.value)
    return int(text) if text.isdecimal() else 0


def _port_notice(native: int, http: int) -> str:
    return (
        f"{native} is ClickHouse's native protocol port; rows are written over HTTP, so {http} is "
        f"used; write port: {http} (or the server's http_port)"
    )
