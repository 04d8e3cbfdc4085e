"""A settings dataclass on the command line: a YAML file (`--config`), overridden by `--KEY VALUE`."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

from jobs import program
from jobs.printable import printable

S = TypeVar("S")

#: The configurations that come with the project: `--config NAME`.
CONFIGS = Path(__file__).parent / "configs"


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help whose description keeps its lines: it has commands in it."""


class _OneLineErrors(ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = printable(" ".join(str(message).split()))
        print(f"{self.prog}: {line}{self._meant(line)}  (--help lists every key)", file=sys.stderr)
        raise SystemExit(2)

    def _meant(self, line: str) -> str:
        """What an unknown key was perhaps meant to be."""
        unknown = re.match(r"unrecognized arguments: (--[\w.-]+)", line)
        close = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        return f"; did you mean {close[0]}?" if close else ""


class _ConfigByName(ActionConfigFile):
    """`--config` with `config_file`."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if not Path(file := config_file(values)).is_file():
            own = ", ".join(config_names())
            parser.error(
                f"--config: '{values}' is no file, and none of those that come with the project ({own})"
            )
        super().__call__(parser, cfg, file, option_string)


def config_file(name: str) -> str:
    """The file that `--config` means: the one at that path, else the project's configuration of that name."""
    own = CONFIGS / f"{name}.yaml"
    return str(own) if not Path(name).is_file() and own.parent == CONFIGS and own.is_file() else name


def config_names(settings_type: type | None = None) -> list[str]:
    """The configurations that come with the project; those of a job alone where its settings are given."""
    known = {f.name for f in dataclasses.fields(settings_type)} if settings_type else None
    return sorted(
        path.stem
        for path in CONFIGS.glob("*.yaml")
        if known is None or known.issuperset(re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), re.M))
    )


def parser_of(settings_type: type, description: str = "") -> ArgumentParser:
    """The command line of a settings dataclass: `--config`, and `--KEY` for every key."""
    parser = _OneLineErrors(
        prog=program.name(""),
        usage="%(prog)s [--config NAME_OR_FILE] [--KEY VALUE ...]",
        description=program.typed(description),
        formatter_class=_Help,
        print_config="--print_config",
    )
    parser.add_argument(
        "--config",
        action=_ConfigByName,
        metavar="NAME_OR_FILE",
        help=f"YAML file of settings{_or_named(settings_type)}",
    )
    parser.add_class_arguments(settings_type, nested_key=None)
    return parser


def _or_named(settings_type: type) -> str:
    names = config_names(settings_type)
    return f", or one that comes with the project: {', '.join(names)}" if names else ""


def parse(
    settings_type: type[S],
    argv: list[str] | None = None,
    *,
    description: str = "",
    validate: Callable[[S], None] | None = None,
) -> S:
    """Parses `--config NAME_OR_FILE` and `--KEY VALUE` (nested keys with dots) into `settings_type`.

    Files and flags apply in the order given, later ones win. `--help` shows each key with its default and the line
    its dataclass' `Attributes:` section gives it; `--print_config` prints the resolved settings as YAML.
    `validate` raises ValueError("key: what is wrong"). Any error is one line on stderr and SystemExit(2).
    """
    parser = parser_of(settings_type, description)
    values = parser.parse_args(argv)
    try:  # a dataclass may refuse a value of its own as `validate` refuses a combination
        settings: Any = parser.instantiate_classes(values)
        fields = {k: v for k, v in vars(settings).items() if k not in ("config", "print_config")}
        built = settings_type(**fields)
        if validate is not None:
            validate(built)
    except (ValueError, TypeError) as e:  # TypeError: a file has a number where a group of settings belongs
        parser.error(str(e))
    return built
