"""The pool as an artifact: order, ids, hash, files; merge, diff, extend, RegionCLIP's lists."""

import json

import pyarrow as pa
import pytest

import storage
from concept_pool.compare import diff_pools, extend_pool, merge_pools, read_regionclip, write_regionclip
from concept_pool.count import Counts
from concept_pool.inspect import find
from concept_pool.pool import CONCEPTS, ConceptPool
from concept_pool.settings import PoolSettings

SETTINGS = PoolSettings(min_count=2)


def counts_of(*images):
    """Counts of images that have one caption each, given as its names."""
    counts = Counts()
    for names in images:
        counts.add_image([(f"a caption with {', '.join(names)}", tuple(names))], frozenset({"hot dog"}))
    return counts


@pytest.fixture
def pool():
    images = [
        ["man", "dog"],
        ["man", "ski"],
        ["man", "ski"],
        ["dog", "bus"],
        ["hot dog"],
        ["kitchen sink", "sink"],
        ["sink"],
    ]
    return ConceptPool.from_counts(counts_of(*images), SETTINGS)


@pytest.mark.parity(1, 2)
def test_classes_come_first_by_count_then_name(pool):
    assert pool.names == ["man", "dog", "sink", "ski"]
    assert len(pool) == 4
    rows = pool.table.to_pylist()
    assert [row["concept_id"] for row in rows] == list(range(7))
    assert [row["name"] for row in rows[4:]] == ["bus", "hot dog", "kitchen sink"]
    assert [row["is_class"] for row in rows] == [True] * 4 + [False] * 3
    assert rows[2]["n_images"] == 2
    assert rows[2]["examples"]
    assert "skis" in rows[3]["aliases"]


def test_ids_of_names(pool):
    assert pool.ids_of(["ski", "man", "man", "unheard of"]) == [0, 3]
    assert pool.ids_of(["skis"]) == [3]  # an alias
    assert pool.ids_of(["steel kitchen sink"]) == [2]  # no class: the class at its end
    assert pool.ids_of(["hot dog"]) == []  # no kind of dog
    assert pool.ids_of([]) == []


def test_extra_names_are_classes_whatever_their_count(tmp_path):
    (tmp_path / "names.txt").write_text("Zebra\nhot dog\nskis\n# a comment\n")
    settings = PoolSettings(min_count=2, extra_names=str(tmp_path / "names.txt"))
    pool = ConceptPool.from_counts(counts_of(["man"], ["man"], ["hot dog"]), settings)
    assert pool.names == ["man", "hot dog", "ski", "zebra"]
    assert pool.table["meets_threshold"].to_pylist() == [True, False, False, False]


def test_round_trip_and_equal_bytes(pool, tmp_path):
    pool.save(str(tmp_path / "a"))
    loaded = ConceptPool.load(str(tmp_path / "a"))
    assert loaded.table.equals(pool.table)
    assert (loaded.hash, loaded.names, loaded.about) == (pool.hash, pool.names, pool.about)
    loaded.save(str(tmp_path / "b"))
    for name in ("concepts.parquet", "rejected.parquet", "pool.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "concepts.parquet",
        "pool.json",
        "rejected.parquet",
    ]


def test_through_any_file_system(pool):
    pool.save("memory://pools/one")
    assert ConceptPool.load("memory://pools/one").hash == pool.hash


def test_the_hash_is_the_contents(pool, tmp_path):
    other = ConceptPool.from_counts(counts_of(["man"], ["man"]), SETTINGS)
    assert other.hash != pool.hash
    pool.save(str(tmp_path))
    other.save(str(tmp_path / "other"))
    (tmp_path / "concepts.parquet").write_bytes((tmp_path / "other" / "concepts.parquet").read_bytes())
    with pytest.raises(ValueError, match="hash"):
        ConceptPool.load(str(tmp_path))


def test_the_hash_covers_the_names_that_are_no_kind_of_their_last_word(pool):
    other = ConceptPool(pool.table, pool.rejected, {**pool.about, "opaque": []})
    assert pool.opaque
    assert other.hash != pool.hash


def test_the_hash_does_not_depend_on_chunks(pool):
    pieces = pa.concat_tables([pool.table.slice(0, 3), pool.table.slice(3, 2), pool.table.slice(5)])
    assert ConceptPool(pieces, pool.rejected, pool.about).hash == pool.hash


@pytest.mark.parametrize("name", CONCEPTS.names)
def test_the_hash_covers_every_column(pool, name):
    rows = pool.table.to_pylist()
    changed = {"aliases": ["other"], "examples": ["other"], "name": "other"}.get(name)
    rows[-1][name] = (
        (not rows[-1][name] if name in ("meets_threshold", "is_class") else 77)
        if changed is None
        else changed
    )
    table = pa.Table.from_pylist(rows, CONCEPTS)
    assert ConceptPool(table, pool.rejected, pool.about).hash != pool.hash


def test_a_save_that_is_killed_leaves_no_pool_rather_than_two_mixed(pool, tmp_path, monkeypatch):
    pool.save(str(tmp_path))
    other = ConceptPool.from_counts(counts_of(["man"], ["man"]), SETTINGS)
    plain = storage.write_bytes

    def dies(url, data):
        plain(url, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        other.save(str(tmp_path))
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=r"no pool\.json"):
        ConceptPool.load(str(tmp_path))
    other.save(str(tmp_path))
    assert ConceptPool.load(str(tmp_path)).hash == other.hash


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("pool.json", b"{", "not valid JSON"),
        ("pool.json", b"[1]", "not the description"),
        ("pool.json", b"\xff\xfe{}", "not valid JSON"),
        ("pool.json", b'{"pool_version": 2, "hash": "x", "opaque": 3}', "opaque"),
        ("pool.json", None, "no pool.json"),
        ("concepts.parquet", b"PAR1 nonsense", "not a parquet file"),
        ("concepts.parquet", b"", "not a parquet file"),
        ("concepts.parquet", None, "without concepts.parquet"),
        ("rejected.parquet", None, "without rejected.parquet"),
    ],
)
def test_a_damaged_pool_is_refused_in_one_line_that_names_the_file(pool, tmp_path, name, content, says):
    pool.save(str(tmp_path))
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as refused:
        ConceptPool.load(str(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_table_in_the_place_of_the_concepts_is_refused(pool, tmp_path):
    pool.save(str(tmp_path))
    (tmp_path / "concepts.parquet").write_bytes((tmp_path / "rejected.parquet").read_bytes())
    with pytest.raises(ValueError, match="not a table of a concept pool"):
        ConceptPool.load(str(tmp_path))


def test_another_version_is_refused(pool, tmp_path):
    pool.save(str(tmp_path))
    about = json.loads((tmp_path / "pool.json").read_text())
    (tmp_path / "pool.json").write_text(json.dumps(about | {"pool_version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        ConceptPool.load(str(tmp_path))


def test_merged_pools_are_one_count():
    halves = [[["man", "dog"], ["man"], ["bus"]], [["dog"], ["bus", "sink"]]]
    pools = [ConceptPool.from_counts(counts_of(*half), SETTINGS) for half in halves]
    whole = ConceptPool.from_counts(counts_of(*halves[0], *halves[1]), SETTINGS)
    assert merge_pools(pools, SETTINGS).hash == whole.hash
    assert merge_pools(pools[::-1], SETTINGS).hash == whole.hash


def test_diff(pool):
    other, _ = extend_pool(pool, ["zebra", "dog"], first=True)
    found = diff_pools(pool, other)
    assert (found.n_old, found.n_new) == (4, 5)
    assert found.added == [("zebra", 0)]
    assert found.removed == []
    assert found.moved == [("man", 0, 2), ("sink", 2, 3), ("ski", 3, 4)]
    same = diff_pools(pool, pool)
    assert (same.added, same.removed, same.moved) == ([], [], [])


def test_extended_pools_keep_the_ids_they_had(pool):
    extended, ids = extend_pool(pool, ["zebra", "Skis", "hot dog", "man", "zebra"])
    assert extended.names == [*pool.names, "zebra", "hot dog"]
    assert ids == [4, 3, 5, 0, 4]
    assert extended.table["n_images"].to_pylist()[5] == 1  # counted, if below the threshold
    assert [row["name"] for row in extended.table.to_pylist()[6:]] == ["bus", "kitchen sink"]
    assert extended.hash != pool.hash
    assert extend_pool(extended, ["zebra"])[0].hash == extended.hash


def test_a_users_list_may_come_first_and_keep_its_ids(pool):
    extended, ids = extend_pool(pool, ["zebra", "skis", "man"], first=True)
    assert ids == [0, 1, 2]
    assert extended.names == ["zebra", "skis", "man", "dog", "sink"]
    assert extended.ids_of(["ski"]) == [1]
    with pytest.raises(ValueError, match="one class"):
        extend_pool(pool, ["ski", "skis"], first=True)


@pytest.mark.parity(2)
def test_regionclip_lists(pool, tmp_path):
    path = str(tmp_path / "concepts.txt")
    write_regionclip(pool, path)
    assert (tmp_path / "concepts.txt").read_text() == "man,3\ndog,2\nsink,2\nski,2\n"
    back = read_regionclip(path)
    assert back.names == pool.names
    assert back.table["n_images"].to_pylist() == [3, 2, 2, 2]
    (tmp_path / "bad.txt").write_text("man,3\ndog\n")
    with pytest.raises(ValueError, match="line 2"):
        read_regionclip(str(tmp_path / "bad.txt"))


def test_concepts_are_found_by_a_part_of_a_name_or_alias(pool):
    assert [row["name"] for row in find(pool, "skis")[0]] == ["ski"]
