"""Guarantees of the training loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from koma.training.loop import LOSSES, Options, Run, TrainingDivergedError, derive_seed, fit, learning_rate
from koma.training.optimizer import orthogonalize

torch.set_num_threads(1)


class Regression(Run):
    """Learns a fixed linear map from random inputs, with dropout so that the global generator matters too."""

    name = "regression"
    lr = 0.02

    def build(self, device: torch.device) -> None:
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 8)).to(device)
        self.target = torch.randn(8, 8, generator=torch.Generator().manual_seed(3)).to(device)

    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        x = torch.randn(32, 8, generator=generator)
        return (self.model(x) - x @ self.target).square().mean(), {"half": 0.5}

    def sheet(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(f"{self.model.training}")

    def export(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), path / "weights.pt")


def logged(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOSSES).read_text().splitlines()]


def test_a_run_learns_and_leaves_its_losses_sheets_and_export(tmp_path: Path) -> None:
    result = fit(Regression(), Options(tmp_path, steps=60, sheet_every=30, device="cpu"))
    assert result.finished
    assert result.steps == 60
    assert logged(tmp_path) == result.losses
    assert sum(result.losses[-10:]) < 0.8 * sum(result.losses[:10])
    assert (tmp_path / "sheets/000030.txt").read_text() == "False"
    assert (tmp_path / "export/weights.pt").exists()


def test_an_interrupted_run_continues_with_the_same_losses(tmp_path: Path) -> None:
    whole = fit(Regression(), Options(tmp_path / "whole", steps=30, device="cpu")).losses

    class Interrupted(Regression):
        def after_step(self, step: int, generator: torch.Generator) -> None:
            if step == 11:
                raise KeyboardInterrupt

    options = Options(tmp_path / "cut", steps=30, save_every=5, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), options)
    resumed = fit(Regression(), Options(options.out, steps=30, resume=True, device="cpu"))
    assert resumed.first_step == 10
    assert resumed.losses == whole[10:]
    assert logged(options.out) == whole


def test_a_stop_signal_saves_and_returns(tmp_path: Path) -> None:
    import os
    import signal

    class Signalled(Regression):
        def after_step(self, step: int, generator: torch.Generator) -> None:
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    result = fit(Signalled(), Options(tmp_path, steps=30, device="cpu"))
    assert (result.finished, result.steps) == (False, 5)
    assert signal.getsignal(signal.SIGTERM) == before
    assert fit(Regression(), Options(tmp_path, steps=30, resume=True, device="cpu")).first_step == 5


def test_a_loss_that_is_not_finite_ends_the_run_before_the_checkpoint_is_replaced(tmp_path: Path) -> None:
    class Diverging(Regression):
        def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
            loss, figures = super().loss(step, generator)
            return (loss * float("nan") if step == 7 else loss), figures

    with pytest.raises(TrainingDivergedError):
        fit(Diverging(), Options(tmp_path, steps=20, save_every=5, device="cpu"))
    assert fit(Regression(), Options(tmp_path, steps=20, resume=True, device="cpu")).first_step == 5


@pytest.mark.parametrize("bounds", [{}, {"steps": -1}, {"minutes": -0.5}])
def test_a_run_without_a_sensible_end_is_refused(tmp_path: Path, bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"end|negative"):
        Options(tmp_path, **bounds)  # type: ignore[arg-type]


def test_progress_follows_whichever_bound_is_nearer(tmp_path: Path) -> None:
    options = Options(tmp_path, minutes=1, steps=100)
    assert options.progress(10, 30) == 0.5
    assert options.progress(90, 30) == 0.9
    assert options.progress(10, 90) == 1.0
    assert Options(tmp_path, steps=0).progress(0, 0) == 1.0


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    run = Regression()
    rates = [learning_rate(run, i / 100) for i in range(101)]
    assert rates[0] < 0.1 * run.lr
    assert max(rates) == pytest.approx(run.lr)
    assert rates[100] == pytest.approx(0)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_seeds_of_steps_differ() -> None:
    seeds = {derive_seed(seed, step) for seed in range(20) for step in range(500)}
    assert len(seeds) == 10_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**63


@pytest.mark.parametrize("shape", [(3, 8, 24), (2, 24, 8), (1, 16, 16)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.4
    assert values.max() < 1.4
