"""Every setting of the trainer, with its default, written once. Each class refuses values of its own that make no sense."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

import storage
from pipeline.teachers.settings import TeacherSettings


@dataclass(frozen=True)
class MixSettings:
    """One dataset of several.

    Attributes:
        path: folder or URL of a built dataset
        weight: its share of the images, relative to the other weights
    """

    path: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(bool(self.path), "data.mix", "a dataset has no path")
        require(0 < self.weight < inf, "data.mix", f"a weight must be above 0, is {self.weight}")


@dataclass(frozen=True)
class DataSettings:
    """Which samples, and in which order.

    Attributes:
        dataset: folder or URL of a built dataset; one has to be given, here or in `mix`
        mix: several datasets in place of `dataset`, each with path and weight: [{path: A, weight: 3}, {path: B, weight: 1}]
        images: where the images of a label-only dataset lie now; none: where it says itself
        subset: share of the samples, above 0 to 1, by a hash of their keys; a smaller subset lies inside a larger one
        batch_images: images an optimiser step, over all ranks and accumulation steps
        workers: loader processes a rank; 0: the training process loads
        prefetch: batches each loader process prepares ahead
        window_shards: shards that are shuffled together; also how many are open, or fetched, at once
        buffer_dir: folder for fetched shards of a remote dataset and for shard indices; none: below run.out
        buffer_gib: disk that fetched shards may take on a machine
        cache_images: keep resized images in memory, a copy a loader process; for small data and many epochs
        bad_budget: largest share of samples that may turn out corrupt, 0 to 1, before training ends with an error
    """

    dataset: str = ""
    images: str | None = None
    mix: list[MixSettings] = field(default_factory=list)
    subset: float = 1.0
    batch_images: int = 96
    workers: int = 2
    prefetch: int = 4
    window_shards: int = 16
    buffer_dir: str | None = None
    buffer_gib: float = 50.0
    cache_images: bool = False
    bad_budget: float = 0.01

    def __post_init__(self) -> None:
        if self.mix:
            require(not self.dataset, "data.mix", "stands in place of data.dataset; give one of them")
            require(not self.images, "data.images", "goes with data.dataset; for a mix: regionpairs images")
        require(0 < self.subset <= 1, "data.subset", f"must be above 0 and at most 1, is {self.subset}")
        for name in ("batch_images", "prefetch", "window_shards"):
            at_least("data", self, name, 1)
        at_least("data", self, "workers", 0)
        require(self.buffer_gib > 0, "data.buffer_gib", f"must be above 0, is {self.buffer_gib}")
        require(0 <= self.bad_budget <= 1, "data.bad_budget", f"must be in [0, 1], is {self.bad_budget}")
        if self.buffer_dir is not None:
            storage.local_folder(self.buffer_dir, "data.buffer_dir")


@dataclass(frozen=True)
class ViewSettings:
    """How a sample is seen in a step.

    Attributes:
        short_side: pixels of the image's shorter side after bicubic resizing; 0: images keep their size
        long_side: upper limit of the longer side in pixels, which then decides the scale
        decode: exact | fast (a JPEG may be decoded at 1/2, 1/4 or 1/8 if that is still at least short_side)
        flip: never | mirror (image and boxes; labels stay) | unsided (mirror unless a caption names left or right)
        flip_share: probability of a mirrored view, 0 to 1
        max_regions: regions drawn anew from each image in every step, uniformly without replacement
        drop_unkept: leave out drawn regions that are not kept: no loss looks at them, so only time is saved
        caption: which of an image's captions a view has: random | best (the most similar to the image, by the stored score)
        pad_to: padded image sides are multiples of this many pixels
    """

    short_side: int = 800
    long_side: int = 1333
    decode: Literal["exact", "fast"] = "exact"
    flip: Literal["never", "mirror", "unsided"] = "unsided"
    flip_share: float = 0.5
    max_regions: int = 100
    drop_unkept: bool = True
    caption: Literal["random", "best"] = "random"
    pad_to: int = 32

    def __post_init__(self) -> None:
        at_least("view", self, "short_side", 0)
        require(self.long_side >= self.short_side, "view.long_side", "must be at least view.short_side")
        require(0 <= self.flip_share <= 1, "view.flip_share", f"must be in [0, 1], is {self.flip_share}")
        at_least("view", self, "max_regions", 1)
        at_least("view", self, "pad_to", 1)


@dataclass(frozen=True)
class StudentSettings:
    """The network that is trained.

    Attributes:
        encoder: the region encoder it starts as; `teacher` settings, and usually those of the dataset's own teacher
        checkpoint: weights to start from instead, as this trainer writes them (student.safetensors)
        freeze: name prefixes of parameters that stay as they are, e.g. [conv1, bn1, layer1]
        freeze_batchnorm: every BatchNorm keeps its statistics, scale and shift
        global_box: what the image-text loss sees: image (its true extent) | canvas (with the padding; as RegionCLIP)
    """

    encoder: TeacherSettings = field(default_factory=TeacherSettings)
    checkpoint: str | None = None
    freeze: list[str] = field(default_factory=list)
    freeze_batchnorm: bool = True
    global_box: Literal["image", "canvas"] = "image"


@dataclass(frozen=True)
class LossSettings:
    """What the student learns from.

    Attributes:
        distill: logits (stored top k) | global-local | feature (ReFO); the last two need stored embeddings
        contrast_weight: weight of the region-concept contrastive loss
        distill_weight: weight of the distillation loss
        image_weight: weight of the image-caption contrastive loss
        relation_weight: weight of the relations inside distill global-local
        tau: the student's temperature; 0: the dataset's align.tau
        contrast: its candidates: labels of this rank (rank) or of all (global), by frequency; or each once (unique)
        average: mean of region losses over: global (all ranks' regions) | rank (each rank's own, then ranks; as RegionCLIP)
        refo_stages: shares of the steps for ReFO's stages: student on the task, student-aware teacher, distillation
        refo_proxy_weight: weight of the MSE to the frozen student while ReFO's teacher stage trains
    """

    distill: Literal["logits", "global-local", "feature"] = "logits"
    contrast_weight: float = 1.0
    distill_weight: float = 1.0
    image_weight: float = 1.0
    relation_weight: float = 1.0
    tau: float = 0.0
    contrast: Literal["rank", "global", "unique"] = "global"
    average: Literal["global", "rank"] = "global"
    refo_stages: list[float] = field(default_factory=lambda: [0.3, 0.2, 0.5])
    refo_proxy_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("contrast", "distill", "image", "relation", "refo_proxy"):
            weight = getattr(self, f"{name}_weight")
            require(0 <= weight < inf, f"loss.{name}_weight", f"must be 0 or above, is {weight}")
        weights = (self.contrast_weight, self.distill_weight, self.image_weight)
        require(any(weights), "loss", "every weight is 0")
        require(0 <= self.tau < inf, "loss.tau", f"must be 0 or above, is {self.tau}")
        shares = self.refo_stages
        require(
            len(shares) == 3 and min(shares) > 0 and abs(sum(shares) - 1) < 1e-6,
            "loss.refo_stages",
            f"must be three shares that sum to 1, is {shares}",
        )
        if self.distill == "feature":
            require(
                self.contrast_weight > 0, "loss.contrast_weight", "distill feature needs it: it is the task"
            )


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights move.

    Attributes:
        kind: adamw | sgd (momentum 0.9)
        lr: peak learning rate
        weight_decay: of weights; biases and norms have none (kind: adamw), or all have it (kind: sgd)
        schedule: cosine (to 0 at the last step) | steps (x0.1 at each milestone) | constant
        warmup_steps: steps of linear warm-up
        warmup_from: the first step's share of lr
        milestones: steps at which lr falls to a tenth (schedule: steps)
        clip: gradient norm above which gradients are scaled down; 0: never
        clip_by: global (norm of all gradients) | tensor (each parameter's own; as RegionCLIP)
        accumulate: micro-batches an optimiser step; each has its own contrastive candidates
        precision: fp32 | bf16 | fp16 (autocast; fp16 with loss scaling)
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.05
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    warmup_steps: int = 100
    warmup_from: float = 0.001
    milestones: list[int] = field(default_factory=list)
    clip: float = 1.0
    clip_by: Literal["global", "tensor"] = "global"
    accumulate: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        require(0 < self.lr < inf, "optimizer.lr", f"must be above 0, is {self.lr}")
        for name in ("weight_decay", "clip"):
            value = getattr(self, name)
            require(0 <= value < inf, f"optimizer.{name}", f"must be 0 or above, is {value}")
        at_least("optimizer", self, "warmup_steps", 0)
        require(
            0 <= self.warmup_from <= 1, "optimizer.warmup_from", f"must be in [0, 1], is {self.warmup_from}"
        )
        at_least("optimizer", self, "accumulate", 1)


@dataclass(frozen=True)
class RunSettings:
    """Where the run lives and how long it lasts.

    Attributes:
        out: folder for checkpoints, metrics and TensorBoard; the same command on it resumes
        steps: optimiser steps; 0: as many as `epochs` needs
        epochs: passes over the (sub)set, where steps is 0
        seed: of the data order, the views and the torch generator
        device: cpu | cuda | auto
        runtime: local (this process) | ray (Ray Train on the job's cluster, or on this machine)
        ranks: worker processes that train together (runtime: ray)
        cpus_per_rank: CPUs that Ray reserves for each (runtime: ray)
        max_failures: times that lost workers are restarted from the newest checkpoint (runtime: ray)
        threads: torch threads of this process; 0: torch's own choice
        resume: auto (from the newest checkpoint in out) | never (out must hold no run)
        checkpoint_every: steps between checkpoints
        keep_last: newest checkpoints kept, besides the best
        evaluate_every: steps between evaluations on the held-out share; 0: never
        held_out: share of the samples, by key hash, kept out of training to choose the best checkpoint by their loss
        log_every: steps between lines of metrics
        log_keys: write the keys of every step's samples to keys.jsonl
        tensorboard: write event files to out/tensorboard
    """

    out: str = "runs/student"
    steps: int = 0
    epochs: float = 1.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    runtime: Literal["local", "ray"] = "local"
    ranks: int = 1
    cpus_per_rank: float = 1.0
    max_failures: int = 3
    threads: int = 0
    resume: Literal["auto", "never"] = "auto"
    checkpoint_every: int = 1000
    keep_last: int = 2
    evaluate_every: int = 0
    held_out: float = 0.0
    log_every: int = 10
    log_keys: bool = False
    tensorboard: bool = True

    def __post_init__(self) -> None:
        storage.local_folder(self.out, "run.out")  # checkpoints are renamed
        for name in ("steps", "seed", "max_failures", "threads", "evaluate_every"):
            at_least("run", self, name, 0)
        for name in ("ranks", "checkpoint_every", "keep_last", "log_every"):
            at_least("run", self, name, 1)
        require(
            self.steps > 0 or 0 < self.epochs < inf, "run.steps", "run.steps or run.epochs must be above 0"
        )
        require(self.cpus_per_rank > 0, "run.cpus_per_rank", f"must be above 0, is {self.cpus_per_rank}")
        require(0 <= self.held_out < 1, "run.held_out", f"must be in [0, 1), is {self.held_out}")
        require(
            self.evaluate_every == 0 or self.held_out > 0,
            "run.evaluate_every",
            "needs run.held_out above 0 to evaluate on",
        )


@dataclass(frozen=True)
class TrainSettings:
    """Shards into a student: no teacher, no text encoder, no proposals in the loop."""

    data: DataSettings = field(default_factory=DataSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        images, parts = self.data.batch_images, self.optimizer.accumulate
        require(images % parts == 0, "optimizer.accumulate", f"must divide data.batch_images ({images})")


def require(holds: bool, key: str, message: str) -> None:
    """Raises ValueError("key: message") unless it holds."""
    if not holds:
        raise ValueError(f"{key}: {message}")


def at_least(room: str, settings: object, name: str, least: int) -> None:
    """Raises ValueError where `settings.name`, the key `room.name`, is below `least`."""
    value = getattr(settings, name)
    require(value >= least, f"{room}.{name}", f"must be at least {least}, is {value}")
