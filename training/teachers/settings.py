"""Settings of the training of the shapes teacher."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """A stretch of the schedule.

    Attributes:
        passes: images seen
        side: side in pixels that scenes are resized to
        max_objects: only scenes with at most so many objects
    """

    passes: int
    side: int
    max_objects: int = 6


@dataclass(frozen=True)
class ShapesTeacherSettings:
    """How the teacher is trained. The schedule counts passes, not seconds.

    Attributes:
        scenes: training scenes, of base kinds alone
        seed: of the scenes and of the training
        phases: small pictures with few objects first, then the teacher's own size
        batch_images: images a step; each is contrasted with all others of its batch
        lr: peak learning rate of AdamW under one cosine cycle
        weight_decay: decoupled weight decay
    """

    scenes: int = 30_000
    seed: int = 1
    phases: list[Phase] = field(
        default_factory=lambda: [Phase(60_000, 64, 1), Phase(160_000, 64, 2), Phase(240_000, 96, 6)]
    )
    batch_images: int = 64
    lr: float = 1.5e-3
    weight_decay: float = 0.02

    @property
    def steps(self) -> int:
        return sum(phase.passes // self.batch_images for phase in self.phases)

    def phase_of(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        for phase in self.phases:
            step -= phase.passes // self.batch_images
            if step < 0:
                return phase
        return self.phases[-1]


@dataclass(frozen=True)
class TrainShapesTeacher:
    """The training and where it lives.

    Attributes:
        out: folder for scenes, metrics, checkpoints and the final weights
        teacher: the training itself
        held_out: scenes, of all kinds and of another seed, that the reports are measured on
        report_every: steps between reports and checkpoints
        threads: torch threads
    """

    out: str = "runs/shapes_teacher"
    teacher: ShapesTeacherSettings = field(default_factory=ShapesTeacherSettings)
    held_out: int = 300
    report_every: int = 400
    threads: int = 1
