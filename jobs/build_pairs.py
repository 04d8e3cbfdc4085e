"""Captioned images in, verified WebDataset shards of region-text pairs out.

    ray job submit --working-dir . -- python jobs/build_pairs.py --config demo --out /data/demo
    python jobs/build_pairs.py --config photos --runtime local --out /data/photos ...

Without any argument it builds the demo. The same command again goes on where it stopped. Exit codes: 0 complete;
1 samples lost or more rejects than the budget; 2 a setting is wrong or the folder was made with other settings.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from jobs.arguments import parse
from jobs.outcome import outcome
from pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from pipeline.runner import Runner


def main(argv: list[str] | None = None) -> int:
    argv = (sys.argv[1:] if argv is None else argv) or ["--config", "demo"]
    argv = [
        re.sub(r"^--pool(?=$|=)", "--pool.path", argument) for argument in argv
    ]  # the pool's other settings are --pool.KEY
    settings = parse(BuildSettings, argv, description=__doc__ or "", validate=check)

    def make() -> tuple[BuildSettings, dict[str, Any]]:
        from pipeline.build import build  # only now: `--help` is to start without the models' libraries

        return settings, build(settings, runner(settings))

    return outcome("build_pairs.py", make)


def check(settings: BuildSettings) -> None:
    """No relative path inside a submitted job: its folder is a temporary upload."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    source = settings.source
    paths = [("out", settings.out), ("source.images", source.images), ("source.captions", source.captions)]
    paths += [("pool.path", settings.pool.path), ("source.block_list", source.block_list)]
    paths += [("duplicates.held_out", path) for path in settings.duplicates.held_out]
    for key, path in [*paths, *(("source.urls", url) for url in source.url_list())]:
        if path and "://" not in path and not path.startswith(("/", "~")):
            raise ValueError(
                f"{key}: '{path}' is relative, and a submitted job runs in a temporary copy of the folder; "
                "give an absolute path or a URL"
            )


def runner(settings: BuildSettings) -> Runner:
    """The runner that `runtime` names. Ray is imported only where it is asked for."""
    if settings.runtime == "ray":
        from jobs.on_ray.build import RayRunner

        return RayRunner(settings.no_progress_s)
    from pipeline.run_local import LocalRunner

    return LocalRunner()


if __name__ == "__main__":
    raise SystemExit(main())
