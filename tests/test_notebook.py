"""The notebook runs from its first cell to its last, and is stored without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "from_images_to_student.ipynb"


def cells() -> list[dict[str, Any]]:
    return [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]


def test_it_is_stored_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells())


@pytest.mark.slow
def test_its_cells_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In this process, without a kernel: the cells are plain Python. Fewer images and steps than it has."""
    for extra in ("matplotlib", "pycocotools"):
        pytest.importorskip(extra)
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.setattr("tempfile.mkdtemp", lambda **options: str(tmp_path))
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(cells()):
        text = (
            "".join(cell["source"])
            .replace("N_IMAGES = 64", "N_IMAGES = 32")
            .replace("STEPS = 20", "STEPS = 4")
        )
        exec(compile(text, f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    from matplotlib import pyplot

    assert names["summary"]["n_samples"] == 32
    assert names["summary"]["n_pairs"] == sum(names["concepts"].values()) > 0
    assert len(pyplot.get_fignums()) == 3
    assert names["losses"]
    assert (tmp_path / "student" / "student.safetensors").exists()
    assert names["report"]
    pyplot.close("all")
