"""`regionpairs`: its commands, its one-line errors, and that nothing of foreign origin reaches the terminal raw."""

from __future__ import annotations

import io

import pytest

from concept_pool.compare import extend_pool
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs import cli
from jobs.printable import Printable, printable

ESCAPES = "a red ball \x1b]0;owned\x07\x1b[2J\u202e\x9b1m"


@pytest.fixture
def pools(tmp_path) -> tuple[str, str]:
    """Two saved pools: the second knows a zebra besides. A caption of the first holds terminal escapes."""
    counts = Counts()
    for names in (("man", "ball"), ("man", "kitchen sink"), ("man", "dog"), ("ball", "dog", "kitchen sink")):
        counts.add_image([(f"{', '.join(names)}: {ESCAPES}", names)], frozenset())
    pool = ConceptPool.from_counts(counts, PoolSettings(min_count=1))
    pool.save(str(tmp_path / "a"))
    extend_pool(pool, ["zebra"])[0].save(str(tmp_path / "b"))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_pools_are_shown_searched_and_compared(pools, tmp_path, capsys):
    a, b = pools
    assert cli.main(["pool", "show", a, "--top", "2", "--plot", str(tmp_path / "plot.png")]) == 0
    shown = capsys.readouterr().out
    assert "man" in shown
    assert "4 classes" in shown
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["pool", "search", a, "sink"]) == 0
    assert "kitchen sink" in capsys.readouterr().out
    assert cli.main(["pool", "search", a, "nowhere"]) == 1
    assert cli.main(["pool", "diff", a, b]) == 1
    assert "zebra" in capsys.readouterr().out
    assert cli.main(["pool", "diff", a, a]) == 0


def test_captions_names_and_messages_reach_the_terminal_escaped(pools, capsys):
    assert cli.main(["pool", "search", pools[0], "ball"]) == 0
    out = capsys.readouterr().out
    assert r"a red ball \x1b]0;owned\x07\x1b[2J\u202e\x9b1m" in out
    assert cli.main(["pool", "search", pools[0], f"nowhere{ESCAPES}"]) == 1
    assert cli.main(["verify", f"/nowhere/{ESCAPES}"]) in (1, 2)
    assert cli.main(["pool", "show", f"/nowhere/{ESCAPES}"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["pool", f"{ESCAPES}"])
    said = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + said.out + said.err)


@pytest.mark.parametrize(
    "argv", [["nonsense"], ["verify"], ["pool"], ["pool", "show"], ["view", "x", "--n", "many"]]
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(argv)
    assert e.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_not_there_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "concepts.parquet").write_bytes(b"no parquet")
    for argv in (["pool", "show", str(tmp_path / "no")], ["pool", "show", str(tmp_path)]):
        assert cli.main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_printable_leaves_good_text_alone_and_escapes_the_rest():
    assert printable("naïve 猫\tcat\n") == "naïve 猫\tcat\n"
    assert printable("\x00\x7f\r\ud800\u2028") == r"\x00\x7f\r\ud800\u2028"
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert Printable(terminal).write("猫\x1b") == 2
    terminal.flush()
    assert terminal.buffer.getvalue() == rb"\u732b\x1b"
