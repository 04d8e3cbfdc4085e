"""The 1000 classes of ImageNet as points of a sentence encoder's space, for the photo teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).parent
EMBEDDINGS = FOLDER / "photo_classes.safetensors"
#: How much of "a person" joins the classes whose pictures show one.
PERSON_WEIGHT = 0.6


def people_classes() -> list[str]:
    """Names of the classes whose pictures as a rule show a person."""
    lines = (FOLDER / "people_classes.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def class_embeddings(
    encode_text: Callable[[list[str]], torch.Tensor], person_weight: float = PERSON_WEIGHT
) -> torch.Tensor:
    """float32 [1000, D], L2-normalised: each class by its name in a photo prompt and by its synonyms and definition.

    The names are open_clip's, the synonyms and definitions WordNet's, as timm carries them. A person is mixed into
    the classes of `people_classes`: a classifier without a class for people can name them by nothing else.
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [f"a photo of a {name}." for name in IMAGENET_CLASSNAMES]
    meanings = [info.index_to_description(index, detailed=True) for index in range(len(names))]
    classes = F.normalize(_unit(encode_text(names)) + _unit(encode_text(meanings)), dim=1)
    people = [IMAGENET_CLASSNAMES.index(name) for name in people_classes()]
    person = _unit(encode_text(["a photo of a person."]))
    classes[people] = F.normalize(classes[people] + person_weight * person, dim=1)
    return classes


def save_class_embeddings(encode_text: Callable[[list[str]], torch.Tensor], path: Path = EMBEDDINGS) -> None:
    """Writes `class_embeddings` as float16: encoding 2000 texts would cost every worker's start some seconds."""
    save_file({"class_embeddings": class_embeddings(encode_text).half()}, path)


def load_class_embeddings(path: Path = EMBEDDINGS) -> torch.Tensor:
    """float32 [1000, D], L2-normalised, as saved."""
    return F.normalize(load_file(path)["class_embeddings"].float(), dim=1)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=1)
