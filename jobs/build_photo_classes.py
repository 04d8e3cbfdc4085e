"""Rebuilds pipeline/teachers/photo_classes.safetensors: `python jobs/build_photo_classes.py` (extra: photos)."""

from __future__ import annotations

from pipeline.teachers.imagenet import EMBEDDINGS, save_class_embeddings
from pipeline.teachers.sentences import SentenceEncoder

if __name__ == "__main__":
    save_class_embeddings(SentenceEncoder("cpu"))
    print(EMBEDDINGS)
