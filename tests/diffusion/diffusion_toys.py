"""A schedule of any law, and toy posteriors small enough to enumerate, with published golden numbers.

Toy A has N = 2, K = 3, toy B has N = 4, K = 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unif2ace_core.diffusion.schedule import Schedule

A_CODES, A_K = torch.tensor([0, 2]), 3
B_CODES, B_K = torch.tensor([1, 3, 0, 2]), 4

# Rows: the other position holds 0, 1, 2 or the mask.
_A_FIRST = torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.6, 0.2], [0.65, 0.15, 0.2], [0.5, 0.3, 0.2]], dtype=torch.float64)
_A_SECOND = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
_A_Z = torch.tensor([[1.0, 1.0, 0.8, 0.5], [1.25, 1.0, 1.0, 2.0]], dtype=torch.float64)
_JOINT = torch.tensor([[0.10, 0.05, 0.25], [0.08, 0.12, 0.05], [0.15, 0.10, 0.10]], dtype=torch.float64)


@dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """A schedule given by two elementwise functions, m(t) and m'(t)."""

    m: Callable[[Tensor], Tensor]
    m_derivative: Callable[[Tensor], Tensor]

    def mask_probability(self, t: Tensor) -> Tensor:
        return self.m(t)

    def derivative(self, t: Tensor) -> Tensor:
        return self.m_derivative(t)


def toy_a(x: Tensor) -> Tensor:
    """Logits `(B, 2, 3)` whose exp is c~ = Z c."""
    first = (_A_FIRST * _A_Z[0][:, None])[x[:, 1]]
    second = (_A_SECOND * _A_Z[1][:, None])[x[:, 0]]
    return torch.stack([first, second], dim=1).log()


def toy_b(x: Tensor) -> Tensor:
    """Logits `(B, 4, 4)`: sin(1 + 2i + 3v) + sum over visible j of 0.5 cos(1 + i + 2j + 3v + 5 x_j)."""
    axis = torch.arange(4, dtype=torch.float64)
    i, j, v = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    visible = (x != B_K).double()[:, None, :, None]
    context = 0.5 * torch.cos(1 + i + 2 * j + 3 * v + 5 * x.double()[:, None, :, None]) * visible
    return torch.sin(1 + 2 * i[:, 0] + 3 * v[0]) + context.sum(dim=2)


def toy_joint(x: Tensor) -> Tensor:
    """Logits `(B, 2, 3)` of the exact conditionals of a joint distribution; -log J[0, 2] = 2 log 2."""
    first = torch.cat([_JOINT.T, _JOINT.sum(dim=1)[None]])[x[:, 1]]
    second = torch.cat([_JOINT, _JOINT.sum(dim=0)[None]])[x[:, 0]]
    return torch.stack([first, second], dim=1).log()


def exact_conditionals(joint: Tensor) -> Callable[[Tensor], Tensor]:
    """The posterior of a joint distribution over N positions `(K,) * N`: x `(B, N)`, masks as K -> logits `(B, N, K)`.

    At a masked position: the law of its code given the visible ones. Elsewhere the logits are 0.
    """
    n, k = joint.dim(), joint.shape[0]
    images = torch.cartesian_prod(*[torch.arange(k)] * n).view(-1, n)

    def posterior(x: Tensor) -> Tensor:
        possible = ((x[:, None] == images) | (x[:, None] == k)).all(dim=2)  # (B, K^N)
        weight = possible * joint.flatten()
        one_hot = torch.nn.functional.one_hot(images, k).to(joint.dtype)  # (K^N, N, K)
        law = torch.einsum("bi,inv->bnv", weight, one_hot)
        return torch.where((x == k)[:, :, None], law.log(), 0.0)

    return posterior
