"""`detr`: end-to-end set prediction with learned queries (Carion et al., ECCV 2020), class-agnostic."""

from __future__ import annotations

import torch
from torch import nn
from transformers import DetrConfig
from transformers.models.detr.modeling_detr import (
    DetrDecoder,
    DetrEncoder,
    DetrMLPPredictionHead,
    DetrSinePositionEmbedding,
)

from pipeline.localizers.set_network import Denoising, SetNetwork, SetShape


class Detr(SetNetwork):
    """transformers' DETR encoder and decoder on our tokens."""

    def __init__(self, shape: SetShape):
        super().__init__(shape)
        config = DetrConfig(
            d_model=shape.width,
            encoder_layers=shape.encoder_layers,
            decoder_layers=shape.decoder_layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=shape.feedforward,
            decoder_ffn_dim=shape.feedforward,
            dropout=0.0,
        )
        config._attn_implementation = "eager"  # the only one that can return its weights
        self.encoder = DetrEncoder(config)
        self.decoder = DetrDecoder(config)
        self.positions = DetrSinePositionEmbedding(shape.width // 2, normalize=True)
        self.queries = nn.Embedding(shape.queries, shape.width)
        self.box_head = DetrMLPPredictionHead(shape.width, shape.width, 4, 3)

    def decode(
        self, memory: torch.Tensor, denoising: Denoising | None, attention: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        if denoising is not None:
            raise ValueError("detr has no anchor boxes that could be denoised")
        positions = self.positions(shape=memory.shape, device=memory.device, dtype=memory.dtype)
        positions = positions.flatten(2).transpose(1, 2).expand(len(memory), -1, -1)
        encoded = self.encoder(
            inputs_embeds=memory.flatten(2).transpose(1, 2), spatial_position_embeddings=positions
        ).last_hidden_state
        queries = self.queries.weight.expand(len(memory), -1, -1)
        decoded = self.decoder(
            inputs_embeds=torch.zeros_like(queries),
            spatial_position_embeddings=positions,
            object_queries_position_embeddings=queries,
            encoder_hidden_states=encoded,
            output_hidden_states=True,
            output_attentions=attention,
        )
        layers = decoded.hidden_states[-self.shape.decoder_layers :]
        states = self.decoder.layernorm(torch.stack(tuple(layers)))
        weights = torch.stack(decoded.cross_attentions) if attention else None
        return states, self.box_head(states).sigmoid(), weights
