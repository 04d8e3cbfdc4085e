"""Mutated tars, COCO files, parquet files and EXIF blocks through the sources: what is lost without a row, what raises.

python benchmarks/fuzz_sources.py --tars 1500 --coco 400 --parquet 400 --exif 3000

Prints JSON. A sample is lost without a row where fewer samples are usable or told of than the input held. A file may be
refused as a whole by one line (ValueError); any other exception counts as a traceback.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import sources
from pipeline.images import BadSample, decode
from pipeline.orientation import METHODS, orientation
from pipeline.sources import SourceSettings

N_SAMPLES = 12


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


def a_tar(form: int) -> bytes:
    """A tar of `N_SAMPLES` samples in one of tarfile's formats, with a text and a JSON each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for i in range(N_SAMPLES):
            members = {"jpg": jpeg(i), "json": b'{"caption": "a dog"}', "txt": b"a dog on a table"}
            long = "long" * 30 if i % 4 == 3 and form != tarfile.USTAR_FORMAT else ""
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{long}{i:06d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four things done to them: flipped, zeroed, cut, taken out, put in, repeated, exchanged."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(out) < 2:
            break
        at = rng.randrange(len(out))
        n = rng.choice((1, 4, 100, 512, 3000))
        what = rng.randrange(8)
        if what == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            out[at // 512 * 512 : at // 512 * 512 + 512] = bytes(512)
        elif what == 2 and rng.random() < 0.5:
            del out[at:]
        elif what == 3:
            del out[at : at + n]
        elif what == 4:
            out[at:at] = rng.randbytes(n)
        elif what == 5:
            out[at : at + n] = rng.randbytes(n)
        elif what == 6:
            out[at:at] = out[at : at + n]
        else:
            block = at // 512 * 512
            out[block + rng.choice((0, 124, 148, 156, 257)) : block + 512] = out[block : block + 512][:200]
    return bytes(out)


def run(settings: SourceSettings) -> tuple[int, int, set[str]]:
    """Usable samples (their images are read), samples that rows with problems stand for, and reasons."""
    source = sources.load(settings)
    usable = told = 0
    reasons = set()
    for unit in source.units():
        for row in source.index(unit):
            json.dumps(row).encode()
            pa.array([row["source_key"], row["problem"], *row["captions"]]).validate(full=True)
            if not row["problem"]:
                try:
                    source.read(row)
                    usable += 1
                    continue
                except BadSample as e:
                    row["problem"] = e.reason
            told += row["n_samples"]
            reasons.add(row["problem"].partition(":")[0])
    return usable, told, reasons


def tried(
    n: int, make: Callable[[random.Random], tuple[SourceSettings, int]], seed: int, slowest: float = 10.0
) -> dict[str, Any]:
    """`make` gives an input and how many samples it held; n of them, by a fixed seed."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    longest = 0.0
    for i in range(n):
        settings, n_samples = make(rng)
        started = time.perf_counter()
        try:
            usable, told, reasons = run(settings)
            found["read"] += 1
            found["with rejects"] += bool(reasons)
            if usable + told < n_samples:
                found["lost without a row"] += 1
                examples.setdefault("lost without a row", f"number {i}: {usable} + {told} of {n_samples}")
        except ValueError as e:
            found["refused by one line"] += 1
            if len(str(e)) > 500 or "\n" in str(e) or type(e) is not ValueError:
                found["long lines"] += 1
                examples.setdefault("long lines", f"number {i}: {type(e).__name__} {str(e)[:300]!r}")
        except Exception as e:  # noqa: BLE001 - this is what is counted
            found["tracebacks"] += 1
            examples.setdefault("tracebacks", f"number {i}: {type(e).__name__}: {str(e)[:300]}")
        seconds = time.perf_counter() - started
        longest = max(longest, seconds)
        found["hangs"] += seconds > slowest
    wanted = ("lost without a row", "tracebacks", "long lines", "hangs")
    return {
        "n": n,
        **found,
        **{key: found[key] for key in wanted},
        "longest_s": round(longest, 2),
        "examples": examples,
    }


def fuzz_tars(n: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    whole = [a_tar(f) for f in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]

    def make(rng: random.Random) -> tuple[SourceSettings, int]:
        made = rng.choice(whole)
        (folder / "b.tar").write_bytes(made)  # a neighbour, by which a cut tar is measured
        (folder / "a.tar").write_bytes(mutate(made, rng))
        return SourceSettings("webdataset", urls=str(folder / "*.tar")), 2 * N_SAMPLES

    return tried(n, make, seed)


def odd(value: Any, rng: random.Random) -> Any:
    """A JSON value with some of its parts exchanged for odd ones."""
    if rng.random() < 0.02:
        return rng.choice(
            [
                None,
                True,
                -1,
                1.5,
                float("nan"),
                "",
                "x",
                [],
                {},
                [[]],
                {"a": 1},
                "\ud83d",
                10**30,
                "\0",
                "../x",
            ]
        )
    if isinstance(value, list):
        return [odd(v, rng) for v in value]
    if isinstance(value, dict):
        return {k: odd(v, rng) for k, v in value.items() if rng.random() > 0.01}
    return value


def fuzz_coco(n: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    images = folder / "images"
    images.mkdir()
    document: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(N_SAMPLES):
        (images / f"{i}.jpg").write_bytes(jpeg(i))
        document["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48})
        document["annotations"].append({"id": i, "image_id": i, "caption": f"a dog {i}"})

    def make(rng: random.Random) -> tuple[SourceSettings, int]:
        changed = odd(document, rng)
        data = json.dumps(changed).encode()
        if rng.random() < 0.3:
            data = mutate(data, rng)
        (folder / "captions.json").write_bytes(data)
        try:  # what a reader of JSON finds is what can be lost
            n_samples = len(json.loads(data)["images"])
        except (ValueError, TypeError, KeyError, RecursionError):
            n_samples = 0
        return SourceSettings("coco", str(images), str(folder / "captions.json")), n_samples

    return tried(n, make, seed)


def fuzz_parquet(n: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    captions = [f"a dog {i} on a table" for i in range(N_SAMPLES)]
    whole = []
    for image in (
        [jpeg(i) for i in range(N_SAMPLES)],
        [{"bytes": jpeg(i), "path": f"{i}.jpg"} for i in range(N_SAMPLES)],
    ):
        for compression in ("snappy", "zstd", "none"):
            sink = io.BytesIO()
            pq.write_table(pa.table({"image": image, "caption": captions}), sink, 4, compression=compression)
            whole.append(sink.getvalue())

    def make(rng: random.Random) -> tuple[SourceSettings, int]:
        made = rng.choice(whole)
        (folder / "b.parquet").write_bytes(made)
        (folder / "a.parquet").write_bytes(mutate(made, rng))
        return SourceSettings("parquet", urls=str(folder / "*.parquet")), 2 * N_SAMPLES

    return tried(n, make, seed)


def fuzz_exif(n: int, seed: int = 0) -> dict[str, Any]:
    """Orientation from bytes against the decoder's and against Pillow's own; none may cost the picture."""
    rng = random.Random(seed)
    stored = jpeg(0)
    found: Counter[str] = Counter(lost=0, otherwise=0)
    for _ in range(n):
        exif = Image.Exif()
        exif[274], exif[271], exif[282] = rng.randint(1, 8), "a maker", 72.0
        blob = bytearray(exif.tobytes())
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            blob[rng.randrange(len(blob))] = rng.choice((0, 1, 3, 4, 6, 255, rng.randrange(256)))
        xmp = b'http://ns.adobe.com/xap/1.0/\0<r tiff:Orientation="%d"/>' % rng.randint(0, 9)
        bodies = rng.choice(([blob], [xmp, blob], [blob, xmp], [xmp], [blob[: rng.randrange(8, len(blob))]]))
        segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + bytes(b) for b in bodies)
        data = stored[:2] + segments + stored[2:]
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
            told = image.getexif().get(274, 1)
            told = told if told in METHODS else 1
        except Exception:  # noqa: BLE001 - where Pillow cannot read the block, nothing is turned
            told = 1
        try:
            shape = decode(data)[0].shape[:2]
        except BadSample:
            found["lost"] += 1
            continue
        of_bytes = orientation(data)
        found["otherwise"] += of_bytes != told or shape != ((48, 64) if of_bytes < 5 else (64, 48))
    return {"n": n, **found}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    for name, n in (("tars", 1500), ("coco", 400), ("parquet", 400), ("exif", 3000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=n)
    args = parser.parse_args(argv)
    results: dict[str, Any] = {}
    for name, fuzz in (("tars", fuzz_tars), ("coco", fuzz_coco), ("parquet", fuzz_parquet)):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = fuzz(getattr(args, name), Path(folder), args.seed)
    results["exif"] = fuzz_exif(args.exif, args.seed)
    json.dump(results, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
