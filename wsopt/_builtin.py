"""What comes with wsopt, registered through the same hooks as everybody's."""

from __future__ import annotations

from wsopt.config.params import (
    CallableFeaturesParams,
    CallableParams,
    ClipParams,
    ClipScoreParams,
    CmaesParams,
    CoordinateParams,
    DifferenceParams,
    Dinov2Params,
    DirectParams,
    FidParams,
    ImageRewardParams,
    InceptionParams,
    InceptionScoreParams,
    KidParams,
    LayerwiseParams,
    LcscParams,
    LoraParams,
    ModuleParams,
    NevergradParams,
    OnePlusOneParams,
    PickScoreParams,
    PrecisionParams,
    RandomParams,
    RecallParams,
    TorchmetricsParams,
    WeightedParams,
    WinRateParams,
)
from wsopt.hookspecs import Register, hookimpl


@hookimpl
def register_objectives(register: Register) -> None:
    """See `wsopt.hookspecs.register_objectives`."""
    register("fid", "wsopt.objectives:FrechetDistance", params=FidParams)
    register("fcd", "wsopt.objectives:FrechetClip", params=FidParams)
    register("fd-clip", "wsopt.objectives:FrechetClip", params=FidParams)
    register("kid", "wsopt.objectives:KernelDistance", params=KidParams)
    register("inception-score", "wsopt.objectives:InceptionScore", params=InceptionScoreParams)
    register("precision", "wsopt.objectives:Precision", params=PrecisionParams)
    register("recall", "wsopt.objectives:Recall", params=RecallParams)
    register("pickscore", "wsopt.objectives.preference:PickScore", params=PickScoreParams)
    register("image-reward", "wsopt.objectives.preference.image_reward:ImageReward", params=ImageRewardParams)
    register("clip-score", "wsopt.objectives.preference:ClipScore", params=ClipScoreParams)
    register("win-rate", "wsopt.objectives.preference:WinRate", params=WinRateParams)
    register("torchmetrics", "wsopt.objectives.any_metric:TorchmetricsObjective", params=TorchmetricsParams)
    register("callable", "wsopt.objectives.callable:CallableObjective", params=CallableParams)
    register("weighted", "wsopt.objectives:Weighted", params=WeightedParams)


@hookimpl
def register_optimizers(register: Register) -> None:
    """See `wsopt.hookspecs.register_optimizers`."""
    register("lcsc", "wsopt.optimizers:LcscSearch", params=LcscParams)
    register("one-plus-one", "wsopt.optimizers:OnePlusOneSearch", params=OnePlusOneParams)
    register("cmaes", "wsopt.optimizers.cmaes:CmaEsSearch", params=CmaesParams)
    register("nevergrad", "wsopt.optimizers.nevergrad:NevergradSearch", params=NevergradParams)
    register("coordinate", "wsopt.optimizers:CoordinateSearch", params=CoordinateParams)
    register("random", "wsopt.optimizers:RandomSearch", params=RandomParams)


@hookimpl
def register_parameterizations(register: Register) -> None:
    """See `wsopt.hookspecs.register_parameterizations`."""
    register("difference", "wsopt.parameterizations:DifferenceBase", params=DifferenceParams)
    register("direct", "wsopt.parameterizations:Direct", params=DirectParams)
    register("layerwise", "wsopt.parameterizations:Layerwise", params=LayerwiseParams)
    register("lora", "wsopt.parameterizations:Lora", params=LoraParams)


@hookimpl
def register_model_families(register: Register) -> None:
    """See `wsopt.hookspecs.register_model_families`."""
    register("module", "wsopt.families:ModuleFamily", params=ModuleParams)


@hookimpl
def register_checkpoint_readers(register: Register) -> None:
    """See `wsopt.hookspecs.register_checkpoint_readers`."""
    # Folders and shards first: a shard alone looks like a checkpoint of its own.
    register("diffusers", "wsopt.checkpoints:DiffusersReader")
    register("safetensors-sharded", "wsopt.checkpoints:ShardedReader")
    register("safetensors", "wsopt.checkpoints:SafetensorsReader")
    register("torch", "wsopt.checkpoints:TorchReader")
    register("edm-pickle", "wsopt.checkpoints:EdmPickleReader")
    register("flax", "wsopt.checkpoints:FlaxReader")


@hookimpl
def register_feature_extractors(register: Register) -> None:
    """See `wsopt.hookspecs.register_feature_extractors`."""
    register("digits", "wsopt.objectives:DigitsClassifier")
    register("digits-mlp", "wsopt.objectives:DigitsMlp")
    register("mnist", "wsopt.objectives:MnistClassifier")
    register("mnist-mlp", "wsopt.objectives:MnistMlp")
    register("pixels", "wsopt.objectives:Pixels")
    register("inception", "wsopt.objectives.inception:InceptionFeatures", params=InceptionParams)
    register("clip", "wsopt.objectives.clip:ClipFeatures", params=ClipParams)
    register("dinov2", "wsopt.objectives.dinov2:Dinov2Features", params=Dinov2Params)
    register("callable", "wsopt.objectives.function_features:CallableFeatures", params=CallableFeaturesParams)


@hookimpl
def register_datasets(register: Register) -> None:
    """See `wsopt.hookspecs.register_datasets`."""
    register("digits", "wsopt.datasets:Digits")
    register("mnist", "wsopt.datasets:Mnist")
