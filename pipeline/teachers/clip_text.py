"""open_clip's text towers over no more of their context than the texts fill: most of a prompt's context is padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import nn

#: How CLIP's towers read a text out: at the largest token, or at the one that is named as its end.
AT_THE_END = ("argmax", "eos")


def text_encoder(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """tokens int64 [n, context] -> [n, D]: `model.encode_text`, cut behind the longest text where that is exact.

    It is exact in a causal transformer that reads a text out at its end (CLIP's): nothing behind the end has an
    influence. SigLIP's attends to its padding, CoCa's appends a class token, Hugging Face's mask in their own ways:
    they see their full context.
    """
    tower = model if isinstance(model, CLIP) else getattr(model, "text", None)
    if not isinstance(tower, CLIP | TextTransformer) or tower.attn_mask is None:
        return model.encode_text
    pool_type, eos_id = (
        (tower.text_pool_type, tower.text_eos_id) if tower is model else (tower.pool_type, tower.eos_id)
    )
    if pool_type not in AT_THE_END or getattr(tower, "cls_emb", None) is not None:
        return model.encode_text

    def encode(tokens: torch.Tensor) -> torch.Tensor:
        columns = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        length = int(text_global_pool(columns, tokens, pool_type, eos_id).max()) + 1
        tokens = tokens[:, :length]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, pool_type, eos_id)
        projection = tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    return encode
