"""What the family plugins share: the SongUNet, preconditioning, noise grids, samplers, losses.

Importing this package needs no torch; it is loaded with the first name that needs it. `wsopt.diffusion.config` has the
settings alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsopt.diffusion._losses import (
        Distance,
        FlowPair,
        denoising_loss,
        distance,
        distillation_loss,
        flow_pairs,
        lognormal_sigmas,
        pseudo_huber,
    )
    from wsopt.diffusion._preconditioning import (
        Denoise,
        Denoiser,
        NoiseCondition,
        Scalings,
        boundary_scalings,
        edm_scalings,
        noise_condition,
    )
    from wsopt.diffusion._samplers import (
        euler_step,
        heun_step,
        karras_grid,
        sample_flow,
        sample_multistep,
        sample_onestep,
    )
    from wsopt.diffusion._songunet import SongUNet
    from wsopt.diffusion.config import SongUNetConfig

__all__ = [
    "Denoise",
    "Denoiser",
    "Distance",
    "FlowPair",
    "NoiseCondition",
    "Scalings",
    "SongUNet",
    "SongUNetConfig",
    "boundary_scalings",
    "denoising_loss",
    "distance",
    "distillation_loss",
    "edm_scalings",
    "euler_step",
    "flow_pairs",
    "heun_step",
    "karras_grid",
    "lognormal_sigmas",
    "noise_condition",
    "pseudo_huber",
    "sample_flow",
    "sample_multistep",
    "sample_onestep",
]

_HOMES = {
    "_losses": (
        "Distance",
        "FlowPair",
        "denoising_loss",
        "distance",
        "distillation_loss",
        "flow_pairs",
        "lognormal_sigmas",
        "pseudo_huber",
    ),
    "_preconditioning": (
        "Denoise",
        "Denoiser",
        "NoiseCondition",
        "Scalings",
        "boundary_scalings",
        "edm_scalings",
        "noise_condition",
    ),
    "_samplers": ("euler_step", "heun_step", "karras_grid", "sample_flow", "sample_multistep", "sample_onestep"),
    "_songunet": ("SongUNet",),
    "config": ("SongUNetConfig",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
