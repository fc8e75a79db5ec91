"""YAML as a tree in which every value knows its line: read here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from gravity.config.problem import Place, Problem

Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]
Step = str | int
Path = tuple[Step, ...]

NODES_MAX = 100_000
"""Values in one document; aliases that unfold beyond this are refused."""


_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_SYNTAX = re.compile(r"['\"](<[a-z ]+>|\\?[^\w\s])['\"]|'\\t'")
"""What a parser may quote: its own signs and names of tokens."""


def _if_syntax(match: re.Match[str]) -> str:
    """A quotation, left out if it could be text of the file."""
    return match[0] if _SYNTAX.fullmatch(match[0]) else "…"


@dataclass(slots=True)
class Tree:
    """A value of the document and the place where the user wrote it (for a mapping's value: its key)."""

    place: Place
    value: Scalar | list[Tree] | dict[str, Tree]
    from_environment: bool = False
    """The text came from outside the file; it may be a secret, so no message may show it."""

    def plain(self) -> Plain:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    @property
    def mapping(self) -> dict[str, Tree]:
        """The children by key; empty if this is not a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Tree]:
        """The children in order; empty if this is not a list."""
        return self.value if isinstance(self.value, list) else []

    def find(self, path: Path) -> Tree:
        """The deepest value along `path`; steps that lead nowhere are skipped."""
        here = self
        for step in path:
            children = here.value
            if isinstance(children, dict) and step in children:
                here = children[str(step)]
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                here = children[step]
        return here

    def select(self, *pattern: Step) -> Iterator[Tree]:
        """Every value whose path is `pattern`, where the step "*" stands for every child."""
        if not pattern:
            yield self
            return
        step, rest = pattern[0], pattern[1:]
        if step == "*":
            for child in [*self.items, *self.mapping.values()]:
                yield from child.select(*rest)
        elif isinstance(step, str) and step in self.mapping:
            yield from self.mapping[step].select(*rest)


@dataclass(slots=True)
class _Builder:
    """Turns ruamel's nodes into a `Tree` and collects what is wrong on the way."""

    file: str
    yaml: YAML
    problems: list[Problem] = field(default_factory=list)
    nodes_count: int = 0
    open_nodes: set[int] = field(default_factory=set)

    def place(self, node: YamlNode, key: str) -> Place:
        mark = node.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1, key)

    def build(self, node: YamlNode, place: Place) -> Tree:
        self.nodes_count += 1
        if id(node) in self.open_nodes:
            self.problems.append(Problem(place, "an alias may not contain itself"))
            return Tree(place, None)
        if self.nodes_count > NODES_MAX:
            if self.nodes_count == NODES_MAX + 1:
                self.problems.append(Problem(place, f"more than {NODES_MAX} values"))
            return Tree(place, None)
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return Tree(place, self.build_mapping(node, place.key))
            if isinstance(node, SequenceNode):
                return Tree(
                    place,
                    [
                        self.build(item, self.place(item, f"{place.key}[{index}]"))
                        for index, item in enumerate(node.value)
                    ],
                )
            return Tree(place, self.build_scalar(node, place))
        finally:
            self.open_nodes.discard(id(node))

    def build_mapping(self, node: MappingNode, prefix: str) -> dict[str, Tree]:
        children: dict[str, Tree] = {}
        inherited: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                place = self.place(key_node, prefix)
                self.problems.append(Problem(place, "a key must be plain text"))
                continue
            if key_node.tag == "tag:yaml.org,2002:merge":
                for key, child in self.build_merge(value_node, prefix).items():
                    inherited.setdefault(key, child)
                continue
            key = str(key_node.value)
            place = self.place(key_node, f"{prefix}.{key}" if prefix else key)
            if key in children:
                first = children[key].place.line
                self.problems.append(Problem(place, f"key given twice, first on line {first}"))
                continue
            children[key] = self.build(value_node, place)
        return inherited | children

    def build_merge(self, node: YamlNode, prefix: str) -> dict[str, Tree]:
        """The mappings that `<<` brings in; the first of a list wins."""
        merged: dict[str, Tree] = {}
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            built = self.build(source, self.place(source, prefix))
            if not isinstance(built.value, dict):
                self.problems.append(Problem(built.place, "<< must name a mapping"))
            for key, child in built.mapping.items():
                merged.setdefault(key, child)
        return merged

    def build_scalar(self, node: YamlNode, place: Place) -> Scalar:
        text = str(node.value)
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if kind not in {"null", "bool", "int", "float"}:
            return text
        try:
            value = self.yaml.constructor.construct_object(node)
        except (YAMLError, ValueError):
            self.problems.append(Problem(place, f"not a valid {kind}"))
            return None
        return value if isinstance(value, (bool, int, float)) else None


def read_tree(text: str, file: str) -> tuple[Tree, list[Problem]]:
    """Reads one YAML document: its tree (an empty mapping if unreadable) and what is wrong with it.

    Dates stay text. Keys given twice are problems.
    """
    yaml = YAML(typ="safe", pure=True)
    empty = Tree(Place(file, 1, 1, ""), {})
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        # Never str(error): it quotes the line, which may hold a password.
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = _QUOTED.sub(_if_syntax, str(error.problem or error.context or "unreadable"))
        if "'\\t'" in message:
            message += "; indent with spaces, not tabs"
        return empty, [Problem(Place(file, line, column, ""), f"not valid YAML: {message}")]
    except YAMLError as error:
        return empty, [Problem(Place(file, 0, 0, ""), f"not valid YAML: {type(error).__name__}")]
    if node is None:
        return empty, []
    builder = _Builder(file, yaml)
    tree = builder.build(node, builder.place(node, ""))
    if tree.value is None:
        tree = empty
    elif not isinstance(tree.value, dict):
        builder.problems.append(Problem(tree.place, "the document must be a mapping of keys"))
        tree = empty
    return tree, builder.problems
