"""Rebuilds pipeline/teachers/photo_classes.safetensors: `python jobs/build_photo_classes.py` (extra: photos)."""

from __future__ import annotations

import argparse


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    from pipeline.teachers.imagenet import EMBEDDINGS, save_class_embeddings
    from pipeline.teachers.sentences import SentenceEncoder

    save_class_embeddings(SentenceEncoder("cpu"))
    print(EMBEDDINGS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
