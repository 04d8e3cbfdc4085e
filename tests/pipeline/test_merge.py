"""Agreement of labelled datasets of the same images: what stays a pair, what does not, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from jobs import cli
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.sample import is_pair
from pipeline.dataset.verify import verify
from pipeline.merge import NotMergeable, merge
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from pipeline.scores import KEPT, NOT_AGREED
from tests.pipeline import worlds


def samples(url) -> list:
    return list(Dataset.open(str(url)).samples())


def test_pairs_that_another_teacher_or_policy_does_not_have_get_a_reason(tmp_path, color_teacher):
    source = worlds.coco_folder(tmp_path / "source", n=7)
    align = AlignSettings(policy="caption", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")
    first = worlds.settings(tmp_path / "first", source, align=align, report=False)
    build(first, LocalRunner())
    stricter = dataclasses.replace(align, policy="pool", threshold=0.25)
    second = dataclasses.replace(first, out=str(tmp_path / "second"), align=stricter)
    relabel(first.out, second, LocalRunner())
    out = tmp_path / "third"
    assert cli.main(["merge", first.out, second.out, "--out", str(out), "--iou", "1"]) == 0
    assert list(verify(str(out))) == []
    counts = {KEPT: 0, NOT_AGREED: 0}
    for mine, other, new in zip(samples(first.out), samples(second.out), samples(out), strict=True):
        same = is_pair(other.arrays) & (mine.arrays["topk_ids"][:, 0] == other.arrays["topk_ids"][:, 0])
        both = is_pair(mine.arrays) & same  # the grid's boxes overlap no others entirely
        assert (is_pair(new.arrays) == both).all()
        lost = is_pair(mine.arrays) & ~both
        assert (new.arrays["kept"][lost] == NOT_AGREED).all()
        rest = ~is_pair(mine.arrays)
        assert (new.arrays["kept"][rest] == mine.arrays["kept"][rest]).all()
        assert [pair["region"] for pair in new.meta["pairs"]] == both.nonzero()[0].tolist()
        assert new.meta["n_pairs"] == both.sum()
        assert new.image == mine.image
        counts[KEPT] += int(both.sum())
        counts[NOT_AGREED] += int(lost.sum())
    assert all(counts.values()), counts
    again = dataclasses.replace(first, out=str(tmp_path / "fourth"))
    merge(first.out, [first.out, second.out], again, LocalRunner(), votes=1)  # the first agrees with itself
    assert sum(s.meta["n_pairs"] for s in samples(again.out)) == sum(counts.values())


def test_datasets_that_do_not_belong_together_are_refused(tmp_path, color_teacher):
    settings = [
        worlds.settings(tmp_path / name, worlds.coco_folder(tmp_path / f"{name}-source", n=n))
        for name, n in (("first", 8), ("second", 9))
    ]
    for one in settings:
        build(one, LocalRunner())
    out = dataclasses.replace(settings[0], out=str(tmp_path / "out"))
    for others, changes, message in (
        ([settings[1].out], {}, "has another concept pool|has other images"),
        ([settings[0].out], {"iou": 0.0}, "iou: must be above 0"),
        ([settings[0].out], {"votes": 2}, "votes: must be at most"),
        ([], {}, "votes: must be at most"),
    ):
        with pytest.raises(NotMergeable, match=message):
            merge(settings[0].out, others, out, LocalRunner(), **changes)
    with pytest.raises(NotMergeable, match="out: the agreement needs a folder of its own"):
        merge(settings[0].out, [settings[0].out], settings[0], LocalRunner())
