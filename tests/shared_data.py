"""The real photographs and captions, or the test that needs them is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shared_data import find_shared_data


def shared_data() -> Path:
    """`find_shared_data`, or the test is skipped."""
    found = find_shared_data()
    if found is None:
        pytest.skip(
            "needs the real photographs: no ../shared/data beside the checkout (or in REGIONPAIRS_SHARED)"
        )
    return found
