"""JPEG decoding on a GPU: what goes there, what stays, what a failure costs. A stand-in decodes where there is no GPU."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import jpeg_gpu
from pipeline.build import build
from pipeline.images import decode
from pipeline.jpeg_gpu import GpuJpegs, fits
from pipeline.run_local import LocalRunner
from pipeline.teachers.settings import TeacherSettings
from tests import pictures
from tests.pipeline import worlds

GOOD = pictures.encode(pictures.photo())


def stand_in(encoded: list[torch.Tensor], device: str) -> list[torch.Tensor]:
    """The pixels of libjpeg, a level brighter."""
    pixels = [np.asarray(Image.open(io.BytesIO(e.numpy().tobytes())).convert("RGB")) for e in encoded]
    return [torch.as_tensor(np.minimum(p, 254) + 1).permute(2, 0, 1) for p in pixels]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("truncated", GOOD[:-200]),
        ("empty", b""),
        ("png", pictures.encode(pictures.photo(), "PNG")),
        ("16 bit", pictures.deep_png()),
        ("cmyk", pictures.encode(pictures.photo().convert("CMYK"))),
        ("grey", pictures.encode(pictures.photo().convert("L"))),
        ("turned", pictures.rotated_by_exif()),
        ("cut header", GOOD[:40] + b"\xff\xd9"),
    ],
)
def test_what_is_no_plain_whole_jpeg_is_left_to_the_cpu(name, image):
    assert not fits(image, 10**8), name
    assert GpuJpegs("cpu", 10**8, stand_in)([image]) == [None]


def test_plain_jpegs_come_back_as_upright_pixels_and_large_ones_do_not():
    (pixels, none, progressive) = GpuJpegs("cpu", 48 * 32, stand_in)(
        [GOOD, pictures.encode(pictures.photo(64, 48)), pictures.encode(pictures.photo(), progressive=True)]
    )
    assert none is None
    assert progressive is not None
    assert (pixels.dtype, pixels.shape) == (np.uint8, (32, 48, 3))
    assert np.abs(pixels.astype(int) - decode(GOOD)[0]).max() <= 1


def test_one_that_cannot_be_decoded_costs_only_itself_and_a_full_gpu_is_no_fault_of_it():
    bad = pictures.encode(pictures.photo(seed=5))

    def fails(encoded, device):
        if any(e.numpy().tobytes() == bad for e in encoded):
            raise RuntimeError("nvjpegDecode failed: 8")
        return stand_in(encoded, device)

    found = GpuJpegs("cpu", 10**8, fails)([GOOD, bad, GOOD])
    assert [pixels is None for pixels in found] == [False, True, False]

    def full(encoded, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        GpuJpegs("cpu", 10**8, full)([GOOD])


def test_without_a_gpu_it_is_one_line(tmp_path):
    source = worlds.coco_folder(tmp_path / "input", 3)
    with pytest.raises(ValueError, match=r"^jpeg_on: gpu needs teacher\.device"):
        worlds.settings(tmp_path / "out", source, jpeg_on="gpu")
    with pytest.raises(ValueError, match=r"^jpeg_on: must be"):
        worlds.settings(tmp_path / "out", source, jpeg_on="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"^jpeg_on: gpu asked for, and this machine has no usable GPU$"):
            GpuJpegs("auto", 10**8)


def test_a_build_uses_it_for_what_fits_and_its_fingerprint_says_so(tmp_path, monkeypatch, color_teacher):
    monkeypatch.setattr(jpeg_gpu, "_torchvision", stand_in)
    monkeypatch.setattr(jpeg_gpu, "resolve_device", lambda device: "cuda")
    source = worlds.coco_folder(tmp_path / "input", 6)
    (tmp_path / "input" / "images" / "001.jpg").write_bytes(pictures.rotated_by_exif())
    (tmp_path / "input" / "images" / "002.jpg").write_bytes(GOOD[:-200])
    settings = worlds.settings(
        tmp_path / "cpu", source, reject_budget=1.0, teacher=TeacherSettings(kind="shapes", device="auto")
    )
    here = build(settings, LocalRunner())
    there = build(dataclasses.replace(settings, out=str(tmp_path / "gpu"), jpeg_on="gpu"), LocalRunner())
    assert here["rejects_by_reason"] == there["rejects_by_reason"] == {"truncated": 1}
    assert here["fingerprint"] != there["fingerprint"]
    assert worlds.hashes(tmp_path / "cpu") != worlds.hashes(tmp_path / "gpu")
    assert worlds.hashes(tmp_path / "cpu", "plan/index/*") == worlds.hashes(tmp_path / "gpu", "plan/index/*")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_pixels_of_the_cpu_within_a_few_levels():
    images = [pictures.encode(pictures.photo(640, 480, seed=i), quality=95) for i in range(4)]
    for image, pixels in zip(images, GpuJpegs("cuda", 10**8)(images), strict=True):
        assert pixels is not None
        assert np.abs(pixels.astype(int) - decode(image)[0]).mean() < 2
