"""A picture of a dataset: photos with their pairs drawn on them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

import storage
from pipeline.dataset import shards

TILE_WIDTH, TILE_HEIGHT, CAPTION_HEIGHT = 400, 300, 38
PAIRS_AN_IMAGE = 6
COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000"]


def draw(dataset: str, n: int, columns: int = 4) -> bytes:
    """A PNG of `n` samples, chosen by key (which is a hash, so that they are spread evenly), best pairs first."""
    chosen = sorted(_samples(dataset), key=lambda s: s[0]["key"])[:n]
    if not chosen:
        raise ValueError(f"{dataset}: it holds no samples")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * TILE_WIDTH, rows * (TILE_HEIGHT + CAPTION_HEIGHT)), "white")
    for i, (meta, image) in enumerate(chosen):
        place = (i % columns * TILE_WIDTH, i // columns * (TILE_HEIGHT + CAPTION_HEIGHT))
        sheet.paste(_tile(meta, image), place)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _samples(dataset: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    for row in shards.manifest_rows(storage.absolute(dataset)).values():
        if not row["shard"]:
            continue
        data = storage.read_bytes(storage.join(storage.absolute(dataset), "shards", row["shard"]))
        for _, members in shards.read_shard(data):
            image = next(v for k, v in members.items() if k not in ("json", "npz"))
            yield json.loads(members["json"]), image


def _tile(meta: dict[str, Any], image: bytes) -> Image.Image:
    """One sample, fitted into a tile, one pair of each concept drawn, its first caption below."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(image))).convert("RGB")
    scale = min(TILE_WIDTH / picture.width, TILE_HEIGHT / picture.height)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    tile = Image.new("RGB", (TILE_WIDTH, TILE_HEIGHT + CAPTION_HEIGHT), "white")
    tile.paste(picture, (0, 0))
    pen = ImageDraw.Draw(tile)
    font = ImageFont.load_default(13)
    best: dict[str, dict[str, Any]] = {}
    for pair in meta[
        "pairs"
    ]:  # by falling objectness: of each concept the region that looks most like an object
        best.setdefault(pair["concept"], pair)
    # Large boxes first, so that small ones stay visible.
    shown = sorted(list(best.values())[:PAIRS_AN_IMAGE], key=lambda p: -_area(p["box_xyxy_norm"]))
    for i, pair in enumerate(shown):
        color = COLORS[i % len(COLORS)]
        x0, y0, x1, y1 = (v * s for v, s in zip(pair["box_xyxy_norm"], picture.size * 2, strict=True))
        pen.rectangle((x0, y0, x1, y1), outline=color, width=2)
        text = f"{pair['concept']} {pair['probability']:.2f}"
        left, top, right, bottom = pen.textbbox((x0 + 2, y0 + 1), text, font=font)
        pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
        pen.text((x0 + 2, y0 + 1), text, fill="white", font=font)
    caption = meta["captions"][0] if meta["captions"] else ""
    pen.text((3, TILE_HEIGHT + 2), caption[:58], fill="black", font=font)
    pen.text(
        (3, TILE_HEIGHT + 18),
        f"{meta['source_key'][:30]}: {meta['n_pairs']} pairs",
        fill="#666666",
        font=font,
    )
    return tile


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
