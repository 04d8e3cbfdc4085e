from __future__ import annotations

import pytest

from jobs import build_pairs, cli
from jobs.arguments import parse
from pipeline.settings import BuildSettings


def resolve(*argv):
    return parse(BuildSettings, list(argv))


def test_flags_override_files_and_files_override_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("samples_per_shard: 5\nsource: {count: 9, seed: 3}\n")
    settings = resolve("--config", str(tmp_path / "c.yaml"), "--source.seed", "4", "--runtime", "local")
    assert (settings.samples_per_shard, settings.source.count, settings.source.seed) == (5, 9, 4)
    assert settings.pool.min_count == BuildSettings().pool.min_count


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--nonsense", "1"], "--nonsense"),
        (["--source.nonsense", "1"], "nonsense"),
        (["--source.count", "many"], "source.count"),
        (["--source.count", "0"], "source.count: must be at least 1"),
        (["--runtime", "spark"], "runtime"),
        (["--source.kind", "coco"], "source.captions: kind coco needs"),
        (["--align.tau", "0"], "align.tau: must be above 0"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(argv, says, capsys):
    with pytest.raises(SystemExit) as e:
        resolve(*argv)
    assert e.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_an_unknown_key_in_a_file_is_an_error(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("source: {knd: coco}\n")
    with pytest.raises(SystemExit) as e:
        resolve("--config", str(tmp_path / "c.yaml"))
    assert e.value.code == 2
    assert "knd" in capsys.readouterr().err


def test_help_explains_every_key_with_its_default(capsys):
    with pytest.raises(SystemExit) as e:
        resolve("--help")
    assert e.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "default: 64" in text
    for key in (
        "--out",
        "--source.images",
        "--pool.min_count",
        "--teacher.pretrained",
        "--localizer.kind",
        "--align.tau",
    ):
        description = text.split(f"{key} ", 2)[-1]
        assert "type:" in description[:400], key


@pytest.mark.parametrize("name", ["demo", "photos", "regionclip"])
def test_the_presets_resolve(name):
    source = ["--source.images", "/i", "--source.captions", "/c"] if name != "demo" else []
    assert resolve("--config", name, *source).out.startswith("~/regionpairs/")


def test_a_relative_path_is_refused_inside_a_submitted_job(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match="out: 'runs/x' is relative"):
        build_pairs.check(BuildSettings(out="runs/x"))
    build_pairs.check(BuildSettings(out="s3://bucket/x"))


@pytest.mark.parametrize(
    ("given", "resolved"), [("/d/*.tar", ["/d/*.tar"]), ('["a.tar", "b.tar"]', ["a.tar", "b.tar"])]
)
def test_urls_may_be_one_or_many(given, resolved):
    assert resolve("--source.kind", "webdataset", "--source.urls", given).source.url_list() == resolved


def test_a_key_that_is_nearly_right_is_named(capsys):
    with pytest.raises(SystemExit):
        resolve("--source.imags", "/i")
    assert "did you mean --source.images?" in capsys.readouterr().err


def test_a_config_that_is_nowhere_is_answered_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as e:
        resolve("--config", "nope")
    assert e.value.code == 2
    error = capsys.readouterr().err
    assert "'nope' is no file" in error
    assert "photos" in error
    assert error.count("\n") == 1


def test_the_help_begins_with_what_the_job_does_and_names_its_own_configurations(capsys):
    with pytest.raises(SystemExit):
        build_pairs.main(["--help"])
    said = capsys.readouterr().out
    head = said.splitlines()
    assert head[0].endswith("[--config NAME_OR_FILE] [--KEY VALUE ...]")  # not 40 lines of keys
    assert head[2].startswith("Captioned images in")
    assert "    python jobs/build_pairs.py --config photos --runtime local --out /data/photos ..." in head
    assert "comes with the project: demo, photos, regionclip --print_config" in " ".join(said.split())
    assert "train_tiny" not in said
    with pytest.raises(SystemExit):
        cli.main(["build", "--help"])
    typed = capsys.readouterr().out  # what was typed, and no script
    assert (
        "    regionpairs build --config photos --runtime local --out /data/photos ..." in typed.splitlines()
    )
    assert "python jobs/" not in typed
    titles = [line for line in head if line.endswith(":") and not line.startswith(" ") and line != "options:"]
    assert all(title[0].isupper() for title in titles), titles
