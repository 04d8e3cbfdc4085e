"""Captions as written -> the text that the tagger reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_pool.clean import clean_caption


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("A dog on the grass.", "a dog on the grass."),
        ("", ""),
        ("  \t\n ", ""),
        ("Red Vintage Car Parked On The Street", "red vintage car parked on the street"),
        ("WOMAN HOLDING UMBRELLA", "woman holding umbrella"),
        ("A man in New York", "a man in New York"),
        ("<PERSON> wearing a hat", "wearing a hat"),
        ("actor at the <ORGANIZATION> awards", "actor at the , awards"),
        ("dog <b>big</b> cat", "dog , big , cat"),
        ("cats &amp; dogs", "cats & dogs"),
        ("the dog&#39;s bowl", "the dog's bowl"),
        ("see https://example.com/a?b=c for a dog", "see for a dog"),
        ("dog at www.example.org now", "dog at now"),
        ("dog, mail me@example.com", "dog, mail"),
        ("sunset #sunset @traveler", "sunset"),
        ("IMG_2034.JPG a lake", "a lake"),
        ("photo_of_cat.png", ""),
        ("a dog - stock photo", "a dog - ,"),
        ("a dog, royalty free stock image", "a dog"),
        ("image 3 of 12 : a boat", "a boat"),
        ("Photo by John Smith of a barn", "of a barn"),
        ("wallpaper 1920x1080 of a lion", "wallpaper , of a lion"),
        ("a stop-sign and a t-shirt", "a stop sign and a t shirt"),
        ("the “big” dog’s — bowl…", 'the "big" dog\'s - bowl ...'),
        ("a dog™ toy ©", "a dog toy"),
        ("either/or", "either / or"),
    ],
)
def test_rules(written, read):
    assert clean_caption(written).rstrip(" ,-") == read.rstrip(" ,-")


def test_a_caption_is_cut():
    assert clean_caption("dog " * 1000, max_chars=11) == "dog dog dog"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_cleaned(text):
    cleaned = clean_caption(text)
    assert cleaned == " ".join(cleaned.split())
    assert "http://" not in cleaned
