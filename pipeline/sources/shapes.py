"""The known-truth world as a source: scenes are drawn on demand from (seed, index), no files needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.sources import Unit, index_row
from pipeline.sources.settings import SourceSettings
from world import scenes

UNIT_SCENES = 4096


class ShapesSource:
    """`source.count` synthetic scenes. Truth stays behind: only pixels and captions leave this module."""

    root = ""
    unique_keys = True
    has_images = True

    def __init__(self, settings: SourceSettings):
        self._settings = settings

    def units(self) -> list[Unit]:
        n = self._settings.count
        return [Unit("", -1, "", i, min(i + UNIT_SCENES, n)) for i in range(0, n, UNIT_SCENES)]

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        s = self._settings
        for i in range(unit.start, unit.stop):
            yield index_row(f"shapes-{s.seed}-{i:08d}", "shapes", scenes.captions(s.seed, i), row=i)

    def read(self, row: dict[str, Any]) -> bytes:
        s = self._settings
        return scenes.encode_png(scenes.draw_scene(s.seed, row["row"], s.size).image)

    def check(self) -> None:
        """There is nothing that could be out of reach."""

    def identity(self) -> dict[str, Any]:
        return {}


def load(settings: SourceSettings) -> ShapesSource:
    return ShapesSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"count": settings.count, "seed": settings.seed, "size": settings.size}
