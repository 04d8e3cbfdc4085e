from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP

from pipeline.teachers.clip_text import text_encoder

VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
TEXTS = ["a cat", "dog", "", "a photo of the large traffic light in the middle of the road.", "a", "a wolf"]


def model_of(kind, **text) -> torch.nn.Module:
    torch.manual_seed(0)
    model = kind(24, VISION, {**TEXT, **text}).eval().requires_grad_(False)
    for parameter in model.parameters():  # biases and norms that matter
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def lengths_seen(model: torch.nn.Module) -> list[int]:
    """How many positions each pass of the text transformer is given, as they come."""
    seen: list[int] = []
    tower = model if isinstance(model, CLIP) else model.text
    tower.transformer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    return seen


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
@pytest.mark.parametrize(
    "text", [{}, {"pool_type": "eos", "eos_id": 49407}, {"proj_type": "none"}, {"proj_bias": True}]
)
def test_a_causal_tower_gives_the_same_without_the_padding(kind, text):
    model, tokens = model_of(kind, **text), open_clip.get_tokenizer("RN50")(TEXTS)
    seen = lengths_seen(model)
    with torch.no_grad():
        torch.testing.assert_close(
            text_encoder(model)(tokens), model.encode_text(tokens), rtol=1e-5, atol=1e-5
        )
    assert seen == [16, 77]


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_a_tower_that_sees_its_padding_keeps_its_context(text):
    model, tokens = model_of(CustomTextCLIP, **text), open_clip.get_tokenizer("RN50")(TEXTS)
    seen = lengths_seen(model)
    with torch.no_grad():
        assert torch.equal(text_encoder(model)(tokens), model.encode_text(tokens))
    assert min(seen) >= 77


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RN50", "ViT-B-32"])
def test_the_published_towers_are_cut(name):
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    tokens, seen = open_clip.get_tokenizer(name)(TEXTS), lengths_seen(model)
    with torch.no_grad():
        torch.testing.assert_close(
            text_encoder(model)(tokens), model.encode_text(tokens), rtol=1e-4, atol=1e-5
        )
    assert seen == [16, 77]


@pytest.mark.slow
def test_siglips_tower_is_not_cut():
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-SigLIP").eval()
    tokens, seen = torch.randint(1, 32000, (2, model.context_length)), lengths_seen(model)
    tokens[:, 5:] = 1
    with torch.no_grad():
        assert torch.equal(text_encoder(model)(tokens), model.encode_text(tokens))
    assert seen == [model.context_length] * 2
