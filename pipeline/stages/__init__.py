"""The stages, and the two lists of them that runners fold over. A new stage is a file here and an entry below."""

from __future__ import annotations

from pipeline.stages.annotate import Annotate
from pipeline.stages.commit import Commit, CommitLabels
from pipeline.stages.read import Read
from pipeline.stages.read_shard import ReadLabels, ReadShard
from pipeline.stages.relabel import Relabel

#: Images and captions -> shards.
BUILD = (Read, Annotate, Commit)

#: Shards with stored region embeddings -> shards with other labels.
RELABEL = (ReadShard, Relabel, Commit)

#: The same, but the images stay where they are: shards of labels alone.
RELABEL_LABELS = (ReadLabels, Relabel, CommitLabels)
