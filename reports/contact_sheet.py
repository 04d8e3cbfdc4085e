"""A picture of a dataset: photos with their pairs drawn on them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset import Dataset, Sample
from pipeline.images import BadSample, decode
from reports.choose import plain, read, spread

TILE_WIDTH, TILE_HEIGHT, CAPTION_HEIGHT = 400, 300, 38
PAIRS_AN_IMAGE = 6
#: Characters that fit below a tile, and on a box.
CAPTION_LENGTH, LABEL_LENGTH = 58, 30
COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000"]


def draw(dataset: Dataset, n: int, columns: int = 4) -> bytes:
    """A PNG of `n` samples, fewer where the dataset holds fewer.

    Which: one of each shard in turn (`choose.spread`), so a dataset of any size costs at most n indices and n byte
    ranges. A sample whose image cannot be decoded gets an empty tile that says why.
    """
    if n < 1:
        raise ValueError(f"n: must be at least 1, is {n}")
    if not dataset.shards:
        raise ValueError(f"{dataset.url}: it holds no samples")
    tiles = [tile(sample) for sample in read(dataset, spread(dataset.shards, n))]
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * TILE_WIDTH, rows * (TILE_HEIGHT + CAPTION_HEIGHT)), "white")
    for i, picture in enumerate(tiles):
        sheet.paste(picture, (i % columns * TILE_WIDTH, i // columns * (TILE_HEIGHT + CAPTION_HEIGHT)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def tile(sample: Sample) -> Image.Image:
    """One sample, fitted into a tile, one pair of each concept drawn, its first caption below."""
    drawn = Image.new("RGB", (TILE_WIDTH, TILE_HEIGHT + CAPTION_HEIGHT), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    try:
        picture = fitted(sample.image, TILE_WIDTH, TILE_HEIGHT)
    except BadSample as e:
        pen.rectangle((0, 0, TILE_WIDTH - 1, TILE_HEIGHT - 1), fill="#eeeeee")
        pen.text((8, 8), plain(f"cannot be decoded: {e}", CAPTION_LENGTH), fill="#666666", font=font)
    else:
        drawn.paste(picture, (0, 0))
        for i, pair in enumerate(shown_pairs(sample.meta["pairs"])):
            _draw_pair(pen, font, pair, picture.size, COLORS[i % len(COLORS)])
    captions, n_pairs = sample.meta["captions"], sample.meta["n_pairs"]
    caption = plain(captions[0], CAPTION_LENGTH) if captions else ""
    pen.text((3, TILE_HEIGHT + 2), caption, fill="black", font=font)
    key = plain(sample.meta["source_key"], 30)
    pen.text((3, TILE_HEIGHT + 18), f"{key}: {n_pairs} pairs", fill="#666666", font=font)
    return drawn


def fitted(image: bytes, width: int, height: int) -> Image.Image:
    """An image, upright, scaled to fit into width x height pixels. Raises BadSample."""
    picture = Image.fromarray(decode(image, min_short_side=min(width, height))[0])
    scale = min(width / picture.width, height / picture.height)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def shown_pairs(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `PAIRS_AN_IMAGE` pairs, the first of each concept, large boxes first so that small ones stay visible.

    Pairs come by falling objectness: of each concept the region that looks most like an object is drawn.
    """
    best: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        best.setdefault(pair["concept"], pair)
    return sorted(list(best.values())[:PAIRS_AN_IMAGE], key=lambda p: -_area(p["box_xyxy_norm"]))


def _draw_pair(
    pen: ImageDraw.ImageDraw, font: Any, pair: dict[str, Any], size: tuple[int, int], color: str
) -> None:
    x0, y0, x1, y1 = (v * s for v, s in zip(pair["box_xyxy_norm"], size * 2, strict=True))
    pen.rectangle((x0, y0, x1, y1), outline=color, width=2)
    text = f"{plain(pair['concept'], LABEL_LENGTH)} {pair['probability']:.2f}"
    left, top, right, bottom = pen.textbbox((x0 + 2, y0 + 1), text, font=font)
    pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
    pen.text((x0 + 2, y0 + 1), text, fill="white", font=font)


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
