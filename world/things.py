"""Kinds of the known-truth world: made things. Each function draws one kind with a pen."""

from __future__ import annotations

from math import cos, pi, sin

from world.pen import Pen, arc, mirror


def umbrella(p: Pen) -> None:
    p.line([(0, -0.9), (0, 0.7), *arc(-0.15, 0.75, 0.15, 0.18, 0, 180, n=8)], 0.08, "dark")
    scallops = []
    for i in range(4):
        scallops += arc(0.75 - 0.5 * i, 0.0, 0.25, 0.16, 0, -180, n=7)
    p.polygon(arc(0, 0, 1, 0.82, 180, 360) + scallops)
    p.polygon([(-0.5, 0), (-0.3, -0.45), (0, -0.82), (0, -0.15), (-0.25, -0.16)], "second")
    p.polygon([(0.5, 0), (0.3, -0.45), (0.05, -0.8), (0.6, -0.6), (0.98, -0.02), (0.75, -0.16)], "second")


def traffic_light(p: Pen) -> None:
    p.box(-0.07, 0.6, 0.07, 1, "black")
    p.box(-0.36, -1, 0.36, 0.68, "main", 0.1)
    for y, color in ((-0.68, "crimson"), (-0.16, "gold"), (0.36, "leafgreen")):
        p.ellipse(0, y, 0.22, fill=color)


def house(p: Pen) -> None:
    p.box(0.3, -0.85, 0.52, -0.3, "dark")
    p.box(-0.7, -0.1, 0.7, 0.9)
    p.polygon([(-0.95, -0.05), (0, -0.9), (0.95, -0.05)], "second")
    p.box(-0.18, 0.35, 0.18, 0.9, "wood")
    for x in (-0.55, 0.28):
        p.box(x, 0.1, x + 0.27, 0.38, "sky")


def car(p: Pen) -> None:
    p.polygon([(-0.6, -0.05), (-0.35, -0.48), (0.35, -0.48), (0.62, -0.05)])
    p.box(-1, -0.08, 1, 0.35, "main", 0.1)
    p.polygon([(-0.46, -0.05), (-0.28, -0.38), (-0.04, -0.38), (-0.04, -0.05)], "sky")
    p.polygon([(0.04, -0.05), (0.04, -0.38), (0.29, -0.38), (0.46, -0.05)], "sky")
    for x in (-0.55, 0.55):
        p.ellipse(x, 0.35, 0.24, fill="black")
        p.ellipse(x, 0.35, 0.1, fill="gray")


def sailboat(p: Pen) -> None:
    p.line([(0, -0.95), (0, 0.5)], 0.07, "wood")
    p.polygon([(0.08, -0.9), (0.75, 0.32), (0.08, 0.32)])
    p.polygon([(-0.08, -0.65), (-0.6, 0.32), (-0.08, 0.32)], "second")
    p.polygon([(-0.95, 0.45), (0.95, 0.45), (0.6, 0.9), (-0.6, 0.9)], "wood")


def rocket(p: Pen) -> None:
    p.polygon([(-0.15, 0.55), (0, 1), (0.15, 0.55)], "orange")
    for side in (-1, 1):
        p.polygon([(side * 0.25, 0.1), (side * 0.62, 0.65), (side * 0.25, 0.55)], "second")
    p.polygon(mirror([(0, -1), (0.22, -0.6), (0.3, -0.1), (0.25, 0.6)]))
    p.ellipse(0, -0.3, 0.15, fill="sky")


def balloon(p: Pen) -> None:
    p.line([(0, 0.4), (0.08, 0.6), (-0.06, 0.8), (0.03, 1)], 0.045, "dark")
    p.ellipse(0, -0.3, 0.58, 0.7)
    p.polygon([(-0.1, 0.5), (0.1, 0.5), (0, 0.36)])
    p.ellipse(-0.22, -0.58, 0.1, 0.2, "light", 25)


def kite(p: Pen) -> None:
    p.line([(0, 0.4), (0.2, 0.6), (-0.05, 0.75), (0.15, 1)], 0.05, "dark")
    for x, y in ((0.17, 0.6), (0.0, 0.78)):
        p.polygon(
            [(x - 0.16, y - 0.08), (x + 0.16, y + 0.08), (x + 0.16, y - 0.08), (x - 0.16, y + 0.08)], "second"
        )
    p.polygon([(0, -1), (0.6, -0.35), (0, 0.45), (-0.6, -0.35)])
    p.polygon([(0, -1), (0.6, -0.35), (0, -0.35)], "second")
    p.polygon([(0, 0.45), (-0.6, -0.35), (0, -0.35)], "second")


def candle(p: Pen) -> None:
    p.ellipse(0, 0.82, 0.55, 0.17, "second")
    p.box(-0.24, -0.25, 0.24, 0.85)
    p.line([(0, -0.25), (0, -0.42)], 0.05, "black")
    p.polygon(mirror([(0, -1), (0.13, -0.68), (0.15, -0.52), (0.08, -0.4)]), "gold")


def light_bulb(p: Pen) -> None:
    p.box(-0.25, 0.4, 0.25, 0.9, "gray", 0.05)
    for y in (0.55, 0.72):
        p.line([(-0.25, y), (0.25, y)], 0.05, "black")
    p.polygon([*arc(0, -0.3, 0.62, 0.65, 150, 390), (0.25, 0.42), (-0.25, 0.42)])
    p.line([(-0.12, 0.4), (-0.2, -0.15), (0, -0.35), (0.2, -0.15), (0.12, 0.4)], 0.05, "dark")


def key(p: Pen) -> None:
    p.line(arc(0, -0.6, 0.3, 0.3, 0, 360), 0.2, "main")
    p.line([(0, -0.3), (0, 1)], 0.17, "main")
    p.line([(0, 0.9), (0.38, 0.9)], 0.15, "main")
    p.line([(0, 0.6), (0.3, 0.6)], 0.15, "main")


def anchor(p: Pen) -> None:
    p.line(arc(0, -0.8, 0.15, 0.15, 0, 360), 0.1, "main")
    p.line([(0, -0.65), (0, 0.85)], 0.16, "main")
    p.line([(-0.42, -0.42), (0.42, -0.42)], 0.14, "main")
    p.line(arc(0, 0.1, 0.75, 0.75, 15, 165), 0.16, "main")
    for side in (-1, 1):
        p.polygon([(side * 0.92, 0.42), (side * 0.72, 0.02), (side * 0.5, 0.4)])


def arrow(p: Pen) -> None:
    w = p.rng.uniform(0.13, 0.24)
    p.polygon(mirror([(0, -1), (0.55, -0.35), (w, -0.35), (w, 0.95)]))


def crown(p: Pen) -> None:
    p.polygon([(-0.9, -0.45), (-0.45, 0.0), (0, -0.7), (0.45, 0.0), (0.9, -0.45), (0.72, 0.6), (-0.72, 0.6)])
    p.box(-0.74, 0.38, 0.74, 0.62, "second")
    for x, y in ((-0.9, -0.5), (0, -0.75), (0.9, -0.5)):
        p.ellipse(x, y, 0.11, fill="second")


def bell(p: Pen) -> None:
    p.ellipse(0, -0.82, 0.14)
    p.ellipse(0, 0.75, 0.18, fill="dark")
    p.polygon(mirror([(0.05, -0.85), (0.35, -0.65), (0.48, -0.1), (0.55, 0.3), (0.85, 0.65)]))
    p.line([(-0.55, 0.4), (0.55, 0.4)], 0.07, "dark")


def clock(p: Pen) -> None:
    p.ellipse(0, 0, 1)
    p.ellipse(0, 0, 0.8, fill="white")
    for i in range(12):
        t = pi * i / 6
        p.ellipse(0.66 * cos(t), 0.66 * sin(t), 0.05, fill="black")
    for length, width in ((0.58, 0.07), (0.38, 0.1)):
        t = p.rng.uniform(0, 2 * pi)
        p.line([(0, 0), (length * cos(t), length * sin(t))], width, "black")


def envelope(p: Pen) -> None:
    p.box(-1, -0.65, 1, 0.65)
    p.line([(-1, 0.65), (-0.2, 0), (0.2, 0), (1, 0.65)], 0.05, "dark")
    p.polygon([(-1, -0.65), (1, -0.65), (0, 0.18)], "light")
    p.line([(-1, -0.65), (0, 0.18), (1, -0.65)], 0.06, "dark")


def lamp(p: Pen) -> None:
    p.line([(0, -0.1), (0, 0.85)], 0.1, "dark")
    p.box(-0.45, 0.8, 0.45, 0.95, "dark", 0.04)
    p.polygon([(-0.4, -0.9), (0.4, -0.9), (0.75, 0.02), (-0.75, 0.02)])
    p.ellipse(0, 0.08, 0.14, fill="gold")


def chair(p: Pen) -> None:
    p.box(-0.6, -1, -0.42, 1, "main")
    p.box(0.42, 0.2, 0.58, 1, "main")
    for y in (-0.85, -0.45):
        p.box(-0.45, y, -0.2 + 0.05, y + 0.16, "second")
    p.polygon([(-0.6, 0.05), (0.5, 0.05), (0.68, 0.3), (-0.6, 0.3)], "second")
    p.box(-0.22, -1, -0.08, 0.1, "main")


def ladder(p: Pen) -> None:
    for side in (-1, 1):
        p.line([(side * 0.3, -1), (side * 0.42, 1)], 0.13, "main")
    for y in (-0.7, -0.3, 0.1, 0.5, 0.85):
        p.line([(-0.34, y), (0.34, y)], 0.11, "main")


def hammer(p: Pen) -> None:
    p.box(-0.1, -0.6, 0.1, 1, "wood")
    p.box(-0.55, -0.95, 0.25, -0.45, "main", 0.06)
    p.polygon([(0.25, -0.9), (0.7, -0.5), (0.25, -0.5)])


def cup(p: Pen) -> None:
    p.line(arc(0.5, 0.05, 0.35, 0.38, -90, 90), 0.14, "main")
    p.polygon([(-0.75, -0.6), (0.55, -0.6), (0.45, 0.75), (-0.65, 0.75)])
    p.ellipse(-0.1, -0.6, 0.65, 0.18, "second")


def guitar(p: Pen) -> None:
    p.line([(0, 0.1), (0, -0.8)], 0.13, "wood")
    p.box(-0.13, -1, 0.13, -0.75, "dark")
    p.ellipse(0, 0.58, 0.5, 0.42)
    p.ellipse(0, 0.12, 0.38, 0.33)
    p.ellipse(0, 0.28, 0.15, fill="black")
    p.line([(-0.2, 0.68), (0.2, 0.68)], 0.08, "dark")
    p.line([(0, 0.68), (0, -0.8)], 0.025, "white")


def stop_sign(p: Pen) -> None:
    p.box(-0.07, 0.2, 0.07, 1, "gray")
    for r, fill in ((0.72, "white"), (0.62, "main")):
        p.polygon(
            [(r * cos(pi * (i + 0.5) / 4), -0.35 + r * sin(pi * (i + 0.5) / 4)) for i in range(8)], fill
        )
    p.box(-0.4, -0.47, 0.4, -0.23, "white")


def drum(p: Pen) -> None:
    p.polygon([*arc(0, 0.5, 0.8, 0.28, 0, 180), (-0.8, -0.35), (0.8, -0.35)])
    for i in range(4):
        x = -0.8 + 0.4 * i
        p.line([(x, -0.2), (x + 0.2, 0.62), (x + 0.4, -0.2)], 0.05, "gold")
    p.ellipse(0, -0.35, 0.8, 0.28, "cream")
    p.line([(-0.3, -0.35), (-0.8, -0.9)], 0.07, "wood")
    p.line([(0.2, -0.35), (0.75, -0.9)], 0.07, "wood")


def flag(p: Pen) -> None:
    p.line([(-0.75, -0.95), (-0.75, 1)], 0.1, "wood")
    wave = p.rng.uniform(0.05, 0.18)
    for top, fill in ((-0.85, "main"), (-0.48, "second"), (-0.11, "main")):
        xs = [-0.7 + 0.17 * i for i in range(11)]
        upper = [(x, top + wave * sin(3.5 * (x + 0.7))) for x in xs]
        p.polygon([*upper, *((x, y + 0.38) for x, y in reversed(upper))], fill)


def hat(p: Pen) -> None:
    p.ellipse(0, 0.5, 1, 0.25)
    p.polygon([(-0.52, 0.5), (-0.48, -0.65), (0.48, -0.65), (0.52, 0.5)])
    p.polygon([(-0.52, 0.48), (-0.51, 0.16), (0.51, 0.16), (0.52, 0.48)], "second")


def snowman(p: Pen) -> None:
    for side in (-1, 1):
        p.line([(side * 0.3, -0.05), (side * 0.85, -0.35)], 0.06, "wood")
    p.ellipse(0, 0.55, 0.45, fill="white")
    p.ellipse(0, -0.05, 0.34, fill="white")
    p.ellipse(0, -0.5, 0.26, fill="white")
    p.box(-0.33, -0.74, 0.33, -0.66, "black")
    p.box(-0.2, -1, 0.2, -0.7, "black")
    p.box(-0.28, -0.34, 0.28, -0.2, "main")
    p.polygon([(0, -0.52), (0.3, -0.45), (0, -0.42)], "orange")
    for x in (-0.1, 0.1):
        p.ellipse(x, -0.58, 0.035, fill="black")
    for y in (0.02, 0.4, 0.65):
        p.ellipse(0, y, 0.05, fill="black")


THINGS = {
    "umbrella": umbrella, "traffic light": traffic_light, "house": house, "car": car, "sailboat": sailboat,
    "rocket": rocket, "balloon": balloon, "kite": kite, "candle": candle, "light bulb": light_bulb,
    "key": key, "anchor": anchor, "arrow": arrow, "crown": crown, "bell": bell, "clock": clock, "envelope": envelope,
    "lamp": lamp, "chair": chair, "ladder": ladder, "hammer": hammer, "cup": cup, "guitar": guitar,
    "stop sign": stop_sign, "drum": drum, "flag": flag, "hat": hat, "snowman": snowman,
}  # fmt: skip
