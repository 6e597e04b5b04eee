"""The network of ImageReward-v1.0 on the BLIP modules of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsopt.objectives.clip import transformers_package
from wsopt.objectives.preference.image_reward._layout import (
    HEAD,
    HEAD_LINEARS,
    Architecture,
    text_weights,
    vision_weights,
)

TOKENS = 35
"""A prompt is padded or cut to this many tokens, [CLS] and [SEP] counted."""
SHIFT = 0.16717362830052426
SPREAD = 1.0333394966054072
"""Mean and standard deviation of the head's output that the published score is standardised with."""
_VISION_EPS = 1e-6
_TEXT_EPS = 1e-12


class Network(nn.Module):
    """Images and token ids to scores. In eval mode, float32, without gradients.

    Args:
        weights: checked by `_layout.check`, under their published names; the network shares their memory where they
            are float32.
        architecture: its sizes.

    Raises:
        MissingDependencyError: where transformers is not installed.
    """

    direction: Tensor
    offset: Tensor

    def __init__(self, weights: Mapping[str, Tensor], architecture: Architecture) -> None:
        super().__init__()
        self.vision, self.text = _encoders(architecture)
        _put(self.vision, vision_weights(weights))
        _put(self.text, text_weights(weights))
        self.text.embeddings.position_ids = torch.arange(architecture.positions).unsqueeze(0)
        direction, offset = folded_head(weights)
        self.register_buffer("direction", direction)
        self.register_buffer("offset", offset)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Scores.

        Args:
            pixels: ``[N, 3, S, S]`` float32 from `preprocess`.
            tokens: ``[N, T]`` int64 token ids, [CLS] first.
            mask: ``[N, T]`` int64, 1 for a token, 0 for padding.

        Returns:
            ``[N]`` float32.
        """
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read: Tensor = self.text(
            input_ids=tokens,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.int64, device=seen.device),
            is_decoder=False,
        ).last_hidden_state
        return read[:, 0] @ self.direction + self.offset


def folded_head(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The head and the standardisation as one affine map of the first token, worked out in float64.

    The head has five linear layers and nothing but dropout between them, so the score is ``h @ direction + offset``.

    Returns:
        ``[text width]`` and ``[]`` float32.
    """
    direction, offset = torch.ones(1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for position in reversed(HEAD_LINEARS):
        matrix, bias = (weights[f"{HEAD}{position}.{kind}"].to(torch.float64) for kind in ("weight", "bias"))
        offset = offset + direction @ bias
        direction = direction @ matrix
    return (direction / SPREAD).to(torch.float32), ((offset - SHIFT) / SPREAD).to(torch.float32)


def _encoders(sizes: Architecture) -> tuple[Any, Any]:
    """The two encoders without weights."""
    package = transformers_package()
    # The numbers of heads and the epsilons differ from the defaults of these classes.
    vision = package.BlipVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=4 * sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch,
        hidden_act="gelu",
        layer_norm_eps=_VISION_EPS,
        attention_dropout=0.0,
    )
    text = package.BlipTextConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text_width,
        encoder_hidden_size=sizes.vision_width,
        intermediate_size=sizes.text_hidden,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=sizes.positions,
        hidden_act="gelu",
        layer_norm_eps=_TEXT_EPS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        sep_token_id=None,
        is_decoder=True,  # what gives the layers their cross attention; the call says that it is no decoder
    )
    # Nothing is drawn or allocated for weights that are about to be replaced.
    with torch.device("meta"):
        return package.BlipVisionModel(vision), package.BlipTextModel(text, add_pooling_layer=False)


def _put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    module.load_state_dict({name: tensor.to(torch.float32) for name, tensor in weights.items()}, assign=True)
