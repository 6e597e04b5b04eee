"""The four parameterizations that a config file names."""

from __future__ import annotations

from wsopt.config.params import DifferenceParams, DirectParams, LayerwiseParams, LoraParams
from wsopt.errors import InputError
from wsopt.parameterizations._combination import Combination
from wsopt.parameterizations._groups import Groups, PatternGroups, SharedGroups, by_depth, by_tensor
from wsopt.types import SpaceInfo


class DifferenceBase(Combination):
    """Coefficients that sum to 1, shared by all layers; the paper's own parameterization by default.

    x holds alpha_2 .. alpha_K, and theta = (1 - sum x) theta_1 + sum_i x_i theta_i, the coefficients being free
    otherwise, negative ones included (section 4.2a, equation 7 and Algorithm 1). Other coordinates of the same
    combinations are a matter of `DifferenceParams.coordinates`.

    Args:
        params: `DifferenceParams`; without parameters the paper's.
    """

    name = "difference"

    def __init__(self, params: object = None) -> None:
        chosen = params if isinstance(params, DifferenceParams) else DifferenceParams()
        super().__init__(SharedGroups(), chosen.coordinates, chosen)


class Direct(Combination):
    """All K coefficients, shared by all layers; free, or brought to the sum 1."""

    name = "direct"

    def __init__(self, params: DirectParams) -> None:
        super().__init__(SharedGroups(), "direct", params, params.normalize)


class Layerwise(Combination):
    """A vector of coefficients for each group of layers (the paper's appendix G names it as future work)."""

    name = "layerwise"

    def __init__(self, params: LayerwiseParams) -> None:
        super().__init__(_groups(params), params.coordinates, params, params.normalize)


class Lora(Combination):
    """The same for LoRA checkpoints, whose sum_i alpha_i s_i B_i A_i is combined, never A and B apart.

    LoRA is a representation of the weights: the other parameterizations work on it as well. This one refuses
    checkpoints that are no LoRA, so that a config file cannot mistake one for the other.
    """

    name = "lora"

    def __init__(self, params: LoraParams) -> None:
        super().__init__(_groups(params), params.coordinates, params, params.normalize)

    def bind(self, info: SpaceInfo) -> None:
        """See `Parameterization.bind`."""
        if info.representation != "lora":
            raise InputError(
                f"the parameterization 'lora' needs LoRA checkpoints, and these are {info.representation} weights. Set "
                f"parameterization.name to 'difference', 'direct' or 'layerwise', or give a folder of LoRA files."
            )
        super().bind(info)


def _groups(params: LayerwiseParams) -> Groups:
    if params.grouping == "patterns":
        pairs = [(one.name or one.pattern, one.pattern) for one in params.patterns]
        return PatternGroups(pairs, params.unmatched == "error")
    return {"shared": SharedGroups, "depth": by_depth, "tensor": by_tensor}[params.grouping]()
