"""Region-text pairs from captioned images: the names that a program of one's own needs.

Nothing is imported before it is used, so `import regionpairs` costs nothing. `docs/quickstart.md` has a program of 15
lines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concept_pool.pool import ConceptPool
    from concept_pool.settings import PoolSettings
    from pipeline.build import Incomplete, Refused
    from pipeline.dataset import Dataset, Sample
    from pipeline.localizers import Localizer, Proposals
    from pipeline.localizers.settings import LocalizerSettings
    from pipeline.settings import AlignSettings, BuildSettings
    from pipeline.sources import Source
    from pipeline.sources.settings import SourceSettings
    from pipeline.teachers import Teacher
    from pipeline.teachers.settings import TeacherSettings
    from regionpairs.actions import annotate, build, open_dataset, preset, relabel, train, verify
    from training.settings import TrainSettings

    __version__: str

#: Where each public name is.
_PLACES = {
    "annotate": "regionpairs.actions",
    "build": "regionpairs.actions",
    "open_dataset": "regionpairs.actions",
    "preset": "regionpairs.actions",
    "relabel": "regionpairs.actions",
    "train": "regionpairs.actions",
    "verify": "regionpairs.actions",
    "Dataset": "pipeline.dataset",
    "Sample": "pipeline.dataset",
    "ConceptPool": "concept_pool.pool",
    "BuildSettings": "pipeline.settings",
    "SourceSettings": "pipeline.sources.settings",
    "PoolSettings": "concept_pool.settings",
    "LocalizerSettings": "pipeline.localizers.settings",
    "TeacherSettings": "pipeline.teachers.settings",
    "AlignSettings": "pipeline.settings",
    "TrainSettings": "training.settings",
    "Source": "pipeline.sources",
    "Localizer": "pipeline.localizers",
    "Proposals": "pipeline.localizers",
    "Teacher": "pipeline.teachers",
    "Incomplete": "pipeline.build",
    "Refused": "pipeline.build",
}

__all__ = [
    "AlignSettings",
    "BuildSettings",
    "ConceptPool",
    "Dataset",
    "Incomplete",
    "Localizer",
    "LocalizerSettings",
    "PoolSettings",
    "Proposals",
    "Refused",
    "Sample",
    "Source",
    "SourceSettings",
    "Teacher",
    "TeacherSettings",
    "TrainSettings",
    "__version__",
    "annotate",
    "build",
    "open_dataset",
    "preset",
    "relabel",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("regionpairs")
    if name not in _PLACES:
        raise AttributeError(f"module 'regionpairs' has no attribute '{name}'")
    found = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
