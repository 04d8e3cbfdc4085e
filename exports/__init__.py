"""A dataset in the formats of other programs (docs/exports.md): `exports.export.export(dataset, format, out)`.

A format is one module with `writer(dataset, out)`: a context manager that gives a function of one sample and its pairs.
That function writes them and returns how many of the pairs it wrote. Leaving the context closes the files; leaving it by
an exception leaves none of those that were open.
"""

from __future__ import annotations

#: Every format and its module.
FORMATS = {
    "coco": "exports.coco",
    "odvg": "exports.odvg",
    "grit": "exports.grit",
    "parquet": "exports.parquet",
    "hf": "exports.hugging_face",
    "yolo-world": "exports.yolo_world",
}
