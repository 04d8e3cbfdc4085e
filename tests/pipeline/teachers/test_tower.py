from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.teachers.open_clip_regions import region_encoder
from pipeline.teachers.preprocess import Preprocess, crops, resize, resize_as_it_lies
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import CropTower, Tower
from tests import pictures
from tests.pipeline.teachers import towers

PREPROCESS = Preprocess(64, 160, 32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
SHAPES = [(60, 80), (80, 60), (120, 160), (200, 50), (64, 64)]


def images() -> list[np.ndarray]:
    return [np.asarray(pictures.photo(w, h, seed=i)) for i, (h, w) in enumerate(SHAPES)]


def boxes() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    counts = [3, 0, 5, 1, 2]
    return [np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) for n in counts]


def tower_of(make=towers.resnet, **settings) -> Tower:
    return Tower(region_encoder(make()), PREPROCESS, TeacherSettings(**{"resize_threads": 0, **settings}))


def test_sizes_are_multiples_and_keep_the_shape():
    p = Preprocess(480, 800, 32, (0.0,) * 3, (1.0,) * 3)
    assert p.size_of(480, 640) == (480, 640)
    assert p.size_of(640, 480) == (640, 480)
    assert p.size_of(100, 100) == (480, 480)
    assert p.size_of(300, 1200) == (192, 800)  # the long side wins: 200 x 800, then rounded
    assert p.size_of(1, 5000) == (32, 800)


def test_the_input_is_the_pixels_normalised():
    pixels = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    got = PREPROCESS.normalise(pixels)
    assert got.shape == (1, 3, 1, 1)
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([2.5, -4 / 3, -0.4]))


def test_crops_are_what_the_box_shows():
    image = np.zeros((40, 80, 3), np.uint8)
    image[10:20, 40:80] = 200
    cut = crops(
        image, np.array([[0.5, 0.25, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0], [0.7, 0.3, 0.7, 0.3]], np.float32), 8
    )
    assert cut.shape == (3, 8, 8, 3)
    assert (cut[0] == 200).all()
    assert 0 < cut[1].mean() < 200
    assert (cut[2] == 200).all()  # an empty box still shows its pixel


@pytest.mark.parity(44)
@pytest.mark.parametrize("make", [towers.resnet, towers.vit, towers.convnext])
def test_a_batch_gives_what_its_images_give_alone(make):
    tower = tower_of(make)
    together = tower.regions(images(), boxes())
    assert [len(t) for t in together] == [3, 0, 5, 1, 2]
    for image, box, got in zip(images(), boxes(), together, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, tower.regions([image], [box])[0], rtol=1e-4, atol=1e-5)


def test_images_that_were_prepared_give_what_they_give_unprepared():
    tower = tower_of(batch_images=4)
    prepared = [tower.prepare(image) for image in images()]
    assert [tuple(p.shape[:2]) for p in prepared] == [tower.seen_size(*shape) for shape in SHAPES]
    for a, b in zip(tower.regions(prepared, boxes()), tower.regions(images(), boxes()), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("size", [(48, 64), (80, 100), (3000, 4000)])  # the last lies in several blocks
def test_pixels_copied_as_they_lie_are_those_of_a_resized_image(size):
    image = np.asarray(pictures.photo(64, 48, seed=1))
    assert (resize_as_it_lies(image, size)[..., :3] == resize(image, size)).all()


def test_a_fourth_channel_does_not_count():
    tower = tower_of()
    prepared = [tower.prepare(image) for image in images()]
    wide = [F.pad(p, (0, 1), value=7) for p in prepared]
    for a, b in zip(tower.regions(wide, boxes()), tower.regions(prepared, boxes()), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_positions_that_were_kept_are_those_of_the_weights_of_now():
    tower = tower_of(towers.vit)
    before = torch.cat(tower.regions(images(), boxes()))
    assert torch.equal(torch.cat(tower.regions(images(), boxes())), before)
    with torch.no_grad():
        tower.encoder.visual.positional_embedding.mul_(2)
    fresh = tower_of(towers.vit)
    with torch.no_grad():
        fresh.encoder.visual.positional_embedding.mul_(2)
    after = torch.cat(tower.regions(images(), boxes()))
    assert not torch.equal(after, before)
    assert torch.equal(after, torch.cat(fresh.regions(images(), boxes())))


def test_the_same_batch_gives_the_same_bytes():
    runs = [tower_of(resize_threads=n, batch_images=4).regions(images(), boxes()) for n in (0, 2, 2)]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()


def test_out_of_memory_halves_the_batch(monkeypatch):
    tower = tower_of(batch_images=4)
    same = [images()[0]] * 4
    expected = tower.regions(same, [boxes()[0]] * 4)
    forward, sizes = tower.encoder.forward, []

    def small(batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(batch, *rest)

    monkeypatch.setattr(tower.encoder, "forward", small)
    for a, b in zip(tower.regions(same, [boxes()[0]] * 4), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]


@pytest.mark.parity(22)
def test_folded_batch_norms_change_nothing():
    plain, folded = towers.resnet(), fold_batch_norms(towers.resnet())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    image = torch.randn(1, 3, 64, 96)
    box = [torch.tensor([[0.1, 0.2, 0.8, 0.9]])]
    with torch.no_grad():
        torch.testing.assert_close(
            region_encoder(folded)(image, box), region_encoder(plain)(image, box), rtol=1e-4, atol=1e-5
        )


def test_crop_mode_is_encode_image_on_every_crop():
    visual = towers.vit()
    tower = CropTower(visual, 24, Preprocess(64, 64, 64, PREPROCESS.mean, PREPROCESS.std), TeacherSettings())
    got = tower.regions(images(), boxes())
    with torch.no_grad():
        for image, box, rows in zip(images(), boxes(), got, strict=True):
            assert rows.shape == (len(box), 24)
            for one, row in zip(crops(image, box, 64), rows, strict=True):
                expected = visual(PREPROCESS.normalise(torch.from_numpy(one)[None]))[0]
                torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


def test_a_roi_that_covers_the_image_equals_its_crop():
    """At the model's own size the two modes are one: the link between `roi` and the reference `crop`."""
    visual = towers.resnet()
    preprocess = Preprocess(64, 64, 32, PREPROCESS.mean, PREPROCESS.std)
    image, full = [resize(images()[0], (64, 64))], [np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)]
    roi = Tower(region_encoder(visual), preprocess, TeacherSettings()).regions(image, full)[0]
    crop = CropTower(visual, 24, preprocess, TeacherSettings()).regions(image, full)[0]
    assert F.cosine_similarity(roi, crop).item() == pytest.approx(1.0, abs=1e-5)


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match=r"teacher.precision: 'fp8'"):
        tower_of(precision="fp8")
