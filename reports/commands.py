"""`regionpairs report`: a page about a dataset. What it needs is imported when it runs."""

from __future__ import annotations

from typing import Any


def add_to(commands: Any) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function."""
    command = commands.add_parser(
        "report", help="writes one HTML page about a dataset; it opens without a network"
    )
    command.set_defaults(run=report)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument("--against", help="another dataset: a section says what changed from it to this one")
    command.add_argument("--out", default="report.html", help="page to write (default: %(default)s)")
    command.add_argument(
        "--shards", type=int, default=8, help="shards looked into for single samples (default: %(default)s)"
    )
    command.add_argument(
        "--samples",
        type=int,
        default=1200,
        help="samples looked at, over those shards (default: %(default)s)",
    )


def report(dataset: str, against: str | None, out: str, shards: int, samples: int) -> int:
    """Writes the page: counts, what changed, issues, histograms, concepts, extremes, samples, map."""
    import storage
    from pipeline.dataset import Dataset
    from reports.html_report import html_report
    from reports.settings import ReportSettings

    url = storage.absolute(out)
    before = Dataset.open(against) if against else None
    page = html_report(Dataset.open(dataset), ReportSettings(shards=shards, samples=samples), before)
    storage.write_bytes(url, page.encode())
    print(url)
    return 0
