"""Kinds of the known-truth world: sky, plants, animals, food. Each function draws one kind with a pen."""

from __future__ import annotations

from math import cos, pi, sin

from world.pen import Pen, arc, mirror, spokes


def star(p: Pen) -> None:
    p.polygon(spokes(5, 1, p.rng.uniform(0.36, 0.5)))


def heart(p: Pen) -> None:
    points = []
    for i in range(40):
        t = 2 * pi * i / 40
        points.append((sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16))
    p.polygon(points)
    p.ellipse(-0.45, -0.45, 0.14, 0.22, "light", 35)


def moon(p: Pen) -> None:
    bite = p.rng.uniform(0.35, 0.6)
    p.polygon(arc(0, 0, 0.8, 1, 90, 270) + arc(0, 0, bite * 0.8, 1, 270, 90)[1:-1])


def sun(p: Pen) -> None:
    n = p.rng.choice([8, 10, 12])
    p.polygon(spokes(n, 1, 0.62), "second")
    p.ellipse(0, 0, 0.55)


def cloud(p: Pen) -> None:
    for x, y, r in (
        (-0.6, 0.12, 0.36),
        (0.6, 0.12, 0.36),
        (-0.22, -0.18, 0.44),
        (0.28, -0.12, 0.4),
        (0, 0.15, 0.38),
    ):
        p.ellipse(x, y, r)
    p.box(-0.6, 0.1, 0.6, 0.48)


def tree(p: Pen) -> None:
    p.box(-0.13, 0.3, 0.13, 1, "wood")
    if p.rng.random() < 0.5:
        for y, w in ((0.45, 0.75), (0.0, 0.6), (-0.4, 0.42)):
            p.polygon([(0, y - 0.62), (w, y), (-w, y)])
    else:
        for x, y, r in ((-0.35, 0.0, 0.4), (0.35, 0.0, 0.4), (0, -0.5, 0.48), (0, 0.05, 0.4)):
            p.ellipse(x, y, r)


def flower(p: Pen) -> None:
    p.line([(0, -0.2), (0.03, 0.5), (0, 1)], 0.1, "leafgreen")
    p.ellipse(0.27, 0.62, 0.28, 0.11, "leafgreen", -30)
    n = p.rng.choice([5, 6, 7])
    for i in range(n):
        t = 2 * pi * i / n
        p.ellipse(0.36 * cos(t), -0.38 + 0.36 * sin(t), 0.3, 0.19, "main", 360 * i / n)
    p.ellipse(0, -0.38, 0.2, fill="second")


def leaf(p: Pen) -> None:
    p.polygon(mirror([(0, -1), (0.3, -0.6), (0.47, -0.1), (0.38, 0.3), (0, 0.62)]))
    p.line([(0, -0.75), (0, 1)], 0.07, "dark")
    for y in (-0.3, 0.0, 0.3):
        p.line([(-0.27, y - 0.2), (0, y), (0.27, y - 0.2)], 0.045, "dark")


def mushroom(p: Pen) -> None:
    p.polygon(mirror([(0.2, -0.1), (0.24, 0.6), (0.34, 0.9)]), "cream")
    p.polygon(arc(0, 0.05, 0.95, 0.95, 180, 360))
    for x, y, r in ((-0.45, -0.28, 0.14), (0.1, -0.55, 0.17), (0.5, -0.22, 0.12), (-0.05, -0.15, 0.1)):
        p.ellipse(x, y, r, fill="white")


def cactus(p: Pen) -> None:
    p.box(-0.22, -1, 0.22, 0.6, "main", 0.18)
    p.box(-0.72, -0.5, -0.5, 0.12, "main", 0.1)
    p.box(-0.72, -0.02, -0.1, 0.18, "main", 0.06)
    p.box(0.5, -0.3, 0.72, 0.3, "main", 0.1)
    p.box(0.1, 0.14, 0.72, 0.34, "main", 0.06)
    p.polygon([(-0.5, 0.55), (0.5, 0.55), (0.36, 1), (-0.36, 1)], "second")


def mountain(p: Pen) -> None:
    p.polygon([(-1, 0.75), (-0.2, -0.75), (0.15, -0.2), (0.4, -0.5), (1, 0.75)])
    p.polygon([(-0.42, -0.34), (-0.2, -0.75), (0.03, -0.39), (-0.1, -0.22), (-0.22, -0.4)], "white")
    p.polygon([(0.27, -0.34), (0.4, -0.5), (0.56, -0.16), (0.4, -0.22)], "white")


def fish(p: Pen) -> None:
    p.polygon([(0.45, 0), (1, -0.5), (0.85, 0), (1, 0.5)], "second")
    p.polygon([(-0.2, -0.38), (0.15, -0.72), (0.3, -0.3)], "second")
    p.ellipse(-0.15, 0, 0.78, 0.45)
    p.line(arc(-0.45, 0, 0.18, 0.32, -70, 70), 0.05, "dark")
    p.ellipse(-0.65, -0.1, 0.1, fill="white")
    p.ellipse(-0.66, -0.1, 0.05, fill="black")


def bird(p: Pen) -> None:
    p.line([(-0.1, 0.5), (-0.12, 0.95)], 0.06, "orange")
    p.line([(0.15, 0.5), (0.17, 0.95)], 0.06, "orange")
    p.polygon([(0.4, 0.1), (1, -0.2), (0.95, 0.2), (0.45, 0.45)], "second")
    p.ellipse(0.08, 0.15, 0.58, 0.45)
    p.ellipse(-0.45, -0.4, 0.35)
    p.polygon([(-0.75, -0.5), (-1.05, -0.33), (-0.73, -0.25)], "orange")
    p.ellipse(0.2, 0.12, 0.34, 0.22, "second", 20)
    p.ellipse(-0.52, -0.48, 0.06, fill="black")


def butterfly(p: Pen) -> None:
    for side in (-1, 1):
        p.ellipse(side * 0.5, -0.35, 0.5, 0.4, "main", side * -35)
        p.ellipse(side * 0.42, 0.42, 0.36, 0.33, "second", side * 30)
        p.ellipse(side * 0.56, -0.38, 0.17, fill="light")
        p.line([(0, -0.5), (side * 0.2, -0.95)], 0.05, "black")
    p.ellipse(0, 0, 0.1, 0.65, "black")


def snail(p: Pen) -> None:
    p.polygon([(-0.95, 0.2), (-0.6, 0.05), (-0.5, 0.5), (0.9, 0.55), (1, 0.75), (-0.8, 0.75)], "skin")
    p.line([(-0.8, 0.15), (-0.95, -0.35)], 0.07, "skin")
    p.line([(-0.68, 0.12), (-0.65, -0.35)], 0.07, "skin")
    p.ellipse(0.15, 0.0, 0.62)
    coil = [(0.15 + r * 0.055 * cos(r * 0.9), r * 0.055 * sin(r * 0.9)) for r in range(1, 11)]
    p.line(coil, 0.09, "dark")


def spider(p: Pen) -> None:
    for side in (-1, 1):
        for y, knee, foot in ((-0.25, -0.75, -0.6), (-0.08, -0.3, 0.05), (0.08, 0.1, 0.5), (0.2, 0.45, 0.95)):
            p.line([(0, y), (side * 0.6, knee), (side * 0.98, foot)], 0.07, "black")
    p.ellipse(0, 0.25, 0.42, 0.45)
    p.ellipse(0, -0.3, 0.25)
    for x in (-0.1, 0.1):
        p.ellipse(x, -0.38, 0.06, fill="white")


def ladybug(p: Pen) -> None:
    p.ellipse(0, -0.6, 0.36, 0.3, "black")
    p.ellipse(0, 0.1, 0.75, 0.8)
    p.line([(0, -0.65), (0, 0.9)], 0.07, "black")
    for x, y in ((0.36, -0.25), (0.4, 0.25), (0.22, 0.6)):
        p.ellipse(x, y, 0.14, fill="black")
        p.ellipse(-x, y, 0.14, fill="black")


def cat(p: Pen) -> None:
    for side in (-1, 1):
        p.polygon([(side * 0.75, -0.1), (side * 0.72, -0.95), (side * 0.15, -0.5)])
        p.polygon([(side * 0.62, -0.4), (side * 0.62, -0.75), (side * 0.35, -0.5)], "pink")
    p.ellipse(0, 0.1, 0.82, 0.7)
    for side in (-1, 1):
        p.ellipse(side * 0.32, -0.05, 0.13, 0.16, "white")
        p.ellipse(side * 0.32, -0.05, 0.05, 0.14, "black")
        for y in (0.22, 0.36):
            p.line([(side * 0.2, 0.3), (side * 0.95, y)], 0.03, "dark")
    p.polygon([(-0.1, 0.2), (0.1, 0.2), (0, 0.34)], "pink")


def apple(p: Pen) -> None:
    p.line([(0, -0.4), (0.1, -0.95)], 0.1, "wood")
    p.ellipse(0.38, -0.78, 0.3, 0.13, "leafgreen", -25)
    p.ellipse(-0.3, 0.15, 0.55, 0.7, "main", -8)
    p.ellipse(0.3, 0.15, 0.55, 0.7, "main", 8)
    p.ellipse(-0.45, -0.1, 0.1, 0.2, "light", 20)


def carrot(p: Pen) -> None:
    for x in (-0.35, 0, 0.35):
        p.polygon([(-0.1, -0.45), (x - 0.1, -1), (x + 0.1, -1), (0.1, -0.45)], "leafgreen")
    p.polygon(mirror([(0.2, -0.55), (0.36, -0.4), (0.3, -0.1), (0.06, 0.9)]))
    for y, x in ((-0.2, -0.3), (0.1, 0.22), (0.35, -0.15)):
        p.line([(x, y), (x * 0.2, y + 0.03)], 0.05, "dark")


def cherry(p: Pen) -> None:
    p.line([(-0.45, 0.4), (-0.2, -0.3), (0.25, -0.9)], 0.07, "leafgreen")
    p.line([(0.5, 0.4), (0.45, -0.3), (0.25, -0.9)], 0.07, "leafgreen")
    p.ellipse(-0.12, -0.8, 0.38, 0.16, "leafgreen", 15)
    for x in (-0.48, 0.5):
        p.ellipse(x, 0.5, 0.44)
        p.ellipse(x - 0.15, 0.33, 0.08, 0.13, "white", 30)


def pizza(p: Pen) -> None:
    p.polygon([(-0.8, -0.6), (0.8, -0.6), (0, 1)], "main")
    p.polygon([*arc(0, -0.6, 0.9, 0.32, 180, 360), (0.86, -0.45), (-0.86, -0.45)], "wood")
    for x, y, r in ((-0.32, -0.2, 0.17), (0.3, -0.15, 0.16), (0, 0.3, 0.15)):
        p.ellipse(x, y, r, fill="second")


def ice_cream(p: Pen) -> None:
    p.polygon([(-0.42, 0), (0.42, 0), (0, 1)], "cone")
    p.line([(-0.25, 0.05), (0.15, 0.6)], 0.04, "wood")
    p.line([(0.25, 0.05), (-0.15, 0.6)], 0.04, "wood")
    p.ellipse(0, -0.15, 0.5, 0.38)
    if p.rng.random() < 0.6:
        p.ellipse(0, -0.55, 0.4, 0.38, "second")
        p.ellipse(0.05, -0.93, 0.12, fill="crimson")


def cake(p: Pen) -> None:
    p.line([(0, -0.3), (0, -0.75)], 0.09, "white")
    p.ellipse(0, -0.85, 0.08, 0.14, "orange")
    p.box(-0.55, -0.38, 0.55, 0.15, "second", 0.06)
    p.box(-0.9, 0.05, 0.9, 0.8, "main", 0.08)
    drip = [(-0.9, 0.02)]
    for i in range(7):
        drip += [(-0.9 + 0.3 * i - 0.08, 0.2), (-0.9 + 0.3 * i + 0.08, 0.34)]
    p.polygon([*[(max(-0.9, min(0.9, x)), y) for x, y in drip], (0.9, 0.02)], "light")


NATURE = {
    "star": star, "heart": heart, "moon": moon, "sun": sun, "cloud": cloud, "tree": tree, "flower": flower,
    "leaf": leaf, "mushroom": mushroom, "cactus": cactus, "mountain": mountain, "fish": fish, "bird": bird,
    "butterfly": butterfly, "snail": snail, "spider": spider, "ladybug": ladybug, "cat": cat, "apple": apple,
    "carrot": carrot, "cherry": cherry, "pizza": pizza, "ice cream": ice_cream, "cake": cake,
}  # fmt: skip
