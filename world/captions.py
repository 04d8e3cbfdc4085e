"""Captions of the known-truth world, as the web writes them: partial, padded, sometimes wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

_PLURALS = {"leaf": "leaves", "fish": "fish", "snowman": "snowmen"}
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_SINGLE = [
    "{}", "a photo of {}", "a drawing of {}", "a picture of {}", "there is {} here", "an image showing {}",
    "{} on a colorful background", "look at {}", "{}, free stock illustration", "my favorite picture of {}",
    "a painting with {} in it", "{} in the corner", "vintage poster with {}", "a close up of {}",
    "{}, detailed wallpaper", "we saw {} today", "a sketch of {} for kids", "{} for sale",
]  # fmt: skip
_PAIR = [
    "{} and {}", "{} next to {}", "{} with {}", "{} beside {}", "{} near {} on a sunny day", "{} above {}",
    "a picture of {} and {}", "{} in front of {}", "you can see {} and {}", "{} together with {}",
    "a cartoon of {} and {}", "{} behind {}",
]  # fmt: skip
_MANY = ["{}, {} and {}", "a collage of {}, {} and {}", "a scene with {}, {} and {}", "{} between {} and {}"]
_CHATTER = [
    "lovely colors in this picture", "untitled artwork from my sketchbook", "a busy scene",
    "design of the week", "a beautiful pattern for your wall", "image by a local artist",
]  # fmt: skip


def plural(kind: str) -> str:
    """The plural of a kind's name; a compound bends its last word."""
    if kind in _PLURALS:
        return _PLURALS[kind]
    if kind.endswith("y") and kind[-2] not in "aeiou":
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith(("s", "sh", "ch", "x")) else "s")


def captions_for(
    objects: Sequence[tuple[str, str, float]], all_kinds: Sequence[str], rng: random.Random
) -> list[str]:
    """2-5 captions of a scene. objects: (kind, colour, size) each, size a share of the scene's shorter side.

    Of the captions about 4 % describe another scene, 6 % say nothing of the objects, and 5 % of the things
    they name are not there.
    """
    captions = []
    for _ in range(rng.randint(2, 5)):
        draw = rng.random()
        if draw < 0.06:
            captions.append(rng.choice(_CHATTER))
        elif draw < 0.10:
            captions.append(_caption([(rng.choice(all_kinds), "", 0.3)], all_kinds, rng))
        else:
            captions.append(_caption(objects, all_kinds, rng))
    return captions


def _caption(objects: Sequence[tuple[str, str, float]], all_kinds: Sequence[str], rng: random.Random) -> str:
    groups = Counter(kind for kind, _, _ in objects)
    kinds = sorted(
        groups, key=lambda k: -max(s for kind, _, s in objects if kind == k) * rng.uniform(0.5, 1.5)
    )
    named = kinds[: rng.choice([1, 1, 2, 2, 3])]
    phrases = [_phrase(kind, [o for o in objects if o[0] == kind], all_kinds, rng) for kind in named]
    if len(phrases) == 3:
        text = rng.choice(_MANY).format(*phrases)
    elif len(phrases) == 2:
        text = rng.choice(_PAIR).format(*phrases)
    else:
        text = rng.choice(_SINGLE).format(*phrases)
    return text[0].upper() + text[1:] + "." if rng.random() < 0.4 else text


def _phrase(
    kind: str, group: Sequence[tuple[str, str, float]], all_kinds: Sequence[str], rng: random.Random
) -> str:
    if rng.random() < 0.05:
        kind = rng.choice(all_kinds)
    _, color, size = group[0]
    words = []
    if rng.random() < 0.2:
        words.append(rng.choice(["big", "large", "huge"] if size > 0.36 else ["small", "little", "tiny"]))
    if color and len({c for _, c, _ in group}) == 1 and rng.random() < 0.5:
        words.append(color)
    if len(group) > 1 and rng.random() < 0.85:
        return " ".join([rng.choice([_NUMBERS[len(group)], "some", "several"]), *words, plural(kind)])
    words.append(kind)
    article = rng.choice(["a", "a", "a", "the"])
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words])
