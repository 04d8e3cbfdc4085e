"""What changed between two datasets: one is relabelled from the other, and the page says so."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from concept_pool.settings import PoolSettings
from jobs import cli
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.sample import is_pair
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from pipeline.sources.settings import SourceSettings
from reports.against import differing, partners, rows
from reports.html_report import html_report
from reports.settings import ReportSettings
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from tests.reports.test_html_report import HOSTILE, dataset  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def relabelled(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:  # noqa: F811
    """The same regions with a stricter threshold and labels without the captions."""
    out = str(tmp_path_factory.mktemp("relabelled") / "stricter")
    options = ["--align.policy", "pool", "--align.threshold", "0.3335", "--report", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        assert cli.main(["relabel", dataset.url, "--runtime", "local", "--out", out, *options]) == 0
    return Dataset.open(out)


@pytest.fixture(scope="module")
def data(dataset: Dataset, relabelled: Dataset) -> dict[str, Any]:  # noqa: F811
    page = html_report(relabelled, ReportSettings(shown=10), dataset)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def _labels(dataset: Dataset) -> dict[tuple[str, int], str]:  # noqa: F811
    """(key, region) -> name, of all pairs."""
    names = dataset.pool.names
    return {
        (s.key, int(r)): names[int(s.arrays["topk_ids"][r, 0])]
        for s in dataset.samples()
        for r in np.flatnonzero(is_pair(s.arrays))
    }


def test_the_settings_that_differ_are_named_with_both_values(data):
    found = {key: (before, now) for key, before, now in data["against"]["settings"]}
    assert found["align.policy"] == ("blend", "pool")
    assert found["align.threshold"] == ("0.05", "0.3335")
    assert "out" not in found
    assert "align.tau" not in found


def test_counts_are_those_of_both_manifests(data, dataset: Dataset, relabelled: Dataset):  # noqa: F811
    counts = {key: (before, now) for key, before, now in data["against"]["counts"]}
    assert counts["n_pairs"] == (len(_labels(dataset)), len(_labels(relabelled)))
    assert counts["n_samples"] == (dataset.n_samples, relabelled.n_samples)


def test_labels_that_moved_are_counted_as_a_plain_loop_does(data, dataset: Dataset, relabelled: Dataset):  # noqa: F811
    """Relabelled regions have the same boxes and numbers, so that a dictionary is the slow twin."""
    before, now = _labels(dataset), _labels(relabelled)
    both = before.keys() & now.keys()
    found = data["against"]
    assert found["n_both"] == dataset.n_samples
    assert found["n_same"] == sum(before[k] == now[k] for k in both)
    assert found["n"] == {
        "moved": sum(before[k] != now[k] for k in both),
        "new": len(now.keys() - before.keys()),
        "gone": len(before.keys() - now.keys()),
    }
    assert found["n"]["moved"] > 0


def test_each_change_shows_its_sample_with_both_labels(data):
    shown = [(row, change) for row in data["against"]["rows"] for change in row["changes"]]
    assert shown
    for row, change in shown:
        assert data["samples"][change["sample"]]["picture"].startswith("data:image/jpeg;base64,")
        assert (change["before"][0] if change["before"] else "") == row["before"]
        assert (change["now"][0] if change["now"] else "") == row["now"]
        assert len(change["box"]) == 4


def test_a_dataset_against_itself_has_no_change(dataset: Dataset):  # noqa: F811
    page = html_report(dataset, ReportSettings(shown=2), dataset)
    assert "Made with the same settings and libraries." in page
    assert '"n":{"moved":0,"new":0,"gone":0}' in page


def test_datasets_without_a_sample_in_common_are_compared_by_their_counts(
    dataset: Dataset,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("reports.against.counterparts", lambda seen, other: {})
    other = dataclasses.replace(dataset, pool_hash="0" * 64)
    page = html_report(dataset, ReportSettings(shown=2), other)
    assert "no labels are compared" in page
    assert "The concept pools differ" in page


def test_a_part_of_another_size_is_found_by_its_key(dataset: Dataset, tmp_path: Path):  # noqa: F811
    """The same input in shards of other names."""
    source = Path(dataset.url).parent / "00000.tar"
    settings = worlds.settings(
        tmp_path / "other",
        SourceSettings(kind="webdataset", urls=[str(source)]),
        align=AlignSettings(policy="blend", tau=0.1, threshold=0.05),
        pool=PoolSettings(min_count=1),
        samples_per_shard=10,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(settings, LocalRunner())
    page = html_report(dataset, ReportSettings(shown=2), Dataset.open(str(tmp_path / "other")))
    assert f'"n_both":{dataset.n_samples},' in page
    assert '"n":{"moved":0,"new":0,"gone":0}' in page


def test_boxes_find_the_same_region_once_best_overlap_first():
    a, shifted, far = [0.0, 0.0, 0.5, 0.5], [0.02, 0.0, 0.52, 0.5], [0.6, 0.6, 0.9, 0.9]
    found = partners(np.array([shifted, a, far]), np.array([a, [0.1, 0.1, 0.2, 0.2]]))
    assert found.tolist() == [-1, 0, -1]
    assert partners(np.array([a, a]), np.array([a, a])).tolist() == [0, 1]
    assert partners(np.zeros((0, 4)), np.array([a])).tolist() == []
    assert partners(np.array([a]), np.zeros((0, 4))).tolist() == [-1]


def test_documents_differ_by_their_dotted_keys():
    before = {"out": "/a", "align": {"tau": 0.1, "top_k": 5}, "old": [1]}
    now = {"out": "/b", "align": {"tau": 0.2, "top_k": 5}, "new": {"x": "<b>"}}
    assert differing(before, now) == [
        ("align.tau", "0.1", "0.2"),
        ("old", "[1]", ""),
        ("new", "", "{'x': '<b>'}"),
    ]
    assert rows([]) == []


def test_the_command_compares(dataset: Dataset, relabelled: Dataset, tmp_path: Path, capsys):  # noqa: F811
    out = tmp_path / "changes.html"
    assert cli.main(["report", relabelled.url, "--against", dataset.url, "--out", str(out)]) == 0
    assert 'id="against"' in out.read_text()
    assert cli.main(["report", relabelled.url, "--against", str(tmp_path)]) == 2
    assert "is no dataset" in capsys.readouterr().err
