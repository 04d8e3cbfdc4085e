"""A tiny CLIP for the known-truth world: a convolutional image tower and a word-level text tower.

The image tower ends in one dense map. An image embedding is the head on the map's maximum over the whole image, a
region's is the same head on the maximum over its RoIAlign bins. So training on whole images alone (Radford et al.,
CLIP, 2021, its symmetric InfoNCE) gives a region encoder, as RegionCLIP presumes of CLIP.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.networks.roi_pooling import bin_weights

WIDTHS = (64, 96, 256)
DIM = 96
_TEXT_WIDTH = 96
_BUCKETS = 4096
_CONTEXT = 24
#: A region's map is read at 6 x 6 points where it is at most 6 cells wide and high, else at 12 x 12: never more than a
#: cell apart at 96 px, where a whole image has 12 x 12 cells, so that its maximum is exact. Fewer points cost less.
_SMALL, _LARGE = 6, 12


class _Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1):
        pad = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, pad, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.bn(self.conv(x)))


class ShapesImageTower(nn.Module):
    """float [B, 3, H, W] in [-1, 1] -> a dense map [B, 256, H / 8, W / 8]; a head from 256 to D."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        # Patches of 4 x 4 px first: on a CPU the fastest way down to a coarse map.
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), _Conv(48, a), _Conv(a, b, stride=2))
        self.body = nn.Sequential(_Residual(b, 1), _Residual(b, 2), _Conv(b, c, kernel=1))
        self.head = nn.Linear(c, DIM)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The dense map, ceil(H / 8) x ceil(W / 8); the last row and column are repeated up to a whole cell."""
        height, width = images.shape[2:]
        if height % self.stride or width % self.stride:
            images = F.pad(images, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return self.body(self.stem(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Image embeddings [B, D]: the head on the map's maximum."""
        return self.head(self.features(images).amax((2, 3)))

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """The map and float [R, 5] (image index, x0, y0, x1, y1 in px of the image) -> region embeddings [R, D]."""
        cells = features.permute(0, 2, 3, 1)
        height, width = features.shape[2:]
        sides = (rois[:, 3:] - rois[:, 1:3]).amax(1) / self.stride
        places, maxima = [], []
        for image in rois[:, 0].unique().long():
            for points, sized in ((_SMALL, sides <= _SMALL), (_LARGE, sides > _SMALL)):
                place = ((rois[:, 0] == image) & sized).nonzero()[:, 0]
                x0, y0, x1, y1 = (rois[place, 1:] / self.stride - 0.5).T
                down = bin_weights(y0, y1, points, height, samples=1)
                across = bin_weights(x0, x1, points, width, samples=1)
                rows = (down.flatten(0, 1) @ cells[image].flatten(1)).view(
                    *down.shape[:2], width, features.shape[1]
                )
                places.append(place)
                maxima.append((across[:, None] @ rows).amax((1, 2)))
        return self.head(torch.cat(maxima)[torch.cat(places).argsort()])


class ShapesTextTower(nn.Module):
    """Texts -> [T, D]: one transformer layer over word vectors, then their mean.

    A word is the mean of its own and its 3- and 4-grams' hashed vectors (Bojanowski et al., 2017), so that every word,
    seen in training or not, has a vector. `center`, the mean embedding of the training's captions, is subtracted: it
    says nothing, and without it all texts lie close together, those of unknown words most of all (Mu & Viswanath, 2018).
    """

    def __init__(self) -> None:
        super().__init__()
        self.grams = nn.EmbeddingBag(_BUCKETS, _TEXT_WIDTH, mode="mean")
        self.positions = nn.Parameter(torch.randn(_CONTEXT, _TEXT_WIDTH) * 0.02)
        self.mix = nn.TransformerEncoderLayer(
            _TEXT_WIDTH, 4, 2 * _TEXT_WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(_TEXT_WIDTH)
        self.head = nn.Linear(_TEXT_WIDTH, DIM)
        self.center: torch.Tensor
        self.register_buffer("center", torch.zeros(DIM))
        nn.init.normal_(self.grams.weight, std=0.3)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Text embeddings [T, D]; T >= 1."""
        words = [words_of(text) for text in texts]
        length = max(len(w) for w in words)
        flat: list[int] = []
        offsets: list[int] = []
        for row in words:
            for word in row:
                offsets.append(len(flat))
                flat += grams_of(word)
        vectors = self.grams(torch.tensor(flat), torch.tensor(offsets))
        lengths = torch.tensor([len(row) for row in words])
        real = torch.arange(length)[None] < lengths[:, None]
        tokens = vectors.new_zeros(len(texts), length, vectors.shape[1])
        tokens[real] = vectors
        tokens = tokens + self.positions[:length]
        mixed = self.norm(self.mix(tokens, src_key_padding_mask=~real))
        mean = (mixed * real[..., None]).sum(1) / lengths[:, None]
        return F.normalize(self.head(mean), dim=1) - self.center


class ShapesClip(nn.Module):
    """Both towers and the learned temperature of the contrastive loss."""

    def __init__(self) -> None:
        super().__init__()
        self.image = ShapesImageTower()
        self.text = ShapesTextTower()
        self.log_scale = nn.Parameter(torch.tensor(2.5))


def words_of(text: str) -> list[str]:
    """Lower-case words, at most 24; `<none>` for a text without any."""
    return re.findall(r"[a-z]+|[0-9]", text.lower())[:_CONTEXT] or ["<none>"]


def grams_of(word: str) -> list[int]:
    """Bucket ids of a word: itself, then its 3- and 4-grams."""
    marked = f"<{word}>"
    pieces = [marked] + [marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)]
    return [zlib.crc32(piece.encode("utf-8")) % _BUCKETS for piece in pieces]
