"""The report in a real browser, without a window: it draws itself, its filters work, and captions stay text."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import Dataset
from reports.html_report import html_report
from reports.settings import ReportSettings
from tests.reports.test_against import relabelled  # noqa: F401 - a fixture
from tests.reports.test_html_report import HOSTILE, dataset  # noqa: F401 - a fixture

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]

#: What a person would do, and what they would see then.
VISIT = """
const seen = { cards: document.querySelectorAll("#cards .card").length, errors: window.errors ?? [] };
const set = (id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event("input")); };
const key = (name) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
seen.boxes = document.querySelectorAll("#cards .box").length;
seen.concepts = 10 * data.concepts.length;
seen.marks = document.querySelectorAll("#cards mark").length;
const outside = (e) => {
  e.style.display = "block";
  const a = e.getBoundingClientRect(), b = e.closest(".frame").getBoundingClientRect();
  return a.width > 0 && (a.left < b.left - 1 || a.right > b.right + 1);
};
const labels = [...document.querySelectorAll("#cards .box span")];
labels.forEach((e) => { e.textContent = "a very long name of a thing 0.50"; });
seen.outside = labels.filter(outside).length;
seen.inside = labels.filter((e) => !outside(e) && e.getBoundingClientRect().width > 40).length;
labels.forEach((e) => { e.style.display = ""; });
set("score", "1");
seen.surest = document.querySelectorAll("#cards .card").length;
set("score", "0");
const concept = data.concepts[0].name;
set("concept", concept);
const texts = [...document.querySelectorAll("#cards .box span")].map((e) => e.textContent.replace(/ [0-9.]+$/, ""));
seen.labels = [...new Set(texts)];
seen.concept = concept;
set("concept", "");
document.querySelector("#cards .card").click();
seen.large = document.querySelectorAll("#large .box").length;
seen.pairs = data.samples[0].n_pairs;
const large = document.getElementById("large");
seen.opened = large.open;
seen.from_the_top = large.scrollTop === 0 && document.activeElement.textContent === "Close";
large.querySelector("tbody tr").focus();
seen.lit = large.querySelectorAll(".box.lit").length;
const first = document.getElementById("large").dataset.sample;
key("ArrowRight");
seen.next = document.getElementById("large").dataset.sample !== first;
document.getElementById("large").close();
set("search", concept);
seen.rows = document.querySelectorAll("#rows tr").length;
document.querySelector("#rows tr").click();
seen.crops = document.querySelectorAll("#rows .crops img").length;
set("search", "");
document.querySelector("[data-sort=name]").click();
seen.sorted = [...document.querySelectorAll("#rows tr.row td:first-child")].map((e) => e.textContent);
seen.dots = document.querySelectorAll("#plane circle").length;
seen.bars = document.querySelectorAll("#bars svg").length;
document.getElementById("theme").click();
seen.theme = document.documentElement.dataset.theme;
const places = [...document.querySelectorAll("#plane .name")].map((e) => e.getBoundingClientRect());
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
seen.covered = places.flatMap((a, i) => places.slice(i + 1).filter((b) => meet(a, b))).length;
seen.names = places.length;
const images = [...document.querySelectorAll("img, script, iframe, link, object, embed")];
seen.foreign = images.filter((e) => e.src && !e.src.startsWith("data:image/jpeg;base64,")).map((e) => e.outerHTML);
const handled = (e) => [...e.attributes].some((a) => a.name.startsWith("on"));
seen.handlers = [...document.querySelectorAll("*")].filter(handled).length;
seen.texts = [...document.querySelectorAll("#cards .card p")].map((e) => e.textContent);
const probe = document.createElement("pre");
probe.id = "probe";
probe.textContent = JSON.stringify(seen);
document.body.append(probe);
"""


def _run(page: Path, *options: str) -> str:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [
        "--virtual-time-budget=5000",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


@pytest.fixture(scope="module")
def visit(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:  # noqa: F811
    """What a visitor of the page sees."""
    page = html_report(dataset, ReportSettings(shown=10))
    watch = "<script>window.errors = []; addEventListener('error', (e) => errors.push(e.message));"
    watch += " addEventListener('securitypolicyviolation', (e) => errors.push(e.blockedURI));</script><title>"
    page = page.replace("<title>", watch, 1).replace("</body>", f"<script>{VISIT}</script></body>")
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(page)
    found = re.search(r'<pre id="probe">(.*?)</pre>', _run(path, "--dump-dom"), re.DOTALL)
    assert found, "the script stopped before its end"
    return json.loads(html.unescape(found[1]))


def test_everything_is_drawn_without_an_error(visit):
    assert visit["errors"] == []
    assert visit["cards"] == 10
    assert 0 < visit["boxes"] <= visit["concepts"]  # in a card, one of each concept
    assert visit["marks"] > 0
    assert visit["bars"] == 10
    assert visit["dots"] >= 3


def test_filters_search_sorting_and_keys_work(visit):
    assert visit["surest"] < visit["cards"]
    assert visit["labels"] == [visit["concept"]]
    assert visit["opened"]
    assert visit["next"]
    assert visit["large"] == visit["pairs"]
    assert visit["rows"] >= 1
    assert visit["crops"] >= 1
    assert visit["sorted"] == sorted(visit["sorted"])
    assert visit["theme"] in ("dark", "light")


def test_a_large_sample_opens_at_its_top_and_a_row_points_at_its_box(visit):
    assert visit["from_the_top"]
    assert visit["lit"] == 1


def test_no_label_leaves_its_picture(visit):
    assert visit["outside"] == 0
    assert visit["inside"] == visit["boxes"] > 0


def test_no_name_on_the_map_covers_another(visit):
    assert visit["names"] >= 3
    assert visit["covered"] == 0


def test_hostile_captions_are_shown_and_run_nothing(visit):
    """Their tags are no elements, their handlers no attributes; a request that the policy stopped would be an error."""
    assert visit["foreign"] == []
    assert visit["handlers"] == 0
    assert any(HOSTILE[1] in text for text in visit["texts"])


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(dataset: Dataset, tmp_path: Path, width: int):  # noqa: F811
    """In a frame of that width: Chromium's own windows have 500 pixels at least."""
    page = html_report(dataset, ReportSettings(shown=4))
    measure = "document.querySelector('#cards .card').click(); const d = document.documentElement;"
    measure += (
        "parent.postMessage([d.scrollWidth, innerWidth, document.getElementById('large').scrollWidth], '*');"
    )
    (tmp_path / "report.html").write_text(page.replace("</body>", f"<script>{measure}</script></body>"))
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<title></title><script>onmessage = (e) => { document.title = e.data.join(' '); };</script>"
        f'<iframe src="report.html" style="border: 0; width: {width}px; height: 800px"></iframe>'
    )
    found = re.search(
        r"<title>(\d+) (\d+) (\d+)</title>", _run(outer, "--dump-dom", f"--window-size={width + 100},900")
    )
    assert found
    assert int(found[2]) == width
    assert int(found[1]) <= width
    assert int(found[3]) <= width


def test_changes_are_drawn_with_both_labels(
    dataset: Dataset,  # noqa: F811
    relabelled: Dataset,  # noqa: F811
    tmp_path: Path,
):
    page = html_report(relabelled, ReportSettings(shown=4), dataset)
    script = """document.title = JSON.stringify({ width: document.documentElement.scrollWidth - innerWidth,
      boxes: document.querySelectorAll("#changes .box").length, rows: data.against.rows.length,
      moves: [...document.querySelectorAll("#changes .move")].map((e) => e.textContent) });"""
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    found = re.search(r"<title>(.*?)</title>", _run(path, "--dump-dom", "--window-size=400,800"))
    assert found
    seen = json.loads(html.unescape(found[1]))
    assert seen["rows"] > 0
    assert seen["boxes"] == len(seen["moves"]) > 0
    assert all(re.fullmatch(r"(.+ \d\.\d\d|no pair) → (.+ \d\.\d\d|no pair)", move) for move in seen["moves"])
    assert seen["width"] <= 0
