"""A stage as a Ray actor, and how a part travels from one to the next: an Arrow IPC stream, and its images beside it.

Most of a part's bytes are its images, and a stage that only looks at them must not copy them to the object store again: the
stage behind it gets those that were put there first.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from jobs.on_ray.cluster import check_here
from pipeline.dataset.plan import Part
from pipeline.rejects import Rejects
from pipeline.stages.chain import Job, Payload, advance

_IMAGE = "image"


class Actor:
    """A stage on a worker."""

    def __init__(self, what: tuple[Any, Job, dict[str, str | None]]):
        stage, job, driver = what
        check_here(driver)  # its node may have joined after the driver looked
        self._stage = stage(job)

    def step(self, data: pa.Buffer, images: pa.Array | None) -> tuple[pa.Buffer, pa.Array | None, bool]:
        """The payload one stage further, its images, and whether these are those that were given; then they are None."""
        payload = advance(self._stage, from_bytes(data, images))
        given_on = images_of(payload)
        same = given_on is not None and images is not None and _is_same(given_on, images)
        return to_bytes(payload), None if same else given_on, same


def images_of(payload: Payload) -> pa.Array | None:
    """The images of a payload's table, None where it has no such column."""
    if _IMAGE not in payload.table.column_names:
        return None
    images = payload.table[_IMAGE]
    return (
        images.chunk(0)
        if images.num_chunks == 1 and len(images)
        else pa.concat_arrays(images.chunks or [_none()])
    )


def to_bytes(payload: Payload) -> pa.Buffer:
    """A payload without its images as an Arrow IPC stream; what is no table of it lies in the schema's metadata."""
    place = payload.table.schema.get_field_index(_IMAGE)
    head = {
        "part": vars(payload.part),
        "rejects": payload.rejects.rows,
        "seconds": payload.seconds,
        "error": payload.error,
        "advice": payload.advice,
        "image_column": place,
    }
    table = payload.table.remove_column(place) if place >= 0 else payload.table
    table = table.replace_schema_metadata({"head": json.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_bytes(data: Any, images: pa.Array | None = None) -> Payload:
    """What `to_bytes` wrote, with its images."""
    table = pa.ipc.open_stream(data).read_all()
    head = json.loads(table.schema.metadata[b"head"])
    table = table.replace_schema_metadata(None)
    if (place := head["image_column"]) >= 0:
        table = table.add_column(place, pa.field(_IMAGE, pa.large_binary(), nullable=False), images)
    part = Part(**head["part"])
    rejects = Rejects(part.name, head["rejects"])
    return Payload(part, table, rejects, head["seconds"], head["error"], head["advice"])


def _none() -> pa.Array:
    return pa.array([], pa.large_binary())


def _is_same(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays are the same memory."""
    return (len(one), one.offset, *map(_place, one.buffers())) == (
        len(other),
        other.offset,
        *map(_place, other.buffers()),
    )


def _place(buffer: pa.Buffer | None) -> int:
    return buffer.address if buffer is not None else 0
