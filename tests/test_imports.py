"""Imports point one way: jobs -> the rooms -> records; Ray only at the edge."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "storage": set(),
    "world": set(),
    "concept_pool": {"storage"},
    "pipeline": {"storage", "world", "concept_pool"},
    "training": {"storage", "world", "pipeline", "concept_pool"},
    "evaluation": {"storage", "world", "pipeline", "concept_pool", "training"},
    "reports": {"storage", "world", "pipeline", "concept_pool", "evaluation"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below_them(room):
    forbidden = {"jobs", "tests", "benchmarks", "ray", *ROOMS} - ROOMS[room] - {room}
    found = {
        f"{p.relative_to(ROOT)}: {name}"
        for p in (ROOT / room).rglob("*.py")
        for name in imports(p) & forbidden
    }
    assert not found


def test_nothing_can_unpickle():
    """No pickle, no torch.load without weights_only, no numpy object arrays."""
    for path in (p for room in [*ROOMS, "jobs"] for p in (ROOT / room).rglob("*.py")):
        assert "pickle" not in imports(path), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "np.load",
                "numpy.load",
            ):
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                wanted = (
                    ("weights_only", "True")
                    if "torch" in ast.unparse(node.func)
                    else ("allow_pickle", "False")
                )
                assert options.get(wanted[0]) == wanted[1], f"{path}:{node.lineno}"
