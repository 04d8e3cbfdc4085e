"""Templates and prompts."""

import pytest

from concept_pool.prompts import clean_name, fill, load_templates, templates_hash


@pytest.mark.parity(4)
def test_the_81_templates():
    templates = load_templates()
    assert len(templates) == len(set(templates)) == 81
    assert templates[0] == "{}."
    assert {"a photo of a {}.", "itap of my {}.", "a {} in a video game.", "the plushie {}."} <= set(
        templates
    )
    # the 80 of open_clip.zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES, in their order
    assert templates_hash(templates[1:]) == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"


@pytest.mark.parity(4)
def test_names_are_cleaned():
    assert clean_name("cat, big+fluffy") == "cat big fluffy"


@pytest.mark.parametrize(
    ("name", "article"),
    [
        ("dog", "a"), ("apple", "an"), ("umbrella", "an"), ("unicorn", "a"), ("university", "a"), ("hourglass", "an"),
        ("x-ray", "an"), ("utensil", "a"), ("one way sign", "a"), ("SUV", "an"), ("euro", "a"), ("uniform", "a"),
        ("urn", "an"), ("honey", "a"), ("onion", "an"), ("ewe", "a"), ("uncle", "an"), ("unknown", "an"),
    ],
)  # fmt: skip
def test_articles(name, article):
    assert fill("a photo of a {}.", name) == f"a photo of {article} {name}."
    assert fill("A {}", name) == f"{article.capitalize()} {name}"
    assert fill("a photo of a {}.", name, articles=False) == f"a photo of a {name}."
    assert fill("the plural {}", name) == f"the plural {name}"


def test_own_templates(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine\na {}\n\nthe {}\n")
    assert load_templates(str(path)) == ["a {}", "the {}"]
    assert templates_hash(["a {}", "the {}"]) != templates_hash(["the {}", "a {}"])
    for bad in ("no name\n", "{} and {}\n", "{} {x}\n", "\n"):
        path.write_text(bad)
        with pytest.raises(ValueError, match="mine"):
            load_templates(str(path))
