from __future__ import annotations

import pytest

from pipeline import teachers
from tests.exports.datasets import build_one
from tests.fakes import ColorTeacher


@pytest.fixture(scope="package")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "load", lambda settings: ColorTeacher())
        yield build_one(tmp_path_factory.mktemp("exports"))
