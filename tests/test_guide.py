"""The guide's commands, one after the other, on a few scenes in tars as img2dataset writes them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.shared_data import shared_data
from world import scenes

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guides" / "from_urls_to_student.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"


def blocks(language: str, page: Path = GUIDE) -> list[str]:
    """A page's code of a language: `bash` is run here, `sh` needs a network or is the reader's own."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def run(block: str, folder: Path, work: Path, **names: str) -> None:
    """Runs a block of commands in `work` as the page has it; `regionpairs` is this checkout's, by a script in `folder`."""
    program = folder / "bin" / "regionpairs"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobs.cli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **names}
    environment.pop("RAY_ADDRESS", None)
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def img2dataset_tars(folder: Path, n_tars: int = 2, n_each: int = 12) -> None:
    """What img2dataset leaves: NNNNN.tar of KEY.jpg, KEY.json and KEY.txt, and a file of statistics beside each."""
    folder.mkdir()
    for tar in range(n_tars):
        with tarfile.open(folder / f"{tar:05d}.tar", "w") as file:
            for i in range(n_each):
                number = tar * n_each + i
                key, caption = f"{tar:05d}{i:04d}", scenes.captions(0, number)[0]
                meta = {
                    "url": f"https://example.org/{number}.jpg",
                    "caption": caption,
                    "key": key,
                    "status": "success",
                }
                image = scenes.encode_jpeg(scenes.draw_scene(0, number).image)
                for extension, data in (
                    ("jpg", image),
                    ("json", json.dumps(meta).encode()),
                    ("txt", caption.encode()),
                ):
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    file.addfile(info, io.BytesIO(data))
        stats = {"count": n_each, "successes": n_each, "failed_to_download": 0}
        (folder / f"{tar:05d}_stats.json").write_text(json.dumps(stats))


def test_the_guide_goes_the_whole_way():
    words = [
        "img2dataset",
        "doctor",
        "build",
        "verify",
        "stats",
        "view",
        "refine",
        "relabel",
        "train",
        "evaluate",
        "export",
    ]
    text = "\n".join(blocks("sh") + blocks("bash"))
    assert [w for w in words if w not in text] == []


@pytest.mark.long
@pytest.mark.slow
def test_the_guides_commands_run(tmp_path):
    for extra in ("jinja2", "matplotlib"):
        pytest.importorskip(extra)
    data = tmp_path / "data"
    data.mkdir()
    img2dataset_tars(data / "images")
    names = {
        "DATA": str(data),
        "BUILD": "--config demo --pool.min_count 2 --samples_per_shard 12",
        "TRAIN": "--config train_tiny --run.steps 2 --data.batch_images 4",
        "TEACHER": "--teacher.kind shapes",
        "TRUTH": "--truth.kind shapes --truth.count 4",
    }
    for block in blocks("bash"):
        run(block, tmp_path, ROOT, **names)
    for name in ("pairs.report.html", "pairs.png", "refined.report.html", "by_caption.html", "student/student.safetensors",
                 "student.json", "coco"):  # fmt: skip
        assert (data / name).exists(), name


@pytest.mark.long
@pytest.mark.slow
def test_the_quickstarts_commands_run_on_a_folder_of_photographs(tmp_path):
    """As they stand, on a few photographs with captions beside them, and COCO's boxes of them."""
    for extra in ("jinja2", "tensorboard", "pycocotools", "transformers"):
        pytest.importorskip(extra)
    coco = shared_data() / "coco_photos"
    captions = json.loads((coco / "captions.json").read_text())
    names = {image["id"]: image["file_name"] for image in captions["images"]}
    said: dict[str, list[str]] = {}
    for row in captions["annotations"]:
        said.setdefault(names[row["image_id"]], []).append(row["caption"].strip())
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, texts in list(said.items())[:16]:
        shutil.copy(coco / "images" / name, photos)
        (photos / name).with_suffix(".txt").write_text("\n".join(texts))
    boxes = json.loads((coco / "instances.json").read_text())
    boxes["images"] = [image for image in boxes["images"] if (photos / image["file_name"]).exists()]
    ids = {image["id"] for image in boxes["images"]}
    boxes["annotations"] = [row for row in boxes["annotations"] if row["image_id"] in ids]
    (tmp_path / "instances.json").write_text(json.dumps(boxes))
    for block in blocks("bash", QUICKSTART):
        run(block, tmp_path, tmp_path)
    for name in ("pairs.report.html", "student/student.safetensors", "coco/instances.json", "student.json"):
        assert (tmp_path / name).exists(), name
