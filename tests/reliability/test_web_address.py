"""Every command on a dataset at a web address whose server refuses, fails or cannot be trusted: one line that says what the
server said, exit code 1, and no word of damage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage
from jobs import cli
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from tests.web import Web, self_signed, serving

pytest.importorskip("aiohttp", reason="aiohttp is not installed")
WRONG = re.compile(r"damage|missing|is gone|no dataset|Traceback|SECRET|no such file", re.IGNORECASE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("web")
    align = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(
            worlds.settings(root / "data", worlds.coco_folder(root / "input", 12), align=align), LocalRunner()
        )
    return root


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[Web]:
    with serving(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.0)
    monkeypatch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())


def commands(url: str, out: Path, name: str) -> dict[str, list[str]]:
    """Every command that reads a dataset. name: of a sample in it."""
    return {
        "verify": ["verify", url],
        "stats": ["stats", url],
        "stats of filters": ["stats", url, "--filters"],
        "show": ["show", url, name],
        "view": ["view", url, "--out", str(out / "view.png")],
        "report": ["report", url, "--out", str(out / "report.html")],
        "export": ["export", url, "--format", "coco", "--out", str(out / "export")],
        "pool show": ["pool", "show", f"{url}/concept_pool"],
        "relabel": [
            "relabel",
            url,
            "--out",
            str(out / "relabelled"),
            "--runtime",
            "local",
            "--align.policy",
            "pool",
        ],
        "refine": ["refine", url, "--out", str(out / "refined"), "--runtime", "local"],
        "remove": [
            "remove",
            url,
            "--list",
            str(out / "list"),
            "--out",
            str(out / "removed"),
            "--runtime",
            "local",
        ],
        "merge": ["merge", url, url, "--out", str(out / "merged"), "--runtime", "local"],
        "train": ["train", "--config", "train_tiny", "--data.dataset", url, "--run.out", str(out / "run")],
        "evaluate": ["evaluate", "--dataset", url, "--truth.seed", "0", "--truth.count", "4"],
    }


NAMES = list(commands("", Path(), ""))


def _ended(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on stderr that ends with 1."""
    capsys.readouterr()
    assert cli.main(argv) == 1
    said = capsys.readouterr()
    assert not WRONG.search(said.err + said.out), said
    return said.err.strip().splitlines()[-1]


@pytest.mark.parametrize("command", NAMES)
def test_a_server_that_refuses_is_one_line(web: Web, command: str, tmp_path: Path, capsys):
    web.refuse = ("", 451)
    line = _ended(commands(f"{web.url}/data", tmp_path, "0")[command], capsys)
    assert re.search(rf"{web.url}/data/\S+: the server answers 451 Unavailable For Legal Reasons", line)


@pytest.mark.parametrize("command", ["verify", "show", "train", "relabel"])
def test_a_certificate_that_is_not_trusted_is_one_line(folder: Path, command: str, tmp_path: Path, capsys):
    with serving(folder, self_signed(tmp_path)) as server:
        url = f"https://localhost:{server.server_address[1]}/data"
        line = _ended(commands(url, tmp_path, "0")[command], capsys)
    assert re.search(rf"{url}/\S+: the server's certificate is not trusted: self-signed certificate", line)


@pytest.mark.parametrize(("command", "below"), [
    ("verify", "/shards/"), ("verify", "/manifest"), ("verify", "/rejects"), ("verify", "/index/"),
    ("verify", "concept_pool"), ("show", "/shards/"), ("export", "/shards/"), ("remove", "/shards/"),
    ("relabel", "/shards/"), ("stats", "settings.yaml"),
])  # fmt: skip
def test_a_file_that_a_server_refuses_is_neither_damaged_nor_missing(
    web: Web, folder: Path, command: str, below: str, tmp_path: Path, capsys
):
    name = next(Dataset.open(str(folder / "data")).samples()).key
    (tmp_path / "list").write_text(f"{name}\n")
    web.refuse = (below, 403)
    line = _ended(commands(f"{web.url}/data", tmp_path, name)[command], capsys)
    assert re.search(rf"{web.url}/data/\S+: the server answers 403 Forbidden", line)


def test_an_image_that_is_not_there_is_a_reject_and_one_that_is_refused_fails_its_part(
    web: Web, folder: Path, tmp_path: Path, capsys
):
    """Half of the images: those of the second part."""
    argv = [
        "build",
        "--runtime=local",
        f"--out={tmp_path / 'out'}",
        "--source.kind=coco",
        "--teacher.kind=shapes",
    ]
    argv += [
        f"--source.images={web.url}/input/images",
        f"--source.captions={folder / 'input' / 'captions.json'}",
    ]
    argv += [
        "--localizer.kind=grid",
        "--samples_per_shard=6",
        "--pool.min_count=2",
        "--workers=1",
        "--report=false",
    ]
    web.refuse = (r"/0(00|03)\.jpg", 403)
    line = _ended([*argv, "--reject_budget=0.5"], capsys)
    assert re.search(r"of 2 parts failed .* the same command goes on", line)
    assert f"{web.url}/input/images/0" in line
    assert "the server answers 403 Forbidden" in line
    web.refuse = (r"/0(00|03)\.jpg", 410)
    assert cli.main([*argv, "--reject_budget=0.5"]) == 0
    assert "2 missing_file" in capsys.readouterr().out
