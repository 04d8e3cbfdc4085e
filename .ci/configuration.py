"""Writes docs/reference/configuration.md (`make configuration`): every key of the settings, its default and its help line.

Only standard and light modules are imported; tests/test_docs.py compares the page with what this makes.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
import typing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "configuration.md"
#: Command, module and class of its settings.
JOBS = (
    ("build", "pipeline.settings", "BuildSettings"),
    ("pool build", "jobs.build_concept_pool", "ConceptPoolJob"),
    ("train", "training.settings", "TrainSettings"),
    ("train-localizer", "training.localizers.settings", "LocalizerTrainingSettings"),
    ("evaluate", "evaluation.settings", "EvaluateSettings"),
)
HEAD = """\
# Configuration

Every key of every job, made from the settings classes by `make configuration`. A key is `--KEY VALUE` on the command
line and `KEY: VALUE` (nested where it has dots) in a `--config` file; later ones win. `relabel` and `refine` take the
keys of `build`.
"""


def helps(settings: type) -> dict[str, str]:
    """Key -> its line of the class' `Attributes:` section."""
    section = (settings.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        text = line.strip()
        head = re.match(r"(\w+): (.+)", text)
        if head and len(line) - len(line.lstrip()) <= 8:
            name = head[1]
            found[name] = head[2]
        elif text and name:
            found[name] += f" {text}"
    return found


def rows(settings: type, prefix: str = "") -> typing.Iterator[tuple[str, str, str, type]]:
    """(key, default, help, class that has it), nested classes behind the plain keys of their owner."""
    hints = typing.get_type_hints(settings)
    said = helps(settings)
    nested = []
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            nested.append(field.name)
            continue
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "(must be given)" if default is dataclasses.MISSING else f"`{plain(default)}`"
        yield (
            f"{prefix}{field.name}",
            shown if shown != "``" else "(empty)",
            said.get(field.name, ""),
            settings,
        )
    for name in nested:
        yield from rows(hints[name], f"{prefix}{name}.")


def plain(value: Any) -> str:
    """A default as YAML would have it, strings without quotes."""
    return value if isinstance(value, str) else json.dumps(list(value) if isinstance(value, tuple) else value)


def escaped(text: str) -> str:
    """Text that a Markdown table takes as it is."""
    return re.sub(r"([|<>*_\[\]\\])", r"\\\1", text)


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    written: set[type] = set()
    for command, module, name in JOBS:
        settings = getattr(importlib.import_module(module), name)
        parts.append(f"\n## regionpairs {command}\n")
        last: type | None = None
        told: set[type] = set()
        for key, default, text, owner in rows(settings):
            if owner in written:
                if owner not in told:
                    told.add(owner)
                    parts.append(f"\nKeys `{key.rpartition('.')[0]}.*`: as above ({owner.__name__}).\n")
                last = None
                continue
            if owner is not last:
                parts.append(f"\n### {command}: {owner.__name__}\n\n| key | default | |\n|---|---|---|\n")
                last = owner
            parts.append(f"| `{key}` | {default} | {escaped(text)} |\n")
        written |= {owner for *_, owner in rows(settings)}
    return "".join(parts)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
