"""Rules that leave samples out: at their edges, with counts, and in a build."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from jobs import cli
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.verify import verify
from pipeline.filters import REASONS, Condition, FilterSettings, check_bytes, check_size, filter_rows
from pipeline.images import BadSample
from pipeline.language import is_english
from pipeline.run_local import LocalRunner
from pipeline.stages.index import drop_without_nouns
from tests.pipeline import worlds
from tests.shared_data import shared_data

COYO = FilterSettings(preset="coyo")


def problem(settings: FilterSettings, *captions: str, **extra) -> tuple[str, list[str]]:
    row = {"problem": "", "captions": list(captions), "extra": json.dumps(extra) if extra else ""}
    filter_rows([row], settings)
    return row["problem"].partition(":")[0], row["captions"]


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a b cd", ""), ("a b c", "short_caption"), ("red bicycle", "short_caption"), ("a red bicycle", ""),
        ("a " * 256 + "", ""), ("a " * 257, "long_caption"),
    ],
)  # fmt: skip
def test_captions_at_the_edges_of_coyos_rules(caption, reason):
    assert problem(COYO, caption.strip() if reason != "" else caption)[0] == reason
    assert problem(FilterSettings(), caption)[0] == ""


def test_a_sample_keeps_the_captions_that_pass():
    assert problem(COYO, "dog", "a dog on grass", "x") == ("", ["a dog on grass"])
    assert problem(COYO, "dog", "cat") == ("short_caption", ["dog", "cat"])


@pytest.mark.parametrize(("n_bytes", "reason"), [(5000, ""), (4999, "small_file"), (0, "")])
def test_files_at_the_edge(n_bytes, reason):
    assert caught(check_bytes, n_bytes, COYO) == reason
    assert caught(check_bytes, n_bytes, FilterSettings()) == ""


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (200, 200, ""), (199, 400, "small_image"), (400, 199, "small_image"), (600, 200, ""), (601, 200, "extreme_aspect"),
        (200, 601, "extreme_aspect"),
    ],
)  # fmt: skip
def test_images_at_the_edge(width, height, reason):
    assert caught(check_size, width, height, COYO) == reason
    assert caught(check_size, width, height, FilterSettings()) == ""


def caught(check, *arguments) -> str:
    try:
        check(*arguments)
    except BadSample as e:
        return e.reason if e.reason in REASONS else "no reason of a filter"
    return ""


def test_own_numbers_win_over_the_presets():
    assert caught(check_bytes, 100, FilterSettings(preset="coyo", min_bytes=10)) == ""
    assert caught(check_bytes, 100, FilterSettings(min_bytes=101)) == "small_file"


@pytest.mark.parametrize(
    ("condition", "value", "stays"),
    [
        ("nsfw < 0.5", 0.4, True), ("nsfw < 0.5", 0.5, False), ("nsfw<=.5e0", 0, None), ("a>=-1", -1, True),
        ("a > 1e2", 101, True), ("a == 3", 3, True),
        ("a != 3", 3, False), ("a < 1", "0", False), ("a < 1", None, False), ("a < 1", True, False),
        ("__import__('os') < 1", 0, None), ("a < b", 0, None), ("a", 0, None), ("a < 1 and b < 1", 0, None),
    ],
)  # fmt: skip
def test_conditions_are_parsed_and_never_run(condition, value, stays):
    if stays is None:
        if "import" in condition:  # a name like any other, which no column has
            assert Condition.parse(condition).name == "__import__('os')"
            return
        with pytest.raises(ValueError, match=r"filters\.columns"):
            FilterSettings(columns=[condition])
        return
    assert (Condition.parse(condition).why_not(value) == "") == stays


def test_a_column_that_is_missing_leaves_the_sample_out():
    settings = FilterSettings(columns=["nsfw < 0.5", "score > 0.2"])
    assert problem(settings, "a dog", nsfw=0.1, score=0.3)[0] == ""
    assert problem(settings, "a dog", nsfw=0.1, score=0.1)[0] == "column_filter"
    assert problem(settings, "a dog")[0] == "column_filter"


def test_settings_refuse_what_makes_no_sense(tmp_path):
    for bad in ({"preset": "laion"}, {"min_bytes": -1}, {"max_aspect": 0.5}):
        with pytest.raises(ValueError, match=r"filters\."):
            FilterSettings(**bad)
    with pytest.raises(ValueError, match=r"filters\.columns: score must be named in source\.extra"):
        worlds.settings(tmp_path, worlds.SourceSettings(), filters=FilterSettings(columns=["score > 1"]))


def test_a_build_counts_each_rule_and_no_budget_does(tmp_path, color_teacher):
    source = worlds.coco_folder(tmp_path / "source", n=9)
    settings = worlds.settings(tmp_path / "all", source, reject_budget=0.01)
    build(settings, LocalRunner())
    sizes = sorted(len(s.image) for s in Dataset.open(settings.out).samples())
    rules = FilterSettings(min_bytes=sizes[3], min_words=5)
    settings = dataclasses.replace(settings, out=str(tmp_path / "some"), filters=rules)
    summary = build(settings, LocalRunner())
    n_small = sum(size < sizes[3] for size in sizes)
    assert summary["rejects_by_reason"] == {"small_file": n_small}
    assert summary["n_samples"] == 9 - n_small < 9
    for sample in Dataset.open(settings.out).samples():
        assert [len(c.split()) for c in sample.meta["captions"]] == [6]  # "the ball is red" has four
    assert list(verify(settings.out)) == []
    everything = dataclasses.replace(
        settings, out=str(tmp_path / "few"), filters=FilterSettings(min_side_px=31)
    )
    assert build(everything, LocalRunner())["rejects_by_reason"] == {"small_image": 9}


# rules of COYO that need the parser or the corpus


@pytest.mark.parametrize(
    ("caption", "english"),
    [
        ("a red ball on a table", True), ("Hund", True), ("1 + 1", True), ("café crème brûlée", True),
        ("eine Frau und ein Hund auf der Straße", False), ("un chien et une femme dans la rue", False),
        ("una mujer con un perro en la calle", False), ("一只狗在草地上", False), ("собака на траве", False),
        ("the dog and der Hund", True),
    ],
)  # fmt: skip
def test_captions_of_other_languages_are_told_by_letters_and_stop_words(caption, english):
    assert is_english(caption) == english
    assert (problem(FilterSettings(language="en"), caption)[0] == "") == english
    assert problem(FilterSettings(language="any", preset="coyo"), f"{caption} and more")[0] == ""


def test_no_caption_of_coco_is_taken_for_another_language():
    captions = json.loads((shared_data() / "captions/coco_captions_val2017.json").read_text())["annotations"]
    wrong = [c["caption"] for c in captions if not is_english(c["caption"])]
    assert len(captions) > 25_000
    assert len(wrong) <= 25, wrong[:10]


def test_a_caption_without_a_noun_goes():
    rows = [
        {"problem": "", "captions": c, "extra": ""} for c in (["very nice and red", "a dog"], ["so good"])
    ]
    drop_without_nouns(rows, Parser(PoolSettings()), 1)
    assert rows[0]["captions"] == ["a dog"]
    assert [r["problem"].partition(":")[0] for r in rows] == ["", "no_noun"]


def test_a_caption_of_too_many_samples_goes_from_all_of_them(tmp_path, color_teacher):
    """Captions count over the whole corpus, once a sample."""
    source = worlds.coco_folder(tmp_path / "source", n=10)
    rules = FilterSettings(max_repeats=3)  # the first colour has four pictures
    settings = worlds.settings(tmp_path / "out", source, filters=rules)
    summary = build(settings, LocalRunner())
    assert summary["rejects_by_reason"] == {"frequent_caption": 4}
    assert {s.meta["captions"][0] for s in Dataset.open(settings.out).samples()} == {
        "a green boat on a table", "a blue kite on a table",
    }  # fmt: skip
    assert list(verify(settings.out)) == []
    kept = dataclasses.replace(settings, out=str(tmp_path / "all"), filters=FilterSettings(max_repeats=4))
    assert build(kept, LocalRunner())["n_samples"] == 10


def test_stats_say_what_each_rule_would_leave_out(tmp_path, color_teacher, capsys):
    """Each count is that of a build with this rule alone."""
    source = worlds.coco_folder(tmp_path / "source", n=10)
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    sizes = sorted(len(s.image) for s in Dataset.open(settings.out).samples())
    best = sorted(max(s.meta["image_text_scores"]) for s in Dataset.open(settings.out).samples())
    rules = {"min_bytes": sizes[4], "min_side_px": 31, "max_repeats": 3, "min_words": 7, "min_nouns": 1}
    rules["min_image_text_score"] = max(best[4], 1e-4)
    (tmp_path / "rules.yaml").write_text(json.dumps({"filters": rules}))
    assert cli.main(["stats", settings.out, "--filters", str(tmp_path / "rules.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_usable"], found["n_built"]) == (10, 10)
    assert found["would_remove"] == {
        "short_caption": 10, "long_caption": 0, "other_language": 0, "no_noun": 0, "frequent_caption": 4,
        "small_file": sum(size < sizes[4] for size in sizes), "small_image": 10, "extreme_aspect": 0,
        "low_image_text_score": sum(b < rules["min_image_text_score"] for b in best),
    }  # fmt: skip
    assert found["of"]["low_image_text_score"] == 10
    assert cli.main(["stats", settings.out, "--filters"]) == 0
    said = capsys.readouterr().out
    assert "small_image                 10 100.0 %" in said
    assert "near_duplicate" in said
    assert "low_image_text_score" not in said  # the preset has no such rule
    shutil.copytree(f"{settings.out}/plan", tmp_path / "planned/plan")  # nothing is built yet
    assert cli.main(["stats", str(tmp_path / "planned"), "--filters", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["n_usable"], planned["n_built"], planned["would_remove"]["small_image"]) == (10, 0, 0)
    capsys.readouterr()
    for text in ("{}", "[1", "3", "filters: {min_words: x}"):
        (tmp_path / "rules.yaml").write_text(text)
        assert cli.main(["stats", settings.out, "--filters", str(tmp_path / "rules.yaml")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
