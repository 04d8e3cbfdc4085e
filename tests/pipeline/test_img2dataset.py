"""What img2dataset wrote, in its three formats, through a build: the same samples, and the same rejects."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.layout import Layout
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds
from tests.pipeline.sources.kit import write_tar

#: Downloads that failed: rows without an image in the parquet files alone.
N_FAILED = 2


def images() -> list[tuple[bytes, str]]:
    """Six good ones, and four that the server sent but that are none."""
    good = [pictures.encode(pictures.photo(40, 30, seed=i)) for i in range(6)]
    bad = [good[0][: len(good[0]) // 2], b"<html>not here</html>", b"", b"GIF89a and nothing else"]
    captions = [f"a red ball and a boat {i}" for i in range(6)]
    return list(zip([*good, *bad], [*captions, *["a red ball"] * 3, "  "], strict=True))


def three_forms(root: Path) -> dict[str, SourceSettings]:
    """As img2dataset lays them out without resizing: NNNNN.tar, NNNNN/, NNNNN.parquet."""
    members, records = [], []
    (root / "files/00000").mkdir(parents=True)
    for number, (image, caption) in enumerate(images()):
        key = f"{number:09d}"
        meta = {"caption": caption, "url": f"http://127.0.0.1/{number}", "key": key, "status": "success"}
        content = {"jpg": image, "txt": caption.encode(), "json": json.dumps(meta).encode()}
        for extension, data in content.items():
            members.append((f"{key}.{extension}", data))
            (root / f"files/00000/{key}.{extension}").write_bytes(data)
        records.append({**meta, "jpg": image})
    for number in range(N_FAILED):
        failed = {"caption": "a cat", "url": "http://127.0.0.1/x", "key": f"{100 + number:09d}"}
        records.append({**failed, "status": "failed_to_download", "jpg": None})
    pq.write_table(pa.Table.from_pylist(records), root / "00000.parquet")
    return {
        "tars": SourceSettings("webdataset", urls=str(write_tar(root / "00000.tar", members)), extra=["url"]),
        "parquet": SourceSettings("parquet", urls=str(root / "00000.parquet"), extra=["url"]),
        "files": SourceSettings("folder", images=str(root / "files"), extra=["url"]),
    }


def name(source_key: str) -> str:
    """What img2dataset calls a sample: its place or file name without folder and ending."""
    return Path(source_key.rpartition(":")[2] or source_key).stem


def test_its_three_formats_give_the_same_samples_and_the_same_rejects(tmp_path, color_teacher):
    found = {}
    for form, source in three_forms(tmp_path).items():
        settings = worlds.settings(tmp_path / f"out-{form}", source, reject_budget=0.9)
        summary = build(settings, LocalRunner())
        samples = {
            name(s.meta["source_key"]): (s.image, s.meta["captions"], s.meta["extra"], s.meta["n_regions"])
            for s in Dataset.open(settings.out).samples()
        }
        rejects = storage.read_table(Layout(settings.out).rejects).to_pylist()
        if form == "parquet":
            assert [r["reason"] for r in rejects].count("no_image") == N_FAILED
            rejects = [r for r in rejects if r["reason"] != "no_image"]
        assert summary["n_read"] == len(samples) + len(rejects) + N_FAILED * (form == "parquet")
        found[form] = (
            samples,
            Counter(r["reason"] for r in rejects),
            {name(r["source_key"]) for r in rejects},
        )
    assert found["tars"] == found["parquet"] == found["files"]
    samples, reasons, _ = found["tars"]
    assert len(samples) == 6
    assert reasons == {"truncated": 1, "not_an_image": 1, "empty_file": 1, "empty_caption": 1}
