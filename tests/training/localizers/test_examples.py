"""Sources, augmentation and batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images import decode
from pipeline.localizers import Proposals
from tests import pictures
from training.localizers.augment import augment, clip_boxes, crop, flip_boxes, mosaic
from training.localizers.average_recall import average_recall
from training.localizers.batches import Mixture
from training.localizers.examples import CocoBoxes, Example, SceneBoxes, held_out
from training.localizers.settings import AugmentSettings

NONE = np.zeros((0, 4), np.float32)
PLAIN = AugmentSettings(canvas=64, min_side=64, max_side=64, stretch=1.0, flip=0.0, colour=0.0, mosaic=0.0)


def marked(width, height, box):
    """A black image whose box is white: where augmentation moves the pixels, the box must follow."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return Example(image, np.asarray([box], np.float32), NONE)


def bright_box(image):
    ys, xs = np.nonzero(image[:, :, 0] > 200)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("seed", range(25))
def test_boxes_follow_the_pixels(seed):
    settings = AugmentSettings(canvas=96, min_side=40, max_side=160, colour=0.0, mosaic=0.0, min_visible=0.0)
    out = augment(marked(100, 70, (30, 20, 60, 50)), settings, np.random.default_rng(seed))
    assert out.image.shape == (96, 96, 3)
    if len(out.boxes):
        np.testing.assert_allclose(out.boxes[0], bright_box(out.image), atol=1.6)
    else:
        assert not (out.image > 200).any() or len(out.ignored)


def test_mosaic_boxes_follow_the_pixels():
    parts = [marked(64, 64, (8 * i + 4, 10, 8 * i + 24, 40)) for i in range(4)]
    out = mosaic(parts, 64, np.random.default_rng(0))
    for i in range(4):
        y, x = 32 * (i // 2), 32 * (i % 2)
        found = np.asarray(bright_box(out.image[y : y + 32, x : x + 32])) + np.asarray([x, y, x, y])
        np.testing.assert_allclose(out.boxes[i], found, atol=1.1)


def test_flip_twice_is_the_same():
    boxes = np.asarray([[1, 2, 5, 9], [0, 0, 10, 4]], np.float32)
    assert np.array_equal(flip_boxes(flip_boxes(boxes, 10), 10), boxes)
    assert flip_boxes(boxes, 10)[0].tolist() == [5, 2, 9, 9]


def test_a_mostly_cut_box_is_ignored_and_not_background():
    boxes = np.asarray([[-9, 0, 1.5, 10], [-2, 0, 8, 10], [-9, 0, -1, 5]], np.float32)
    kept, cut = clip_boxes(boxes, (0, 0, 20, 20), 0.4)
    assert kept.tolist() == [[0, 0, 8, 10]]
    assert cut.tolist() == [[0, 0, 1.5, 10]]


def test_a_small_example_keeps_all_of_its_pixels():
    out = crop(marked(10, 10, (0, 0, 10, 10)), 32, 0.4, np.random.default_rng(0))
    assert (out.image == 255).all(axis=2).sum() == 100


def test_held_out_is_a_function_of_the_names():
    names = [f"{i:012d}.jpg" for i in range(50)]
    out = held_out(names, 10)
    assert len(out) == 10
    assert held_out(names[::-1], 10) == out
    assert (
        held_out([*names, "another.jpg"], 11) >= out or len(held_out([*names, "another.jpg"], 11) & out) >= 9
    )
    assert held_out(names, 0) == set()


@pytest.fixture
def coco(tmp_path):
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for i in range(6):
        Image.new("RGB", (40, 30), (i * 20, 0, 0)).save(tmp_path / f"{i}.jpg")
        data["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30})
        for crowd, bbox in ((0, [5, 5, 10, 10]), (1, [0, 0, 4, 4]), (0, [3, 3, 0, 4])):
            data["annotations"].append(
                {
                    "id": len(data["annotations"]),
                    "image_id": i,
                    "bbox": bbox,
                    "iscrowd": crowd,
                    "category_id": 1,
                }
            )
    (tmp_path / "instances.json").write_text(json.dumps(data))
    return str(tmp_path), str(tmp_path / "instances.json")


def test_coco_parts_are_disjoint_and_complete(coco):
    train, measure = (CocoBoxes(*coco, 2, part) for part in ("train", "held-out"))
    assert (len(train), len(measure)) == (4, 2)
    assert not {i.file_name for i in train.images} & {i.file_name for i in measure.images}
    example = train[0]
    assert example.boxes.tolist() == [[5, 5, 15, 15]]
    assert example.ignored.tolist() == [[0, 0, 4, 4]]


def test_odd_records_cost_themselves_alone(coco, caplog):
    folder, instances = Path(coco[0]), Path(coco[1])
    data = json.loads(instances.read_text())
    data["images"] += [
        {"id": 70},
        {"id": 71, "file_name": "../secret.jpg"},
        {"id": 72, "file_name": "gone.jpg"},
        5,
    ]
    data["annotations"] += [{"image_id": 0, "bbox": [1, "x", 3, 4]}, {"bbox": [1, 2, 3, 4]}, None]
    (folder.parent / "secret.jpg").write_bytes((folder / "0.jpg").read_bytes())
    instances.write_bytes(b"\xef\xbb\xbf" + json.dumps(data).encode())
    train = CocoBoxes(*coco, 0, "train")
    assert [i.file_name for i in train.images] == [f"{i}.jpg" for i in range(6)]
    assert train[0].boxes.tolist() == [[5, 5, 15, 15]]
    assert "1 outside_root" in caplog.text
    assert "1 missing_file" in caplog.text


@pytest.mark.parametrize("text", ["[", "[]", "{}", '{"images": [{"id": 1, "file_name": "gone.jpg"}]}', ""])
def test_instances_that_cannot_be_used_are_one_line(coco, text):
    Path(coco[1]).write_text(text)
    with pytest.raises(ValueError, match=r"instances\.json") as e:
        CocoBoxes(*coco, 0, "train")
    assert "\n" not in str(e.value)


def test_a_photograph_is_turned_as_a_build_turns_it(coco):
    (Path(coco[0]) / "0.jpg").write_bytes(pictures.rotated_by_exif())
    assert CocoBoxes(*coco, 0, "train")[0].image.shape == decode(pictures.rotated_by_exif())[0].shape


def test_scenes_know_their_boxes_and_end():
    scenes = SceneBoxes(3, 2, 64)
    assert scenes[0].image.shape == (64, 64, 3)
    assert len(scenes[0].boxes) >= 1
    assert scenes[0].boxes.max() <= 64
    with pytest.raises(IndexError):
        scenes[2]


class Numbered:
    """Examples whose first pixel says which one it is."""

    def __init__(self, count, tag):
        self.count, self.tag = count, tag

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, :, 0], image[:, :, 1] = index, self.tag
        return Example(image, NONE, NONE)


def test_every_pass_visits_each_example_once_in_a_new_order():
    mixture = Mixture([Numbered(16, 0)], [1.0], seed=0)
    seen = [int(e.image[0, 0, 0]) for step in range(8) for e in mixture.batch(step, 4, 0, 1, PLAIN)]
    assert sorted(seen[:16]) == list(range(16))
    assert sorted(seen[16:]) == list(range(16))
    assert seen[:16] != seen[16:]


@pytest.mark.parametrize(
    "weights", [[1.0, 1.0], [3.0, 1.0], [1.0, 2.0], [0.3, 0.3, 0.4], [1.0, 1e-7], [5, 3, 2, 1]]
)
def test_of_several_sources_too_each_pass_visits_each_example_once(weights):
    mixture = Mixture([Numbered(16, tag) for tag in range(len(weights))], weights, seed=0)
    seen = [mixture.address(p) for p in range(16 * 12)]
    share = np.asarray(weights) / sum(weights)
    for which in range(len(weights)):
        own = [index for source, index, _ in seen if source == which]
        assert abs(len(own) - len(seen) * share[which]) <= len(weights)
        for start in range(0, len(own) - 15, 16):
            assert sorted(own[start : start + 16]) == list(range(16))


def test_weights_are_shares_of_the_stream():
    mixture = Mixture([Numbered(50, 0), Numbered(50, 1)], [3.0, 1.0], seed=0)
    tags = [int(e.image[0, 0, 1]) for step in range(100) for e in mixture.batch(step, 8, 0, 1, PLAIN)]
    assert 0.2 < np.mean(tags) < 0.3


def test_a_step_is_the_same_whenever_it_is_asked_for():
    settings = AugmentSettings(canvas=64, min_side=40, max_side=90)
    one, two = (Mixture([Numbered(16, 0)], [1.0], seed=5) for _ in range(2))
    for step in range(3):
        one.batch(step, 4, 0, 1, settings)
    for a, b in zip(one.batch(3, 4, 0, 1, settings), two.batch(3, 4, 0, 1, settings), strict=True):
        assert np.array_equal(a.image, b.image)


def test_workers_share_a_step_without_overlap():
    mixture = Mixture([Numbered(16, 0)], [1.0], seed=0)
    seen = [
        int(e.image[0, 0, 0]) for w in range(2) for s in range(2) for e in mixture.batch(s, 4, w, 2, PLAIN)
    ]
    assert sorted(seen) == list(range(16))


def test_views_take_turns():
    settings = AugmentSettings(canvas=64, min_side=40, max_side=90, mosaic=0.0)
    mixture = Mixture([Numbered(4, 0)], [1.0], seed=0, views=2)
    passes = [{e.view[1]: e for e in mixture.batch(s, 4, 0, 1, settings)} for s in range(4)]
    for index in range(4):
        assert passes[0][index] is passes[2][index]
        assert not np.array_equal(passes[0][index].image, passes[1][index].image)


def slow_recall(boxes, proposals, limit):
    """Mean over IoU thresholds of the share of boxes that a greedy one-to-one matching finds."""
    rates = []
    for threshold in np.arange(0.5, 1.0, 0.05):
        found = total = 0
        for truth, (candidates, scores) in zip(boxes, proposals, strict=True):
            taken = set()
            for i in np.argsort(-scores, kind="stable")[:limit]:
                ious = [overlap(candidates[i], t) if j not in taken else -1 for j, t in enumerate(truth)]
                if ious and max(ious) >= threshold - 1e-9:
                    taken.add(int(np.argmax(ious)))
            found += len(taken)
            total += len(truth)
        rates.append(found / total)
    return float(np.mean(rates))


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def test_average_recall_equals_a_slow_twin():
    rng = np.random.default_rng(0)
    examples, proposals = [], []
    for _ in range(6):
        low = rng.uniform(0, 60, (4, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 40, (4, 2))], axis=1).astype(np.float32)
        candidates = np.concatenate(
            [boxes + rng.normal(0, 2, boxes.shape), boxes + rng.normal(0, 9, boxes.shape)]
        )
        scores = np.sort(rng.normal(size=8).astype(np.float32))[::-1].copy()
        rng.shuffle(candidates)
        examples.append(Example(np.zeros((100, 100, 3), np.uint8), boxes, NONE))
        proposals.append(Proposals((candidates / 100).astype(np.float32), scores))
    pairs = [(p.boxes_xyxy_norm * 100, p.objectness) for p in proposals]
    found = average_recall(examples, proposals, limits=(3, 100))
    for limit in (3, 100):
        assert found[f"ar{limit}"] == pytest.approx(
            slow_recall([e.boxes for e in examples], pairs, limit), abs=1e-6
        )
