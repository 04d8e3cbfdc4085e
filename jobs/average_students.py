"""Several students of one teacher in, the mean of their weights out: one student, as fast as each of them.

    python jobs/average_students.py runs/seed-0 runs/seed-1 runs/seed-2 --out runs/mean/student.safetensors

A STUDENT is a weights file or the folder of a run that has ended (its student.safetensors). The file that comes out is a
student like any other: `evaluate --student`, `export`, and `teacher.kind: student` take it. Exit codes: 0 written; 1 a
disk or network failed; 2 a student is not there, or is one of another network.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs import program
from jobs.failures import failure
from jobs.printable import printable


def main(argv: list[str] | None = None) -> int:
    parser = program.parser(__doc__)
    add_arguments(parser)
    return run(**vars(parser.parse_args(argv)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the job takes, for the script and the command."""
    parser.add_argument(
        "students",
        nargs="+",
        metavar="STUDENT",
        help="two or more: weights file, or folder of a training run (path or URL)",
    )
    parser.add_argument("--out", required=True, help="file to write (path or URL)")


def add_to(commands: Any) -> None:
    """The command `average`, as a parser of `commands` (argparse's subparsers)."""
    command = commands.add_parser("average", help="one student from several: the mean of their weights")
    command.set_defaults(run=program.as_command("regionpairs average", run))
    add_arguments(command)


def run(students: list[str], out: str) -> int:
    """Writes the mean; returns the exit code."""
    try:
        from safetensors.torch import save

        import storage
        from pipeline.networks.weights_files import of_student
        from training.averaging import average

        files, target = [of_student(student) for student in students], storage.absolute(out)
        if target in files:
            raise ValueError(f"out: {out} is one of the students")
        if not out or out.endswith("/") or storage.is_folder(target):
            raise ValueError(f"out: '{out}' is a folder; name a file")
        storage.write_bytes(target, save(average(files)))
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("average_students.py", e)
    print(printable(f"{out}: the mean of {len(files)} students"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
