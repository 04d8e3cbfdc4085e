"""Writes constraints.txt: the versions, in this environment, of everything that the project needs (`make constraints`).

A package that this Python has and Python 3.10 cannot have is pinned for this Python and later alone.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    "ray",
    "photos",
    "detr",
    "train",
    "evaluate",
    "report",
    "completion",
    "duplicates",
    "docs",
    "s3",
    "dev",
}
HEAD = """\
# The versions that the tests ran with: used by `make setup`, CI and ray_cluster.yaml (pip install --constraint).
# Every machine of a cluster must have the same: a worker with another version is refused by name.
# Made by `make constraints`.
"""


def needed() -> dict[str, metadata.Distribution]:
    """Canonical name -> distribution, of the project's requirements and theirs, as far as they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(r for e in EXTRAS for r in project["optional-dependencies"][e])]
    waiting = [Requirement(text) for text in texts]
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if name == "regionpairs" or key in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = distribution
        for text in distribution.requires or []:
            other = Requirement(text)
            extras = requirement.extras or {""}
            if other.marker is None or any(
                other.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                waiting.append(other)
    return found


def line(name: str, distribution: metadata.Distribution) -> str:
    version = distribution.version.partition("+")[0]  # torch's "+cpu" says where it came from, not what it is
    supported = SpecifierSet(distribution.metadata.get("Requires-Python") or "")
    return f"{name}=={version}" + ("" if "3.10.0" in supported else ' ; python_version >= "3.11"')


if __name__ == "__main__":
    lines = sorted(line(*item) for item in needed().items())
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(lines)} packages")
