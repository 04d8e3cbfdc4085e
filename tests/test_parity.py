"""The marks `@pytest.mark.parity(N)` of the tests against the numbered list of docs/parity.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Held by a benchmark or not run at all, as their lines say.
NO_TEST = frozenset({49, 50, 56, 57})


def listed() -> list[int]:
    """The items of the list, in its order."""
    found: list[int] = []
    for line in (ROOT / "docs" / "parity.md").read_text().splitlines():
        if row := re.match(r"\| (\d+)(?:-(\d+))? \|", line):
            found += range(int(row[1]), int(row[2] or row[1]) + 1)
    return found


def marked() -> dict[int, set[str]]:
    """Item -> the test files, relative to tests/, with a test that is marked with it."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.parity":
                    for item in mark.args:
                        found[ast.literal_eval(item)].add(str(path.relative_to(ROOT / "tests")))
    return found


def test_every_item_of_the_list_has_a_marked_test_and_every_mark_an_item():
    items, tests = listed(), marked()
    assert items == list(range(1, 59))
    assert set(items) - set(tests) == NO_TEST
    assert set(tests) <= set(items)


def test_no_item_is_named_in_a_comment_alone():
    comment = re.compile(r"# parity \d")
    assert not [
        p for p in (ROOT / "tests").rglob("*.py") if comment.search(p.read_text()) and p != Path(__file__)
    ]
