"""Optimizers of the training runs: AdamW for vectors and tables, Muon for matrices, one rate for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al., "Muon", 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of a batch [B, rows, columns], approximately: in bfloat16."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz; matrices of one shape are processed as one batch.

    The update is scaled by 0.2·sqrt(max(rows, columns)) so that its root mean square is that of AdamW
    (Liu et al., "Muon is scalable for LLM training", 2025): both can share a learning rate.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    shapes.setdefault((rows, parameter.numel() // rows), []).append(parameter)
            for shape, parameters in shapes.items():
                self._update(parameters, shape, group)

    def _update(self, parameters: list[Tensor], shape: tuple[int, int], group: dict[str, float]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalize(torch.stack([d.reshape(shape) for d in directions]))
        scale = 0.2 * max(shape) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        shaped = [u.view_as(p) for u, p in zip(updates.unbind(), parameters, strict=True)]
        torch._foreach_add_(parameters, shaped, alpha=-group["lr"] * scale)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon suits: weights of linear and convolution layers, but no tables, norms or thin layers."""
    if parameter.ndim < 2 or min(parameter.shape[:2]) < 8:
        return False
    return not any(word in name for word in ("embed", "shared", "table", "relative", "norm", "lm_head"))


def make_optimizers(
    modules: dict[str, nn.Module],
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    muon: bool = True,
) -> list[torch.optim.Optimizer]:
    """AdamW and, with `muon`, Muon for the matrices, over all parameters that require a gradient."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    seen: set[int] = set()
    for module in modules.values():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                (matrices if muon and is_matrix(name, parameter) else others).append(parameter)
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.is_cuda for p in others)
    optimizers: list[torch.optim.Optimizer] = []
    if others:
        kept = [group for group in groups if group["params"]]
        optimizers.append(torch.optim.AdamW(kept, lr=lr, betas=betas, fused=fused))
    if matrices:
        optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay))
    return optimizers
