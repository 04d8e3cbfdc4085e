"""What tests break in a dataset, and what reads it then."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.align import AlignSettings
from pipeline.block_list import BlockList
from pipeline.merge import merge
from pipeline.relabel import relabel
from pipeline.remove import remove
from pipeline.run_local import LocalRunner

ALIGN = AlignSettings(policy="blend", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")
OF_THE_PLAN = ("plan/plan.json", "plan/units.parquet", "plan/parts.parquet", "plan/index/000000.parquet")
ITS_MAKER, REPAIR = "the command that made {} mends it", "`regionpairs verify {} --repair`"
RECORDS = ("plan/counts/000000.parquet", "plan/units/000000.json")


def elsewhere(settings, name: str):
    return dataclasses.replace(settings, out=str(Path(settings.out).parent / name))


def derivations(settings):
    """What makes a dataset out of another: name -> a function of no argument."""
    out, runner = settings.out, LocalRunner()
    none = BlockList(frozenset({"of-nobody"}))
    return {
        "relabelled": lambda: relabel(out, elsewhere(settings, "relabelled"), runner),
        "labels": lambda: relabel(out, elsewhere(settings, "labels"), runner, labels_only=True),
        "removed": lambda: remove(out, elsewhere(settings, "removed"), none, runner),
        "merged": lambda: merge(out, [out], elsewhere(settings, "merged"), runner),
    }


def commands(out: str) -> dict[str, list[str]]:
    """What reads a dataset and takes no more than it: name -> arguments of the command line."""
    key = pq.read_table(Path(out, "index", shard_of(out).with_suffix(".parquet").name))["key"][0].as_py()
    beside = str(Path(out).parent)
    return {
        "stats": ["stats", out],
        "show": ["show", out, key],
        "view": ["view", out, "--out", f"{beside}/x.png"],
        "report": ["report", out, "--out", f"{beside}/x.html"],
        "export": ["export", out, "--format", "coco", "--out", f"{beside}/x.json"],
    }


def shard_of(out: str) -> Path:
    return min(Path(out, "shards").glob("*.tar"))


def put(other: Path, out: str, names: tuple[str, ...]) -> None:
    """Files or folders of another dataset in the place of a dataset's own."""
    for name in names:
        if Path(other, name).is_dir():
            shutil.rmtree(Path(out, name))
            shutil.copytree(other / name, Path(out, name))
        else:
            shutil.copyfile(other / name, Path(out, name))


def contents(out: str) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(out).rglob("*") if p.is_file() and ".claim" not in p.name}


def lose(out: str, names: tuple[str, ...]) -> None:
    for name in names:
        Path(out, name).unlink()
