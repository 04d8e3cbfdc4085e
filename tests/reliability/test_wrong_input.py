"""Nothing that a user can cause ends in a traceback: wrong settings, missing and damaged files, through every job."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import storage
from jobs import build_concept_pool, build_pairs, cli, evaluate, relabel, train_localizer, train_student
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

Main = Callable[[list[str]], int]
PLAIN = ["--runtime=local", "--localizer.kind=grid", "--localizer.max_proposals=9", "--pool.min_count=1"]


@pytest.fixture(autouse=True)
def quiet_world(monkeypatch: pytest.MonkeyPatch, color_teacher: None) -> None:
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.0)


@pytest.fixture
def color_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small input and the dataset of it, never changed."""
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    root = tmp_path_factory.mktemp("made")
    source = worlds.coco_folder(root / "input", 8)
    before, teachers.load = teachers.load, lambda settings: ColorTeacher()
    try:
        align = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")
        build(worlds.settings(root / "out", source, workers=1, align=align), LocalRunner())
    finally:
        teachers.load = before
    return root


def ended(
    main: Main, argv: list[str], capsys: pytest.CaptureFixture[str], codes: tuple[int, ...] = (2,)
) -> str:
    """What a job says on stderr as it ends with one of `codes`: short, and no traceback (which would be raised here)."""
    capsys.readouterr()
    try:
        code: Any = main(argv)
    except SystemExit as e:
        code = e.code
    error = capsys.readouterr().err
    assert code in codes, f"{code}: {error}"
    lines = error.strip().splitlines()
    assert 1 <= len(lines) <= 3, error
    assert "Traceback" not in error
    assert all(len(line) < 2000 for line in lines)
    return error


def coco(root: Path, *more: str) -> list[str]:
    folder = root / "input"
    given = [] if any(a.startswith("--source.urls") for a in more) else [
        "--source.kind=coco", f"--source.images={folder}/images", f"--source.captions={folder}/captions.json",
    ]  # fmt: skip
    return [*PLAIN, *given, *more]


def _file(path: Path, data: bytes = b"nothing of use") -> Path:
    path.write_bytes(data)
    return path


def _large_json(path: Path) -> Path:
    """20 MB of JSON with one bad byte in the middle."""
    data = bytearray(b'{"images": [' + b'{"id": 1, "file_name": "1.jpg"}, ' * 600_000 + b"]}")
    data[len(data) // 2] = 0xFF
    return _file(path, bytes(data))


def _parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


#: name -> (arguments behind those of a good COCO build, what the line must say); `{t}` is an empty folder.
BUILD = {
    "no images": (["--source.images={t}/none"], "source.images"),
    "a file for the images": (["--source.images={file}"], "source.images"),
    "no captions": (["--source.captions={t}/none.json"], "none.json"),
    "a folder for the captions": (["--source.captions={t}"], "COCO captions JSON|folder"),
    "empty captions": (["--source.captions={empty}"], "empty"),
    "captions that are no text": (["--source.captions={file}"], "file.bin"),
    "large captions with a bad byte": (["--source.captions={large}"], "large.json"),
    "out is a file": (["--out={file}"], "file.bin"),
    "out below a file": (["--out={file}/x"], "file.bin"),
    "out that may not be written": (["--out={locked}/x"], "locked|/sys/"),
    "out of an unknown protocol": (["--out=foo://bucket/x"], "foo"),
    "out whose name holds a NUL": (["--out=a\0b"], "out|null|NUL"),
    "out in an archive": (["--out=zip://x.zip"], "zip"),
    "an unknown source": (["--source.kind=magic"], "magic"),
    "an unknown teacher": (["--teacher.kind=magic"], "magic"),
    "an unknown localizer": (["--localizer.kind=magic"], "magic"),
    "an unknown key": (["--colour=red"], "colour"),
    "a number that is none": (["--samples_per_shard=many"], "samples_per_shard"),
    "a number out of range": (["--samples_per_shard=0"], "samples_per_shard"),
    "NaN": (["--align.tau=nan"], "align.tau"),
    "no configuration": (["--config={t}/none.yaml"], "none.yaml"),
    "a folder as configuration": (["--config={t}"], "config"),
    "a configuration that is no YAML": (["--config={bad_yaml}"], "config|yaml"),
    "a configuration that is a list": (["--config={list_yaml}"], "config|list"),
    "no pool": (["--pool.path={t}/none"], "none"),
    "a pool that is a file": (["--pool.path={file}"], "file.bin"),
    "a pool that is an empty folder": (["--pool.path={t}"], "pool|concepts"),
    "no templates": (["--pool.templates={t}/none.txt"], "none.txt"),
    "templates that are no text": (["--pool.templates={file}"], "templates|file.bin"),
    "no localizer weights": (["--localizer.kind=rpn-lite", "--localizer.checkpoint={t}/none"], "none"),
    "localizer weights that are none": (["--localizer.kind=rpn-lite", "--localizer.checkpoint={file}"], "file.bin"),
    "no tar": (["--source.kind=webdataset", "--source.urls={t}/*.tar"], r"\*\.tar"),
    "a tar that is none": (["--source.kind=webdataset", "--source.urls={file}"], "damaged_tar"),
    "an empty tar": (["--source.kind=webdataset", "--source.urls={empty}"], "damaged_tar|no samples"),
    "parquet that is none": (["--source.kind=parquet", "--source.urls={file}"], "damaged_parquet|no caption"),
    "parquet without captions": (["--source.kind=parquet", "--source.urls={no_captions}"], "has the columns a"),
    "parquet without rows": (["--source.kind=parquet", "--source.urls={no_rows}"], "no samples"),
    "a server that is not there": (["--source.kind=webdataset", "--source.urls=http://127.0.0.1:1/a.tar"], "127"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILD)
def test_a_build_that_cannot_be_is_one_line(name, made, tmp_path, capsys):
    import re

    more, says = BUILD[name]
    locked = Path("/sys") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid() != 0:
        locked.mkdir(mode=0o500)
    folder = tmp_path / "empty"
    folder.mkdir()
    places = {
        "t": folder,
        "locked": locked,
        "file": _file(tmp_path / "file.bin", b"\x00\x01nothing of use\xff" * 40),
        "empty": _file(tmp_path / "nothing.json", b""),
        "bad_yaml": _file(tmp_path / "bad.yaml", b"a: [1, 2\n\x00"),
        "list_yaml": _file(tmp_path / "list.yaml", b"- 1\n- 2\n"),
        "large": "{large}",
        "no_captions": _parquet(tmp_path / "n.parquet", a=[1, 2]),
        "no_rows": _parquet(tmp_path / "e.parquet", caption=[], image=[]),
    }
    if "large" in str(more):
        places["large"] = _large_json(tmp_path / "large.json")
    argv = [a.format(**places) for a in more]
    out = [] if any(a.startswith("--out") for a in argv) else [f"--out={tmp_path}/out"]
    error = ended(build_pairs.main, coco(made, *out, *argv), capsys, (1, 2))
    assert re.search(says, error), error


DAMAGES = ("gone", "empty", "cut", "noise", "zeros", "folder")


def _harm(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        half = len(data) // 2
        path.write_bytes(
            {
                "empty": b"",
                "cut": data[:half],
                "noise": b"\xff\x1b]0;owned\x07" + data[:half][::-1],
                "zeros": data[:half] + bytes(len(data) - half),
            }[how]
        )


def _files_of_a_dataset(root: Path) -> list[str]:
    """One file of each kind that something reads once the build is through (the pool stands for `plan/counts`)."""
    kinds: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.parent.name not in ("counts", "units"):
            name = str(path.relative_to(root))
            kinds.setdefault(
                name if name.count("/") < 2 and "-" not in name else str(Path(name).parent), name
            )
    return list(kinds.values())


@pytest.mark.parametrize("how", DAMAGES)
def test_whatever_file_of_a_dataset_is_damaged_no_reader_ends_in_a_traceback(how, made, tmp_path, capsys):
    names = _files_of_a_dataset(made / "out")
    assert len(names) >= 12
    for name in names:
        dataset = tmp_path / "d"
        shutil.copytree(made / "out", dataset)
        _harm(dataset / name, how)
        code = cli.main(["verify", str(dataset)])
        assert code == 1 or (code == 2 and how == "folder"), f"{name} {how}: verify says {code}"
        printed = capsys.readouterr()
        assert "\x1b" not in printed.out
        assert all(len(line) < 600 for line in printed.out.splitlines()), name
        for argv in (
            ["view", str(dataset), "--out", f"{tmp_path}/p.png", "--n", "1"],
            ["pool", "show", str(dataset / "concept_pool")],
            ["pool", "search", str(dataset / "concept_pool"), "ball"],
            ["report", str(dataset), "--out", f"{tmp_path}/r.html"],
        ):
            assert cli.main(argv) in (0, 1, 2), f"{name} {how} {argv[0]}"
            printed = capsys.readouterr()
            assert len(printed.err.splitlines()) <= 1, (name, argv[0], printed.err)
            assert len(printed.err) < 2000
        out = ["--out", f"{tmp_path}/again", "--runtime", "local"]
        assert relabel.main([str(dataset), *out, "--align.threshold", "0.3"]) in (0, 1, 2), f"{name} {how}"
        assert "Traceback" not in capsys.readouterr().err
        shutil.rmtree(dataset)
        shutil.rmtree(tmp_path / "again", ignore_errors=True)


@pytest.mark.parametrize("how", ["gone", "empty", "noise", "folder"])
def test_the_same_command_mends_a_damaged_dataset_or_says_in_a_line_why_not(how, made, tmp_path, capsys):
    argv = [
        "--samples_per_shard=6", "--teacher.batch_images=4", "--pool.min_count=2", "--align.tau=0.1",
        "--align.threshold=0.2", "--align.region_embeddings=fp16", "--teacher.kind=shapes", "--workers=1",
    ]  # fmt: skip
    for name in _files_of_a_dataset(made / "out"):
        dataset = tmp_path / "d"
        shutil.copytree(made / "out", dataset)
        _harm(dataset / name, how)
        code = build_pairs.main(coco(made, *argv, f"--out={dataset}"))
        error = capsys.readouterr().err
        assert code in (0, 1, 2), name
        assert len(error.splitlines()) <= 3, (name, error)
        if code == 0 and how != "folder":
            assert cli.main(["verify", str(dataset)]) == 0, (name, how, capsys.readouterr().out)
        shutil.rmtree(dataset)


OTHERS: dict[str, tuple[Main, list[str], str]] = {
    "verify of nothing": (cli.main, ["verify", "{t}/none"], ""),
    "view of nothing": (cli.main, ["view", "{t}/none"], "none"),
    "view of a file": (cli.main, ["view", "{file}"], "file.bin"),
    "view into a folder": (cli.main, ["view", "{d}", "--out", "{t}"], ""),
    "view of minus one": (cli.main, ["view", "{d}", "--n", "-1", "--out", "{t}/p.png"], "n"),
    "report into nowhere": (cli.main, ["report", "{d}", "--out", "{file}/r.html"], "file.bin"),
    "report of minus one": (cli.main, ["report", "{d}", "--shards", "-1", "--out", "{t}/r.html"], "shards"),
    "pool of nothing": (cli.main, ["pool", "show", "{t}"], "no concept pool"),
    "pool of a file": (cli.main, ["pool", "show", "{file}"], "file.bin"),
    "diff with nothing": (cli.main, ["pool", "diff", "{d}/concept_pool", "{t}"], "no concept pool"),
    "no command": (cli.main, [], "COMMAND"),
    "an unknown command": (cli.main, ["magic"], "magic"),
    "relabel of nothing": (relabel.main, ["{t}/none", "--out", "{t}/x"], "none"),
    "relabel without out": (relabel.main, ["{d}"], "out"),
    "relabel onto itself": (relabel.main, ["{d}", "--out", "{d}"], "out"),
    "relabel with a wrong key": (relabel.main, ["{d}", "--out", "{t}/x", "--localizer.max_proposals", "8"], "build"),
    "relabel with no pool": (relabel.main, ["{d}", "--out", "{t}/x", "--pool", "{t}"], "concepts|pool"),
    "pool of no captions": (build_concept_pool.main, ["--source.kind=text", "--source.urls={t}/x", "--out={t}/p"], "x"),
    "pool of a folder": (build_concept_pool.main, ["--source.kind=coco", "--source.captions={t}", "--out={t}/p"], ""),
    "pool into a file": (
        build_concept_pool.main,
        ["--source.kind=coco", "--source.captions={c}", "--out={file}"],
        "file.bin",
    ),
    "evaluate no dataset": (evaluate.main, ["--dataset={t}/none"], "none"),
    "evaluate without a truth": (evaluate.main, ["--dataset={d}", "--truth.kind=coco"], "truth"),
    "evaluate with an odd truth": (
        evaluate.main,
        ["--dataset={d}", "--truth.kind=coco", "--truth.images={t}", "--truth.instances={file}"],
        "file.bin",
    ),
    "train on nothing": (train_student.main, ["--data.dataset={t}/none", "--run.out={t}/r"], "none"),
    "train on a file": (train_student.main, ["--data.dataset={file}", "--run.out={t}/r"], "file.bin"),
    "train into a file": (train_student.main, ["--config=train_tiny", "--data.dataset={d}", "--run.out={file}"], "file"),
    "train into a bucket": (train_student.main, ["--data.dataset={d}", "--run.out=s3://bucket/r"], "run.out"),
    "localizer of no boxes": (
        train_localizer.main,
        ["--kind=rpn-lite", "--backbone=random", "--data.images={t}", "--data.instances={file}", "--out={t}/l"],
        "file.bin",
    ),
    "localizer of no images": (
        train_localizer.main,
        ["--kind=rpn-lite", "--backbone=random", "--data.images={t}/none", "--data.instances={c}", "--out={t}/l"],
        "none|data.images",
    ),
    "localizer into a file": (
        train_localizer.main,
        ["--kind=rpn-lite", "--backbone=random", "--data.scenes=2", "--steps=1", "--out={file}"],
        "file.bin",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_wrong_command_is_one_line(name, made, tmp_path, capsys):
    import re

    main, argv, says = OTHERS[name]
    (tmp_path / "t").mkdir()
    places = {
        "t": tmp_path / "t",
        "file": _file(tmp_path / "file.bin", b"\x00\x01nothing of use\xff" * 40),
        "d": made / "out",
        "c": made / "input" / "captions.json",
    }
    filled = [a.format(**places) for a in argv]
    if argv[:1] == ["verify"]:
        assert main(filled) in (1, 2)
        return
    error = ended(main, filled, capsys, (1, 2))
    assert re.search(says, error), error


def test_settings_of_a_foreign_dataset_are_data(made, tmp_path, capsys):
    """Whatever `settings.yaml` holds: a line, or a dataset."""
    for text in (
        "",
        "[]",
        "a: &a [*a]",
        "align: 5",
        "align: {tau: x}",
        "!!python/object:os.system x",
        "\x00",
        "out: 1",
    ):
        dataset = tmp_path / "d"
        shutil.copytree(made / "out", dataset)
        worlds.write_settings(dataset, text)
        ended(relabel.main, [str(dataset), "--out", f"{tmp_path}/x", "--runtime=local"], capsys, (0, 1, 2))
        shutil.rmtree(dataset)
        shutil.rmtree(tmp_path / "x", ignore_errors=True)


def test_a_manifest_row_that_is_foreign_is_a_fault_and_opens_nothing(made, tmp_path, capsys):
    for change in (
        {"shard": "../../x.tar"},
        {"n_bytes": "many"},
        {"rejects": [1]},
        {"seconds": 3},
        {"n_read": 10**400},
    ):
        dataset = tmp_path / "d"
        shutil.copytree(made / "out", dataset)
        row = next((dataset / "manifest").iterdir())
        row.write_text(json.dumps(json.loads(row.read_text()) | change))
        assert cli.main(["verify", str(dataset)]) == 1, change
        assert "Traceback" not in capsys.readouterr().err
        shutil.rmtree(dataset)
