"""Captioned images in, verified WebDataset shards of region-text pairs out.

    ray job submit --working-dir . -- python jobs/build_pairs.py --config configs/demo.yaml --out /data/demo
    python jobs/build_pairs.py --config configs/photos.yaml --runtime local --out /data/photos ...

Without any argument it builds the demo. The same command again goes on where it stopped. Exit codes: 0 complete;
1 samples lost or more rejects than the budget; 2 a setting is wrong or the folder was made with other settings.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from jobs.arguments import parse
from pipeline import storage
from pipeline.build import Incomplete, Refused, Runner, build
from pipeline.settings import BuildSettings, validate

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
log = logging.getLogger("regionpairs")


def main(argv: list[str] | None = None) -> int:
    argv = (sys.argv[1:] if argv is None else argv) or ["--config", str(DEMO)]
    settings = parse(BuildSettings, argv, description=__doc__ or "", validate=check)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout
    )
    try:
        summary = build(settings, runner(settings))
    except Refused as e:
        print(
            f"{settings.out} was made with something else; use another folder, or the same settings:",
            file=sys.stderr,
        )
        for line in e.differences:
            print(f"  {line}", file=sys.stderr)
        return 2
    except Incomplete as e:
        print(f"incomplete: {e}", file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as e:
        print(f"build_pairs.py: {e}", file=sys.stderr)
        return 2
    print(report(settings.out, summary))
    return 0


def check(settings: BuildSettings) -> None:
    """`validate`, and no relative path inside a submitted job: its folder is a temporary upload."""
    validate(settings)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    source = settings.source
    paths = [("out", settings.out), ("source.images", source.images), ("source.captions", source.captions)]
    for key, path in [*paths, *(("source.urls", url) for url in source.url_list())]:
        if path and "://" not in path and not path.startswith(("/", "~")):
            raise ValueError(
                f"{key}: '{path}' is relative, and a submitted job runs in a temporary copy of the folder; "
                "give an absolute path or a URL"
            )


def runner(settings: BuildSettings) -> Runner:
    """The runner that `runtime` names. Ray is imported only where it is asked for."""
    if settings.runtime == "ray":
        from jobs.run_ray import RayRunner

        return RayRunner()
    from pipeline.run_local import LocalRunner

    return LocalRunner()


def report(out: str, summary: dict[str, Any]) -> str:
    """Ten lines about a finished dataset; `summary` as in its summary.json."""
    seconds, run = summary["stage_seconds"], summary["last_run"]
    reasons = ", ".join(f"{n} {reason}" for reason, n in summary["rejects_by_reason"].items()) or "none"
    size = f"{summary['n_bytes'] / 1e6:.1f} MB"
    share = f"{100 * summary['n_pairs'] / max(1, summary['n_regions']):.0f} %"
    return "\n".join(
        [
            f"shards     {summary['n_shards']} in {storage.join(storage.absolute(out), 'shards')}, {size}",
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


if __name__ == "__main__":
    raise SystemExit(main())
