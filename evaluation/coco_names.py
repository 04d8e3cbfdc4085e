"""COCO's 80 names: the open-vocabulary split, and the words that mean each of them.

`coco_names.json` has a line a name, in COCO's order. `split`: base | novel | unused, the 48 base and 17 novel names of
Zareian et al. (OVR-CNN, CVPR 2021) and the 15 they leave out. `accepted`: names of concepts that are right for such an
object: synonyms, kinds of it, what it is a kind of.
"""

from __future__ import annotations

import json
from pathlib import Path

_NAMES: dict[str, dict] = json.loads(Path(__file__).with_name("coco_names.json").read_text(encoding="utf-8"))

#: Name -> the words that are right for it, itself among them where it is one.
ACCEPTED: dict[str, list[str]] = {name: entry["accepted"] for name, entry in _NAMES.items()}
BASE = frozenset(name for name, entry in _NAMES.items() if entry["split"] == "base")
NOVEL = frozenset(name for name, entry in _NAMES.items() if entry["split"] == "novel")
