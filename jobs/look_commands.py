"""`regionpairs verify | view | show | stats`: datasets for people and machines.

What a command needs is imported when it runs.
"""

from __future__ import annotations

import json
from typing import Any


def add_to(commands: Any) -> None:
    """The commands, as parsers of `commands` (argparse's subparsers); each sets `run` to its function."""
    command = _of_dataset(
        commands, "verify", verify, "re-checks every byte of a dataset against its manifest"
    )
    command.set_defaults(told=True)
    command.add_argument(
        "--repair", action="store_true", help="removes damaged parts, so that the build makes them again"
    )
    add_json(command)
    command = _of_dataset(commands, "view", view, "draws samples with their pairs: boxes, concept names")
    command.add_argument("--out", default="pairs.png", help="picture to write (default: %(default)s)")
    command.add_argument(
        "--n", type=int, default=20, help="samples, spread over the dataset by key (default: %(default)s)"
    )
    command = _of_dataset(commands, "show", show, "one sample or one shard as JSON; no shard is read whole")
    command.add_argument("name", help="a sample's key, or the first digits of it, or a shard's name")
    command = _of_dataset(
        commands, "stats", stats, "counts, keep rate, top concepts, rejects; of the manifest"
    )
    command.add_argument("--top", type=int, default=20, help="concepts to list (default: %(default)s)")
    command.add_argument(
        "--filters",
        nargs="?",
        const="coyo",
        help="what each rule would leave out: a preset (coyo), or a YAML file with `filters` of a build",
    )
    add_json(command)


def add_json(command: Any) -> None:
    """`--json`: one JSON document on stdout and nothing else."""
    command.add_argument(
        "--json", action="store_true", dest="as_json", help="one JSON document, for programs"
    )


def _of_dataset(commands: Any, name: str, run: Any, summary: str) -> Any:
    command = commands.add_parser(name, help=summary)
    command.set_defaults(run=run)
    command.add_argument("dataset", help="folder or URL of the dataset")
    return command


def verify(dataset: str, repair: bool, as_json: bool) -> int:
    """Re-checks every byte of a dataset against its manifest; prints a line a fault.

    repair: removes the damaged parts instead.
    """
    from pipeline.dataset import verify as checks

    if repair:
        return _repair(dataset, checks.repair(dataset), as_json)
    faults = []
    for line in checks.verify(dataset):
        faults.append(line)
        if not as_json:
            print(line)
    if as_json:
        print(json.dumps({"dataset": dataset, "whole": not faults, "faults": faults}))
    elif faults:
        print(
            f"{dataset}: {len(faults)} faults; the build's own command makes anew what is missing or damaged"
        )
    else:
        print(f"{dataset}: whole, every byte as the manifest says")
    return 1 if faults else 0


def _repair(dataset: str, removed: list[str], as_json: bool) -> int:
    if as_json:
        print(json.dumps({"dataset": dataset, "removed": removed}))
        return 0
    for part in removed:
        print(f"removed: part {part}")
    print(f"{dataset}: {len(removed)} damaged parts removed; the command that built it makes them again")
    return 0


def view(dataset: str, out: str, n: int) -> int:
    """Draws n samples with their pairs (boxes, concept names, probabilities) into the picture `out`."""
    import storage
    from pipeline.dataset import Dataset
    from reports.contact_sheet import draw

    storage.write_bytes(out, draw(Dataset.open(dataset), n))
    print(storage.absolute(out))
    return 0


def show(dataset: str, name: str) -> int:
    """Prints one sample or one shard as JSON."""
    from pipeline.dataset import Dataset
    from reports.facts import show as facts_of

    print(json.dumps(facts_of(Dataset.open(dataset), name), indent=1, ensure_ascii=False))
    return 0


def stats(dataset: str, top: int, as_json: bool, filters: str | None = None) -> int:
    """Prints the dataset's figures, as its manifest has them, or what filters would leave out of it."""
    if filters:
        return _filters(dataset, filters, as_json)
    from pipeline.dataset import Dataset
    from reports.facts import stats as stats_of

    found = stats_of(Dataset.open(dataset), top)
    print(json.dumps(found) if as_json else "\n".join(_lines(found)))
    return 0


def _filters(dataset: str, filters: str, as_json: bool) -> int:
    import yaml

    import storage
    from pipeline.filters import PRESETS, FilterSettings
    from pipeline.would_remove import IMAGES, SCORE, would_remove

    if filters in PRESETS:
        rules = FilterSettings(preset=filters)
    else:
        try:
            document = yaml.safe_load(storage.read_bytes(storage.absolute(filters)))
            rules = FilterSettings(**document["filters"])
        except (TypeError, KeyError, yaml.YAMLError) as e:
            why = " ".join(str(e).split())[:200]
            raise ValueError(f"{filters}: it has no `filters` of a build ({why})") from e
    found = would_remove(dataset, rules)
    if as_json:
        print(json.dumps(found))
        return 0
    print(
        f"dataset    {found['dataset']}: {found['n_usable']} samples can be used, {found['n_built']} are built"
    )
    for reason, n in found["would_remove"].items():
        of = found["of"][reason]
        where = "built samples" if reason in (*IMAGES, SCORE) else "the plan"
        print(f"{reason:20} {n:>9} {100 * n / max(1, of):5.1f} %  (by {where})")
    print(f"by a build alone, from the images: {', '.join(found['needs_the_images'])}")
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    state = "complete" if found["complete"] else "not finished: the build's own command goes on"
    sums = "" if found["adds_up"] else "; THE COUNTS DO NOT ADD UP: regionpairs verify says where"
    rejects = ", ".join(f"{n} {reason}" for reason, n in found["rejects_by_reason"].items()) or "none"
    lines = [
        f"dataset    {found['dataset']} ({state})",
        f"images     {found['n_samples']} written of {found['n_read']} read{sums}",
        f"rejects    {found['n_rejected']} ({rejects})",
        f"shards     {found['n_shards']}, {found['n_bytes'] / 1e6:.1f} MB",
        f"pairs      {found['n_pairs']} of {found['n_regions']} regions: {100 * found['keep_rate']:.1f} % kept, "
        f"{found['pairs_a_sample']:.2f} an image",
        f"concepts   {found['n_concepts']}, of which {found['n_concepts_without_pair']} have no pair",
        f"identity   fingerprint {found['fingerprint']}, concept pool {found['pool'][:16]}",
    ]
    total = max(1, found["n_pairs"])
    lines += [
        f"{row['n_pairs']:>9} {100 * row['n_pairs'] / total:5.1f} %  {row['concept']}"
        for row in found["top_concepts"]
    ]
    return lines
