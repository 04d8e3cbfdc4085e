"""Batches: padding and normalisation."""

from __future__ import annotations

import pytest
import torch

from training.data.batch import normalised


@pytest.mark.parity(16)
def test_padding_is_zero_after_normalisation(batch):
    b = batch[0]
    mean, std = torch.tensor([0.48, 0.46, 0.41]), torch.tensor([0.27, 0.26, 0.28])
    x = normalised(b.images(), b.sizes, mean, std)
    assert len({tuple(s) for s in b.sizes.tolist()}) > 1
    for i, (height, width) in enumerate(b.sizes.tolist()):
        want = (b.images()[i, :, :height, :width] / 255 - mean[:, None, None]) / std[:, None, None]
        torch.testing.assert_close(x[i, :, :height, :width], want)
        assert (x[i, :, height:] == 0).all()
        assert (x[i, :, :, width:] == 0).all()
