"""The corpus pass over a dataset: fits the classifier that label policy `corpus` labels with (pipeline/corpus/).

Three steps, each of which leaves files that say how far it has come, so that the same command goes on after a kill:
what the pass needs of each part goes to `corpus/<part>.safetensors`, the fit's state after each round to
`corpus/state.safetensors`, and the fitted classifier to `concept_pool/classifier.safetensors`. Then the first two go.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

import storage
from pipeline.corpus import classifier as classifiers
from pipeline.corpus import files, maximisation
from pipeline.corpus import fit as fitting
from pipeline.corpus.classifier import Classifier
from pipeline.corpus.expectation import Statistics, statistics
from pipeline.corpus.regions import ShardRegions, of_images
from pipeline.corpus.settings import CorpusSettings
from pipeline.dataset import concepts
from pipeline.dataset.layout import Layout
from pipeline.dataset.npz import read_npz
from pipeline.dataset.plan import Part, Parts
from pipeline.progress import Incomplete
from pipeline.runner import Runner
from pipeline.scores import objectness_of
from pipeline.stages.chain import Job, Payload, advance
from pipeline.stages.relabel import Relabel

log = logging.getLogger("regionpairs")

#: Kinds of files (pipeline/corpus/files.py).
REGIONS, STATE = "corpus pass's regions", "corpus pass's state"

T = TypeVar("T")


def fit_corpus(job: Job, stages: Sequence[Any], parts: Parts, runner: Runner) -> None:
    """Sees to it that `job`'s dataset holds a fitted classifier; leaves one alone that is there for the same settings.

    stages: those of the relabelling; what stands before `Relabel` decides what the fit sees. Raises Incomplete for a part
    that cannot be read.
    """
    layout, settings = job.layout, job.settings
    wanted = job.identity["fingerprint"]
    if _found(layout.classifier, classifiers.from_bytes, wanted) is not None:
        _clear(layout, parts)
        return
    started = time.perf_counter()
    before = tuple(stages[: list(stages).index(Relabel)])
    names = [n for n in runner.map(partial(_extract, job, before), list(parts)) if n]
    read_s = time.perf_counter() - started
    text = concepts.load_embeddings(layout).numpy()

    def after_round(state: fitting.State) -> None:
        log.info("corpus pass, round %d: %s", len(state.rounds), _said(state.rounds[-1]))
        storage.write_bytes(layout.corpus_state, state_to_bytes(state, wanted))

    state = fitting.fit(
        len(names),
        partial(_look, runner, layout, names),
        text,
        settings.align.tau,
        objectness_of(settings.align),
        settings.corpus,
        _found(layout.corpus_state, state_from_bytes, wanted),
        after_round,
    )
    report = fitting.report(state, settings.corpus) | {
        "seconds": {"extract": round(read_s, 2), "fit": round(time.perf_counter() - started - read_s, 2)}
    }
    if report["alarm"]:
        log.warning("corpus pass: %s", report["alarm"])
    storage.write_bytes(layout.corpus_report, json.dumps(report, indent=1).encode())
    storage.write_bytes(layout.classifier, classifiers.to_bytes(state.classifier, wanted))
    _clear(layout, parts)


def _said(found: fitting.Round) -> str:
    return f"loss {found.loss:.3f}, background {found.background:.0%}, agreement {found.agreement:.3f}"


def _clear(layout: Layout, parts: Parts) -> None:
    """Removes what only the pass needed."""
    there = storage.listing(layout.file("corpus"))
    for url in (*(layout.regions(name) for name in parts.names), layout.corpus_state):
        if url.rsplit("/", 1)[-1] in there:
            storage.remove(url)


def _extract(job: Job, stages: Sequence[Any], part: Part) -> str:
    """Writes what the pass needs of a part; its name, or "" where it holds no region."""
    url = job.layout.regions(part.name)
    wanted = job.identity["fingerprint"]
    regions = _found(url, regions_from_bytes, wanted)
    if regions is None:
        payload = Payload.start(part)
        for stage in stages:
            payload = advance(stage(job), payload)
        if payload.error:
            error = Incomplete(f"part {part.name}: {payload.error}")
            error.advice = payload.advice
            raise error
        regions = _regions(payload)
        storage.write_bytes(url, regions_to_bytes(regions, wanted))
    return part.name if len(regions.objectness) else ""


def _regions(payload: Payload) -> ShardRegions:
    rows = payload.table.select(["arrays", "mentioned"]).to_pylist()
    arrays = [read_npz(row["arrays"]) for row in rows]
    scales = [a["region_scales"] for a in arrays] if arrays and "region_scales" in arrays[0] else None
    return of_images(
        [a["region_embeddings"] for a in arrays],
        [a["objectness"] for a in arrays],
        [row["mentioned"] for row in rows],
        scales,
    )


@dataclass(frozen=True)
class _Look:
    """The E-step of a shard, wherever it runs."""

    layout: Layout
    classifier: Classifier
    text: np.ndarray
    fade: float
    settings: CorpusSettings

    def __call__(self, name: str) -> Statistics:
        shard = regions_from_bytes(storage.read_bytes(self.layout.regions(name)))
        return statistics(shard, self.classifier, self.text, self.fade, self.settings)


def _look(
    runner: Runner,
    layout: Layout,
    names: Sequence[str],
    shards: Sequence[int],
    classifier: Classifier,
    text: np.ndarray,
    fade: float,
    settings: CorpusSettings,
) -> list[Statistics]:
    """`fit.Look` by the runner."""
    return list(runner.map(_Look(layout, classifier, text, fade, settings), [names[i] for i in shards]))


def regions_to_bytes(regions: ShardRegions, made_for: str) -> bytes:
    """A file of tensors (pipeline/corpus/files.py)."""
    tensors = {
        "embeddings": regions.embeddings,
        "objectness": regions.objectness.astype(np.float32),
        "offsets": regions.offsets.astype(np.int64),
        "mention_counts": np.array([len(ids) for ids in regions.mentioned], np.int64),
        "mentions": np.array([c for ids in regions.mentioned for c in ids], np.int64),
    }
    if regions.scales is not None:
        tensors["scales"] = regions.scales.astype(np.float32)
    return files.to_bytes(tensors, REGIONS, made_for)


def regions_from_bytes(data: bytes, made_for: str | None = None) -> ShardRegions:
    """What `regions_to_bytes` wrote. Raises ValueError for anything else."""
    t = files.from_bytes(data, REGIONS, made_for)
    starts = np.cumsum(t["mention_counts"])[:-1]
    mentioned = [ids.tolist() for ids in np.split(t["mentions"], starts)] if len(t["mention_counts"]) else []
    return ShardRegions(t["embeddings"], t["objectness"], t["offsets"], mentioned, t.get("scales"))


def state_to_bytes(state: fitting.State, made_for: str) -> bytes:
    """A file of tensors."""
    tensors = {f"moments.{name}": getattr(state.moments, name) for name in ("first", "second", "steps")}
    tensors["classifier"] = np.frombuffer(classifiers.to_bytes(state.classifier), np.uint8)
    tensors["rounds"] = np.array([[r.loss, r.background, r.agreement] for r in state.rounds], np.float64)
    return files.to_bytes(tensors, STATE, made_for)


def state_from_bytes(data: bytes, made_for: str | None = None) -> fitting.State:
    """What `state_to_bytes` wrote. Raises ValueError for anything else."""
    t = files.from_bytes(data, STATE, made_for)
    moments = maximisation.Moments(*(t[f"moments.{name}"] for name in ("first", "second", "steps")))
    rounds = [fitting.Round(*row) for row in t["rounds"].tolist()]
    return fitting.State(classifiers.from_bytes(t["classifier"].tobytes()), moments, rounds)


def _found(url: str, read: Callable[[bytes, str], T], made_for: str) -> T | None:
    """What a file holds, if it is there, whole, and made for this."""
    try:
        return read(storage.read_bytes(url), made_for)
    except (FileNotFoundError, ValueError):
        return None
