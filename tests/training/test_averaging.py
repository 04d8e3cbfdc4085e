"""The mean of students is a student, by the function and by the command."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.model_report import load_student
from jobs import average_students, cli
from pipeline import teachers
from pipeline.teachers.settings import TeacherSettings
from training.averaging import average
from training.student import load_weights, save_weights


def _written(path, **tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.tensor(value) for name, value in tensors.items()}, path)
    return str(path)


def test_floats_are_averaged_in_their_own_type_and_counters_stay(tmp_path):
    half = torch.float16
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        values = {
            "w": torch.tensor([i, 2.0**i]),
            "h": torch.tensor([1000.0 + i], dtype=half),
            "n": torch.tensor(5 + i),
        }
        save_file(values, path)
    mean = average([str(p) for p in paths])
    assert mean["w"].tolist() == pytest.approx([1, 7 / 3])
    assert mean["h"].dtype == half
    assert mean["h"].item() == 1001
    assert mean["n"].item() == 5


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"w": [1.0]}, "misses|not weights of the network"),
        ({"w": [1.0, 2.0], "more": [0.0]}, "more"),
        ({"w": [1.0, float("nan")]}, "no numbers"),
        ({"w": [1, 2]}, "holds no weights"),
        ({"w": [1j, 2.0]}, "complex"),
    ],
)
def test_what_is_no_student_of_that_network_is_refused_in_one_line(tmp_path, capsys, other, said):
    first = _written(tmp_path / "a.safetensors", w=[0.0, 1.0])
    second = _written(tmp_path / "b.safetensors", **other)
    out = tmp_path / "mean.safetensors"
    assert average_students.main([first, second, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.safetensors" in line
    with pytest.raises(ValueError, match=said):
        average([first, second])
    assert not out.exists()


@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [(torch.float8_e4m3fn, 1.0, "float8"), (torch.float16, 60000.0, "the mean as")],
)
def test_a_mean_that_a_type_cannot_hold_is_refused(tmp_path, dtype, value, said):
    first, second = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    save_file({"w": torch.tensor([value]).to(dtype)}, first)
    save_file({"w": torch.tensor([1e9])}, second)
    with pytest.raises(ValueError, match=said):
        average([first, second])


def test_what_has_no_mean_or_no_place_is_refused_in_one_line(tmp_path, capsys):
    first, second = (_written(tmp_path / f"{name}.safetensors", w=[1.0]) for name in "ab")
    (tmp_path / "folder").mkdir()
    torch.save({0: torch.zeros(1)}, tmp_path / "numbers.pt")
    torch.save({"w": torch.zeros(1).to_sparse()}, tmp_path / "sparse.pt")
    for students, out, said in (
        ([first, first], "mean", "different"),
        ([first, second], "a.safetensors", "one of the students"),
        ([first, second], "folder", "name a file"),
        ([first, second], "new/", "name a file"),
        ([first, str(tmp_path / "folder")], "mean", "has not ended"),
        ([first, str(tmp_path / "numbers.pt")], "mean", "not a state dict"),
        ([first, str(tmp_path / "sparse.pt")], "mean", "not a state dict"),
    ):
        assert cli.main(["average", *students, "--out", f"{tmp_path}/{out}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("regionpairs average: ")
        assert said in line
    assert not (tmp_path / "mean").exists()


def test_one_student_and_one_that_is_not_there_are_refused(tmp_path, capsys):
    first = _written(tmp_path / "a.safetensors", w=[0.0])
    assert cli.main(["average", first, "--out", str(tmp_path / "mean")]) == 2
    assert "two different students" in capsys.readouterr().err
    assert cli.main(["average", first, str(tmp_path / "none"), "--out", str(tmp_path / "mean")]) == 2
    assert "none" in capsys.readouterr().err


def test_folders_of_runs_become_a_student_that_a_teacher_is_made_of(tmp_path):
    encoder = teachers.load(TeacherSettings(kind="shapes")).tower.encoder
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    for run, change in (("one", 0.5), ("two", -0.5)):
        for name, parameter in encoder.named_parameters():
            parameter.data = state[name] * (1 + change)
        (tmp_path / run).mkdir()
        save_weights(encoder, tmp_path / run / "student.safetensors")
    out = tmp_path / "new" / "mean.safetensors"
    assert cli.main(["average", str(tmp_path / "one"), f"{tmp_path / 'two'}/", "--out", str(out)]) == 0
    load_weights(encoder, str(out))
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.data, state[name])
    assert load_file(out).keys() == load_file(tmp_path / "one" / "student.safetensors").keys()
    settings = TeacherSettings(kind="student", base="shapes", checkpoint=str(out))
    boxes = [torch.tensor([[0.0, 0.0, 1.0, 1.0]]).numpy()]
    image = [torch.full((64, 64, 3), 90, dtype=torch.uint8).numpy()]
    got = teachers.load(settings).encode_regions(image, boxes)[0]
    assert torch.isfinite(got).all()
    one = tmp_path / "one"  # a run's folder is measured too
    by_folder, by_file = (
        load_student(TeacherSettings(kind="shapes"), str(path)).encode_regions(image, boxes)[0]
        for path in (one, one / "student.safetensors")
    )
    assert torch.equal(by_folder, by_file)
    with pytest.raises(ValueError, match="has not ended"):
        load_student(TeacherSettings(kind="shapes"), str(tmp_path))
