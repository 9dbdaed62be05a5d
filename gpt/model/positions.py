"""The order of tokens: tables of sines, rotation of queries and keys, and counting within packed documents."""

import numpy as np
import torch
from torch import Tensor

from gpt.model import cpu_kernels


def sinusoids(block_size: int, n_embd: int) -> Tensor:
    """Fixed position codes, float32 (T, C): sines, then cosines, of geometrically spaced periods (Vaswani 2017)."""
    return torch.cat(_waves(block_size, n_embd), dim=1)


def rotations(block_size: int, head_size: int) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 (T, D) each, that rotate each pair of channels by position times a frequency (Su 2021)."""
    sin, cos = _waves(block_size, head_size)
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Rotates channel pairs (i, i + D/2): the dot product of two results depends on the distance of their positions."""
    if cpu_kernels.pay(x_BHTD):
        return cpu_kernels.RotationKernel.apply(x_BHTD, cos_TD, sin_TD)  # type: ignore[no-untyped-call]
    swapped_BHTD = x_BHTD.roll(x_BHTD.shape[-1] // 2, dims=-1)
    return (x_BHTD * cos_TD + swapped_BHTD * sin_TD).to(x_BHTD.dtype)


def document_mask(documents_BT: Tensor) -> tuple[Tensor, Tensor]:
    """What each position may attend to, bool (B, 1, T, T), and its position in its document, int64 (B, T).

    documents_BT: a number for each position, equal within a document. A position may attend to itself and to what precedes it
    in its document.
    """
    T = documents_BT.shape[1]
    index_T = torch.arange(T, device=documents_BT.device)
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    mask_BTT = same_BTT & (index_T[:, None] >= index_T)
    first_BT = torch.where(documents_BT != documents_BT.roll(1, dims=1), index_T, 0).cummax(dim=1).values
    return mask_BTT[:, None], index_T - first_BT


def _waves(block_size: int, width: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine of position times frequency, float32 (T, width / 2).

    By numpy: torch's cosine on the CPU differed in its last bit from process to process, so that every few runs trained other
    weights.
    """
    frequencies = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.outer(np.arange(block_size), frequencies)
    return torch.from_numpy(np.sin(angles)).float(), torch.from_numpy(np.cos(angles)).float()
