"""The import graph of the project, read from its source: what every file imports, wherever in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "storage", "world", "concept_pool", "pipeline", "training", "evaluation", "reports", "exports", "jobs",
    "regionpairs",
)  # fmt: skip


def files(folders: tuple[str, ...] = ROOMS) -> dict[str, Path]:
    """Dotted module name -> file, of every room, or of these folders."""
    found = {}
    for room in folders:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, types_too: bool = True) -> Iterator[str]:
    """Dotted names that a source text imports, inside functions too: `a.b` for `import a.b`, `a.b.c` for
    `from a.b import c`. types_too: also what only type checkers see (`if TYPE_CHECKING:`)."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if not types_too and id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(sources: dict[str, str], types_too: bool = True) -> dict[str, set[str]]:
    """Module -> the modules among `sources` that it imports. `from a import b` is `a.b` where that is a module of its
    own, else `a`."""
    found: dict[str, set[str]] = {}
    for module, text in sources.items():
        found[module] = set()
        for name in imported(text, types_too):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name and name != module:
                found[module].add(name)
    return found


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a loop (strongly connected components), sorted (Tarjan, 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return sorted(found)
