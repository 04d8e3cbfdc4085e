"""How right are the labels? A known-truth world is built, labelled by its captions and by the corpus pass, and compared.

2,048 synthetic scenes (`--quick`: 256), 12 proposals a scene, embeddings in int8. Figures are at 40 % of all regions kept,
the best by each dataset's own score: `right_of_all` counts a region on no object as wrong, `recall` is the share of the
objects that have a right pair, `novel_*` are of the 12 kinds that the teacher never met. `caption_*` is label policy
`caption` ranked by probability, as RegionCLIP's rule has it; `caption_scored_*` (not with `--quick`) the same labels
ranked by the score that knows of background. `shuffled_*` is the control: the pass over the captions of other images.
Seconds are of the corpus pass alone (read, fit).
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import storage
from concept_pool.settings import PoolSettings
from evaluation.metrics import pairs
from evaluation.pair_report import concept_ids, stored_regions
from evaluation.studies.variants import write_variant
from evaluation.truth import TruthSet, shapes_truth
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings

SHARE = 0.4
#: rpn-lite's objectness on the scenes of another world (seed 0; benchmarks/pair_scores.py): the score's calibration.
SCALE, OFFSET = 2.8, 1.9


def settings_of(out: str, scenes: int, seed: int, workers: int) -> BuildSettings:
    """The world's build."""
    return BuildSettings(
        out=out,
        runtime="local",
        source=SourceSettings(kind="shapes", count=scenes, seed=seed),
        localizer=LocalizerSettings(kind="rpn-lite", max_proposals=12),
        teacher=TeacherSettings(kind="shapes", batch_images=16),
        pool=PoolSettings(min_count=4),
        align=AlignSettings(
            policy="caption",
            tau=0.0667,
            region_embeddings="int8",
            objectness_scale=SCALE,
            objectness_offset=OFFSET,
        ),
        workers=workers,
    )


def figures(dataset: Dataset, truth: TruthSet, share: float = SHARE) -> dict[str, float]:
    """Right of all, recall, and both for the novel kinds, of the best `share` of the regions."""
    ids = concept_ids(truth.names, dataset.pool)
    known = {image.key: image for image in truth.images}
    samples = list(dataset.samples())
    images = [known[s.meta["source_key"]] for s in samples]
    regions = [stored_regions(s) for s in samples]
    table = pairs.compare(regions, [pairs.Objects(i.boxes_xyxy_norm, ids[i.labels]) for i in images])
    chosen = pairs.best(table, share)
    overall = pairs.summary(table, chosen)
    novel_ids = ids[truth.novel]
    said = np.isin(np.concatenate([r.labels for r in regions]), novel_ids[novel_ids >= 0])
    novel = pairs.summary(table, chosen & said)
    n_novel = sum(int(truth.novel[i.labels].sum()) for i in images)
    return {
        "right_of_all": round(100 * overall["precision_of_all"], 1),
        "recall": round(100 * overall["recall"], 1),
        "novel_precision": round(novel["precision_of_all"], 3),
        "novel_recall": round(novel["recall"] * table.n_objects / max(1, n_novel), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="256 scenes, no scored captions: under 50 s on 2 cores"
    )
    parser.add_argument(
        "--scenes", type=int, default=0, help="number of scenes (default: 2048, --quick: 256)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the world")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    scenes = arguments.scenes or (256 if arguments.quick else 2048)
    truth = shapes_truth(arguments.seed, 0, scenes)
    row: dict[str, Any] = {"scenes": scenes, "seed": arguments.seed, "share_kept": SHARE}
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(str(Path(folder) / "built"), scenes, arguments.seed, arguments.workers)
        build(settings, LocalRunner())
        row |= {f"caption_{k}": v for k, v in figures(Dataset.open(settings.out), truth).items()}
        variants = {"corpus": "corpus", "shuffled": "corpus-shuffled"}
        if not arguments.quick:
            variants["caption_scored"] = "caption"
        for name, variant in variants.items():
            out = str(Path(folder) / name)
            write_variant(settings.out, out, variant, score="objectness")
            dataset = Dataset.open(out)
            row |= {f"{name}_{k}": v for k, v in figures(dataset, truth).items()}
            if variant != "caption":
                report = json.loads(storage.read_bytes(dataset.layout.corpus_report))
                last = report["rounds"][-1]
                row |= {f"{name}_{k}": last[k] and round(last[k], 3) for k in ("agreement", "background")}
                row[f"{name}_s"] = round(sum(report["seconds"].values()), 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
