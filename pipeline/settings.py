"""Every setting of a build, with its default, written once. Each class refuses its own bad values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from concept_pool.settings import PoolSettings
from pipeline.corpus.settings import CorpusSettings
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.filters import FilterSettings
from pipeline.localizers.settings import LocalizerSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings

POLICIES = ("pool", "caption", "blend", "corpus")
SCORES = ("probability", "objectness")
REGION_EMBEDDINGS = ("none", "fp16", "int8")


@dataclass(frozen=True)
class AlignSettings:
    """How regions are matched to concepts.

    Attributes:
        policy: pool (every concept competes) | caption (only those the image's captions name) | blend (a bonus for them) | corpus (a classifier with a background class, fitted to the whole dataset: jobs/refine_labels.py)
        tau: temperature of the softmax over cosines; each teacher has its own (CLIP: 0.01; photo: see --config photos)
        threshold: a region is kept if its score is above this (strictly)
        blend_bonus: logits added to the concepts that the image's captions name (policy: blend)
        top_k: concepts and probabilities stored a region; the rest is stored as one residual mass
        region_embeddings: none | fp16 | int8 (stored beside the labels, so that a dataset can be relabelled)
        pair_nms_iou: of kept regions of one image with the same label whose boxes overlap more than this, only the best-scored stays a pair; 0: all stay
        score: what a pair is kept and ranked by: probability (of its label; RegionCLIP's rule) | objectness (the probability times that of an object: p * sigmoid(scale * objectness + offset) ** weight)
        objectness_scale: factor of the raw objectness; 1 takes the localizer's own word for it (score: objectness)
        objectness_offset: added to the scaled objectness (score: objectness; benchmarks/pair_scores.py fits both)
        objectness_weight: exponent of the objectness (score: objectness)
        min_side_px: regions with a shorter side, in pixels of the upright image, are no pair; 0: any
        min_area: regions with a smaller share of the image are no pair; 0: any
        max_area: regions with a larger share of the image are no pair; 1: any
        max_aspect: regions whose longer side is more than this many shorter ones are no pair; 0: any
    """  # noqa: E501 - one line a key: it becomes --help

    policy: str = "blend"
    tau: float = 0.01
    threshold: float = 0.1
    blend_bonus: float = 3.0
    top_k: int = 16
    region_embeddings: str = "none"
    pair_nms_iou: float = 0.0
    score: str = "probability"
    objectness_scale: float = 1.0
    objectness_offset: float = 0.0
    objectness_weight: float = 1.0
    min_side_px: float = 0.0
    min_area: float = 0.0
    max_area: float = 1.0
    max_aspect: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"align.policy: must be one of {', '.join(POLICIES)}, not '{self.policy}'")
        if self.region_embeddings not in REGION_EMBEDDINGS:
            raise ValueError(
                f"align.region_embeddings: must be one of {', '.join(REGION_EMBEDDINGS)}, not '{self.region_embeddings}'"
            )
        if self.tau <= 0:
            raise ValueError(f"align.tau: must be above 0, is {self.tau}")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"align.threshold: must be in [0, 1), is {self.threshold}")
        if self.top_k < 1:
            raise ValueError(f"align.top_k: must be at least 1, is {self.top_k}")
        if not 0 <= self.pair_nms_iou <= 1:
            raise ValueError(f"align.pair_nms_iou: must be in [0, 1], is {self.pair_nms_iou}")
        if self.score not in SCORES:
            raise ValueError(f"align.score: must be one of {', '.join(SCORES)}, not '{self.score}'")
        for name in ("objectness_scale", "objectness_weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"align.{name}: must be above 0, is {getattr(self, name)}")
        if self.min_side_px < 0:
            raise ValueError(f"align.min_side_px: must be at least 0, is {self.min_side_px}")
        if not 0 <= self.min_area <= self.max_area <= 1:
            raise ValueError(
                f"align.min_area, align.max_area: must be 0 <= {self.min_area} <= {self.max_area} <= 1"
            )
        if self.max_aspect != 0 and self.max_aspect < 1:
            raise ValueError(f"align.max_aspect: must be 0 (any) or at least 1, is {self.max_aspect}")


@dataclass(frozen=True)
class BuildSettings:
    """From captioned images to verified shards of region-text pairs.

    Attributes:
        out: folder or URL of the dataset; the same command on it resumes
        runtime: ray (a cluster, or this machine) | local (this process, no Ray)
        samples_per_shard: input samples a part; a part becomes one shard
        reject_budget: largest share of samples that may be rejected, 0 to 1, before the job ends with exit code 1
        damage_budget: largest share of samples that damaged input files may cost, 0 to 1, before the job ends with exit code 1
        workers: annotators side by side; 0: one a GPU where teacher.device is cuda, else one a CPU core
        threads: torch threads an annotator; part of the result, since it changes the last bits of sums
        decode_threads: threads an annotator that decode images ahead of its models; 0: as many as the CPUs that it has for itself
        jpeg_on: where JPEGs are decoded: cpu | gpu (nvJPEG, where teacher.device is cuda; pixels differ by a few levels, so it is part of the result)
        cpus_per_worker: CPUs that Ray reserves for an annotator; 0: 0.75 without a GPU, else its GPUs' share of its node's CPUs but one (runtime: ray)
        gpus_per_worker: GPUs that Ray reserves for an annotator where teacher.device is cuda (runtime: ray); 0.25: four share one, which fast teachers need
        no_progress_s: seconds in which no part is done and no worker starts, after which a job on Ray ends and says what it waits for
        recheck: how a resumed build looks at committed shards: bytes (sha256 of every one) | size
        report: whether the job ends with a page about the dataset, <out>.report.html beside its folder (extra: report)
    """  # noqa: E501 - one line a key: it becomes --help

    out: str = "~/regionpairs/demo"
    runtime: Literal["ray", "local"] = "ray"
    source: SourceSettings = field(default_factory=SourceSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    filters: FilterSettings = field(default_factory=FilterSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    localizer: LocalizerSettings = field(default_factory=LocalizerSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    samples_per_shard: int = 64
    reject_budget: float = 0.1
    damage_budget: float = 0.01
    workers: int = 0
    threads: int = 1
    decode_threads: int = 0
    jpeg_on: Literal["cpu", "gpu"] = "cpu"
    cpus_per_worker: float = 0.0
    gpus_per_worker: float = 1.0
    no_progress_s: float = 1800.0
    recheck: Literal["bytes", "size"] = "bytes"
    report: bool = True

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("out: is empty")
        for key in ("samples_per_shard", "threads"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, is {getattr(self, key)}")
        if missing := sorted(c.name for c in self.filters.conditions if c.name not in self.source.extra):
            raise ValueError(f"filters.columns: {', '.join(missing)} must be named in source.extra too")
        if self.jpeg_on not in ("cpu", "gpu"):
            raise ValueError(f"jpeg_on: must be cpu or gpu, not '{self.jpeg_on}'")
        if self.jpeg_on == "gpu" and self.teacher.device == "cpu":
            raise ValueError("jpeg_on: gpu needs teacher.device cuda or auto, is cpu")
        for key in ("reject_budget", "damage_budget"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key}: must be in [0, 1], is {getattr(self, key)}")
        for key in ("workers", "decode_threads", "cpus_per_worker"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}: must not be negative, is {getattr(self, key)}")
        for key in ("gpus_per_worker", "no_progress_s"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key}: must be above 0, is {getattr(self, key)}")
