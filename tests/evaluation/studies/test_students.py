"""Training many students: what is done is kept, and the rest goes through the map that was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.settings import TruthSettings
from evaluation.studies import students
from evaluation.studies.students import StudentRun, metrics_file, train_all
from training.settings import DataSettings, RunSettings, TrainSettings

TEST = TruthSettings(count=1)


def _runs(out: Path, n: int) -> list[StudentRun]:
    train = TrainSettings(data=DataSettings(dataset="data"), run=RunSettings(out=str(out)))
    return [StudentRun(f"student-{i}", train, {"i": i}) for i in range(n)]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the students that were trained; training itself is left out."""
    names: list[str] = []

    def train_one(run: StudentRun, test: TruthSettings) -> dict:
        assert test == TEST
        names.append(run.name)
        return {"name": run.name}

    monkeypatch.setattr(students, "train_one", train_one)
    return names


def test_a_student_that_is_done_is_not_trained_again(tmp_path: Path, trained: list[str]):
    runs = _runs(tmp_path, 3)
    done = Path(metrics_file(runs[1]))
    done.parent.mkdir(parents=True)
    done.write_text(json.dumps({"name": "student-1", "kept": True}))
    found = list(train_all(runs, TEST))
    assert [m["name"] for m in found] == ["student-1", "student-0", "student-2"]
    assert found[0]["kept"]
    assert trained == ["student-0", "student-2"]


def test_the_rest_goes_through_the_map_that_was_given(tmp_path: Path, trained: list[str]):
    def backwards(function, items):
        return [function(item) for item in reversed(items)]

    assert [m["name"] for m in train_all(_runs(tmp_path, 2), TEST, backwards)] == ["student-1", "student-0"]


def test_nothing_is_asked_of_the_map_where_all_are_done(tmp_path: Path, trained: list[str]):
    def never(function, items):
        raise AssertionError("there is nothing to train")

    assert list(train_all([], TEST, never)) == []
