"""Views: what a step sees of a sample."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.conftest import loader_of
from tests.training.datasets import make_dataset
from training.data.batch import Item, collate
from training.data.pixels import target_size
from training.data.views import Regions, Sample, draw_view
from training.settings import ViewSettings


def _sample(n_regions: int = 300, n_captions: int = 5, sided: bool = False) -> Sample:
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((n_regions, 2, 2)).astype(np.float32), axis=1).reshape(n_regions, 4)
    ids = np.arange(n_regions)[:, None]
    regions = Regions(
        boxes=corners,
        topk_ids=ids,
        topk_probs=np.ones((n_regions, 1), np.float32),
        residual=np.zeros(n_regions, np.float32),
        kept=np.ones(n_regions, bool),
        embeddings=np.zeros((n_regions, 0), np.float32),
    )
    return Sample("0" * 24, memoryview(b""), regions, np.eye(5, dtype=np.float32)[:n_captions], sided)


@pytest.mark.parity(7)
def test_one_caption_is_drawn_uniformly():
    sample, rng = _sample(), np.random.default_rng(0)
    drawn = [int(draw_view(sample, ViewSettings(), rng).caption.argmax()) for _ in range(2000)]
    assert np.bincount(drawn, minlength=5).min() > 330
    assert not draw_view(_sample(n_captions=0), ViewSettings(), rng).has_caption


def test_the_caption_most_similar_to_the_image_is_taken_where_asked():
    sample = replace(_sample(), caption_scores=np.array([0.1, 0.3, 0.2, 0.3, -0.5], np.float32))
    rng, best = np.random.default_rng(0), ViewSettings(caption="best")
    assert {int(draw_view(sample, best, rng).caption.argmax()) for _ in range(50)} == {1}
    assert len({int(draw_view(sample, ViewSettings(), rng).caption.argmax()) for _ in range(50)}) == 5
    empty = replace(_sample(n_captions=0), caption_scores=np.zeros(0, np.float32))
    assert not draw_view(empty, best, rng).has_caption
    with pytest.raises(ValueError, match=r"view.caption: best needs image_text_scores"):
        draw_view(_sample(), best, rng)


@pytest.mark.parity(12)
def test_a_hundred_of_300_regions_are_redrawn_every_step(preset):
    sample, rng = _sample(), np.random.default_rng(0)
    drawn = [draw_view(sample, preset.view, rng).regions.topk_ids[:, 0] for _ in range(300)]
    assert all(len(d) == len(set(d)) == 100 for d in drawn)
    assert set(drawn[0]) != set(drawn[1])
    shares = np.bincount(np.concatenate(drawn), minlength=300) / 300
    assert shares.min() > 0.2
    assert shares.max() < 0.47
    assert len(draw_view(_sample(7), preset.view, rng).regions) == 7


@pytest.mark.parity(23)
def test_the_flip_policy_of_stored_targets(preset):
    assert preset.view.flip == "mirror"
    rng = np.random.default_rng(0)

    def share(sided: bool, **view) -> float:
        settings = ViewSettings(**view)
        return float(
            np.mean([draw_view(_sample(3, sided=sided), settings, rng).mirrored for _ in range(400)])
        )

    assert 0.4 < share(True, flip="mirror") < 0.6
    assert 0.4 < share(False, flip="unsided") < 0.6
    assert share(True, flip="unsided") == 0
    assert share(False, flip="never") == 0


@pytest.mark.parity(39)
def test_resizing_and_mirroring_with_boxes(preset, tmp_path):
    view = preset.view
    assert (view.short_side, view.long_side, view.flip_share) == (800, 1333, 0.5)
    assert target_size(480, 640, 800, 1333) == (800, 1067)
    assert target_size(900, 300, 800, 1333) == (1333, 444)
    sample = _sample(4)
    views = [draw_view(sample, view, np.random.default_rng(i)) for i in range(40)]
    mirrored = next(v for v in views if v.mirrored)
    image = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8)
    batch = collate([Item(mirrored, (40, 60), [])], image.flatten(), pad_to=32)
    assert batch.canvas == (64, 64)
    assert torch.equal(batch.images()[0, :, :40, :60].permute(1, 2, 0), image.flip(1))
    assert batch.images().sum() == image.sum()
    x0, y0, x1, y1 = sample.regions.boxes[0]
    np.testing.assert_allclose(mirrored.regions.boxes[0], [1 - x1, y0, 1 - x0, y1], rtol=1e-6)
    # Resized as Pillow does it.
    dataset = make_dataset(tmp_path / "d", shards=1, per_shard=1)
    small = replace(view, short_side=50, long_side=90, flip="never")
    loader = loader_of(dataset, tmp_path, 1, small)
    (((batch,),),) = [list(loader.steps(1))]
    original = Image.open(io.BytesIO(loader._shards.read(0, 0)[1])).convert("RGB")
    height, width = target_size(original.height, original.width, 50, 90)
    assert batch.sizes.tolist() == [[height, width]]
    pillow = np.asarray(original.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    found = batch.images()[0, :, :height, :width].permute(1, 2, 0).numpy()
    assert np.abs(found - pillow).max() <= 2
