"""A picture of a dataset: photos with their pairs drawn on them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset import Dataset, Sample
from pipeline.images import BadSample, decode
from reports.choose import plain, read, spread

#: x0, y0, x1, y1 in pixels.
Box = tuple[float, ...]

TILE_WIDTH, TILE_HEIGHT, CAPTION_HEIGHT = 400, 300, 38
PAIRS_AN_IMAGE = 6
#: Characters that fit below a tile, and on a box.
CAPTION_LENGTH, LABEL_LENGTH = 58, 30
#: Pixels: of a label's line, and left and right of its text.
LABEL_HEIGHT, PAD = 17, 3
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
        _draw_pairs(pen, font, shown_pairs(sample.meta["pairs"]), picture.size)
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


def _draw_pairs(
    pen: ImageDraw.ImageDraw, font: Any, pairs: list[dict[str, Any]], size: tuple[int, int]
) -> None:
    """All boxes, then their labels on top of them."""
    boxes: list[Box] = [
        tuple(v * s for v, s in zip(pair["box_xyxy_norm"], size * 2, strict=True)) for pair in pairs
    ]
    texts = [f"{plain(pair['concept'], LABEL_LENGTH)} {pair['probability']:.2f}" for pair in pairs]
    widths = [math.ceil(pen.textlength(text, font=font)) + 2 * PAD for text in texts]
    colors = [COLORS[i % len(COLORS)] for i in range(len(pairs))]
    for box, color in zip(boxes, colors, strict=True):
        x0, y0, x1, y1 = box
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=2)
    places = label_places(boxes, widths, LABEL_HEIGHT, size)
    for pair, place, color in zip(pairs, places, colors, strict=True):
        _draw_label(pen, font, pair, place, color)


def _draw_label(pen: ImageDraw.ImageDraw, font: Any, pair: dict[str, Any], place: Box, color: str) -> None:
    x0, y0, x1, y1 = place
    text = _shortened(
        pen, font, plain(pair["concept"], LABEL_LENGTH), pair["probability"], round(x1 - x0) - 2 * PAD
    )
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
    pen.text((x0 + PAD, y0 + 1), text, fill="white", font=font)


def _shortened(pen: ImageDraw.ImageDraw, font: Any, concept: str, probability: float, width: float) -> str:
    """A label of at most `width` pixels: the concept loses its end, the number stays; "" where it has no room."""
    text = f"{concept} {probability:.2f}"
    while concept and pen.textlength(text, font=font) > width:
        concept = concept[:-1].rstrip()
        text = f"{concept}… {probability:.2f}"
    return text if pen.textlength(text, font=font) <= width else ""


def label_places(
    boxes: Sequence[Box], widths: Sequence[float], height: int, size: tuple[int, int]
) -> list[Box]:
    """Where the labels of boxes go, one a box, in pixels, all inside the picture of `size` where it is so large.

    The first place of each that covers no label before it: the box's upper left corner inside, above the box, its lower
    left corner inside, below the box, then close to another label; the corner if every place is taken.
    """
    taken: list[Box] = []
    for (x0, y0, _, y1), wanted in zip(boxes, widths, strict=True):
        width = min(wanted, size[0])
        left = min(max(0.0, x0), size[0] - width)
        touching = [
            top for other in taken for top in (other[3], other[1] - height) if 0 <= top <= size[1] - height
        ]
        tops = [y0, y0 - height, y1 - height, y1, *sorted(touching, key=lambda top: abs(top - y0))]
        inside = [
            (left, top, left + width, top + height) for top in (_within(t, size[1] - height) for t in tops)
        ]
        taken.append(next((p for p in inside if not any(_overlap(p, other) for other in taken)), inside[0]))
    return taken


def _within(value: float, most: float) -> float:
    return max(0.0, min(value, most))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
