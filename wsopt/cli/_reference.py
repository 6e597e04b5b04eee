"""`wsopt reference`: make reference statistics of real images, and show what is in a file of them."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsopt.cli._shared import add_plugin_argument, add_set_argument, positive, print_subjects
from wsopt.errors import ExitCode, InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from wsopt.objectives import Quantize
    from wsopt.objectives.references import Reference
    from wsopt.objectives.references.making import Made, MakeOptions
    from wsopt.progress import Progress
    from wsopt.registry import Component, Registry

_INDENT: Final = 14
_SPLITS: Final = ("train", "validation", "test")
_EPILOG: Final = """\
SOURCE is one of
  a folder          of image files of one size, searched with the folders in it
  .npy, .npz        an array of uint8 images [N, H, W, C] or [N, C, H, W]: arr_0, images, or the only one
  NAME/SPLIT        a split of a data set, as digits/train
  statistics        mu and sigma, a reference batch (FILE#clip for its CLIP moments), features, statistic.pth:
                    they are labelled with the features that you name

examples:
  wsopt reference make cifar10/train --features inception --preset edm --out cifar10.safetensors
  wsopt reference make VIRTUAL_lsun.npz --features inception --samples 50000 --out lsun.safetensors
  wsopt reference make digits/train --features digits --out digits.safetensors
  wsopt reference show digits.safetensors
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the parsers of `wsopt reference`."""
    parser = subparsers.add_parser(
        "reference",
        help="make reference statistics of real images, or show a file of them",
        description="Reference statistics: real images reduced to what FID, KID, precision and recall need.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_make(actions)
    show = actions.add_parser(
        "show",
        help="show what is in a file",
        description="Show what a file of reference statistics holds and what it was made with. Reads wsopt's own files "
        "and the public formats.",
    )
    show.add_argument("file", metavar="FILE", help="the file; FILE#clip and FILE#spatial: parts of a reference batch")
    show.add_argument("--json", action="store_true", help="print JSON")


def _add_make(actions: Any) -> None:  # noqa: ANN401
    make = actions.add_parser(
        "make",
        help="make a file of images, or of public statistics",
        description="Make reference statistics in one pass over the images, in memory that does not grow with their\n"
        "number. The file is there whole or not at all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("source", metavar="SOURCE", help="the real images, see below")
    make.add_argument("--out", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    make.add_argument("--force", action="store_true", help="replace the file where it is there")
    make.add_argument("--features", required=True, metavar="NAME", help="feature extractor (wsopt plugins lists them)")
    add_set_argument(make, "a parameter of the features, as in --set weights=FILE; may be repeated")
    make.add_argument(
        "--preset", metavar="NAME", help="conventions of a public evaluator: lcsc, adm, edm, clean, torch-fidelity"
    )
    make.add_argument(
        "--quantize",
        choices=("none", "trunc", "round"),
        help="how images that are no whole grey levels are quantised; those of files are whole. Default: round",
    )
    make.add_argument("--limit", type=positive, metavar="N", help="use N images, evenly spaced over all")
    make.add_argument(
        "--vectors",
        type=_number_or_none,
        default=10_000,
        metavar="N",
        help="feature vectors to keep, for KID, precision and recall, evenly spaced; or none. Default: 10000",
    )
    make.add_argument(
        "--samples", type=positive, metavar="N", help="of statistics that do not say: how many samples they are of"
    )
    make.add_argument("--batch-size", type=positive, default=250, metavar="N", help="images per pass. Default: 250")
    make.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:N or mps. Default: cpu")
    add_plugin_argument(make)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    return _make(args) if args.action == "make" else _show(args)


def _make(args: argparse.Namespace) -> int:
    if args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder. Give the file to write, NAME.safetensors.")
    if args.out.exists() and not args.force:
        raise InputError(f"{args.out} exists. Give another --out, or --force to replace it.")
    parent = next(folder for folder in args.out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"--out {args.out}: nothing can be written in {parent}. Give another --out.")
    from wsopt.cli._progress import RichProgress
    from wsopt.objectives.references import read_reference, write_reference
    from wsopt.plugin_manager import load_plugins

    registry = load_plugins(args.plugin).registry
    component = registry.get("extractor", args.features)
    params = _params(component, args)
    extractor = component.load()(params)
    options = _options(args, component, params)
    with RichProgress() as progress:
        made = _made(args, registry, extractor, options, progress)
        for note in made.notes:
            progress.line(f"warning: {note}")
        write_reference(args.out, made.reference, made.facts)
    print_subjects(_lines(args.out, read_reference(args.out)), _INDENT)
    return ExitCode.OK


def _made(
    args: argparse.Namespace,
    registry: Registry,
    extractor: Any,  # noqa: ANN401 - of the registry
    options: MakeOptions,
    progress: Progress,
) -> Made:
    from wsopt.objectives.references.making import make_from_dataset, make_from_path

    name, slash, split = args.source.rpartition("/")
    known = {component.address: component for component in registry.all("dataset")}
    if slash and name in known and not Path(args.source).exists():
        if split not in _SPLITS:
            raise InputError(f"data set {name} has no split {split!r}; it has {', '.join(_SPLITS)}.")
        model = known[name].params
        dataset = known[name].load()(None if model is None else model())
        quantize = options.quantize
        if args.preset:  # what files hold fits every quantisation, which a preset does not narrow down
            quantize = _preset(args.preset)[0]
            if options.quantize not in (None, quantize):
                raise InputError(f"--preset {args.preset} sets quantize to {quantize!r}: leave --quantize out.")
        options = replace(options, quantize=quantize)
        return make_from_dataset(args.source, dataset.images(split), extractor, options, progress)
    if not Path(args.source.rpartition("#")[0] or args.source).exists() and not Path(args.source).exists():
        raise InputError(
            f"{args.source} is neither a file or folder nor a split of a data set (known: {', '.join(sorted(known))}, "
            f"as {min(known)}/train). Give one that is there."
        )
    return make_from_path(args.source, extractor, options, progress)


def _params(component: Component, args: argparse.Namespace) -> BaseModel | None:
    """The extractor's parameters from ``--set`` and ``--preset``."""
    from pydantic import ValidationError

    from wsopt.config import expanded
    from wsopt.config.params import InceptionParams

    if component.params is None:
        if args.overrides:
            raise InputError(f"--set {args.overrides[0][0]}: features {component.address!r} have no parameters.")
        return None
    values = {key: _value(text) for key, text in args.overrides}
    resize = _preset(args.preset)[1] if args.preset else "tf1"
    if component.params is InceptionParams and values.setdefault("resize", resize) != resize and args.preset:
        raise InputError(f"--preset {args.preset} sets resize to {resize!r}: leave --set resize out.")
    try:
        params = component.params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(component.params.model_fields) or "none"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"--set {key}: {message} (parameters of {component.address!r}: {known}).") from error
    paths = {key: expanded(value) for key, value in params if isinstance(value, Path)}
    return params.model_copy(update=paths)


def _options(args: argparse.Namespace, component: Component, params: BaseModel | None) -> MakeOptions:
    from wsopt.objectives.references.making import MakeOptions

    plain = {} if params is None else params.model_dump(mode="json")
    return MakeOptions(
        features=component.address,
        params=plain,
        resize=plain.get("resize"),
        quantize=args.quantize,
        limit=args.limit,
        vectors=args.vectors,
        batch_size=args.batch_size,
        device=args.device,
        samples=args.samples,
    )


def _preset(name: str) -> tuple[Quantize, str]:
    """Quantisation and resize of a preset."""
    from wsopt.config import conventions

    known = {str(preset): convention for preset, convention in conventions().items()}
    if name not in known:
        raise InputError(f"unknown preset {name!r}; known: {', '.join(known)}")
    return known[name].quantize, known[name].resize


def _show(args: argparse.Namespace) -> int:
    from wsopt.objectives.references import read_reference

    found = read_reference(args.file)
    if args.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        print_subjects(_lines(Path(args.file), found), _INDENT)
    return ExitCode.OK


def _lines(path: Path, reference: Reference) -> Sequence[tuple[str, str]]:
    """What a file holds, as pairs of subject and text."""
    facts = _as_json(reference)
    unsaid = "the file does not say"
    settings = " ".join(f"{key}={value}" for key, value in facts["params"].items() if value is not None)
    pairs = [
        ("file", str(path)),
        ("format", facts["layout"]),
        ("name", facts["name"]),
        ("source", facts["source"] if facts["source"] != facts["name"] else ""),
        ("features", " ".join(part for part in (facts["features"] or unsaid, settings) if part)),
        ("digest", facts["extractor_digest"]),
        ("output", facts["output"] if facts["output"] != "features" else ""),
        ("quantize", facts["quantize"] or unsaid),
        ("dimension", str(facts["dimension"])),
        ("samples", f"{facts['samples']:,}" if facts["samples"] else unsaid),
        ("vectors", f"{facts['vectors']:,}" if facts["vectors"] else "none: no KID, precision or recall"),
        ("images", _shape(facts["image_shape"])),
        ("trace", f"{facts['trace']:.6g}"),
        ("made by", facts["made_by"]),
    ]
    return [(subject, text) for subject, text in pairs if text]


def _as_json(reference: Reference) -> dict[str, Any]:
    facts = reference.facts
    return {
        "name": reference.name,
        "layout": facts.layout if facts else "",
        "source": facts.source if facts else "",
        "features": reference.features,
        "params": dict(facts.params) if facts else {},
        "extractor_digest": reference.extractor_digest,
        "output": reference.output,
        "resize": facts.resize if facts else None,
        "quantize": reference.quantize,
        "dimension": reference.dimension,
        "samples": reference.samples,
        "vectors": 0 if reference.vectors is None else len(reference.vectors),
        "image_shape": list(facts.image_shape) if facts and facts.image_shape else None,
        "trace": float(reference.covariance.trace()),
        "made_by": facts.made_by if facts else "",
        "digest": reference.digest,
    }


def _shape(shape: list[int] | None) -> str:
    return "" if shape is None else f"{shape[1]} x {shape[2]} pixels, {'grey' if shape[0] == 1 else 'RGB'}"


def _value(text: str) -> object:
    """A value as TOML has it, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _number_or_none(text: str) -> int:
    return 0 if text == "none" else positive(text)
