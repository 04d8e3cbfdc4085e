"""The report's document -> HTML. Values reach the page through Jinja's escaping or as JSON; a policy forbids requests."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.standing import duration

#: What a browser may load: what lies in the page itself, and nothing else.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def render(document: dict[str, Any]) -> str:
    """One HTML page, self-contained."""
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["count"] = lambda n: f"{n:,}".replace(",", "\u202f")
    environment.filters["change"] = lambda n: f"{n:+,}".replace(",", "\u202f").replace("-", "−") if n else "0"
    environment.filters["percent"] = lambda share: f"{100 * share:.{1 if share < 0.1 else 0}f} %"
    environment.filters["short"], environment.filters["size"] = short, size
    environment.filters["duration"] = duration
    template = environment.get_template("report.html.j2")
    return template.render(d=document, policy=POLICY, data=safe_json(document))


def short(n: int) -> str:
    """A count that fits a small place: in full below ten millions, else to four digits."""
    if n < 10**7:
        return f"{n:,}".replace(",", "\u202f")
    unit, name = next(u for u in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")) if n >= u[0])
    return f"{n / unit:.4g} {name}"


def size(n_bytes: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while n_bytes >= 999.95 and len(units) > 1:
        n_bytes /= 1000
        units.pop(0)
    return f"{n_bytes:.0f} bytes" if units[0] == "bytes" else f"{n_bytes:.1f} {units[0]}"


def safe_json(value: Any) -> Markup:
    """JSON that may stand in a `<script>`: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text.encode("utf-8", "replace").decode())
