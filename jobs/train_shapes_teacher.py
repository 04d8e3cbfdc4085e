"""Trains the teacher that ships with the demo, on scenes of the known-truth world's base kinds and their captions.

    python jobs/train_shapes_teacher.py --out runs/shapes_teacher

Draws its scenes once into OUT, writes metrics.jsonl, checkpoints and, at the end, shapes.safetensors (fp16). The same
command goes on where it stopped. Takes about 40 minutes of one CPU core.
"""

from __future__ import annotations

from jobs.arguments import parse
from jobs.failures import failure
from training.teachers.settings import TrainShapesTeacher


def main(argv: list[str] | None = None) -> int:
    settings = parse(TrainShapesTeacher, argv, description=__doc__ or "")
    from training.teachers.shapes_run import run

    try:
        print(run(settings))
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("train_shapes_teacher.py", e)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
