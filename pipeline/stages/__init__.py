"""The stages, and the two lists of them that runners fold over. A new stage is a file here and an entry below."""

from __future__ import annotations

from pipeline.stages.annotate import Annotate
from pipeline.stages.commit import Commit
from pipeline.stages.read import Read
from pipeline.stages.read_shard import ReadShard
from pipeline.stages.relabel import Relabel

#: Images and captions -> shards.
BUILD = (Read, Annotate, Commit)

#: Shards with stored region embeddings -> shards with other labels.
RELABEL = (ReadShard, Relabel, Commit)
