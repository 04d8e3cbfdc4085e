"""The training items of the parity list with RegionCLIP, one test an item.

Items 24 and 31 are in tests/training/ (test_losses.py, test_distributed.py), which has more on some others.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.arguments import parse
from pipeline.dataset.manifest import read_concepts, read_manifest
from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from training.data.batch import Item, collate, normalised
from training.data.loader import Loader
from training.data.pixels import target_size
from training.data.views import Regions, Sample, draw_view
from training.losses import terms
from training.losses.objective import Objective, kept_or_all
from training.optimizer import build_optimizer, clip_gradients, lr_factor
from training.settings import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
    ViewSettings,
    validate,
)
from training.student import build

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def preset() -> TrainSettings:
    config = "train_regionclip"
    return parse(TrainSettings, ["--config", config, "--data.dataset", "x"], validate=validate)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    dataset = make_dataset(folder / "d", shards=1, per_shard=4)
    loader = Loader(
        read_manifest(str(dataset)),
        DataSettings(str(dataset), batch_images=4, workers=0),
        ViewSettings(short_side=32, long_side=64, flip="never", drop_unkept=False),
        folder=str(folder / "b"),
    )
    ((batch,),) = list(loader.steps(1))
    return batch, read_concepts(str(dataset))


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


def _slow_contrast(s, e, labels, tau) -> torch.Tensor:
    """-log(sum_{j: y_j = y_i} exp(s_i.e_yj / tau) / sum_j exp(s_i.e_yj / tau)), j over the kept regions."""
    values = []
    for i in range(len(s)):
        terms = torch.stack([(s[i] @ e[labels[j]] / tau).exp() for j in range(len(s))])
        values.append(-(terms[labels == labels[i]].sum() / terms.sum()).log())
    return torch.stack(values)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return (x / x.norm(dim=1, keepdim=True)).double()


def test_07_one_caption_is_drawn_uniformly():  # parity 7
    sample, rng = _sample(), np.random.default_rng(0)
    drawn = [int(draw_view(sample, ViewSettings(), rng).caption.argmax()) for _ in range(2000)]
    assert np.bincount(drawn, minlength=5).min() > 330
    assert not draw_view(_sample(n_captions=0), ViewSettings(), rng).has_caption


def test_12_a_hundred_of_300_regions_are_redrawn_every_step(preset):  # parity 12
    sample, rng = _sample(), np.random.default_rng(0)
    drawn = [draw_view(sample, preset.view, rng).regions.topk_ids[:, 0] for _ in range(300)]
    assert all(len(d) == len(set(d)) == 100 for d in drawn)
    assert set(drawn[0]) != set(drawn[1])
    shares = np.bincount(np.concatenate(drawn), minlength=300) / 300
    assert shares.min() > 0.2
    assert shares.max() < 0.47
    assert len(draw_view(_sample(7), preset.view, rng).regions) == 7


def test_13_the_whole_image_is_in_the_image_loss_alone(batch):  # parity 13
    regions, images = tiny_student().eval()(batch[0])
    assert len(regions) == len(batch[0].boxes)
    assert len(images) == len(batch[0].keys)
    without, none = tiny_student(embed_images=False).eval()(batch[0])
    torch.testing.assert_close(regions, without)
    assert len(none) == 0


def test_14_the_global_box_is_the_image_or_with_regionclip_the_canvas(batch, preset):  # parity 14
    assert preset.student.global_box == "canvas"
    true, canvas = (tiny_student(global_box=b)._whole_boxes(batch[0]) for b in ("image", "canvas"))
    assert (true == torch.tensor([0.0, 0, 1, 1])).all()
    height, width = batch[0].canvas
    pixels = canvas[:, 2:] * batch[0].sizes.flip(1)
    torch.testing.assert_close(pixels, torch.tensor([[width, height]]).float().expand(4, 2))


def test_16_padding_is_zero_after_normalisation(batch):  # parity 16
    b = batch[0]
    mean, std = torch.tensor([0.48, 0.46, 0.41]), torch.tensor([0.27, 0.26, 0.28])
    x = normalised(b.images(), b.sizes, mean, std)
    assert len({tuple(s) for s in b.sizes.tolist()}) > 1
    for i, (height, width) in enumerate(b.sizes.tolist()):
        want = (b.images()[i, :, :height, :width] / 255 - mean[:, None, None]) / std[:, None, None]
        torch.testing.assert_close(x[i, :, :height, :width], want)
        assert (x[i, :, height:] == 0).all()
        assert (x[i, :, :, width:] == 0).all()


def test_21_a_rank_that_keeps_none_keeps_all():  # parity 21
    none, some = torch.zeros(3, dtype=torch.bool), torch.tensor([False, True, False])
    assert kept_or_all(none, "rank").all()
    assert kept_or_all(some, "rank").tolist() == [False, True, False]


def test_23_the_flip_policy_of_stored_targets(preset):  # parity 23
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


def test_25_to_28_and_32_the_losses_of_a_batch(batch, preset):  # parity 25, 26, 27, 28, 32
    b, e = batch
    model = tiny_student().eval()
    outputs = model(b)
    tau = 0.05
    parts = Objective(e, tau, replace(preset.loss, tau=tau))(outputs, b)
    s, c = _unit(outputs[0][b.kept]), _unit(e)
    want_contrast = _slow_contrast(s, c, b.topk_ids[b.kept, 0], tau).mean()
    torch.testing.assert_close(parts["contrast"], want_contrast.float(), atol=1e-4, rtol=1e-4)
    p = (s @ c.T / tau).softmax(dim=1)
    kls = []
    for i, (ids, q) in enumerate(zip(b.topk_ids[b.kept], b.topk_probs[b.kept].double(), strict=True)):
        rest = torch.cat([q, (1 - q.sum()).clamp(min=0)[None]])
        p_rest = torch.cat([p[i, ids], (1 - p[i, ids].sum())[None]])
        kls.append(sum(a * (a / z).log() for a, z in zip(rest, p_rest, strict=True) if a > 0))
    torch.testing.assert_close(parts["distill"], torch.stack(kls).mean().float(), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(parts["total"], parts["contrast"] + parts["distill"] + parts["image"])


def test_26_no_squared_temperature_factor():  # parity 26
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    q = torch.tensor([[0.2, 0.7, 0.1]])
    stored = (torch.tensor([[1, 0, 2]]), q[:, [1, 0, 2]], torch.zeros(1))
    for tau in (1.0, 0.1):
        want = (q * (q.log() - (logits / tau).log_softmax(dim=1))).sum(dim=1)
        torch.testing.assert_close(terms.distillation(logits / tau, *stored), want, atol=1e-5, rtol=1e-5)


def test_29_negatives_are_the_rank_s_own_concepts(preset):  # parity 29
    assert (preset.loss.contrast, preset.loss.average) == ("rank", "rank")
    few = terms.region_contrastive(torch.ones(2, 4), torch.tensor([0, 1]), torch.tensor([1, 1, 0, 0]))
    assert few.tolist() == pytest.approx([np.log(2)] * 2)


def test_30_image_and_caption_in_both_directions(batch, preset):  # parity 30
    b, e = batch
    outputs = tiny_student().eval()(b)
    parts = Objective(e, 0.05, preset.loss)(outputs, b)
    v, t = _unit(outputs[1][b.has_caption]), _unit(b.captions[b.has_caption])
    logits = v @ t.T / 0.05
    rows, columns = (-x.log_softmax(dim=1).diagonal().mean() for x in (logits, logits.T))
    torch.testing.assert_close(parts["image"], ((rows + columns) / 2).float(), atol=1e-4, rtol=1e-4)
    assert 0 < b.has_caption.sum() < len(b.has_caption)


def test_33_what_the_preset_trains(preset):  # parity 33; test_student.py: it starts as the teacher
    encoder = replace(preset.student.encoder, pretrained=None)
    student = build(replace(preset.student, encoder=encoder))
    trained = {n.removeprefix("encoder.visual.") for n, p in student.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in trained} == {"layer2", "layer3", "layer4", "attnpool"}
    assert not any("bn" in n or "downsample.1" in n for n in trained)
    student.train()
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)


def test_34_sgd_with_momentum_and_decay(preset):  # parity 34
    optimizer = build_optimizer(tiny_student(), preset.optimizer)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.002, 0.9, 1e-4)


def test_35_the_learning_rate_of_every_phase(preset):  # parity 35
    assert preset.run.steps == 600_000

    def lr(step: int) -> float:
        return preset.optimizer.lr * lr_factor(step, preset.run.steps, preset.optimizer)

    assert lr(0) == pytest.approx(2e-6)
    assert lr(500) == pytest.approx(0.002 * (0.001 + 0.999 / 2))
    for step, want in ((1000, 2e-3), (299_999, 2e-3), (300_000, 2e-4), (524_999, 2e-4), (525_000, 2e-5)):
        assert lr(step) == pytest.approx(want)
    cosine = OptimizerSettings(warmup_steps=10)
    assert [lr_factor(s, 110, cosine) for s in (10, 60, 110)] == pytest.approx([1, 0.5, 0])


def test_36_the_global_batch(preset):  # parity 36
    assert preset.data.batch_images == 96
    assert preset.data.batch_images * preset.run.steps == 57_600_000


def test_37_each_tensor_s_gradient_is_clipped_alone(preset):  # parity 37
    assert preset.optimizer.clip == 5.0
    model = torch.nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.5)
    clip_gradients(model, preset.optimizer)
    assert model.weight.grad.norm().item() == pytest.approx(5.0, rel=1e-5)
    assert model.bias.grad.tolist() == [0.5, 0.5]
    model.weight.grad, model.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.5)
    clip_gradients(model, replace(preset.optimizer, clip_by="global"))
    assert torch.cat([model.weight.grad.flatten(), model.bias.grad]).norm().item() == pytest.approx(
        5.0, rel=1e-5
    )
    assert model.bias.grad[0] < 0.2


def test_38_full_precision(preset):  # parity 38
    assert preset.optimizer.precision == "fp32"


def test_39_resizing_and_mirroring_with_boxes(preset, tmp_path):  # parity 39
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
    loader = Loader(
        read_manifest(str(dataset)),
        DataSettings(batch_images=1, workers=0),
        small,
        folder=str(tmp_path / "b"),
    )
    (((batch,),),) = [list(loader.steps(1))]
    original = Image.open(io.BytesIO(loader._shards.read(0, 0)[1])).convert("RGB")
    height, width = target_size(original.height, original.width, 50, 90)
    assert batch.sizes.tolist() == [[height, width]]
    pillow = np.asarray(original.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    found = batch.images()[0, :, :height, :width].permute(1, 2, 0).numpy()
    assert np.abs(found - pillow).max() <= 2


def test_40_checkpoints_at_least_every_5000_steps(
    preset,
):  # parity 40; tests/training/test_kills.py resumes them
    assert preset.run.checkpoint_every <= 5000


def test_46_what_the_dataset_stores_is_all_that_a_step_needs(batch):  # parity 46
    b, e = batch
    total = Objective(e, 0.05, LossSettings())(tiny_student()(b), b)["total"]
    assert torch.isfinite(total)
