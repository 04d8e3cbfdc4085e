"""WebDataset tars as img2dataset writes them: an image, a `.txt` and/or a `.json` caption a sample."""

from __future__ import annotations

import math
import statistics
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, Any

import storage
from concept_pool.captions import captions_of_members
from pipeline.sources import InputChanged, Unit, index_row
from pipeline.sources.extra import extra_of_json
from pipeline.sources.files import Files, files_identity
from pipeline.sources.settings import SourceSettings
from pipeline.sources.tar_bytes import Compressed, PlainBytes, open_tar
from pipeline.sources.tar_members import BLOCK, Damage
from pipeline.sources.tar_samples import Contents, Sample, read_contents

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Bytes of a sample where no tar tells: about what img2dataset's default of 256 pixels makes.
USUAL_SAMPLE = 32 << 10
#: Part of a sample by which damage may exceed whole samples before it counts as one more.
_SLACK = 0.25


class WebDatasetSource:
    """Samples of local or remote tars, in the order of the tars and of their first members.

    The index pass reads tar headers and captions and remembers where each image lies, so `read` is one range request. A
    sample that damage has torn becomes a row `damaged_tar`; damage that no sample's row stands for gets a row of its own,
    with the number of samples that it must have cost (`n_samples`, by bytes). A compressed tar is read too; its images
    are found by unpacking it again (`row` is 0 then, and `offset` counts unpacked bytes).
    """

    unique_keys = True
    has_images = True

    def __init__(self, settings: SourceSettings):
        self._files = Files(settings.url_list(), SUFFIXES, "urls")
        self._column = settings.columns.caption
        self._extra = settings.extra
        self._unpacked = _Unpacked()
        self._units: list[Unit] | None = None
        self.root = self._files.root

    def units(self) -> list[Unit]:
        self._units = self._files.units()
        return self._units

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        contents, compressed = self._contents(unit)
        if contents.damage:  # a failure to read is none of the tar's; only what happens twice is damage
            again, _ = self._contents(unit)
            if again != contents:
                raise OSError(f"{unit.location} gave other bytes when it was read again")
        torn = _torn(contents)
        rows = [self._row(s, unit.location, compressed, torn.get(s.key, "")) for s in contents.samples]
        self._count_damage(contents, unit, rows)
        yield from rows

    def _contents(self, unit: Unit) -> tuple[Contents, bool]:
        file, data = open_tar(self._files.unchanged(unit))
        with file:
            contents = read_contents(data)
        if isinstance(data, Compressed) and data.damage and contents.damage:
            last = contents.damage[-1]
            contents.damage[-1] = Damage(last.start, last.stop, f"{last.detail}; {data.damage}")
        return contents, isinstance(data, Compressed)

    def _row(self, sample: Sample, location: str, compressed: bool, torn: str) -> dict[str, Any]:
        captions, readable = captions_of_members(sample.text, sample.document, self._column)
        problem = ""
        if sample.image is None or not captions:
            problem = torn or sample.problem
        if not problem and sample.image is None:
            problem = f"no_image: its members are {', '.join(f'.{e}' for e in sample.extensions[:8])}"
        elif not problem and not captions:
            if not readable:
                problem = "bad_json"
            elif sample.text is None and sample.document is None:
                problem = f"no_caption: its members are {', '.join(f'.{e}' for e in sample.extensions[:8])}"
        return index_row(
            f"{location}/{sample.key}",
            location,
            captions or [sample.text or b""],
            offset=sample.image.offset if sample.image else -1,
            n_bytes=sample.image.size if sample.image else -1,
            row=0 if compressed else -1,
            problem=problem,
            extra=extra_of_json(sample.document, self._extra),
        )

    def _count_damage(self, contents: Contents, unit: Unit, rows: list[dict[str, Any]]) -> None:
        """Says of all damage how many samples it cost: in the row of the sample that it tore, or in a new one."""
        lost_bytes = sum(d.stop - d.start for d in contents.damage if d.stop >= 0)
        held = len(contents.samples)
        sample_bytes = max(BLOCK, (contents.end - lost_bytes) / held) if held else 0.0
        told = {r["source_key"]: r for r in rows if r["problem"].startswith("damaged_tar")}
        for damage, keys in zip(contents.damage, contents.beside, strict=True):
            torn = [told[k] for key in keys if (k := f"{unit.location}/{key}") in told]
            stop = damage.stop if damage.stop >= 0 else self._probable_end(unit)
            n_bytes = max(0, stop - damage.start)
            lost = math.ceil(n_bytes / (sample_bytes or self._usual_sample(unit)) - _SLACK)
            if torn:
                torn[-1]["n_samples"] += max(0, lost - len(torn))
            else:
                key = f"{unit.location}:{damage.start}"
                problem = f"damaged_tar: {damage.detail}"
                rows.append(index_row(key, unit.location, [], problem=problem, n_samples=max(1, lost)))

    def _probable_end(self, unit: Unit) -> int:
        """Where a tar would end that ends in damage: where the file does, or as far as its neighbours go."""
        sizes = [
            u.n_bytes for u in self._units or self.units() if u.n_bytes >= 0 and u.location != unit.location
        ]
        return max(unit.n_bytes, int(statistics.median(sizes)) if sizes else 0)

    def _usual_sample(self, unit: Unit) -> float:
        """Bytes of a sample by the nearest tar that can be read."""
        units = self._units or self.units()
        here = next((i for i, u in enumerate(units) if u.location == unit.location), 0)
        for neighbour in sorted(units, key=lambda u: abs(units.index(u) - here))[1:3]:
            contents, _ = self._contents(neighbour)
            whole = sum(s.image is not None for s in contents.samples)
            if whole and not contents.damage:
                return contents.end / whole
        return USUAL_SAMPLE

    def read(self, row: dict[str, Any]) -> bytes:
        if row["n_bytes"] <= 0:  # an empty range would ask a store for the whole file
            return b""
        start, n = row["offset"], row["n_bytes"]
        url = self._files.url(row["location"])
        data = (
            self._unpacked.at(url, start, n) if row["row"] == 0 else storage.read_bytes(url, start, start + n)
        )
        if len(data) != n:
            raise InputChanged(
                f"{row['location']} holds {len(data)} of {n} bytes at byte {start}: it was changed"
            )
        return data

    def check(self) -> None:
        self._files.check()

    def identity(self) -> dict[str, Any]:
        return files_identity(self._units or self.units())


def _torn(contents: Contents) -> dict[str, str]:
    """Key -> problem of the samples beside damage that lack their image or their captions."""
    torn = {}
    incomplete = {
        s.key for s in contents.samples if s.image is None or (s.text is None and s.document is None)
    }
    for damage, keys in zip(contents.damage, contents.beside, strict=True):
        torn.update({key: f"damaged_tar: {damage.detail}" for key in keys if key in incomplete})
    return torn


class _Unpacked:
    """Bytes of compressed tars; the last few stay open, since samples are read in order."""

    def __init__(self, max_open: int = 2):
        self._open: OrderedDict[str, tuple[IO[bytes], PlainBytes | Compressed]] = OrderedDict()
        self._max_open = max_open
        self._lock = threading.Lock()

    def at(self, url: str, start: int, n: int) -> bytes:
        with self._lock:
            if url not in self._open:
                self._open[url] = open_tar(url)
                if len(self._open) > self._max_open:
                    self._open.popitem(last=False)[1][0].close()
            self._open.move_to_end(url)
            return self._open[url][1].at(start, n)


def load(settings: SourceSettings) -> WebDatasetSource:
    return WebDatasetSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"caption_column": settings.columns.caption, "extra": settings.extra}
