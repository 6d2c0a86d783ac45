"""The one way to DPM-Solver++, diffusers' multistep solver of second order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from diffusers import DPMSolverMultistepScheduler

Algorithm: TypeAlias = Literal["dpmsolver++", "sde-dpmsolver++"]
Prediction: TypeAlias = Literal["epsilon", "sample", "v_prediction"]
FinalSigma: TypeAlias = Literal["zero", "sigma_min"]


def dpm_solver(
    betas: Sequence[float] | npt.NDArray[np.float64],
    prediction_type: Prediction,
    *,
    algorithm_type: Algorithm = "dpmsolver++",
    final_sigmas_type: FinalSigma = "zero",
) -> DPMSolverMultistepScheduler:
    """A solver of the reverse-time equations of a discrete schedule.

    Args:
        betas: beta_t of the schedule in training.
        prediction_type: What the network predicts.
        algorithm_type: `dpmsolver++` for the probability-flow ODE, `sde-dpmsolver++` for the SDE.
        final_sigmas_type: `zero` returns the prediction of the last call itself; `sigma_min` stops
            at the smallest noise of the schedule.

    Returns:
        Without time steps: they are set by the caller.
    """
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=len(betas),
        trained_betas=[float(beta) for beta in betas],
        prediction_type=prediction_type,
        solver_order=2,
        algorithm_type=algorithm_type,
        final_sigmas_type=final_sigmas_type,
    )
