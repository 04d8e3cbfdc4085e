"""The kinds of a room: ours by a table, users' own by entry points. A kind is one module with `load` and `describe`.

A package of a user's own offers a localizer, teacher or source so:

    [project.entry-points."regionpairs.localizers"]
    mine = "my_package.mine"          # a module with load(settings, device) and describe(settings)

and `--localizer.kind mine` finds it on every machine where that package is installed. Its name and version are part of
a dataset's fingerprint, beside what its own `describe` says.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType


@dataclass(frozen=True)
class Kinds:
    """The kinds that one setting may name.

    setting: the setting's name, for messages ("localizer.kind"). group: the entry points' group. ours: kind -> the
    dotted name of its module. A name of ours cannot be taken by an entry point.
    """

    setting: str
    group: str
    ours: Mapping[str, str]

    def check(self, kind: str) -> None:
        """Raises ValueError("SETTING: ...") that lists what there is, unless the kind is known. Imports no kind."""
        if kind not in self.ours:
            self._entry_point(kind)

    def module(self, kind: str) -> ModuleType:
        """The kind's module. Raises ValueError for an unknown kind, or for a module without `load` and `describe`."""
        if kind in self.ours:
            return importlib.import_module(self.ours[kind])
        point = self._entry_point(kind)
        found = point.load()
        if missing := [name for name in ("load", "describe") if not callable(getattr(found, name, None))]:
            raise ValueError(
                f"{self.setting}: '{kind}' is {point.value}, which has no {' and no '.join(missing)}"
            )
        return found

    def is_ours(self, kind: str) -> bool:
        """Whether the kind comes with this project."""
        return kind in self.ours

    def origin(self, kind: str) -> dict[str, str]:
        """Distribution and version of a user's kind, for the fingerprint; nothing for one of ours."""
        if kind in self.ours:
            return {}
        distribution = self._entry_point(kind).dist
        assert distribution is not None
        return {"distribution": distribution.name, "version": distribution.version}

    def _entry_point(self, kind: str) -> metadata.EntryPoint:
        """The one entry point of that name."""
        offered = metadata.entry_points(group=self.group)
        found = {(p.dist.name if p.dist else "", p.value): p for p in offered if p.name == kind}
        if not found:
            theirs = sorted({p.name for p in offered} - set(self.ours))
            more = f"; installed besides: {', '.join(theirs)}" if theirs else ""
            raise ValueError(f"{self.setting}: '{kind}' is not known ({', '.join(self.ours)}{more})")
        if len(found) > 1:
            both = ", ".join(sorted(name for name, _ in found))
            raise ValueError(f"{self.setting}: '{kind}' is offered by more than one package: {both}")
        return next(iter(found.values()))
