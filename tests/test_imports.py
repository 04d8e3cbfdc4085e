"""The house's rules about imports, each with a control that breaks it: no circle of files, no import upwards, and the
edges (Ray, fsspec, unpickling, the dataset's layout) where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports import ROOMS, ROOT, circles, files, graph, imported

#: What each room may import of the others. The facade may import all; nobody imports it.
BELOW: dict[str, set[str]] = {
    "storage": set(),
    "world": set(),
    "concept_pool": {"storage"},
    "pipeline": {"storage", "world", "concept_pool"},
    "training": {"storage", "world", "concept_pool", "pipeline"},
    "evaluation": {"storage", "world", "concept_pool", "pipeline", "training"},
    "reports": {"storage", "world", "concept_pool", "pipeline", "evaluation"},
    "exports": {"storage", "concept_pool", "pipeline"},
    "jobs": {*ROOMS} - {"jobs", "regionpairs"},
    "regionpairs": {*ROOMS} - {"regionpairs"},
}
SOURCES = {module: path.read_text(encoding="utf-8") for module, path in files().items()}
#: Names of the dataset's folders, which `pipeline/dataset/layout.py` spells and nobody else.
FOLDERS = ("shards", "manifest", "index", "plan", "concept_pool")


def room_of(module: str) -> str:
    return module.partition(".")[0]


# circles


def test_no_files_import_each_other_in_a_circle():
    """Counts imports inside functions and for type checkers too: a circle that works is still a circle to a reader.
    Benchmarks and tests are code too."""
    everywhere = files((*ROOMS, "benchmarks", "tests"))
    sources = {module: path.read_text(encoding="utf-8") for module, path in everywhere.items()}
    assert circles(graph(sources)) == []


def test_a_circle_is_seen_through_functions_types_and_other_files():
    looped = {
        "a": "def f():\n    from b import g\n",
        "b": "import c.d\n",
        "c": "",
        "c.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\n",
        "e": "import a",
    }
    assert circles(graph(looped)) == [["a", "b", "c.d"]]
    assert circles(graph(looped, types_too=False)) == []


# rooms


def upwards(sources: dict[str, str]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, text in sources.items()
        for name in imported(text)
        if room_of(name) in {*ROOMS, "tests", "benchmarks"} - BELOW[room_of(module)] - {room_of(module)}
    ]


def test_no_room_imports_what_lies_above_it():
    assert upwards(SOURCES) == []


def test_an_import_upwards_is_seen():
    assert upwards({"pipeline.x": "def f():\n    from training import y\n"}) == [
        "pipeline.x imports training.y"
    ]
    assert upwards({"world.x": "import storage"}) == ["world.x imports storage"]
    assert upwards({"jobs.x": "import regionpairs"}) == ["jobs.x imports regionpairs"]
    assert upwards({"training.x": "import evaluation.y, tests"}) == [
        "training.x imports evaluation.y",
        "training.x imports tests",
    ]


# libraries at their edge


def users_of(library: str, sources: dict[str, str]) -> set[str]:
    return {m for m, text in sources.items() if any(room_of(name) == library for name in imported(text))}


def test_ray_is_imported_in_jobs_on_ray_alone():
    assert {m for m in users_of("ray", SOURCES) if not m.startswith("jobs.on_ray.")} == set()


def test_fsspec_is_imported_in_storage_alone():
    assert {m for m in users_of("fsspec", SOURCES) if room_of(m) != "storage"} == set()


def test_a_library_outside_its_edge_is_seen():
    inside = {"pipeline.x": "def f():\n    import ray.data\n", "jobs.on_ray.y": "from ray import get\n"}
    assert users_of("ray", inside) == {"pipeline.x", "jobs.on_ray.y"}


# unpickling


def unpicklers(text: str) -> Iterator[str]:
    """Calls and imports that may execute what a file says."""
    if {"pickle", "cloudpickle", "dill", "joblib", "shelve"} & {room_of(name) for name in imported(text)}:
        yield "import"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        wanted = {
            "torch.load": ("weights_only", "True"),
            "np.load": ("allow_pickle", "False"),
            "numpy.load": ("allow_pickle", "False"),
        }.get(function)
        if wanted and {k.arg: ast.unparse(k.value) for k in node.keywords}.get(wanted[0]) != wanted[1]:
            yield f"line {node.lineno}: {function} without {wanted[0]}={wanted[1]}"
        if function in ("yaml.load", "yaml.unsafe_load", "eval", "exec"):
            yield f"line {node.lineno}: {function}"


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_unpickles(module):
    assert list(unpicklers(SOURCES[module])) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t)",
        "eval(t)",
    ],
)
def test_an_unpickler_is_seen(text):
    assert list(unpicklers(text))
    assert not list(
        unpicklers("torch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\nmodel.eval()")
    )


# the layout


def spelt_folders(text: str) -> Iterator[str]:
    """String literals that are a folder of the dataset, or a path into one. Docstrings and dictionary keys that are
    compared with nothing else do not count: only strings that are joined, divided by or handed to a call."""
    for node in ast.walk(ast.parse(text)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "join",
            "joinpath",
            "Path",
        ):
            parts = node.args
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.JoinedStr):
            parts = [v for v in node.values if isinstance(v, ast.Constant) and "/" in str(v.value)]
        for part in parts:
            if not isinstance(part, ast.Constant) or not isinstance(part.value, str):
                continue
            if {*part.value.split("/")} & {*FOLDERS}:
                yield f"line {node.lineno}: {part.value}"


@pytest.mark.parametrize("module", [m for m in SOURCES if not m.startswith("pipeline.dataset")])
def test_the_folders_of_a_dataset_are_spelt_in_its_own_room_alone(module):
    assert list(spelt_folders(SOURCES[module])) == []


@pytest.mark.parametrize(
    "text",
    [
        'storage.join(out, "shards", name)',
        'Path(out) / "manifest"',
        'open(f"{out}/concept_pool/x")',
        'os.path.join(out, "plan/plan.json")',
    ],
)
def test_a_spelt_folder_is_seen(text):
    assert list(spelt_folders(text))
    assert not list(spelt_folders('"""The shards."""\nrow["shards"]\nprint("shards", n)'))


# scripts


def patches_the_path(text: str) -> bool:
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sys.path.")
        for node in ast.walk(ast.parse(text))
    )


SCRIPTS = {
    f"benchmarks.{p.stem}": p.read_text(encoding="utf-8") for p in sorted((ROOT / "benchmarks").glob("*.py"))
}


@pytest.mark.parametrize("module", {**SOURCES, **SCRIPTS})
def test_no_file_patches_the_path_of_imports(module):
    """Jobs run installed, or from a copy that Ray puts on the path; benchmarks run as `python -m benchmarks.NAME`."""
    assert not patches_the_path({**SOURCES, **SCRIPTS}[module])


@pytest.mark.parametrize("module", SCRIPTS)
def test_no_benchmark_imports_the_tests(module):
    assert not [name for name in imported(SCRIPTS[module]) if room_of(name) == "tests"]


@pytest.mark.skipif(
    not Path(sysconfig.get_path("purelib"), "regionpairs-checkout.pth").exists(),
    reason="an environment that `make setup` did not make",
)
def test_a_benchmark_of_several_files_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "benchmarks/scale.py", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-300:]


def test_a_patched_path_is_seen():
    assert patches_the_path("import sys\nsys.path.insert(0, 'x')")
    assert not patches_the_path("print(sys.path)")
