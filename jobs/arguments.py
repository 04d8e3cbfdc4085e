"""A settings dataclass on the command line: a YAML file (`--config`), overridden by `--KEY VALUE`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser

S = TypeVar("S")


class _OneLineErrors(ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(str(message).split())
        print(f"{self.prog}: {line}  (--help lists every key)", file=sys.stderr)
        raise SystemExit(2)


def parse(
    settings_type: type[S],
    argv: list[str] | None = None,
    *,
    description: str = "",
    validate: Callable[[S], None] | None = None,
) -> S:
    """Parses `--config FILE` and `--KEY VALUE` (nested keys with dots) into `settings_type`.

    Files and flags apply in the order given, later ones win. `--help` shows each key with its default and the line
    its dataclass' `Attributes:` section gives it; `--print_config` prints the resolved settings as YAML.
    `validate` raises ValueError("key: what is wrong"). Any error is one line on stderr and SystemExit(2).
    """
    parser = _OneLineErrors(description=description, print_config="--print_config")
    parser.add_argument("--config", action="config", help="YAML file of settings, e.g. configs/demo.yaml")
    parser.add_class_arguments(settings_type, nested_key=None)
    values = parser.parse_args(argv)
    try:  # a dataclass may refuse a value of its own as `validate` refuses a combination
        settings: Any = parser.instantiate_classes(values)
        fields = {k: v for k, v in vars(settings).items() if k not in ("config", "print_config")}
        built = settings_type(**fields)
        if validate is not None:
            validate(built)
    except ValueError as e:
        parser.error(str(e))
    return built
