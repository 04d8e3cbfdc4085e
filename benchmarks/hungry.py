"""Does an annotator ever wait? Images/s with models that cost nothing, over those of threads that only decode.

Part of `benchmarks/scale.py`. Pictures have the pixels, bytes and sampling of COCO's photographs (640 x 480, 166 kB); the
share at lighter ones (75 kB, which decode faster) stands beside it. Bare decoding is the very `pipeline.images.decode`
that the annotator calls. Nothing is resized in either: that belongs to the models.

- `hungry_share`, `hungry_share_by_cpu_time`: one `Annotator` in this process with two decode threads and two parts in
  work, as the runners have it, against two threads that decode the same bytes, in turns. The first is a median by the
  clock; the second the ratio of CPU seconds, least of the rounds on both sides, since other programs of the machine only
  ever add to them: what two idle cores would give.
- `hungry_share_ray`, `hungry_share_ray_by_cpu_time`: a build on Ray: readers, one annotator, committers, the driver and
  Ray's own processes share the two cores with the decoding. Between a commit behind which every pool is up and one
  before the pools run empty; `ray_start_s` is what came before. CPU seconds are those of all processes that the driver
  started, per image; `ray_cpu_ms` has them by kind of process. Nothing is taken off for Ray's own constant work:
  `ray_idle_cpu_share` is what each kind takes of a CPU where nothing is asked of Ray, `ray_idle_cpu_ms` the same per image.
- `..._decoding`: what the annotator's own decode threads did meanwhile. `cpu_ms` an image, and `share_of_cpu`: that over
  all CPU seconds of the same time, so neither the machine's speed nor its other programs move it. `in_hand`: the share
  of the time that a thread had an image to decode, whether or not it had a core. At 1.0 the annotator never waits, and
  only the cores are missing; `share_of_cpu` is then all that two cores that are shared with the other stages can give.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.null_models import (
    CAPTIONS,
    Decodings,
    FreeAnnotate,
    NullTeacher,
    light_photos,
    photos,
    settings_for,
    use_null_models,
)
from benchmarks.tree_cpu import TreeCpu
from pipeline import build as builds
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings

#: Commits on Ray before the clock starts (more, while a worker is starting) and after it stops.
BESIDE = 8


def hungry(folder: Path, quick: bool) -> dict[str, Any]:
    """One annotator against bare decoding, in turns."""
    use_null_models()
    n, rounds = (96, 3) if quick else (256, 10)
    decodings = Decodings()
    return {
        **shares(folder, photos(16), n, rounds, "hungry_share", decodings),
        **shares(folder, light_photos(16), n, rounds, "hungry_share_light", decodings),
    }


def shares(
    folder: Path, pictures: list[bytes], n: int, rounds: int, name: str, decodings: Decodings
) -> dict[str, Any]:
    """The two shares of one kind of picture, and what bare decoding gave."""
    from pipeline.rejects import Rejects
    from pipeline.stages.annotator import Annotator

    samples = _samples(pictures, n)
    annotator = Annotator(settings_for(folder), _vocabulary(), "0" * 16, decode_threads=2)
    parts = [samples[i : i + 32] for i in range(0, n, 32)]

    def annotate() -> None:
        with ThreadPoolExecutor(2) as pool:  # as the runners do: one part computes, another decodes or packs
            for part in pool.map(lambda part: annotator(part, Rejects("x")), parts):
                assert len(part) == 32

    annotate()
    before = decodings.so_far()
    rounds_of = [(_spent(annotate), _spent(lambda: _decode(samples))) for _ in range(rounds)]
    after, (ours_s, ours_cpu_s) = (
        decodings.so_far(),
        (sum(spent[0][i] for spent in rounds_of) for i in (0, 1)),
    )
    wall = statistics.median(bare[0] / ours[0] for ours, bare in rounds_of)
    ours_ms, bare_ms = (1000 / n * min(spent[i][1] for spent in rounds_of) for i in (0, 1))
    return {
        name: round(wall, 3),
        f"{name}_by_cpu_time": round(bare_ms / ours_ms, 3),
        f"{name}_cpu_ms": {"decode": round(bare_ms, 2), "rest": round(ours_ms - bare_ms, 2)},
        f"{name}_decoded_per_s": round(n / min(bare[0] for _, bare in rounds_of), 1),
        f"{name}_decoding": _decoding(before, after, ours_s, ours_cpu_s / rounds / n),
        f"{name}_kb": round(sum(map(len, pictures)) / len(pictures) / 1000),
    }


def hungry_on_ray(folder: Path, quick: bool) -> dict[str, Any]:
    """A build on Ray with models that cost nothing, while every pool is busy, against bare decoding."""
    import ray

    from jobs.on_ray.build import RayRunner

    n_parts, part = (28, 24) if quick else (80, 64)
    pictures = photos(16)
    settings = _coco_build(folder, pictures, n_parts * part, part)
    marks: dict[int, tuple[float, dict[tuple[int, int], float]]] = {}
    decoded: dict[int, dict[str, float]] = {}
    starting = [BESIDE]
    cpu = TreeCpu()

    class Clock(RayRunner):
        def call(self, settings: BuildSettings, function: Any, *arguments: Any) -> Any:
            return function(*arguments)

        def map(self, function: Any, items: Any, slow: bool = False) -> Iterator[Any]:
            return map(function, items)  # the plan and the tables, which are not measured

        def run(self, chain: Any, job: Any, parts: Any) -> Iterator[Any]:
            read, _, commit = chain
            marks[0] = time.perf_counter(), cpu.look()
            for i, payload in enumerate(super().run((read, FreeAnnotate, commit), job, parts), 1):
                if self._pipeline and any(pool.starting for pool in self._pipeline.pools):
                    starting.append(i + 1)  # what it still does until this part is none of the others' work
                if i == 1 or i % BESIDE == 0:  # a look takes 6 ms of the driver
                    marks[i] = time.perf_counter(), cpu.look()
                decoded[i] = {what: payload.seconds.pop(f"decodings {what}") for what in Decodings.WHAT}
                yield payload

    use_null_models()
    samples = _samples(pictures, 96)
    bare = [_spent(lambda: _decode(samples)) for _ in range(5)][1:]
    started = time.perf_counter()
    runner = Clock()
    connect_s = time.perf_counter() - started
    summary = builds.build(settings, runner)
    idle = idle_cpu(cpu, 2 if quick else 10)
    bare += [_spent(lambda: _decode(samples)) for _ in range(4)]  # on both sides: the machine's speed drifts
    bare_s, bare_cpu_s = (statistics.median(v) / len(samples) for v in zip(*bare, strict=True))
    ray.shutdown()
    end = max(i for i in marks if i <= n_parts - BESIDE)
    begin = min([i for i in marks if i >= starting[-1]] + [end - BESIDE])
    first, last, n = marks[begin], marks[end], (end - begin) * part
    took, spent = last[0] - first[0], cpu.between(first[1], last[1])
    return {
        "hungry_share_ray": round(bare_s / (took / n), 3),
        "hungry_share_ray_by_cpu_time": round(bare_cpu_s / (spent.total() / n), 3),
        "hungry_share_ray_decoding": _decoding(
            decoded[begin],
            decoded[end],
            decoded[end]["at"] - decoded[begin]["at"],
            spent.total() / n,
        ),
        "ray_cpu_ms": {
            "decode": round(1000 * bare_cpu_s, 2),
            "all": round(1000 * spent.total() / n, 2),
            **{kind: round(1000 * seconds / n, 2) for kind, seconds in spent.most_common()},
        },
        "ray_idle_cpu_share": {kind: round(share, 3) for kind, share in idle.most_common()},
        "ray_idle_cpu_ms": round(1000 * idle.total() * took / n, 2),
        "ray_start_s": {
            "connect": round(connect_s, 1),
            "to_first_commit": round(marks[1][0] - marks[0][0], 1),
        },
        "ray_parts": f"{end - begin} of {n_parts}, {part} images each",
        "ray_stages": summary["last_run"]["stages"],
    }


def idle_cpu(cpu: TreeCpu, seconds: float) -> Counter[str]:
    """CPU seconds per second, by kind of process, of a Ray that nothing is asked of."""
    before, started = cpu.look(), time.perf_counter()
    time.sleep(seconds)
    spent, took = cpu.between(before, cpu.look()), time.perf_counter() - started
    return Counter({kind: used / took for kind, used in spent.items()})


def _coco_build(folder: Path, pictures: list[bytes], n: int, part: int) -> BuildSettings:
    """Settings of a build of a COCO folder of n pictures, which this writes."""
    (folder / "images").mkdir()
    document: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(n):
        (folder / "images" / f"{i:05d}.jpg").write_bytes(pictures[i % len(pictures)] + i.to_bytes(4, "big"))
        document["images"].append({"id": i, "file_name": f"{i:05d}.jpg"})
        document["annotations"].append({"image_id": i, "caption": CAPTIONS[0]})
    captions = folder / "captions.json"
    captions.write_text(json.dumps(document))
    return settings_for(
        folder / "out",
        runtime="ray",
        source=SourceSettings(kind="coco", images=str(folder / "images"), captions=str(captions)),
        samples_per_shard=part,
        decode_threads=2,
    )


def _samples(pictures: list[bytes], n: int) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{i:024x}", "source_key": str(i), "source": "", "image": pictures[i % len(pictures)],
            "captions": ["a red ball"], "extra": "", "mentioned": [0],
            "spans": [{"concept_id": 0, "caption": 0, "start": 6, "end": 10}],
        }
        for i in range(n)
    ]  # fmt: skip


def _vocabulary() -> Any:
    from pipeline.dataset.concepts import Vocabulary

    names = [f"thing {i}" for i in range(100)]
    fields = {"names": names, "embeddings": NullTeacher().encode_text(names), "hash": "0" * 16}
    return Vocabulary(**{f.name: fields[f.name] for f in dataclasses.fields(Vocabulary)})


def _decode(samples: list[dict[str, Any]]) -> None:
    from pipeline.images import decode

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda s: decode(s["image"], 10**8), samples):
            pass


def _decoding(
    before: dict[str, float], after: dict[str, float], clock_s: float, cpu_s: float
) -> dict[str, float]:
    """What two threads decoded between two looks at `Decodings`. clock_s: that they had; cpu_s: of an image, all in all."""
    n, own_cpu_s, in_hand_s = (after[what] - before[what] for what in ("n", "cpu_s", "clock_s"))
    return {
        "cpu_ms": round(1000 * own_cpu_s / n, 2),
        "share_of_cpu": round(own_cpu_s / n / cpu_s, 3),
        "in_hand": round(in_hand_s / 2 / clock_s, 3),
    }


def _spent(work: Any) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of this process."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu
