"""Muon: AdamW whose matrices move by orthogonalised momentum (Jordan et al. 2024; scaled as in arXiv:2502.16982).

    M <- mu M + G;   O = NewtonSchulz(G + mu M), about U V^T of its SVD;   W <- (1 - lr wd) W - lr 0.2 sqrt(max(m, n)) O

The scale makes an update about as large as one of AdamW, which the other weights get: embeddings, heads, routers, norms
and biases. torch.optim.Muon knows neither stacks of matrices (the routed experts) nor processors without bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, steepest at zero; it ends within 0.7 to 1.2
ROUNDS = 5
MOMENTUM = 0.95
SMALLEST = 32  # sides of a matrix worth turning
APART = {"head", "attributes", "queries", "router"}  # outputs and tables of vectors


def is_turned(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or a stack of them, that moves by orthogonalised momentum."""
    matrices = parameter.ndim in (2, 3) and min(parameter.shape[-2:]) >= SMALLEST
    words = name.split(".")
    return matrices and not APART & set(words) and not any("embedding" in w or w.endswith("bias") for w in words)


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices (..., m, n) with their singular values brought near 1, by products in this precision.

    Its errors are smaller than what the iteration leaves of a singular value's distance from 1 (Jordan et al.).
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)).to(dtype)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with a `momentum`; their matrices are turned by products in `precision`."""

    def __init__(self, groups: list[dict[str, Any]], precision: torch.dtype = torch.float32, **options: Any) -> None:
        super().__init__(groups, **options)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; matrices lose their gradients, so that AdamW leaves them alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"] if group.get("momentum") else ():
                if parameter.grad is not None:
                    self.turn(parameter, parameter.grad, group)
                    parameter.grad = None
        super().step()
        return loss

    def turn(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move one matrix or stack; what has no gradient (an expert that nothing chose) stays.

        Orthogonalised, the rest of an old momentum would be as large a step as any.
        """
        state, mu = self.state[parameter], group["momentum"]
        if not state:
            state["step"] = torch.zeros(())  # which AdamW looks for when it reads a checkpoint
            state["momentum"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["momentum"].mul_(mu).add_(gradient)
        update = orthogonalised(gradient.add(state["momentum"], alpha=mu), self.precision)
        update = update * (gradient != 0).any(-1, keepdim=True).any(-2, keepdim=True)
        scale = 0.2 * max(parameter.shape[-2:]) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
