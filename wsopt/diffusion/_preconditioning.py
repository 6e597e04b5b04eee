"""Preconditioning: from a raw network F to a denoiser D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

NoiseCondition = Literal["edm", "cm"]
Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""D(x, sigma) of x ``[N, C, H, W]`` and sigma ``[N]`` float64; the result has the shape and dtype of x."""


@dataclass(frozen=True, eq=False)
class Scalings:
    """c_skip, c_out and c_in, each of the shape and dtype of the noise levels they were computed for."""

    skip: Tensor
    out: Tensor
    input: Tensor


def edm_scalings(sigma: Tensor, sigma_data: float) -> Scalings:
    """The scalings of a denoiser (Karras et al. 2022, table 1).

    Args:
        sigma: noise levels, positive, in units of the pixels' range [-1, 1].
        sigma_data: standard deviation of the data.
    """
    total = sigma.square() + sigma_data**2
    return Scalings(sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt())


def boundary_scalings(sigma: Tensor, sigma_data: float, sigma_min: float) -> Scalings:
    """The scalings of a consistency function, for which D(x, sigma_min) = x (Song et al. 2023, appendix C).

    c_out's denominator is not shifted by `sigma_min`, as in the authors' implementation.

    Args:
        sigma: noise levels, at least `sigma_min`.
        sigma_data: standard deviation of the data.
        sigma_min: the lowest noise level, where the function is the identity.
    """
    total = sigma.square() + sigma_data**2
    shifted = sigma - sigma_min
    skip = sigma_data**2 / (shifted.square() + sigma_data**2)
    return Scalings(skip, shifted * sigma_data / total.sqrt(), total.rsqrt())


def noise_condition(sigma: Tensor, kind: NoiseCondition) -> Tensor:
    """What the network is told of the noise level: ln(sigma) / 4 (``edm``) or 250 ln(sigma + 1e-44) (``cm``)."""
    return sigma.log() / 4 if kind == "edm" else 250 * (sigma + 1e-44).log()


class Denoiser:
    """D(x, sigma) of a network: the denoiser of a diffusion model, or a consistency function.

    Args:
        network: F(x, c_noise), called in the dtype of its own parameters.
        sigma_data: standard deviation of the data.
        boundary: sigma_min for the scalings of a consistency function, None for those of a denoiser.
        condition: how the noise level is given to the network.
        clip: clamp every result to [-1, 1].
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: float,
        *,
        boundary: float | None = None,
        condition: NoiseCondition = "edm",
        clip: bool = False,
    ) -> None:
        self.network = network
        self.sigma_data = sigma_data
        self.boundary = boundary
        self.condition = condition
        self.clip = clip
        self._dtype = next((p.dtype for p in network.parameters()), torch.float32)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x, sigma).

        Args:
            x: ``[N, C, H, W]`` noisy images.
            sigma: ``[N]`` noise levels; give float64, for the lowest level to be met exactly.

        Returns:
            ``[N, C, H, W]`` in the dtype of `x`.
        """
        sigma = sigma.double()
        if self.boundary is None:
            scalings = edm_scalings(sigma, self.sigma_data)
        else:
            scalings = boundary_scalings(sigma, self.sigma_data, self.boundary)
        skip, out, scale = (c[:, None, None, None].to(x.dtype) for c in (scalings.skip, scalings.out, scalings.input))
        condition = noise_condition(sigma, self.condition).to(self._dtype)
        raw: Tensor = self.network((scale * x).to(self._dtype), condition)
        denoised = skip * x + out * raw.to(x.dtype)
        return denoised.clamp(-1, 1) if self.clip else denoised
