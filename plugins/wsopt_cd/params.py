"""What the [family] and [train] sections take for the family ``cd``. Neither torch nor numpy is imported here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wsopt.diffusion.config import PositiveFloat, PositiveInt, SongUNetConfig

Rate = Annotated[float, Field(ge=0, lt=1)]


class NetworkParams(SongUNetConfig):
    """The network; without any key a small one for 8 x 8 grey images."""

    img_resolution: PositiveInt = Field(default=8, description="height and width of the images, in pixels")
    in_channels: PositiveInt = Field(default=1, description="colour channels of the input")
    out_channels: PositiveInt = Field(default=1, description="colour channels of the output; equal to in_channels")
    model_channels: PositiveInt = Field(default=16, description="channels that channel_mult multiplies")
    channel_mult: tuple[PositiveInt, ...] = Field(
        default=(1, 1), min_length=1, description="channel multiplier of each resolution, highest resolution first"
    )
    num_blocks: PositiveInt = Field(default=1, description="residual blocks per resolution")
    attn_resolutions: tuple[PositiveInt, ...] = Field(
        default=(4,), description="resolutions, in pixels, whose blocks have self-attention"
    )

    @model_validator(mode="after")
    def _check_channels(self) -> NetworkParams:
        if self.in_channels != self.out_channels:
            raise ValueError(
                f"in_channels is {self.in_channels} and out_channels {self.out_channels}; a consistency model maps "
                f"images to images, so give both the same number"
            )
        return self


class CDParams(BaseModel):
    """The model and how it is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkParams = Field(default=NetworkParams(), description="architecture of the network")
    sigma_data: PositiveFloat = Field(
        default=0.5, description="standard deviation of the data that the preconditioning assumes, pixels in [-1, 1]"
    )
    sigma_min: PositiveFloat = Field(default=0.002, description="lowest noise level, in the pixels' units")
    sigma_max: PositiveFloat = Field(default=80.0, description="highest noise level, in the pixels' units")
    rho: PositiveFloat = Field(default=7.0, description="exponent of the noise grid; larger crowds the low levels")
    scales: int = Field(default=18, ge=2, description="number of noise levels in the grid (N)")
    timesteps: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="indices into the grid at which the network is evaluated in sampling, from 0 (highest noise) up; "
        "[0] is one step, [0, 10] two; a last entry of scales - 1 ends the list and costs nothing",
    )

    @model_validator(mode="after")
    def _check(self) -> CDParams:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        ascending = all(a < b for a, b in zip(self.timesteps, self.timesteps[1:], strict=False))
        if self.timesteps[0] != 0 or not ascending or self.timesteps[-1] >= self.scales:
            raise ValueError(
                f"timesteps {list(self.timesteps)} must start with 0, ascend and stay below scales = {self.scales}; "
                f"[0] samples in one step, [0, {max(self.scales // 2, 1)}] in two"
            )
        return self

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The indices at which the network is evaluated: at the lowest level the model is the identity."""
        return tuple(index for index in self.timesteps if index < self.scales - 1) or (0,)


class CDRecipe(BaseModel):
    """Training: first a diffusion model (the teacher), then the consistency model distilled from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="the training seed")
    teacher_steps: PositiveInt = Field(default=2000, description="optimizer steps of the teacher")
    teacher_batch: PositiveInt = Field(default=32, description="images per step of the teacher")
    teacher_lr: PositiveFloat = Field(default=2e-3, description="learning rate of the teacher (Adam)")
    teacher_ema_rate: Rate = Field(default=0.995, description="EMA rate, per step, of the weights that are distilled")
    steps: PositiveInt = Field(default=2000, description="optimizer steps of the distillation")
    batch: PositiveInt = Field(default=32, description="images per step of the distillation")
    lr: PositiveFloat = Field(default=1e-3, description="learning rate of the distillation (RAdam), constant")
    target: Literal["stop-gradient", "ema"] = Field(
        default="stop-gradient", description="weights of the target: the student's own, or their EMA"
    )
    target_rate: Rate = Field(default=0.95, description="EMA rate, per step, of the target; with target = 'ema' only")
    loss: Literal["l2", "pseudo-huber"] = Field(default="l2", description="distance of student and target")
    save_every: PositiveInt = Field(default=10, description="steps between saved checkpoints")
    ema_rates: tuple[Rate, ...] = Field(
        default=(0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995),
        description="EMA rates, per step, of the student's weights that are saved at the end",
    )
    state_every: PositiveInt = Field(default=250, description="steps between snapshots to resume from")

    @model_validator(mode="after")
    def _check(self) -> CDRecipe:
        if self.save_every > self.steps:
            raise ValueError(
                f"save_every = {self.save_every} is more than steps = {self.steps}: no checkpoint would be saved"
            )
        if len(set(self.ema_rates)) != len(self.ema_rates):
            raise ValueError(f"ema_rates {list(self.ema_rates)} names a rate twice; give each once")
        return self

    @property
    def saved_steps(self) -> range:
        """The steps at which a checkpoint is saved."""
        return range(self.save_every, self.steps + 1, self.save_every)
