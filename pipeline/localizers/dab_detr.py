"""`dab-detr` and `dn-detr`: queries are anchor boxes that each decoder layer corrects.

DAB-DETR (Liu et al., ICLR 2022); DN-DETR (Li et al., CVPR 2022) adds denoising queries in training and predicts like
DAB-DETR afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import DabDetrConfig
from transformers.models.dab_detr.modeling_dab_detr import (
    DabDetrDecoder,
    DabDetrEncoder,
    DabDetrMLP,
    DabDetrSinePositionEmbedding,
)

from pipeline.localizers.set_network import Denoising, SetNetwork, SetShape

#: Rows of the label embedding: what a denoising query claims to be, and what a matching query does not know.
OBJECT, NO_OBJECT, UNKNOWN = 0, 1, 2


class DabDetr(SetNetwork):
    """transformers' DAB-DETR encoder and decoder on our tokens.

    label_queries: a query's content is a label embedding with an indicator of whether it is a denoising query
    (DN-DETR, 4.3) instead of zeros.
    """

    def __init__(self, shape: SetShape, label_queries: bool):
        super().__init__(shape)
        config = DabDetrConfig(
            hidden_size=shape.width,
            encoder_layers=shape.encoder_layers,
            decoder_layers=shape.decoder_layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=shape.feedforward,
            decoder_ffn_dim=shape.feedforward,
            num_queries=shape.queries,
            dropout=0.0,
        )
        config._attn_implementation = "eager"
        self.encoder = DabDetrEncoder(config)
        self.decoder = DabDetrDecoder(config)
        self.positions = DabDetrSinePositionEmbedding(config)
        # The decoder corrects its anchors by the same head that predicts the boxes; it starts by changing nothing.
        self.box_head = DabDetrMLP(shape.width, shape.width, 4, 3)
        for parameter in self.box_head.layers[-1].parameters():
            nn.init.zeros_(parameter)
        # Not a submodule of the decoder too: each weight has one name in the file.
        object.__setattr__(self.decoder, "bbox_embed", self.box_head)
        self.anchors = nn.Embedding(shape.queries, 4)  # before the sigmoid
        self.labels = nn.Embedding(3, shape.width - 1) if label_queries else None
        self._hidden: torch.Tensor | None = None
        for layer in self.decoder.layers:
            layer.register_forward_pre_hook(self._mask_queries)

    def _mask_queries(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The library's decoder hands its layers no self-attention mask; this puts ours in its place."""
        if self._hidden is None:
            return inputs
        mask = torch.zeros(self._hidden.shape, device=self._hidden.device)
        mask.masked_fill_(self._hidden, float("-inf"))
        return (inputs[0], mask[None, None], *inputs[2:])

    def decode(
        self, memory: torch.Tensor, denoising: Denoising | None, attention: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        batch = len(memory)
        positions = self.positions(memory, torch.ones_like(memory[:, 0])).flatten(2).transpose(1, 2)
        encoded = self.encoder(memory.flatten(2).transpose(1, 2), None, positions).last_hidden_state
        anchors = self.anchors.weight.expand(batch, -1, -1)
        content = self._content(torch.full(anchors.shape[:2], UNKNOWN, device=memory.device), 0.0)
        if denoising is not None:
            if self.labels is None:
                raise ValueError("dab-detr has no label embedding: denoising belongs to dn-detr")
            anchors = torch.cat([inverse_sigmoid(denoising.boxes), anchors], dim=1)
            content = torch.cat([self._content(denoising.labels, 1.0), content], dim=1)
        self._hidden = None if denoising is None else denoising.hidden
        try:
            decoded = self.decoder(
                inputs_embeds=content,
                encoder_hidden_states=encoded,
                memory_key_padding_mask=None,
                object_queries=positions,
                query_position_embeddings=anchors,
                output_attentions=attention,
                return_dict=True,
            )
        finally:
            self._hidden = None
        states = decoded.intermediate_hidden_states
        boxes = (self.box_head(states) + inverse_sigmoid(decoded.reference_points)).sigmoid()
        return states, boxes, torch.stack(decoded.cross_attentions) if attention else None

    def _content(self, labels: torch.Tensor, indicator: float) -> torch.Tensor:
        if self.labels is None:
            return torch.zeros(*labels.shape, self.shape.width, device=labels.device)
        flag = torch.full((*labels.shape, 1), indicator, device=labels.device)
        return torch.cat([self.labels(labels), flag], dim=-1)


def inverse_sigmoid(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """log(x / (1 - x)) of values in [0, 1], kept finite."""
    x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))
