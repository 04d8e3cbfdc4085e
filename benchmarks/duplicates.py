"""Planted duplicates among real photographs: how many are found, how many different photographs are mistaken, and what
it costs beside decoding.

    python benchmarks/duplicates.py --quick

Every photograph gets a copy of each kind; all of them, in one list, go through the search that a build makes. The last line
is JSON: `found_share` (of every kind but the mirrored one, at the default distance, by near), `false_pairs` (kept
photographs that are called duplicates of another), `images_per_s_over_decode` (decoding with the hash over decoding alone).
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from benchmarks.shared_data import find_shared_data
from pipeline.duplicates import near
from pipeline.duplicates.hashes import SIDE_PX, distances, of_image, of_pixels, perceptual
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.images import decode

DISTANCES = (0, 2, 4, 6, 8, 10, 12, 16)
DEFAULT = DuplicateSettings().distance
REPEATS = 3


def jpeg(image: Image.Image, quality: int) -> bytes:
    return saved(image, "JPEG", quality=quality)


def saved(image: Image.Image, form: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = (round(side * share / 2) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)))


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "other caption": lambda i: b"",  # the very bytes
    "other format (PNG)": lambda i: saved(i, "PNG", compress_level=1),
    "other format (WebP)": lambda i: saved(i, "WEBP", quality=80, method=0),
    "re-encoded (quality 75)": lambda i: jpeg(i, 75),
    "re-encoded (quality 30)": lambda i: jpeg(i, 30),
    "resized (one half)": lambda i: jpeg(resized(i, 0.5), 90),
    "resized (one quarter)": lambda i: jpeg(resized(i, 0.25), 90),
    "cropped by 2 %": lambda i: jpeg(cropped(i, 0.02), 90),
    "cropped by 5 %": lambda i: jpeg(cropped(i, 0.05), 90),
    "mirrored": lambda i: jpeg(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 90),
}


def hashes_of(images: list[bytes]) -> tuple[np.ndarray, list[bytes], list[bytes]]:
    """uint64 [N, 2] perceptual hashes (image, mirror image); digests of bytes and of pixels."""
    rows, sha256, pixels = [], [], []
    for image in images:
        digest, _, *both = of_image(image, False, True, 100_000_000)
        rows.append(both)
        sha256.append(digest)
        pixels.append(of_pixels(decode(image)[0]))
    return np.array(rows, np.uint64), sha256, pixels


def apart(a: np.ndarray, b: np.ndarray, mirrored: bool) -> np.ndarray:
    """Bits between hashes, as `duplicates.mirrored` says."""
    found = distances(a[..., 0], b[..., 0])
    if mirrored:
        others = [distances(a[..., i], b[..., j]) for i, j in ((0, 1), (1, 0), (1, 1))]
        found = np.minimum.reduce([found, *others])
    return found


def false_pairs(hashes: np.ndarray, distance: int, mirrored: bool) -> int:
    """Different photographs that the search of a build leaves out."""
    positions = np.arange(len(hashes))
    values = hashes[:, 0]
    if mirrored:
        values, positions = hashes.T.ravel(), np.tile(positions, 2)
    found = [near.pairs_within(values, positions, distance, two) for two in near.groupings(distance)]
    return len(near.unique(np.concatenate(found)))


def table(photographs: list[bytes]) -> Iterator[dict[str, object]]:
    """A row a kind of copy: found of planted by bytes, by pixels, and near by distance, without and with mirrors."""
    own, sha256, pixels = hashes_of(photographs)
    for kind, change in KINDS.items():
        copies = []
        for data in photographs:
            copies.append(change(Image.fromarray(decode(data)[0])) or data)
        theirs, their_sha256, their_pixels = hashes_of(copies)
        yield {
            "kind": kind,
            "planted": len(copies),
            "bytes": sum(a == b for a, b in zip(sha256, their_sha256, strict=True)),
            "pixels": sum(a == b for a, b in zip(pixels, their_pixels, strict=True)),
            "near": [int((apart(own, theirs, False) <= d).sum()) for d in DISTANCES],
            "mirrored": [int((apart(own, theirs, True) <= d).sum()) for d in DISTANCES],
        }


def seconds(work: Callable[[bytes], object], images: list[bytes]) -> float:
    """The least of some runs over all images."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        for image in images:
            work(image)
        best = min(best, time.perf_counter() - started)
    return best


def costs(images: list[bytes]) -> dict[str, float]:
    """Milliseconds an image. near: a JPEG is decoded no larger than the hash needs; decode and near: whole."""
    works: dict[str, Callable[[bytes], object]] = {
        "decode": decode,
        "bytes": lambda i: of_image(i, False, False, 100_000_000),
        "near": lambda i: of_image(i, False, True, 100_000_000),
        "decode and pixels": lambda i: of_image(i, True, False, 100_000_000),
        "decode and near": lambda i: perceptual(decode(i)[0]),
        "decode small": lambda i: decode(i, min_short_side=SIDE_PX),
    }
    return {name: 1e3 * seconds(work, images) / len(images) for name, work in works.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="40 photographs with copies, all for false pairs"
    )
    quick = parser.parse_args().quick
    data = find_shared_data()
    if data is None:
        raise SystemExit("needs the real photographs in ../shared/data")
    photographs = [p.read_bytes() for p in sorted((data / "coco_photos/images").iterdir())]
    some = photographs[:40] if quick else photographs
    print(
        f"{'kind':26} {'planted':>7} {'bytes':>6} {'pixels':>6}  near, at a distance of {DISTANCES} | with mirrored"
    )
    found = planted = 0
    at = DISTANCES.index(DEFAULT)
    for row in table(some):
        print(
            f"{row['kind']:26} {row['planted']:>7} {row['bytes']:>6} {row['pixels']:>6}  {row['near']} | {row['mirrored']}"
        )
        if row["kind"] != "mirrored":
            found, planted = found + row["near"][at], planted + row["planted"]  # type: ignore[index, operator]
    own = np.array([of_image(i, False, True, 100_000_000)[2:] for i in photographs], np.uint64)
    wrong = [[false_pairs(own, d, m) for d in DISTANCES] for m in (False, True)]
    print(f"{'false pairs':26} {len(own) * (len(own) - 1) // 2:>7} {'':>6} {'':>6}  {wrong[0]} | {wrong[1]}")
    ms = costs(photographs[: 50 if quick else 200])
    print("ms an image: " + ", ".join(f"{name} {value:.2f}" for name, value in ms.items()))
    print(
        json.dumps(
            {
                "found_share": round(found / planted, 4),
                "false_pairs": wrong[0][at],
                "images_per_s_over_decode": round(ms["decode"] / ms["near"], 3),
                "of_whole_images": round(ms["decode"] / ms["decode and near"], 3),
                "pixels_over_decode": round(ms["decode"] / ms["decode and pixels"], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
