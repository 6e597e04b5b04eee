"""The settings of the networks, as validated models that need no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SongUNetConfig(BaseModel):
    """Architecture of a SongUNet, under the argument names of the public EDM code (Karras et al. 2022, table 8).

    The NCSN++ setting is ``embedding_type="fourier", channel_mult_noise=2, encoder_type="residual",
    resample_filter=[1, 3, 3, 1]``; the DDPM++ setting is the default of every field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    img_resolution: PositiveInt = Field(description="height and width of the images, in pixels")
    in_channels: PositiveInt = Field(description="colour channels of the input")
    out_channels: PositiveInt = Field(description="colour channels of the output")
    label_dim: int = Field(default=0, ge=0, description="number of classes; only 0 (unconditional) is supported")
    augment_dim: int = Field(default=0, ge=0, description="length of the augmentation label; only 0 is supported")
    model_channels: PositiveInt = Field(default=128, description="channels that channel_mult multiplies")
    channel_mult: tuple[PositiveInt, ...] = Field(
        default=(2, 2, 2), min_length=1, description="channel multiplier of each resolution, highest resolution first"
    )
    channel_mult_emb: PositiveInt = Field(default=4, description="channel multiplier of the noise-level embedding")
    num_blocks: PositiveInt = Field(default=4, description="residual blocks per resolution")
    attn_resolutions: tuple[PositiveInt, ...] = Field(
        default=(16,), description="resolutions, in pixels, whose blocks have self-attention"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="probability of dropping an activation in training")
    embedding_type: Literal["positional", "fourier"] = Field(
        default="positional", description="how the noise level is embedded: positional (DDPM++) or fourier (NCSN++)"
    )
    channel_mult_noise: PositiveInt = Field(default=1, description="channel multiplier of the raw noise embedding")
    encoder_type: Literal["standard", "residual"] = Field(
        default="standard", description="whether the image also enters the encoder through a residual branch"
    )
    decoder_type: Literal["standard", "skip"] = Field(
        default="standard", description="whether every decoder resolution also writes to the output image"
    )
    resample_filter: tuple[PositiveFloat, ...] = Field(
        default=(1.0, 1.0), min_length=2, description="1-d filter of up- and downsampling; even length"
    )

    @model_validator(mode="after")
    def _check(self) -> SongUNetConfig:
        if self.label_dim or self.augment_dim:
            raise ValueError("label_dim and augment_dim must be 0: only unconditional SongUNets are supported")
        halvings = len(self.channel_mult) - 1
        if self.img_resolution % 2**halvings:
            raise ValueError(
                f"img_resolution {self.img_resolution} cannot be halved {halvings} times, once per further entry of "
                f"channel_mult; use a multiple of {2**halvings} or fewer entries"
            )
        if len(self.resample_filter) % 2:
            raise ValueError(f"resample_filter has odd length {len(self.resample_filter)}; give an even number of taps")
        for mult in self.channel_mult:
            channels = self.model_channels * mult
            if channels % min(32, max(channels // 4, 1)):
                raise ValueError(
                    f"model_channels * channel_mult = {channels} does not divide into {min(32, channels // 4)} "
                    f"normalisation groups; use multiples of 4 (of 32 from 128 on)"
                )
        if self.model_channels * self.channel_mult_noise % 2 or self.model_channels * self.channel_mult_noise < 4:
            raise ValueError("model_channels * channel_mult_noise must be even and at least 4: the embedding is halved")
        return self
