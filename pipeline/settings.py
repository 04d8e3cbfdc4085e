"""Every setting of the build, with its default, written once; and the one place where they are validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from concept_pool.settings import PoolSettings
from pipeline.align import AlignSettings
from pipeline.localizers.settings import LocalizerSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings


@dataclass(frozen=True)
class BuildSettings:
    """From captioned images to verified shards of region-text pairs.

    Attributes:
        out: folder or URL of the dataset; the same command on it resumes
        runtime: ray (a cluster, or this machine) | local (this process, no Ray)
        samples_per_shard: input samples a part; a part becomes one shard
        reject_budget: largest share of samples that may be rejected, 0 to 1, before the job ends with exit code 1
        workers: annotators side by side; 0: one a GPU where teacher.device is cuda, else one a CPU core
        threads: torch threads an annotator; part of the result, since it changes the last bits of sums
        cpus_per_worker: CPUs that Ray reserves for an annotator (runtime: ray)
        gpus_per_worker: GPUs that Ray reserves for an annotator where teacher.device is cuda (runtime: ray)
        recheck: how a resumed build looks at committed shards: bytes (sha256 of every one) | size
    """

    out: str = "~/regionpairs/demo"
    runtime: Literal["ray", "local"] = "ray"
    source: SourceSettings = field(default_factory=SourceSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    localizer: LocalizerSettings = field(default_factory=LocalizerSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    samples_per_shard: int = 64
    reject_budget: float = 0.1
    workers: int = 0
    threads: int = 1
    cpus_per_worker: float = 0.75
    gpus_per_worker: float = 1.0
    recheck: Literal["bytes", "size"] = "bytes"


def validate(settings: BuildSettings) -> None:
    """Raises ValueError("key: what is wrong") for values that their types allow and that make no sense."""
    s = settings
    _require(bool(s.out), "out", "is empty")
    _require(s.samples_per_shard >= 1, "samples_per_shard", f"must be at least 1, is {s.samples_per_shard}")
    _require(0 <= s.reject_budget <= 1, "reject_budget", f"must be in [0, 1], is {s.reject_budget}")
    _require(s.workers >= 0, "workers", f"must not be negative, is {s.workers}")
    _require(s.threads >= 1, "threads", f"must be at least 1, is {s.threads}")
    _require(s.localizer.max_proposals >= 1, "localizer.max_proposals", "must be at least 1")
    _require(
        0 < s.localizer.nms_iou <= 1, "localizer.nms_iou", f"must be in (0, 1], is {s.localizer.nms_iou}"
    )
    _require(s.teacher.batch_images >= 1, "teacher.batch_images", "must be at least 1")
    _require(s.align.tau > 0, "align.tau", f"must be above 0, is {s.align.tau}")
    _require(0 <= s.align.threshold < 1, "align.threshold", f"must be in [0, 1), is {s.align.threshold}")
    _require(s.align.top_k >= 1, "align.top_k", f"must be at least 1, is {s.align.top_k}")
    _require(s.pool.min_count >= 1, "pool.min_count", f"must be at least 1, is {s.pool.min_count}")


def _require(holds: bool, key: str, message: str) -> None:
    if not holds:
        raise ValueError(f"{key}: {message}")
