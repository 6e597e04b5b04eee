"""SongUNet: the U-Net of NCSN++ and DDPM++ as Karras et al. 2022 (EDM) configure it, under EDM's state-dict names."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsopt.diffusion._block import Block
from wsopt.diffusion._layers import TINY, Conv2d, FourierEmbedding, GroupNorm, Linear, PositionalEmbedding, Resample
from wsopt.diffusion.config import SongUNetConfig

_SKIP = 0.5**0.5


class SongUNet(nn.Module):
    """The raw network F(x, c_noise), without preconditioning. Unconditional.

    Names and shapes of the state dict are those of the public code, so its checkpoints load strictly.

    Args:
        config: the architecture.
        generator: source of the initial weights (uniform Xavier; the last layer of every residual branch and of the
            network near zero). Without one all convolutions are zero, for weights that are loaded afterwards. The
            global generator of torch is never drawn from, except by dropout in training mode.
    """

    def __init__(self, config: SongUNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self._generator = generator
        self._embedding = config.model_channels * config.channel_mult_emb
        noise_channels = config.model_channels * config.channel_mult_noise
        self.map_noise = (
            FourierEmbedding(noise_channels, generator)
            if config.embedding_type == "fourier"
            else PositionalEmbedding(noise_channels)
        )
        self.map_layer0 = Linear(noise_channels, self._embedding, generator)
        self.map_layer1 = Linear(self._embedding, self._embedding, generator)
        skips: list[int] = []
        self.enc = nn.ModuleDict(dict(self._encoder(skips)))
        self.dec = nn.ModuleDict(dict(self._decoder(skips)))
        del self._generator

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """The network's output.

        Args:
            x: ``[N, in_channels, img_resolution, img_resolution]``, already scaled by c_in.
            c_noise: ``[N]`` noise condition; ln(sigma) / 4 for the public EDM networks.

        Returns:
            ``[N, out_channels, img_resolution, img_resolution]``.
        """
        emb = self.map_noise(c_noise.to(x.dtype))
        emb = F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))
        x, skips = self._encode(x, emb)
        return self._decode(x, emb, skips)

    def _encode(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        image = x
        for name, layer in self.enc.items():
            if name.endswith("aux_residual"):
                image = (x + layer(image)) * _SKIP
                x = skips[-1] = image
            else:
                x = layer(x, emb) if isinstance(layer, Block) else layer(x)
                skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, emb: Tensor, skips: list[Tensor]) -> Tensor:
        image: Tensor | None = None
        normed = x
        for name, layer in self.dec.items():
            if name.endswith("aux_up"):
                image = layer(image)
            elif name.endswith("aux_norm"):
                normed = layer(x)
            elif name.endswith("aux_conv"):
                output = layer(F.silu(normed))
                image = output if image is None else image + output
            else:
                if "_block" in name:
                    x = torch.cat([x, skips.pop()], dim=1)
                x = layer(x, emb)
        assert image is not None  # the highest resolution always has an aux_conv
        return image

    def _encoder(self, skips: list[int]) -> Iterator[tuple[str, nn.Module]]:
        """The encoder's layers; appends to `skips` the channels of every output that the decoder takes up."""
        config = self.config
        channels = config.in_channels
        image_channels = config.in_channels
        for level, mult in enumerate(config.channel_mult):
            resolution = config.img_resolution >> level
            prefix = f"{resolution}x{resolution}"
            if level == 0:
                channels = config.model_channels
                yield f"{prefix}_conv", Conv2d(config.in_channels, channels, 3, self._generator)
            else:
                yield f"{prefix}_down", self._block(channels, channels, resample="down")
                if config.encoder_type == "residual":
                    yield (
                        f"{prefix}_aux_residual",
                        Conv2d(
                            image_channels,
                            channels,
                            3,
                            self._generator,
                            resample="down",
                            taps=config.resample_filter,
                            fused=True,
                        ),
                    )
                    image_channels = channels
            skips.append(channels)
            for index in range(config.num_blocks):
                outputs = config.model_channels * mult
                attention = resolution in config.attn_resolutions
                yield f"{prefix}_block{index}", self._block(channels, outputs, attention=attention)
                channels = outputs
                skips.append(channels)

    def _decoder(self, skips: list[int]) -> Iterator[tuple[str, nn.Module]]:
        """The decoder's layers; consumes the channels in `skips` from the end."""
        config = self.config
        channels = skips[-1]
        lowest = len(config.channel_mult) - 1
        for level in range(lowest, -1, -1):
            resolution = config.img_resolution >> level
            prefix = f"{resolution}x{resolution}"
            if level == lowest:
                yield f"{prefix}_in0", self._block(channels, channels, attention=True)
                yield f"{prefix}_in1", self._block(channels, channels)
            else:
                yield f"{prefix}_up", self._block(channels, channels, resample="up")
            outputs = config.model_channels * config.channel_mult[level]
            for index in range(config.num_blocks + 1):
                attention = index == config.num_blocks and resolution in config.attn_resolutions
                yield f"{prefix}_block{index}", self._block(channels + skips.pop(), outputs, attention=attention)
                channels = outputs
            if config.decoder_type == "skip" or level == 0:
                if config.decoder_type == "skip" and level < lowest:
                    image = config.out_channels
                    taps = config.resample_filter
                    yield f"{prefix}_aux_up", Conv2d(image, image, 0, None, resample="up", taps=taps)
                yield f"{prefix}_aux_norm", GroupNorm(channels)
                yield f"{prefix}_aux_conv", Conv2d(channels, config.out_channels, 3, self._generator, scale=TINY)

    def _block(self, inputs: int, outputs: int, *, attention: bool = False, resample: Resample | None = None) -> Block:
        return Block(
            inputs,
            outputs,
            self._embedding,
            self._generator,
            attention=attention,
            resample=resample,
            taps=self.config.resample_filter,
            dropout=self.config.dropout,
        )
