"""DETR, DAB-DETR and DN-DETR on the same scenes, features and budget: how fast does each learn to localize?

python -m benchmarks.detr_convergence --out runs/detr_convergence        all kinds and seeds (about 10 CPU minutes)
python -m benchmarks.detr_convergence --quick                             one seed, two short epochs
python -m benchmarks.detr_convergence --plot docs/detr_convergence.png --out runs/detr_convergence

After every epoch: AR@100 on held-out scenes, the entropy of the decoder's cross-attention (1 = spread evenly over all
tokens) and the share of queries whose matched object changed since the epoch before. One JSON line an epoch goes to
OUT/curves.jsonl, weights to OUT/KIND-SEED.safetensors; a rerun skips what is there. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.localizers import Proposals
from pipeline.localizers.select import select_proposals
from pipeline.localizers.set_network import SetNetwork, SetPrediction, corners
from pipeline.localizers.set_shape import SetShape
from training.localizers.augment import AugmentSettings
from training.localizers.average_recall import average_recall
from training.localizers.batches import Mixture
from training.localizers.examples import Example, InMemory, SceneBoxes
from training.localizers.matching import instability, match
from training.localizers.set_task import SetTask, relative_centres
from training.localizers.settings import BoxDataSettings, DenoisingSettings, LocalizerTrainingSettings
from training.localizers.trainer import Trainer
from world.scenes import KINDS

KINDS_COMPARED = ("detr", "dab-detr", "dn-detr")
SIDE = 128
BATCH = 16


@dataclass(frozen=True)
class Plan:
    """scenes: training scenes (an epoch). epochs, seeds. measured: held-out scenes. lr: peak learning rate."""

    scenes: int = 1200
    epochs: int = 14
    seeds: tuple[int, ...] = (0, 1)
    measured: int = 100
    lr: float = 1e-3


def settings_for(kind: str, seed: int, plan: Plan) -> LocalizerTrainingSettings:
    return LocalizerTrainingSettings(
        kind=kind,
        data=BoxDataSettings(scenes=plan.scenes, scenes_size=SIDE),
        augment=AugmentSettings(
            canvas=SIDE, min_side=SIDE, max_side=SIDE, stretch=1.0, colour=0.0, mosaic=0.0
        ),
        shape=SetShape(50, SIDE, width=64, heads=4, feedforward=128, encoder_layers=1, decoder_layers=3),
        denoising=DenoisingSettings(groups=3),
        steps=plan.epochs * (plan.scenes // BATCH),
        batch_images=BATCH,
        lr=plan.lr,
        warmup_steps=50,
        weight_decay=1e-4,
        clip_norm=1.0,
        ema=0.0,
        frozen_stages=7,
        views=2,
        seed=seed,
    )


class Probe:
    """Measures a network on fixed examples: recall on held-out scenes, attention and matching on training scenes."""

    def __init__(self, task: SetTask, held_out: InMemory, training: InMemory):
        self._held_out = [held_out[i] for i in range(len(held_out))]
        self._training = [training[i] for i in range(len(training))]
        device = torch.device("cpu")
        self._held_out_tokens = task.inputs(self._held_out, device)
        self._training_tokens = task.inputs(self._training, device)
        self._before: list[torch.Tensor] | None = None

    def restart(self) -> None:
        """Forgets the matching of another run."""
        self._before = None

    @torch.no_grad()
    def __call__(self, network: SetNetwork) -> dict[str, float]:
        network.eval()
        recall = average_recall(self._held_out, proposals(network(self._held_out_tokens)))
        prediction = network(self._training_tokens, attention=True)
        owners = owners_of(prediction, self._training)
        changed = instability(self._before, owners) if self._before is not None else float("nan")
        self._before = owners
        numbers = {name: recall[name] for name in ("ar10", "ar100")}
        return {**numbers, "attention_entropy": entropy(prediction, owners), "instability": changed}


def proposals(prediction: SetPrediction) -> list[Proposals]:
    boxes, logits = corners(prediction.boxes[-1]) * SIDE, prediction.logits[-1]
    return [
        select_proposals([(b, s)], SIDE, SIDE, pre_nms_top_n=100, nms_iou=None, max_proposals=100)
        for b, s in zip(boxes, logits, strict=True)
    ]


def owners_of(prediction: SetPrediction, examples: list[Example]) -> list[torch.Tensor]:
    objects = [relative_centres(example) for example in examples]
    return list(match(prediction.logits[-1], prediction.boxes[-1], objects))


def entropy(prediction: SetPrediction, owners: list[torch.Tensor]) -> float:
    """Mean entropy of the cross-attention of matched queries over log(tokens), over layers and heads: 0 to 1."""
    assert prediction.attention is not None
    weights = prediction.attention  # [L, B, heads, Q, tokens]
    each = -(weights * (weights + 1e-12).log()).sum(-1) / np.log(weights.shape[-1])
    matched = torch.stack(owners) >= 0
    return float(each.mean(dim=(0, 2))[matched].mean())


def run(kind: str, seed: int, plan: Plan, tokens: dict, out: Path, probes: list[Probe]) -> list[dict]:
    settings = settings_for(kind, seed, plan)
    torch.manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = SetTask(settings)
    task._kept = tokens  # one frozen backbone, one data order: every run sees the same tokens
    if not probes:
        held_out = InMemory(SceneBoxes(settings.data.scenes_seed + 1, plan.measured, SIDE, KINDS))
        probes.append(Probe(task, held_out, InMemory(SceneBoxes(settings.data.scenes_seed, 64, SIDE))))
    probe = probes[0]
    probe.restart()
    source = SceneBoxes(settings.data.scenes_seed, plan.scenes, SIDE)
    trainer = Trainer(task, Mixture([source], [1.0], seed=0, views=2), settings)
    network = task.network
    assert isinstance(network, SetNetwork)
    rows, epoch_steps, cpu = [], plan.scenes // BATCH, 0.0
    begun = time.process_time()
    for progress in trainer.run():
        if progress.step % epoch_steps == 0:
            cpu += time.process_time() - begun
            row = {
                "kind": kind,
                "seed": seed,
                "step": progress.step,
                "cpu_s": round(cpu, 1),
                **probe(network),
            }
            rows.append({k: tidy(v) for k, v in row.items()})
            print(json.dumps(rows[-1]), flush=True)
            begun = time.process_time()
    (out / f"{kind}-{seed}.safetensors").write_bytes(network.weights_file(kind))
    with (out / "curves.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return rows


def tidy(value: object) -> object:
    """JSON knows no NaN: null. Four digits are enough."""
    return value if not isinstance(value, float) else None if np.isnan(value) else round(value, 4)


def read_curves(out: Path) -> list[dict]:
    path = out / "curves.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Per kind, the mean over seeds of the last epoch and of the whole curve."""
    out = {}
    for kind in KINDS_COMPARED:
        of_kind = [row for row in rows if row["kind"] == kind]
        if not of_kind:
            continue
        final = [row for row in of_kind if row["step"] == max(r["step"] for r in of_kind)]
        out[kind] = {
            "ar100": round(float(np.mean([r["ar100"] for r in final])), 4),
            "ar100_mean_over_steps": round(float(np.mean([r["ar100"] for r in of_kind])), 4),
            "attention_entropy": round(float(np.mean([r["attention_entropy"] for r in final])), 4),
            "instability": round(
                float(np.mean([r["instability"] for r in of_kind if r["instability"] is not None])), 4
            ),
            "cpu_s": round(float(np.mean([r["cpu_s"] for r in final])), 1),
        }
    return out


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        ("ar100", "AR@100, held-out scenes"),
        ("attention_entropy", "cross-attention entropy / log(tokens)"),
        ("instability", "share of matches that changed in an epoch"),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    colours = dict(zip(KINDS_COMPARED, ("tab:red", "tab:blue", "tab:green"), strict=True))
    for axis, (name, title) in zip(axes, panels, strict=True):
        for kind in KINDS_COMPARED:
            for seed in sorted({r["seed"] for r in rows if r["kind"] == kind}):
                curve = [r for r in rows if r["kind"] == kind and r["seed"] == seed and r[name] is not None]
                axis.plot(
                    [r["step"] for r in curve],
                    [r[name] for r in curve],
                    color=colours[kind],
                    alpha=0.8,
                    linewidth=1.4,
                    label=kind if seed == 0 else None,
                )
        axis.set(xlabel="training step (16 scenes each)", title=title)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/detr_convergence", help="folder for curves and weights")
    parser.add_argument("--quick", action="store_true", help="one seed, two short epochs")
    parser.add_argument("--plot", help="PNG to draw from OUT/curves.jsonl, without training")
    parser.add_argument("--lr", type=float, default=Plan.lr)
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(Plan.seeds))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS_COMPARED), choices=KINDS_COMPARED)
    options = parser.parse_args()
    out = Path(options.out)
    if options.plot:
        plot(read_curves(out), Path(options.plot))
        return
    torch.set_num_threads(1)
    plan = Plan(lr=options.lr, epochs=options.epochs, seeds=tuple(options.seeds))
    if options.quick:
        out, plan = out / "quick", Plan(scenes=160, epochs=2, seeds=(0,), measured=30)
        (out / "curves.jsonl").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    tokens: dict = {}
    probes: list[Probe] = []
    for seed in plan.seeds:
        for kind in options.kinds:
            if (out / f"{kind}-{seed}.safetensors").exists() and not options.quick:
                continue
            run(kind, seed, plan, tokens, out, probes)
    print(json.dumps(summary(read_curves(out))))


if __name__ == "__main__":
    main()
