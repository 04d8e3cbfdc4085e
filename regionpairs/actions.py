"""What the package does, as functions: each is thin around the room that does it, and imports it when it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.in_memory import Annotated
    from pipeline.settings import BuildSettings
    from training.settings import TrainSettings


def annotate(
    images: Sequence[str | PathLike[str] | bytes],
    captions: Sequence[str | Sequence[str]],
    settings: BuildSettings | None = None,
    concepts: Iterable[str] = (),
) -> Annotated:
    """Region-text pairs of images (paths, URLs or encoded bytes) and their captions, in memory.

    settings: none: those of `preset("photos")`, whose models come with the extra `photos`. The rest is
    `pipeline.in_memory.annotate`'s.
    """
    from pipeline.in_memory import annotate
    from pipeline.sources.settings import SourceSettings

    return annotate(images, captions, settings or preset("photos", source=SourceSettings()), concepts)


def build(settings: BuildSettings) -> dict[str, Any]:
    """Builds, or completes, the dataset at `settings.out` by the runner that `settings.runtime` names.

    Returns its summary. Raises Refused if the folder was made with something else, Incomplete if samples were lost or
    too many were rejected, ValueError for an input that cannot be used.
    """
    from jobs.build_pairs import runner
    from pipeline.build import build

    return build(settings, runner(settings))


def relabel(dataset: str, settings: BuildSettings) -> dict[str, Any]:
    """Writes the dataset with new labels to `settings.out`, without decoding an image; returns the new one's summary.

    settings: the dataset's own with another `out` and, as wished, other `align` and `pool` settings.
    """
    from jobs.build_pairs import runner
    from pipeline.relabel import relabel

    return relabel(dataset, settings, runner(settings))


def train(settings: TrainSettings) -> dict[str, Any]:
    """Trains a student on a dataset in this process; returns its summary. On a cluster: jobs/train_student.py."""
    if settings.run.runtime != "local":
        raise ValueError(
            f"run.runtime: '{settings.run.runtime}' is what jobs/train_student.py can do; here: local"
        )
    from training.train import train

    return train(settings)


def verify(dataset: str) -> list[str]:
    """One line for every fault found in a dataset, each of its bytes looked at; none if it is whole."""
    from pipeline.dataset.verify import verify

    return list(verify(dataset))


def open_dataset(url: str) -> Dataset:
    """A dataset's handle. Raises FileNotFoundError or ValueError, one line, where there is none to be read."""
    from pipeline.dataset import Dataset

    return Dataset.open(url)


def preset(name: str, **changes: Any) -> BuildSettings:
    """The settings of a build's configuration that comes with the project (`--config NAME`), or of a YAML file.

    changes: fields of BuildSettings that take the place of the configuration's.
    """
    import yaml

    from jobs.arguments import config_file
    from pipeline.settings import BuildSettings

    document = yaml.safe_load(Path(config_file(name)).read_text(encoding="utf-8"))
    return _settings_of(BuildSettings, {**document, **changes})


def _settings_of(settings_type: Any, document: dict[str, Any]) -> Any:
    """A settings dataclass, and those below it, from mappings. Raises ValueError for a key that it does not have."""
    hints = get_type_hints(settings_type)
    if unknown := sorted(document.keys() - hints.keys()):
        raise ValueError(f"{settings_type.__name__} has no {', '.join(unknown)}")
    return settings_type(
        **{
            key: _settings_of(hints[key], value)
            if dataclasses.is_dataclass(hints[key]) and isinstance(value, dict)
            else value
            for key, value in document.items()
        }
    )
