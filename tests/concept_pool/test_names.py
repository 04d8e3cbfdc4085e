"""Tagged tokens -> names: the rules one by one, without spaCy."""

import dataclasses

import pytest

from concept_pool.lemma import Singulars
from concept_pool.lexicon import Lexicon
from concept_pool.names import NameReader
from concept_pool.settings import PoolSettings

NOUNS = frozenset(
    [
        "man",
        "dog",
        "cat",
        "bus",
        "car",
        "zebra",
        "field",
        "kitchen",
        "area",
        "sink",
        "tree",
        "box",
        "knife",
        "tower",
        "hat",
        "glass",
    ]
)


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon.load(PoolSettings())


def read(lexicon, tagged, **options):
    """Names of a caption written as word/TAG word/TAG."""
    singular = Singulars(NOUNS, {"geese": "goose", "men": "man", "knives": "knife"})
    tokens = [tuple(token.rsplit("/", 1)) for token in tagged.split()]
    return NameReader(lexicon, singular, **options).read(tokens)


@pytest.mark.parity(3)
@pytest.mark.parametrize(
    ("tagged", "names"),
    [
        ("a/DT dog/NN", ["dog"]),
        ("two/CD dogs/NNS and/CC a/DT dog/NN", ["dog"]),
        ("men/NNS geese/JJ knives/NNS", ["man", "goose", "knife"]),
        ("boxes/NNS of/IN hoodies/NNS", ["box", "hoodie"]),
        ("the/DT man/NN 's/POS hat/NN", ["man", "hat"]),
        ("traffic/NN lights/NNS", ["traffic light"]),
        ("a/DT hot/JJ dog/NN stand/NN", ["hot dog stand"]),
        ("a/DT living/VBG room/NN", ["living room"]),
        ("a/DT kitchen/NN area/NN", ["kitchen"]),
        ("a/DT background/NN tree/NN", ["tree"]),
        ("a/DT red/NN car/NN", ["car"]),
        ("zebra/NN standing/NN field/NN", ["zebra", "field"]),
        ("cats/NNS cars/NNS", ["cat", "car"]),
        ("metal/NN wood/NN kitchen/NN box/NN", ["wood kitchen box"]),
        ("Paris/NNP London/NNP", []),
        ("the/DT Eiffel/NNP Tower/NNP", ["tower"]),
        ("a/DT Frisbee/NNP", ["frisbee"]),
        ("he/PRP saw/VBD it/PRP", []),
        ("a/DT sink/VB ,/, a/DT box/NN", ["sink", "box"]),
        ("a/DT cream/NN colored/VBN car/NN", ["car"]),
        ("747s/NNS x/NN", []),
        ("glasses/NNS", ["glasses"]),
        ("glasses/NNS of/IN wine/NN", ["glass", "wine"]),
        ("people/NNS with/IN scissors/NNS on/IN skis/NNS", ["person", "scissors", "ski"]),
        ("a/DT leather/NN sofa/NN", ["leather couch"]),
        ("a/DT tennis/NN match/NN", []),
        ("a/DT baseball/NN game/NN", []),
        ("love/NN and/CC time/NN", []),
    ],
)
def test_rules(lexicon, tagged, names):
    assert read(lexicon, tagged)[0] == names


def test_reasons_are_kept(lexicon):
    _, rejected, _ = read(lexicon, "the/DT love/NN of/IN Paris/NNP in/IN the/DT background/NN")
    assert rejected == [("love", "abstract"), ("paris", "proper noun"), ("background", "position")]


def test_attributes(lexicon):
    tagged = "a/DT small/JJ ,/, red/JJ car/NN and/CC a/DT dog/NN"
    assert read(lexicon, tagged, attributes=True)[0] == ["car", "small car", "red car", "dog"]


def test_user_files(tmp_path):
    (tmp_path / "aliases.csv").write_text("# mine\nkitty car,go-kart\ndog,hound\n")
    (tmp_path / "hidden.csv").write_text("cat,not wanted\nlove,keep\n")
    (tmp_path / "compounds.txt").write_text("red car\n")
    settings = PoolSettings(
        aliases=str(tmp_path / "aliases.csv"),
        not_visible=str(tmp_path / "hidden.csv"),
        compounds=str(tmp_path / "compounds.txt"),
    )
    mine = Lexicon.load(settings)
    names, rejected, _ = read(mine, "a/DT dog/NN ,/, a/DT cat/NN ,/, love/NN in/IN red/JJ cars/NNS")
    assert names == ["hound", "love", "red car"]
    assert rejected == [("cat", "not wanted")]
    assert mine.hash != Lexicon.load(dataclasses.replace(settings, compounds=None)).hash


@pytest.mark.parametrize(
    ("content", "error"), [("one\n", "line 1"), ("a,b\nc,\n", "line 2"), ("a,b\nb,a\n", "circle")]
)
def test_bad_user_files(tmp_path, content, error):
    (tmp_path / "aliases.csv").write_text(content)
    with pytest.raises(ValueError, match=error):
        Lexicon.load(PoolSettings(aliases=str(tmp_path / "aliases.csv")))


def test_data_files_are_clean(lexicon):
    for alias, name in lexicon.aliases.items():
        assert alias != name, alias
        assert name not in lexicon.aliases, alias
    assert lexicon.opaque <= lexicon.compounds
    assert all(" " in name for name in lexicon.compounds)
    assert not lexicon.compounds & lexicon.spellings.keys()


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("lenses", "lens"),
        ("crosses", "cross"),
        ("bunches", "bunch"),
        ("ashes", "ash"),
        ("vases", "vase"),
        ("cookies", "cookie"),
        ("grannies", "granny"),
    ],
)
def test_of_two_spellings_the_usual_one_is_the_singular(plural, singular):
    words = "lens lense cross crosse bunch bunche ash ashe vas vase cooky cookie granny grannie"
    known = frozenset(words.split())
    assert Singulars(known, {})(plural, plural=True) == singular
