"""`regionpairs hashes`: a list of the hashes of images that no dataset may hold. What it needs is imported when it runs."""

from __future__ import annotations

import sys
from typing import Any


def add_to(commands: Any) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function."""
    command = commands.add_parser(
        "hashes", help="hashes of a folder's images, for duplicates.held_out of a build (extra: duplicates)"
    )
    command.set_defaults(run=run, told=True)
    command.add_argument("folder", help="folder or URL of images; folders below it count too")
    command.add_argument("--out", required=True, help="file to write, a line an image")
    command.add_argument("--coco", help="COCO JSON: only the images that it lists, by file_name")


def run(folder: str, out: str, coco: str | None) -> int:
    """Writes the list; exit code 1 where an image could not be decoded or there is none."""
    import json

    import storage
    from pipeline.duplicates.held_out import HEAD, hash_folder
    from pipeline.standing import Standing, tell

    names = None
    if coco:
        document = json.loads(storage.read_bytes(storage.absolute(coco)))
        names = sorted({str(image["file_name"]) for image in document["images"]})
    lines, bad = [HEAD], 0
    for name, line in hash_folder(folder, names):
        if line:
            lines.append(line)
        else:
            bad += 1
            print(f"regionpairs hashes: {name} cannot be decoded", file=sys.stderr)
        tell(Standing("hashes", n_samples=len(lines) + bad - 1))
    storage.write_bytes(storage.absolute(out), ("\n".join(lines) + "\n").encode())
    print(f"{out}: {len(lines) - 1} images")
    return 1 if bad or len(lines) == 1 else 0
