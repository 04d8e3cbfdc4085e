"""`regionpairs`: its commands, its one-line errors, and that nothing of foreign origin reaches the terminal raw."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import storage
from concept_pool.compare import extend_pool
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs import cli, job_commands, program
from jobs.failures import failure
from jobs.hints import EXTRAS, hint
from jobs.printable import Printable, printable
from pipeline import teachers
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from tests.fakes import ColorTeacher
from tests.pipeline import worlds

ESCAPES = "a red ball \x1b]0;owned\x07\x1b[2J\u202e\x9b1m"


@pytest.fixture
def pools(tmp_path) -> tuple[str, str]:
    """Two saved pools: the second knows a zebra besides. A caption of the first holds terminal escapes."""
    counts = Counts()
    for names in (("man", "ball"), ("man", "kitchen sink"), ("man", "dog"), ("ball", "dog", "kitchen sink")):
        counts.add_image([(f"{', '.join(names)}: {ESCAPES}", names)], frozenset())
    pool = ConceptPool.from_counts(counts, PoolSettings(min_count=1))
    pool.save(str(tmp_path / "a"))
    extend_pool(pool, ["zebra"])[0].save(str(tmp_path / "b"))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_pools_are_shown_searched_and_compared(pools, tmp_path, capsys):
    a, b = pools
    assert cli.main(["pool", "show", a, "--top", "2", "--plot", str(tmp_path / "plot.png")]) == 0
    shown = capsys.readouterr().out
    assert "man" in shown
    assert "4 classes" in shown
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["pool", "search", a, "sink"]) == 0
    assert "kitchen sink" in capsys.readouterr().out
    assert cli.main(["pool", "search", a, "nowhere"]) == 1
    assert cli.main(["pool", "diff", a, b]) == 1
    assert "zebra" in capsys.readouterr().out
    assert cli.main(["pool", "diff", a, a]) == 0


def test_captions_names_and_messages_reach_the_terminal_escaped(pools, capsys):
    assert cli.main(["pool", "search", pools[0], "ball"]) == 0
    out = capsys.readouterr().out
    assert r"a red ball \x1b]0;owned\x07\x1b[2J\u202e\x9b1m" in out
    assert cli.main(["pool", "search", pools[0], f"nowhere{ESCAPES}"]) == 1
    assert cli.main(["verify", f"/nowhere/{ESCAPES}"]) in (1, 2)
    assert cli.main(["pool", "show", f"/nowhere/{ESCAPES}"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["pool", f"{ESCAPES}"])
    said = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + said.out + said.err)


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["verify"],
        ["pool"],
        ["pool", "show"],
        ["view", "x", "--n", "many"],
        ["show", "x"],
        ["stats"],
        ["completion", "fish"],
        ["build", "--nonsense", "1"],
        ["pool", "build", "--pool.min_count", "many"],
        ["train", "--run.steps", "-"],
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(argv)
    assert e.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_not_there_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "concepts.parquet").write_bytes(b"no parquet")
    for argv in (["pool", "show", str(tmp_path / "no")], ["pool", "show", str(tmp_path)]):
        assert cli.main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_printable_leaves_good_text_alone_and_escapes_the_rest():
    assert printable("naïve 猫\tcat\n") == "naïve 猫\tcat\n"
    assert printable("\x00\x7f\r\ud800\u2028") == r"\x00\x7f\r\ud800\u2028"
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert Printable(terminal).write("猫\x1b") == 2
    terminal.flush()
    assert terminal.buffer.getvalue() == rb"\u732b\x1b"


# facts for machines


def test_pools_as_json(pools, capsys):
    a, b = pools
    assert cli.main(["pool", "show", a, "--top", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["n_classes"], len(shown["concepts"])) == (4, 2)
    assert cli.main(["pool", "search", a, "sink", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["concepts"][0]["name"] == "kitchen sink"
    assert cli.main(["pool", "diff", a, b, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["added"][0][0] == "zebra"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    """Fourteen pictures in three shards, and one that is none."""
    folder = tmp_path_factory.mktemp("dataset")
    source = worlds.coco_folder(folder / "source", n=14)
    (folder / "source" / "images" / "003.jpg").write_bytes(b"no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "load", lambda settings: ColorTeacher())
        align = AlignSettings(tau=0.1, threshold=0.2)
        build(worlds.settings(folder / "data", source, align=align), LocalRunner())
    return str(folder / "data")


def test_stats_are_those_of_the_samples(dataset, capsys):
    samples = list(Dataset.open(dataset).samples())
    assert cli.main(["stats", dataset, "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_read"], found["n_samples"], found["n_rejected"]) == (14, 13, 1)
    assert found["adds_up"]
    assert found["complete"]
    pairs = Counter(p["concept"] for s in samples for p in s.meta["pairs"])
    assert found["n_pairs"] == pairs.total()
    assert {r["concept"]: r["n_pairs"] for r in found["top_concepts"]}.items() <= pairs.items()
    assert len(found["top_concepts"]) == 2
    assert sum(found["rejects_by_reason"].values()) == 1
    assert cli.main(["stats", dataset]) == 0
    text = capsys.readouterr().out
    assert "13 written of 14 read" in text
    assert next(iter(found["rejects_by_reason"])) in text


def test_stats_of_a_dataset_that_is_still_being_built(dataset, tmp_path, capsys):
    half = tmp_path / "half"
    shutil.copytree(dataset, half)
    for name in ("summary.json", "manifest.parquet", "rejects.parquet"):
        (half / name).unlink()
    assert cli.main(["stats", str(half), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["complete"]
    assert (found["n_samples"], sum(found["rejects_by_reason"].values())) == (13, 1)


def test_a_sample_is_shown_by_its_key_and_no_image_is_read(dataset, capsys, monkeypatch):
    sample = list(Dataset.open(dataset).samples())[7]
    read = []
    whole = storage.read_bytes

    def watched(url, start=None, end=None):
        data = whole(url, start, end)
        read.append((url, len(data)))
        return data

    monkeypatch.setattr(storage, "read_bytes", watched)
    assert cli.main(["show", dataset, sample.key]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["meta"] == sample.meta
    assert found["image"]["n_bytes"] == len(sample.image)
    assert sum(found["regions"].values()) == len(sample.arrays["kept"])
    assert cli.main(["show", dataset, sample.key[:10]]) == 0
    assert json.loads(capsys.readouterr().out) == found
    from_tars = [n for url, n in read if url.endswith(".tar")]
    assert len(from_tars) == 4  # two samples, a JSON and arrays each
    tar = (Path(dataset) / "shards" / found["shard"]).stat().st_size
    assert sum(from_tars) / 2 < tar - len(sample.image)


def test_a_shard_is_shown_by_its_name(dataset, capsys):
    shard = Dataset.open(dataset).shards[1]
    for name in (shard.name, shard.part):
        assert cli.main(["show", dataset, name]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["kind"], found["sha256"]) == ("shard", shard.sha256)
        assert len(found["samples"]) == shard.n_samples


@pytest.mark.parametrize("name", ["", "zz", "a", "ffffffffffffffffffffffff", "../../etc/passwd", "000000"])
def test_what_is_not_in_the_dataset_is_one_line_that_says_what_may_be_asked_for(dataset, name, capsys):
    assert cli.main(["show", dataset, name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_verify_as_json_lists_the_faults(dataset, tmp_path, capsys):
    assert cli.main(["verify", dataset, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"]
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    (copy / "shards" / Dataset.open(dataset).shards[0].name).write_bytes(b"")
    assert cli.main(["verify", str(copy), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["whole"]
    assert Dataset.open(dataset).shards[0].name in found["faults"][0]
    assert cli.main(["verify", str(copy), "--repair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [Dataset.open(dataset).shards[0].part]
    assert cli.main(["verify", str(copy), "--repair"]) == 0
    assert "the command that built it" in capsys.readouterr().out


# jobs as commands


@pytest.mark.parametrize(("words", "job"), job_commands.JOBS.items())
def test_every_job_is_a_command_of_the_same_function(words, job, monkeypatch):
    seen = []
    module = importlib.import_module(job.module)
    monkeypatch.setattr(module, "main", lambda argv: seen.append((argv, program.name("script"))) or 3)
    assert cli.main([*words, "--out", "x"]) == 3
    assert seen == [(["--out", "x"], f"regionpairs {' '.join(words)}")]
    assert program.name("script") == "script"


def test_a_job_that_fails_says_the_command_and_not_the_script(tmp_path, capsys):
    assert cli.main(["build", "--runtime", "local", "--out", str(tmp_path / "x"), "--source.kind", "coco",
                     "--source.images", str(tmp_path), "--source.captions", str(tmp_path / "no.json")]) == 2  # fmt: skip
    assert capsys.readouterr().err.startswith("regionpairs build: ")
    with pytest.raises(SystemExit):
        cli.main(["relabel", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: regionpairs relabel DATASET --out FOLDER ")
    assert (
        "    regionpairs relabel DATASET --out /data/relabelled --pool /data/other_pool" in said.splitlines()
    )


def test_errors_say_what_to_do_next(tmp_path, capsys):
    assert cli.main(["stats", str(tmp_path)]) == 2
    assert "--out named" in capsys.readouterr().err
    error = ModuleNotFoundError("No module named 'ray'", name="ray")
    assert hint(error) == "pip install 'regionpairs[ray]'"
    assert hint(ModuleNotFoundError("No module named 'mine'", name="mine")) == ""
    assert hint(ValueError("no such thing")) == ""
    assert "--repair" in hint(
        FileNotFoundError(2, "No such file or directory", "/d/index/000001-90bbe126bbf9.parquet")
    )
    assert "--repair" in hint(
        ValueError("000000-99ba3ec938d4.tar is damaged: its sha256 is not the manifest's")
    )
    assert hint(FileNotFoundError(2, "No such file or directory", "/d/mine.parquet")) == ""
    assert "DATASET/concept_pool" in hint(FileNotFoundError("d is no concept pool: it has no pool.json"))


def test_the_extras_that_hints_name_are_there():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in EXTRAS.values())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_keys_of_jobs(shell, capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("stats", "relabel", "--align.threshold", "--run.out", "yolo-world", "--pool.min_count"):
        assert word in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_key_of_a_build(capsys):
    pytest.importorskip("shtab")
    cli.main(["completion", "bash"])
    ask = """
COMP_WORDS=(regionpairs build --align.thr); COMP_CWORD=2
_shtab_regionpairs regionpairs --align.thr build
echo "${COMPREPLY[@]}"
"""
    script = capsys.readouterr().out + ask
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["--align.threshold"]


def test_a_commands_own_help_says_what_the_list_of_commands_says(capsys):
    for words in (["verify"], ["images"], ["pool", "diff"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--help"])
        assert ended.value.code == 0
        out = capsys.readouterr().out
        assert "docs/cli.md" in out
        assert {"verify": "Re-checks every byte", "images": "Says where", "pool": "Classes gained"}[
            words[0]
        ] in out


def test_the_version_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("regionpairs 0.")


def test_a_long_command_says_on_stderr_how_far_it_is_and_answers_on_stdout(monkeypatch, capsys):
    from jobs import look_commands
    from pipeline import standing

    monkeypatch.setattr(standing, "EVERY_S", 0.0)
    monkeypatch.setattr(standing.PlainLog.__init__, "__defaults__", (0.0, standing.time.monotonic))

    def verify(dataset, repair, as_json):
        standing.tell(standing.Standing("verify", "blocks", 1, 3))
        print("the answer")
        return 0

    monkeypatch.setattr(look_commands, "verify", verify)
    assert cli.main(["verify", "d"]) == 0
    said = capsys.readouterr()
    assert said.out == "the answer\n"
    assert said.err.rstrip().endswith("verify 1/3 blocks (33 %)")


@pytest.mark.parametrize(("error", "code"), [(OSError(5, "EIO"), 1), (FileNotFoundError(2, "none"), 2)])
def test_a_command_ends_with_the_code_that_a_job_has_for_the_same_error(error, code, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("pipeline.dataset.verify.verify", fail)
    assert cli.main(["verify", "x"]) == code == failure("x.py", error)
