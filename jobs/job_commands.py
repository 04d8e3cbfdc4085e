"""The jobs as commands: `regionpairs build ...` is `python jobs/build_pairs.py ...`, by the same function."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from jobs import program


@dataclass(frozen=True)
class JobCommand:
    """A command that runs a job.

    module: whose `main(argv)` it is. settings: module and name of the dataclass whose keys it takes. positional: the
    argument it takes besides.
    """

    module: str
    settings: tuple[str, str]
    help: str
    positional: str = ""


_BUILD = ("pipeline.settings", "BuildSettings")
#: Words of the command -> the job.
JOBS = {
    ("build",): JobCommand("jobs.build_pairs", _BUILD, "captioned images in, verified shards of pairs out"),
    ("relabel",): JobCommand(
        "jobs.relabel", _BUILD, "other labels for a dataset; no image is decoded", "dataset"
    ),
    ("refine",): JobCommand("jobs.refine_labels", _BUILD, "labels from the whole corpus", "dataset"),
    ("train",): JobCommand("jobs.train_student", ("training.settings", "TrainSettings"), "shards in, a student out"),
    ("train-localizer",): JobCommand(
        "jobs.train_localizer",
        ("training.localizers.settings", "LocalizerTrainingSettings"),
        "boxes in, a localizer out",
    ),
    ("evaluate",): JobCommand(
        "jobs.evaluate", ("evaluation.settings", "EvaluateSettings"), "how right pairs and students are"
    ),
    ("pool", "build"): JobCommand(
        "jobs.build_concept_pool",
        ("jobs.build_concept_pool", "ConceptPoolJob"),
        "captions alone in, a vocabulary out",
    ),
}  # fmt: skip


def find(argv: list[str]) -> tuple[tuple[str, ...], list[str]] | None:
    """The job that a command line begins with, and what is left for it; None for any other command line."""
    for words in JOBS:
        if tuple(argv[: len(words)]) == words:
            return words, argv[len(words) :]
    return None


def run(words: tuple[str, ...], argv: list[str]) -> int:
    """Runs a job with its own arguments; returns its exit code."""
    with program.called(f"regionpairs {' '.join(words)}"):
        return int(importlib.import_module(JOBS[words].module).main(argv))


def add_to(commands: Any, pool_commands: Any, keys: bool = False) -> None:
    """The jobs as parsers of `commands`, for help and completion; they are run by `run`.

    keys: with every key of their settings, which takes seconds of imports; help is the job's own business.
    """
    for words, job in JOBS.items():
        parent = pool_commands if len(words) == 2 else commands
        command = parent.add_parser(words[-1], help=job.help, add_help=keys)
        if keys:
            _add_keys(command, job)


def _add_keys(command: Any, job: JobCommand) -> None:
    from jobs.arguments import parser_of

    if job.positional:
        command.add_argument(job.positional)
    module, name = job.settings
    for action in parser_of(getattr(importlib.import_module(module), name))._actions:
        if action.option_strings and "--help" not in action.option_strings:
            summary = str(action.help or "").partition("(")[0].strip().replace("%", "%%")
            command.add_argument(*action.option_strings, help=summary, choices=action.choices)
