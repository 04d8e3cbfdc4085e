"""Gives a dataset with stored region embeddings other labels, in a folder beside it: no image is decoded.

    python jobs/relabel.py DATASET --out /data/relabelled --align.policy pool --align.threshold 0.2
    python jobs/relabel.py DATASET --out /data/relabelled --pool /data/other_pool

DATASET was built with --align.region_embeddings fp16 (or int8). Its settings are the defaults; `align.*`,
`pool.templates` and `pool.ensemble` may differ. --pool FOLDER takes another concept pool. --labels-only writes
labels alone: the images stay in DATASET, and readers join them. The same command again goes on where it stopped. Exit
codes as of build_pairs.py.
"""

from __future__ import annotations

import tempfile
from typing import Any

import yaml

from jobs import program
from jobs.arguments import parse
from jobs.build_pairs import runner
from jobs.outcome import outcome
from pipeline.dataset import Dataset
from pipeline.fingerprint import RUNTIME_KEYS
from pipeline.settings import BuildSettings

#: Help of `--labels-only`.
LABELS_ONLY = "write no images: they stay where they are, and readers join them (docs/format.md)"

#: Last line of the help.
KEYS = "--out FOLDER says where to write; --KEY VALUE are the keys of a build, which `regionpairs build --help` lists."


def main(argv: list[str] | None = None) -> int:
    usage = "%(prog)s DATASET --out FOLDER [--pool FOLDER] [--labels-only] [--KEY VALUE ...]"
    first = program.parser(__doc__, usage, KEYS)
    first.add_argument("dataset", help="folder or URL of the dataset to relabel")
    first.add_argument("--pool", help="folder of another concept pool (default: the dataset's own)")
    first.add_argument("--labels-only", action="store_true", help=LABELS_ONLY)
    own, rest = first.parse_known_args(argv)

    def make() -> tuple[BuildSettings, dict[str, Any]]:
        from pipeline.relabel import relabel  # only now: `--help` is to start without the models' libraries

        settings = settings_of(own.dataset, [*rest, *(["--pool.path", own.pool] if own.pool else [])])
        return settings, relabel(own.dataset, settings, runner(settings), own.labels_only)

    return outcome("relabel.py", make)


def settings_of(dataset: str, argv: list[str]) -> BuildSettings:
    """The dataset's own settings with `argv` on top. Where to write and on what machine is never the dataset's word: it may
    come from anywhere."""
    own = dict(Dataset.open(dataset).settings)
    for key in (*RUNTIME_KEYS, "runtime"):
        own.pop(key, None)
    if not any(argument.split("=")[0] == "--out" for argument in argv):
        raise ValueError("out: give the folder of the new dataset (--out)")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(own, file)
        file.flush()
        return parse(BuildSettings, ["--config", file.name, *argv])


if __name__ == "__main__":
    raise SystemExit(main())
