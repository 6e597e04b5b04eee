"""Parameters of the built-in components: what their config sections take. Neither torch nor numpy is imported here."""

from wsopt.config.params._base import FunctionRef, NoParams, Params, Step
from wsopt.config.params._custom import (
    CallableFeaturesParams,
    CallableParams,
    ModuleParams,
    TorchmetricsParams,
    WeightedParams,
)
from wsopt.config.params._extractors import ClipParams, Dinov2Params, InceptionParams
from wsopt.config.params._objectives import FidParams, InceptionScoreParams, KidParams, PrecisionParams, RecallParams
from wsopt.config.params._optimizers import (
    CmaesParams,
    CoordinateParams,
    LcscParams,
    NevergradParams,
    OnePlusOneParams,
    RandomParams,
)
from wsopt.config.params._parameterizations import (
    ConstraintParams,
    DifferenceParams,
    DirectParams,
    GroupPattern,
    LayerwiseParams,
    LoraParams,
    SumOne,
)
from wsopt.config.params._preference import ClipScoreParams, ImageRewardParams, PickScoreParams, WinRateParams

__all__ = [
    "CallableFeaturesParams",
    "CallableParams",
    "ClipParams",
    "ClipScoreParams",
    "CmaesParams",
    "ConstraintParams",
    "CoordinateParams",
    "DifferenceParams",
    "Dinov2Params",
    "DirectParams",
    "FidParams",
    "FunctionRef",
    "GroupPattern",
    "ImageRewardParams",
    "InceptionParams",
    "InceptionScoreParams",
    "KidParams",
    "LayerwiseParams",
    "LcscParams",
    "LoraParams",
    "ModuleParams",
    "NevergradParams",
    "NoParams",
    "OnePlusOneParams",
    "Params",
    "PickScoreParams",
    "PrecisionParams",
    "RandomParams",
    "RecallParams",
    "Step",
    "SumOne",
    "TorchmetricsParams",
    "WeightedParams",
    "WinRateParams",
]
