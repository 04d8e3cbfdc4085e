"""Labels a dataset by what the whole of it knows (label policy `corpus`), in a folder beside it: no image is decoded.

    python jobs/refine_labels.py DATASET --out /data/refined
    python jobs/refine_labels.py DATASET --out /data/refined --align.threshold 0.3 --corpus.rounds 20

DATASET was built with --align.region_embeddings fp16 (or int8). Fits a classifier with a background class to all stored
regions and their images' captions, then labels every region by it, as jobs/relabel.py does; the classifier lies in
concept_pool/classifier.safetensors, how the fit went in classifier.json beside it. DATASET's settings are the defaults, but
for align.score (objectness) and align.threshold (0.2). The same command again goes on where it stopped. Exit codes as of
build_pairs.py; an alarm (captions that do not fit their images) is logged and in the report. --labels-only
writes labels alone: the images stay in DATASET.
"""

from __future__ import annotations

from typing import Any

from jobs import program
from jobs.build_pairs import runner
from jobs.outcome import outcome
from jobs.relabel import KEYS, LABELS_ONLY, settings_of
from pipeline.settings import BuildSettings

#: Where the corpus pass keeps by another rule than the dataset.
DEFAULTS = ("--align.policy", "corpus", "--align.score", "objectness", "--align.threshold", "0.2")


def main(argv: list[str] | None = None) -> int:
    usage = "%(prog)s DATASET --out FOLDER [--labels-only] [--KEY VALUE ...]"
    first = program.parser(__doc__, usage, KEYS)
    first.add_argument("dataset", help="folder or URL of the dataset to relabel")
    first.add_argument("--labels-only", action="store_true", help=LABELS_ONLY)
    own, rest = first.parse_known_args(argv)

    def make() -> tuple[BuildSettings, dict[str, Any]]:
        from pipeline.relabel import relabel  # only now: `--help` is to start without the models' libraries

        settings = settings_of(own.dataset, [*DEFAULTS, *rest])
        if settings.align.policy != "corpus":
            raise ValueError(
                f"align.policy: this job is for corpus; jobs/relabel.py does {settings.align.policy}"
            )
        return settings, relabel(own.dataset, settings, runner(settings), own.labels_only)

    return outcome("refine_labels.py", make)


if __name__ == "__main__":
    raise SystemExit(main())
