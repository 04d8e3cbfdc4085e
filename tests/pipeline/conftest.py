from __future__ import annotations

import pytest

from pipeline import teachers
from tests.fakes import ColorTeacher


@pytest.fixture
def color_teacher(monkeypatch):
    """Every teacher of this process is the one that sees colour."""
    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
