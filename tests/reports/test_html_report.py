"""The report of a dataset: what a person sees lies in the page as JSON, and nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import storage
from concept_pool.settings import PoolSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.sample import is_pair
from pipeline.filters import FilterSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from reports.facts import show
from reports.html_report import html_report
from reports.settings import ReportSettings
from tests.fakes import ColorTeacher
from tests.pictures import encode, photo
from tests.pipeline import worlds

HOSTILE = [
    "</script><script>alert(1)</script> red ball",
    '"><img src=https://example.com/x onerror=alert(1)> green boat',
    "{{ 7 * 7 }} {% raw %} blue kite",
    "<!-- red ball & green boat \u2028 \u2029",
    "javascript:alert(1) red \u202e ball",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty pictures, two of them the same, and a file that is no image; captions that try to be more than text."""
    root = tmp_path_factory.mktemp("report")
    samples = [
        (
            f"s{i:03d}",
            "jpg",
            encode(photo(48 + max(1, i), 40, seed=max(1, i))),
            HOSTILE[i % len(HOSTILE)],
        )
        for i in range(20)
    ]
    samples.append(("s099", "jpg", b"no image", "a red ball"))
    source = worlds.tar_file(root / "00000.tar", samples)
    align = AlignSettings(policy="blend", tau=0.1, threshold=0.05, region_embeddings="fp16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        settings = worlds.settings(root / "data", source, align=align, pool=PoolSettings(min_count=1))
        build(settings, LocalRunner())
    return Dataset.open(str(root / "data"))


@pytest.fixture(scope="module")
def page(dataset: Dataset) -> str:
    return html_report(dataset, ReportSettings(shown=10))


@pytest.fixture(scope="module")
def data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


class _Elements(html.parser.HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_counts_are_those_of_the_summary(dataset: Dataset, data: dict[str, Any]):
    summary = json.loads(storage.read_bytes(dataset.layout.summary))
    for name in ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs"):
        assert data["head"]["counts"][name] == summary[name]
    assert data["head"]["add_up"]
    assert dict(data["reasons"])["kept"] == summary["n_pairs"]  # every shard was looked into
    assert sum(n for _, n in data["reasons"]) == summary["n_regions"]
    assert data["head"]["rejects"] == [["not_an_image", 1]]
    assert data["head"]["fingerprint"] == dataset.fingerprint


def test_issues_come_worst_first_with_pictures_that_show_them(data: dict[str, Any]):
    shares = [issue["share"] for issue in data["issues"]]
    assert shares == sorted(shares, reverse=True)
    found = {issue["title"]: issue for issue in data["issues"]}
    assert found["Rejected: not_an_image"]["n"] == 1
    assert found["Images that look the same as another"]["n"] == 1
    assert len(found["Images that look the same as another"]["shown"]) == 2
    assert all(0 <= sample < len(data["samples"]) for i in data["issues"] for sample, _ in i["shown"])
    regions = [{r[0] for r in sample["regions"]} for sample in data["samples"]]
    assert all(r < 0 or r in regions[sample] for i in data["issues"] for sample, r in i["shown"])
    assert all(issue["n"] <= issue["of"] and len(issue["shown"]) <= 6 for issue in data["issues"])


def test_every_sample_looked_at_is_in_every_histogram_of_images(dataset: Dataset, data: dict[str, Any]):
    bars = {h["title"]: h for h in data["histograms"]}
    assert bars["Pairs an image"]["n"] == bars["Image size"]["n"] == dataset.n_samples
    for h in data["histograms"]:
        assert sum(h["counts"]) == h["n"]
        assert len(h["edges"]) == len(h["counts"]) + 1 or not h["n"]
    kept = [float(is_pair(sample.arrays).sum()) for sample in dataset.samples()]
    assert bars["Pairs an image"]["mean"] == pytest.approx(np.mean(kept))


def test_the_table_of_concepts_counts_all_pairs(dataset: Dataset, data: dict[str, Any]):
    assert sum(c["pairs"] for c in data["concepts"]) == data["head"]["counts"]["n_pairs"]
    counts = [c["pairs"] for c in data["concepts"]]
    assert counts == sorted(counts, reverse=True)
    assert {c["name"] for c in data["concepts"]} == set(dataset.pool.names)
    assert all(0 <= c["x"] <= 1 and 0 <= c["y"] <= 1 for c in data["concepts"])
    shown = data["crops"][str(data["concepts"][0]["id"])]
    assert 1 <= len(shown[0]) <= 3


def test_boxes_and_labels_of_a_sample_are_those_stored(dataset: Dataset, data: dict[str, Any]):
    stored = {sample.key: sample for sample in dataset.samples()}
    assert data["n_listed"] == 10
    for shown in data["samples"]:
        arrays = stored[shown["key"]].arrays
        assert shown["n_pairs"] == int(is_pair(arrays).sum())
        for number, kept, concept, probability, _, *box in shown["regions"]:
            assert kept == is_pair(arrays)[number]
            assert concept == arrays["topk_ids"][number, 0]
            assert probability == pytest.approx(float(arrays["topk_probs"][number, 0]), abs=1e-3)
            assert box == pytest.approx(arrays["boxes_xyxy_norm"][number].tolist(), abs=1e-4)


def test_hostile_captions_stay_text(page: str, data: dict[str, Any]):
    """They are in the data, word for word but for control characters, and no element or handler came of them."""
    captions = {caption for sample in data["samples"] for caption in sample["captions"]}
    assert HOSTILE[0] in captions
    assert HOSTILE[2] in captions
    elements = _Elements(page).found
    assert sum(tag == "script" for tag, _ in elements) == 2
    assert not [attributes for _, attributes in elements if any(name.startswith("on") for name in attributes)]
    assert not [
        tag for tag, _ in elements if tag in ("img", "iframe", "object", "embed", "link", "base", "form")
    ]
    assert "49 {%" not in page


def test_nothing_is_fetched(page: str):
    """A policy forbids it, and no attribute asks for it: pictures are data in the page."""
    (policy,) = (a["content"] for tag, a in _Elements(page).found if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:", policy)
    addresses = [v for _, a in _Elements(page).found for k, v in a.items() if k in ("src", "href") and v]
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|WebSocket|innerHTML|eval|document\.write)\b", page.split('id="data"')[0]
    )
    script = page.rsplit("<script>", 1)[1]
    assert not re.search(
        r"fetch\(|XMLHttpRequest|WebSocket|innerHTML|outerHTML|eval\(|document\.write", script
    )


def test_pictures_are_small_jpegs(data: dict[str, Any]):
    uris = [s["picture"] for s in data["samples"]]
    uris += [uri for sides in data["crops"].values() for side in sides for uri in side]
    assert len(uris) > 10
    for uri in uris:
        head, _, body = uri.partition(",")
        assert head == "data:image/jpeg;base64"
        content = base64.b64decode(body)
        assert len(content) <= 20_000
        assert Image.open(io.BytesIO(content)).format == "JPEG"


def test_only_a_few_shards_are_opened(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    asked: set[str] = set()
    real = storage.read_bytes

    def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
        if url.endswith(".tar"):
            assert end is not None
            asked.add(url)
        return real(url, start, end)

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    html_report(dataset, ReportSettings(shards=2, samples=4))
    assert len(asked) == 2
    assert len(dataset.shards) > 2


def test_a_page_that_would_be_too_large_shows_less(dataset: Dataset, page: str, monkeypatch):
    limit = len(page.encode()) - 1000
    monkeypatch.setattr("reports.html_report.MAX_BYTES", limit)
    assert len(html_report(dataset, ReportSettings(shown=10)).encode()) <= limit


def test_a_dataset_whose_build_has_not_finished_is_reported_as_such(dataset: Dataset, tmp_path: Path):
    import shutil

    shutil.copytree(dataset.url, tmp_path / "half")
    for name in ("summary.json", "manifest.parquet", "rejects.parquet"):
        (tmp_path / "half" / name).unlink()
    sorted((tmp_path / "half" / "manifest").iterdir())[0].unlink()
    page = html_report(Dataset.open(str(tmp_path / "half")))
    assert "the build has not finished" in page


@pytest.mark.parametrize("nothing", [{"align": {"threshold": 0.9999}}, {"filters": {"min_side_px": 1000}}])
def test_a_dataset_without_pairs_or_samples_has_a_page_too(tmp_path: Path, monkeypatch, nothing):
    monkeypatch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
    source = worlds.tar_file(tmp_path / "a.tar", [("a", "jpg", encode(photo(48, 40)), "a red ball")])
    chosen = {
        "align": AlignSettings(**nothing.get("align", {})),
        "filters": FilterSettings(**nothing.get("filters", {})),
    }
    build(
        worlds.settings(tmp_path / "d", source, pool=PoolSettings(min_count=1), reject_budget=1.0, **chosen),
        LocalRunner(),
    )
    dataset = Dataset.open(str(tmp_path / "d"))
    assert html_report(dataset).startswith("<!doctype html>")
    with pytest.raises(ValueError, match="is no shard of"):
        show(dataset, "0")


def test_the_command_writes_the_page(dataset: Dataset, tmp_path: Path, capsys):
    from jobs import cli

    assert cli.main(["report", dataset.url, "--out", str(tmp_path / "report.html")]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert cli.main(["report", dataset.url, "--samples", "0"]) == 2
    assert "samples: must be at least 1" in capsys.readouterr().err
