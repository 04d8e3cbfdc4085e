"""The known-truth world as a source: scenes are drawn on demand from (seed, index), no files needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.sources import index_row
from pipeline.sources.settings import SourceSettings
from world import scenes


class ShapesSource:
    """`source.count` synthetic scenes. Truth stays behind: only pixels and captions leave this room."""

    def __init__(self, settings: SourceSettings):
        self._settings = settings

    def listing(self) -> dict[str, Any]:
        s = self._settings
        return {"count": s.count, "seed": s.seed, "size": s.size}

    def index(self) -> Iterator[dict[str, Any]]:
        s = self._settings
        for i in range(s.count):
            yield index_row(f"shapes-{s.seed}-{i:08d}", "shapes", scenes.captions(s.seed, i), row=i)

    def read(self, row: dict[str, Any]) -> bytes:
        s = self._settings
        return scenes.encode_png(scenes.draw_scene(s.seed, row["row"], s.size).image)
