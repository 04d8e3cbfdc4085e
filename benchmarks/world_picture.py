"""Draws docs/world.jpg: scenes of the known-truth world, their true boxes on the last row.

python -m benchmarks.world_picture
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from world import scenes

FIRST, COLUMNS, ROWS, SIDE, GAP = 6, 6, 3, 192, 6


def main() -> int:
    step = SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * step - GAP, ROWS * step - GAP), "white")
    for i in range(COLUMNS * ROWS):
        scene = scenes.draw_scene(0, FIRST + i, SIDE)
        picture = Image.fromarray(scene.image)
        if i >= COLUMNS * (ROWS - 1):
            draw = ImageDraw.Draw(picture)
            for (x0, y0, x1, y1), kind in zip(scene.boxes_xyxy_norm * SIDE, scene.kinds, strict=True):
                color = (255, 80, 60) if kind in scenes.NOVEL_KINDS else (40, 240, 120)
                draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=2)
                draw.text((x0 + 3, max(y0 - 11, 0)), kind, fill="white", stroke_width=1, stroke_fill="black")
        sheet.paste(picture, (i % COLUMNS * step, i // COLUMNS * step))
    target = Path(__file__).parents[1] / "docs" / "world.jpg"
    sheet.save(target, quality=88)
    print(f"{target}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
