"""How a part travels between actors: its images beside the rest, and put into the object store once."""

from __future__ import annotations

import pyarrow as pa
import pytest

pytest.importorskip("ray")

from jobs.on_ray.actor import Actor, from_bytes, images_of, to_bytes
from pipeline.dataset.plan import Part
from pipeline.rejects import Rejects
from pipeline.stages.chain import Payload

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("image", pa.large_binary(), nullable=False),
        pa.field("n", pa.int64()),
    ]
)
PART = Part("000000-0", 0, 0, "a" * 64, 3, 3)


class Stage:
    """Hands on the rows from `first` on, with another number."""

    name, reads, writes = "stage", SCHEMA, SCHEMA

    def __init__(self, first: int, fails: bool = False):
        self._first, self._fails = first, fails

    def __call__(self, payload: Payload) -> pa.Table:
        if self._fails:
            raise ValueError("no")
        table = payload.table.slice(self._first)
        return table.set_column(2, SCHEMA.field(2), pa.array([7] * len(table), pa.int64()))


def actor(*options) -> Actor:
    made = Actor.__new__(Actor)
    made._stage = Stage(*options)
    return made


@pytest.fixture
def payload() -> Payload:
    rows = [{"key": str(i), "image": bytes([i]) * 9, "n": i} for i in range(3)]
    rejects = Rejects(PART.name)
    rejects.add("read", {"source_key": "x"}, "empty_file")
    return Payload(PART, pa.Table.from_pylist(rows, SCHEMA), rejects, {"read": 1.5})


def test_a_payload_is_the_same_behind_the_wire(payload):
    assert from_bytes(to_bytes(payload), images_of(payload)) == payload
    start = Payload.start(PART)
    assert images_of(start) is None
    assert from_bytes(to_bytes(start)) == start


def test_images_that_a_stage_leaves_as_they_are_are_not_sent_again(payload):
    images = images_of(payload)
    data, sent, same = actor(0).step(to_bytes(payload), images)
    assert (sent, same) == (None, True)
    assert len(data) < 4000
    after = from_bytes(data, images)
    assert after.table["image"].to_pylist() == payload.table["image"].to_pylist()
    assert after.table["n"].to_pylist() == [7, 7, 7]


def test_images_of_fewer_rows_are_sent(payload):
    data, sent, same = actor(1).step(to_bytes(payload), images_of(payload))
    assert not same
    assert from_bytes(data, sent).table["image"].to_pylist() == payload.table["image"].to_pylist()[1:]


def test_a_part_that_failed_goes_on_without_images(payload, caplog):
    data, sent, same = actor(0, True).step(to_bytes(payload), images_of(payload))
    after = from_bytes(data, sent)
    assert not same
    assert "no" in after.error
    assert len(after.table) == len(sent) == 0
