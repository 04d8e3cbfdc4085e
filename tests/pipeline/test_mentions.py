"""Where captions name concepts: from names to classes, and through a build and a relabelling into the pairs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from concept_pool.compare import extend_pool
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from exports.export import export
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.plan import as_index
from pipeline.dataset.records import INDEX
from pipeline.mentions import concept_spans
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds


@pytest.fixture(scope="module")
def pool():
    counts = Counts()
    for name in ("kitchen sink", "dog", "car", "surfboard", "hot dog", "couch", "traffic light"):
        counts.add_image([(f"a {name}", (name,))], frozenset())
    return ConceptPool.from_counts(counts, PoolSettings(min_count=1))


def found(pool, caption: str, name: str, said: str) -> dict[str, str]:
    start = caption.index(said)
    span = {"name": name, "caption": 0, "start": start, "end": start + len(said)}
    return {
        pool.names[s["concept_id"]]: caption[s["start"] : s["end"]]
        for s in concept_spans(pool, [caption], [span])
    }


@pytest.mark.parametrize(
    ("caption", "name", "said", "expected"),
    [
        ("two Dogs here", "dog", "Dogs", {"dog": "Dogs"}),
        (
            "a steel kitchen-sink",
            "steel kitchen sink",
            "steel kitchen-sink",
            {"kitchen sink": "kitchen-sink"},
        ),
        ("a leather sofa", "leather couch", "leather sofa", {"couch": "sofa"}),
        ("a small red car", "small car", "small red car", {"car": "red car"}),
        ("a kitchen surf board", "kitchen surfboard", "kitchen surf board", {"surfboard": "surf board"}),
        ("a stoplight", "traffic light", "stoplight", {"traffic light": "stoplight"}),
        ("a hot dog", "hot dog", "hot dog", {"hot dog": "hot dog"}),
        ("a zebra", "zebra", "zebra", {}),
    ],
)
def test_a_name_that_counts_as_a_class_keeps_the_words_of_the_class(pool, caption, name, said, expected):
    assert found(pool, caption, name, said) == expected


def test_places_are_in_order_and_each_is_there_once(pool):
    captions = ["a dog, a dog", "dog"]
    spans = [
        {"name": name, "caption": caption, "start": start, "end": start + 3}
        for name, caption, start in (("dog", 1, 0), ("dog", 0, 9), ("dog", 0, 2), ("dog", 0, 9))
    ]
    places = [(s["caption"], s["start"]) for s in concept_spans(pool, captions, spans)]
    assert places == [(0, 2), (0, 9), (1, 0)]


@pytest.fixture
def built(tmp_path, color_teacher):
    source = worlds.coco_folder(tmp_path / "source", n=9)
    document = json.loads(Path(source.captions or "").read_text())
    for annotation in document["annotations"]:  # debris before the name, and another way of writing it
        what, _, where = annotation["caption"].partition(" on ")
        caption = f"{where} with {what}" if where else what  # "A Table With A Red Ball"
        annotation["caption"] = f"IMG_2034.JPG {caption.title()}  &amp; sky…"
    Path(source.captions or "").write_text(json.dumps(document))
    align = AlignSettings(policy="caption", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")
    settings = worlds.settings(tmp_path / "first", source, align=align)
    settings = dataclasses.replace(settings, pool=dataclasses.replace(settings.pool, phrases=True))
    build(settings, LocalRunner())
    return settings


def mentions(url: str) -> list[tuple[str, list[tuple[int, str]]]]:
    """(concept, [(caption, how it is said)]) of every pair."""
    return [
        (
            p["concept"],
            [(m["caption"], s.meta["captions"][m["caption"]][m["start"] : m["end"]]) for m in p["mentions"]],
        )
        for s in Dataset.open(url).samples()
        for p in s.meta["pairs"]
    ]


def test_every_pair_of_a_build_says_where_its_caption_names_it(built):
    pairs = mentions(built.out)
    assert len(pairs) > 9
    for concept, places in pairs:
        assert places
        for _, said in places:
            assert said.lower() == concept
    assert {number for _, places in pairs for number, _ in places} == {0, 1}


def test_a_relabelling_by_another_pool_says_where_its_own_concepts_are(built, tmp_path):
    pool = ConceptPool.load(f"{built.out}/concept_pool")
    extend_pool(pool, ["zebra"])[0].save(str(tmp_path / "pool"))
    changed = dataclasses.replace(
        built, out=str(tmp_path / "second"), pool=dataclasses.replace(built.pool, path=str(tmp_path / "pool"))
    )
    relabel(built.out, changed, LocalRunner())
    assert mentions(changed.out) == mentions(built.out)
    assert phrases(changed.out) == phrases(built.out)


def phrases(url: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """(concept, [(chunk, expression)]) of every pair."""
    found = []
    for s in Dataset.open(url).samples():
        for p in s.meta["pairs"]:
            texts = [(s.meta["captions"][f["caption"]], f) for f in p["phrases"]]
            expressions = [(t, f, f.get("expression")) for t, f in texts]
            found.append(
                (p["concept"], [(t[slice(*f["chunk"])], e and t[slice(*e)]) for t, f, e in expressions])
            )
    return found


def test_pairs_have_the_noun_phrases_that_their_concepts_head_and_grit_takes_them(built, tmp_path):
    found = phrases(built.out)
    for concept, places in found:
        for chunk, expression in places:
            assert concept.split()[-1] in chunk.lower()
            assert expression is None or chunk in expression
    assert sum(bool(places) for _, places in found) > len(found) / 2
    record = export(Dataset.open(built.out), "grit", str(tmp_path / "grit"))
    rows = [json.loads(line) for line in (tmp_path / "grit/grit.jsonl").read_text("utf-8").splitlines()]
    assert sum(len(row["noun_chunks"]) for row in rows) == record["n_pairs"]
    expressions = [(row["caption"][e[0] : e[1]], e[2:], row) for row in rows for e in row["ref_exps"]]
    assert expressions
    known = {e for _, places in found for _, e in places}
    for text, place, row in expressions:
        assert text in known
        assert place in [chunk[2:] for chunk in row["noun_chunks"]]  # the box of the chunk


def test_a_plan_from_before_there_were_phrases_has_none(built):
    table = pq.read_table(next(Path(f"{built.out}/plan/index").glob("*.parquet")))
    assert any(table["phrases"].to_pylist())
    assert as_index(table).equals(table.cast(INDEX))
    assert as_index(table.drop_columns(["phrases"]))["phrases"].to_pylist() == [[]] * table.num_rows
