"""Names that refer to a source or target declared elsewhere in the document."""

from __future__ import annotations

from collections.abc import Iterator

from gravity.config.problem import Problem, nearest_name
from gravity.config.tree import Tree

TARGET_REFERENCES = (
    ("sources", "*", "semi-sync", "targets"),
    ("routing", "*", "targets"),
    ("routing", "*", "conditions", "*", "targets"),
    ("distribution-rules", "*", "targets"),
    ("routing", "*", "ranges", "*", "target"),
    ("routing", "*", "default"),
    ("routing-rules", "*", "targets"),
    ("routing-rules", "*", "ranges", "*", "target"),
    ("routing-rules", "*", "default"),
    ("failover", "primary"),
    ("failover", "backup"),
    ("conflict-resolution", "rules", "*", "target"),
    ("merge", "targets"),
)
SOURCE_REFERENCES = (
    ("routing", "*", "sources"),
    ("distribution-rules", "*", "sources"),
    ("routing-rules", "*", "sources"),
    ("conflict-resolution", "rules", "*", "sources"),
    ("targets", "*", "transforms", "*", "sources"),
)
OWNER = "owner:"
"""What stands before a source's name in a column rule of strategy `merge`."""


def check_names(tree: Tree) -> list[Problem]:
    """Problems of names that nothing declares, and of names declared or listed twice.

    A document that declares no targets at all is a fragment: every target it names becomes one
    without a type, put into `tree` here. A document without sources is not checked for theirs.
    """
    problems = [
        *_duplicates(list(tree.select("sources", "*")), "source"),
        *_duplicates(list(tree.select("targets", "*")), "target"),
        *_duplicates(list(tree.select("routing-rules", "*")), "rule"),
    ]
    references = [name for path in TARGET_REFERENCES for name in _names(tree, path)]
    declared = _declared(tree, "targets")
    if declared:
        problems += _unknown(references, declared, "target")
    elif references:
        _imply_targets(tree, references)
    if sources := _declared(tree, "sources"):
        problems += _unknown(_source_references(tree), sources, "source")
    return problems


def _names(tree: Tree, path: tuple[str, ...]) -> Iterator[Tree]:
    """The names at `path`: one text, or a list of texts or of `{target: name}`."""
    for found in tree.select(*path):
        for item in found.items or [found]:
            name = item.mapping.get("target", item)
            if isinstance(name.value, str):
                yield name


def _source_references(tree: Tree) -> list[Tree]:
    references = [name for path in SOURCE_REFERENCES for name in _names(tree, path)]
    for ranking in tree.select("conflict-resolution", "source-priorities"):
        references += [Tree(child.place, name) for name, child in ranking.mapping.items()]
    for rule in tree.select("conflict-resolution", "rules", "*", "columns", "*"):
        if isinstance(rule.value, str) and rule.value.startswith(OWNER):
            references.append(Tree(rule.place, rule.value.removeprefix(OWNER)))
    return references


def _declared(tree: Tree, key: str) -> list[str]:
    names = [part.mapping.get("name") for part in tree.select(key, "*")]
    return [name.value for name in names if name is not None and isinstance(name.value, str)]


def _unknown(references: list[Tree], declared: list[str], noun: str) -> Iterator[Problem]:
    for name in references:
        if name.value in declared:
            continue
        text = str(name.value)
        shown = "of that name" if name.from_environment else f"called {text}"
        yield Problem(name.place, f"no {noun} {shown} is declared", nearest_name(text, declared))


def _imply_targets(tree: Tree, references: list[Tree]) -> None:
    targets = tree.mapping.setdefault("targets", Tree(tree.place, []))
    if not isinstance(targets.value, list):
        return
    seen: set[object] = set()
    for name in references:
        if name.value not in seen:
            seen.add(name.value)
            targets.value.append(Tree(name.place, {"name": name}))


def _duplicates(parts: list[Tree], noun: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for part in parts:
        name = part.mapping.get("name")
        if name is None or not isinstance(name.value, str):
            continue
        if name.value in first:
            line = first[name.value]
            yield Problem(name.place, f"{noun} name used twice, first on line {line}")
        else:
            first[name.value] = name.place.line
