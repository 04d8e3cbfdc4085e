"""How a job that makes a dataset ends: its report and exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobs import job_log
from jobs.failures import failure
from jobs.printable import printable
from jobs.progress import watched

if TYPE_CHECKING:
    from pipeline.settings import BuildSettings


def outcome(script: str, make: Callable[[], tuple[BuildSettings, dict[str, Any]]]) -> int:
    """Makes a dataset, with the log on stdout, and prints ten lines about it or, on stderr, why there is none.

    make: returns the dataset's settings and its summary. A page about it lies beside it (`jobs/page.py`). Exit codes: 0
    complete; 1 samples lost, more rejects than the budget, or a disk or network failed; 2 a setting is wrong or the folder
    was made with other settings.
    """
    from pipeline.dataset.claim import Refused
    from pipeline.dataset.finish import Incomplete
    from pipeline.standing import Standing, tell

    job_log.begin()
    try:
        with watched():
            tell(Standing("start: loading libraries"))
            settings, summary = make()
    except Refused as e:
        print(
            "the folder was made with something else; use another one, or the same settings:", file=sys.stderr
        )
        for line in e.differences:
            print(printable(f"  {line}"), file=sys.stderr)
        return 2
    except Incomplete as e:
        print(printable(f"incomplete: {e}{f'; {e.advice}' if e.advice else ''}"), file=sys.stderr)
        return 1
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure(script, e)
    lines = [report(settings.out, summary)]
    if settings.report:
        from jobs.page import write_page

        built = bool(summary["last_run"].get("n_parts_built"))
        if url := write_page(settings.out, anew=built):
            lines.append(f"report     {url}")
    print(printable("\n".join(lines)))
    return 0


def report(out: str, summary: dict[str, Any]) -> str:
    """Ten lines about a finished dataset; `summary` as in its summary.json."""
    import storage

    seconds, run = summary["stage_seconds"], summary["last_run"]
    reasons = ", ".join(f"{n} {reason}" for reason, n in summary["rejects_by_reason"].items()) or "none"
    size = f"{summary['n_bytes'] / 1e6:.1f} MB"
    share = f"{100 * summary['n_pairs'] / max(1, summary['n_regions']):.0f} %"
    return "\n".join(
        [
            f"shards     {summary['n_shards']} in {storage.absolute(out)}, {size}",
            f"images     {summary['n_samples']} written of {summary['n_read']} read",
            f"regions    {summary['n_regions']}",
            f"pairs      {summary['n_pairs']} ({share} of the regions)",
            f"rejects    {summary['n_rejected']} ({reasons})",
            f"images/s   {run.get('images_per_s', '-')}",
            f"regions/s  {run.get('regions_per_s', '-')}",
            f"seconds    {run.get('wall_s', 0)} wall; in all workers: {', '.join(f'{k} {v}' for k, v in seconds.items())}",
            f"built now  {run.get('n_parts_built', 0)} parts",
            f"identity   fingerprint {summary['fingerprint']}, concept pool {summary['pool'][:16]}",
        ]
    )
