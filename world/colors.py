"""Colours of the known-truth world: the ones that captions name, and those of fixed parts."""

from __future__ import annotations

RGB = tuple[int, int, int]

#: Colours that an object may have and that a caption may name.
NAMED: dict[str, RGB] = {
    "red": (214, 48, 44), "orange": (240, 134, 32), "yellow": (246, 208, 50), "green": (64, 160, 72),
    "teal": (40, 158, 156), "blue": (48, 98, 208), "purple": (130, 72, 184), "pink": (240, 130, 176),
    "brown": (142, 92, 54), "white": (240, 240, 236), "gray": (142, 146, 152), "black": (44, 46, 52),
}  # fmt: skip

#: Colours of parts, whatever the object's own colour is.
FIXED: dict[str, RGB] = {
    "black": (38, 38, 44), "white": (248, 248, 244), "gray": (160, 164, 170), "wood": (140, 94, 52),
    "leafgreen": (78, 154, 66), "cream": (244, 230, 200), "skin": (226, 186, 140), "cone": (222, 170, 98),
    "sky": (168, 214, 240), "gold": (250, 202, 60), "crimson": (206, 40, 50), "orange": (240, 140, 40),
    "pink": (244, 166, 186),
}  # fmt: skip

#: The colour a kind has half of the time; else, and for kinds not listed, any of `NAMED`.
TYPICAL: dict[str, str] = {
    "star": "yellow", "heart": "red", "moon": "yellow", "sun": "yellow", "cloud": "white", "tree": "green",
    "leaf": "green", "mushroom": "red", "cactus": "green", "mountain": "gray", "spider": "black",
    "ladybug": "red", "apple": "red", "carrot": "orange", "cherry": "red", "pizza": "yellow",
    "ice cream": "pink", "traffic light": "black", "light bulb": "yellow", "key": "gray", "anchor": "blue",
    "crown": "yellow", "bell": "yellow", "chair": "brown", "ladder": "brown", "hammer": "gray",
    "guitar": "orange", "stop sign": "red", "hat": "black",
}  # fmt: skip


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`a` moved towards `b` by `share` in [0, 1]."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]
