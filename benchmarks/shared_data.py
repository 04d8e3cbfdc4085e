"""Where the real photographs and captions are, for benchmarks and tests that need them; not part of the project."""

from __future__ import annotations

import os
from pathlib import Path


def find_shared_data() -> Path | None:
    """The `data` folder of REGIONPAIRS_SHARED, else of `../shared` beside this checkout; None where there is none."""
    root = Path(os.environ.get("REGIONPAIRS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    return root / "data" if (root / "data" / "coco_photos").is_dir() else None
