"""`execute`: one run from a resolved config to a finished folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from threadpoolctl import threadpool_limits

from wsopt.config import Config, difference, reference_name
from wsopt.engines import Engine, EvaluatorSpec, InProcessEngine, RememberingEngine, check_devices, make_objective
from wsopt.errors import Interrupted, ResumeError
from wsopt.files import write_json, write_text
from wsopt.memory import peak_bytes, reset_peak
from wsopt.parameterizations import Parameterization
from wsopt.progress import Progress
from wsopt.registry import Registry
from wsopt.report import RunRecord, metric_label, model_card, write_figures
from wsopt.run._final import choose, export, score_report
from wsopt.run._folder import RunFolder, read_json
from wsopt.run._former import former_runs
from wsopt.run._journal import Journal
from wsopt.run._provenance import changes, content_fingerprint, provenance
from wsopt.run._race import race_warning
from wsopt.run._results import results
from wsopt.run._search import Search, score_baselines
from wsopt.run._session import Hooks, Session, Timings
from wsopt.run._sources import Sources, check_before_training, find_sources
from wsopt.run._tally import Tally
from wsopt.run._tryout import tryout
from wsopt.run._validation import Validation
from wsopt.types import SpaceInfo

_NOT_COMPARED = ("budget", "output")


class RunHooks(Hooks, Protocol):
    """The event hooks of plugins."""

    def run_started(self, run: Mapping[str, Any]) -> None:
        """Called when the first evaluation is about to begin."""

    def run_finished(self, run: Mapping[str, Any]) -> None:
        """Called when all files are written."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        config: resolved.
        source: the TOML text as written, kept in the run folder.
        registry: where the config's names are looked up.
        hooks: where events are told.
        command: the command that asks for this run, kept in provenance.json.
        resume: a run folder to continue; None continues the config's own folder where it exists.
    """

    config: Config
    source: str
    registry: Registry
    hooks: RunHooks
    command: str = ""
    resume: Path | None = None


def execute(request: Request, progress: Progress) -> RunFolder:
    """Do a run, or what is left of it.

    Args:
        request: what is asked for.
        progress: where it is shown, and who may ask for a stop.

    Returns:
        The finished run's folder.

    Raises:
        WsoptError: its subclasses, each with its exit code; `Interrupted` where the user stopped it.
    """
    config = request.config
    check_devices(config)
    check_before_training(config, request.registry)
    folder = _open_folder(request, progress)
    with _threads(config.threads), folder.locked():
        _check_spent(folder, config)
        if (done := _finished(folder, config)) is not None:
            progress.line(f"done    {done}")
            return folder
        sources = find_sources(config, request.registry, progress)
        reset_peak()
        engine = RememberingEngine(InProcessEngine())
        parameterization: Parameterization = request.registry.make("parameterization", config.parameterization)
        spec = EvaluatorSpec(config, request.registry, sources.checkpoints, parameterization.grouping)
        info = engine.start(spec, parameterization.needs_gram)
        parameterization.bind(info)
        for line in _plan_lines(config, sources, info, parameterization, engine):
            progress.line(line)
        optimizer = request.registry.get("optimizer", config.optimizer.name).load()
        for text in filter(None, (*sources.checkpoints.passed_over, *engine.warnings, race_warning(config, optimizer))):
            progress.line(f"warning: {text}")
        fingerprint = content_fingerprint(engine.fingerprint, sources.emas)
        now = provenance(config, sources.checkpoints, fingerprint, sources.training, engine.digests)
        _check_provenance(folder, {"command": request.command, **now}, progress)
        if (failed := tryout(config, engine, info)) is not None:
            progress.line(f"warning: {failed}")
        with _session(request, folder, engine, progress) as session:
            begin = {"event": "run", "format": 1, "config": config.run_hash(), "checkpoints": fingerprint}
            if former := former_runs(config):
                begin["former"] = [one.fingerprint for one in former]
            session.journal.record(begin)
            request.hooks.run_started(session.facts)
            _stages(request, session, sources, info, parameterization)
            request.hooks.run_finished(session.facts)
    return folder


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give torch `count` threads, and numpy's BLAS: its own pool would fight torch's for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def _plan_lines(
    config: Config, sources: Sources, info: SpaceInfo, parameterization: Parameterization, engine: Engine
) -> list[str]:
    """What is about to happen, in two lines."""
    values = sum(spec.numel for spec in sources.checkpoints.tensors.values())
    label = metric_label(config.objective.title, config.objective.features)
    reference = reference_name(config.data.name, config.objective.reference)
    to = "" if reference is None else f" to {reference}"
    sampled = f", {config.search.samples:,} samples, {engine.nfe} NFE" if engine.samples else ""
    return [
        f"space   {info.num_checkpoints} checkpoints of steps {info.steps[0]:,} to {info.steps[-1]:,}, "
        f"{values:,} values each; parameterization {config.parameterization.name}, D = {parameterization.dimension}",
        f"score   {label}{to}{sampled}; optimizer {config.optimizer.name}, budget {config.budget}",
    ]


def _stages(
    request: Request, session: Session, sources: Sources, info: SpaceInfo, parameterization: Parameterization
) -> None:
    """Baselines, search, report, files; each stage runs through again, from the journal, when resumed."""
    tally = Tally(session.sign)
    score_baselines(session, info, sources.emas, tally)
    optimizer = request.registry.get("optimizer", session.config.optimizer.name).load()
    validation = Validation(session, tally)
    search = Search(session, parameterization, optimizer, tally, validation)
    search.run()
    if validation.stopped:
        session.progress.line(
            f"search  ended after {len(tally.trials)} of {session.config.budget} evaluations: no better validation "
            f"score for {session.config.validation.patience}"
        )
    finals = choose(session, tally, search.recommended(), validation)
    reported = score_report(session, tally, finals)
    session.timings.write({"event": "session", "peak_bytes": peak_bytes()})
    document = results(session, info, sources, tally, validation, finals, reported, search.optimizer.facts())
    export(session, finals, _metadata(session, document))
    write_json(session.folder.results, document)
    record = RunRecord.load(session.folder.path)
    write_figures(session.folder.path)
    write_text(session.folder.card, model_card(record, session.folder.config.read_text(encoding="utf-8")))
    write_json(session.folder.resolved, session.config.resolved())
    session.journal.record({"event": "finished", "evaluations": len(tally.trials)})


@contextmanager
def _session(request: Request, folder: RunFolder, engine: Engine, progress: Progress) -> Iterator[Session]:
    config = request.config
    objective = make_objective(config.objective, request.registry)
    journal = Journal(folder.journal)
    session = Session(
        config,
        folder,
        engine,
        journal,
        Timings(folder.timings, journal),
        progress,
        request.hooks,
        1.0 if objective.direction == "minimize" else -1.0,
        objective.version,
    )
    begin = time.perf_counter()
    try:
        yield session
    except Interrupted as error:
        done = sum(event["event"] in ("told", "baseline") for event in journal.events)
        raise Interrupted(f"stopped after {done} of {config.budget} evaluations; nothing is lost.") from error
    finally:
        session.timings.write({"event": "session", "peak_bytes": peak_bytes(), "seconds": time.perf_counter() - begin})
        journal.close()
        engine.close()


def _open_folder(request: Request, progress: Progress) -> RunFolder:
    """Create the config's folder, or check that the one there is of this config."""
    config = request.config
    folder = RunFolder(request.resume) if request.resume is not None else RunFolder(config.run_folder)
    resolved = config.resolved()
    if not folder.resolved.exists():
        if request.resume is not None:
            raise ResumeError(f"{folder.path} is no run folder: it has no {folder.resolved.name}. Give a run's folder.")
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.config, request.source)
        write_json(folder.resolved, resolved)
        progress.line(f"run     {folder.path} (new)")
        return folder
    before = read_json(folder.resolved)
    lines = difference(_comparable(before), _comparable(resolved))
    if lines:
        raise ResumeError(
            f"{folder.path} was made with another config, and two must not be mixed. Differences (run -> now):\n  "
            + "\n  ".join(lines)
            + "\nRun the config on its own (without --resume), or give the one the run was made with."
        )
    progress.line(f"run     {folder.path} (continued)")
    return folder


def _comparable(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved config has to stay: all but budget and output, and of Python files what they hold."""
    kept = {key: value for key, value in resolved.items() if key not in _NOT_COMPARED}
    return kept | {key: [file["sha256"] for file in resolved[key]] for key in ("plugins", "functions") if key in kept}


def _check_spent(folder: RunFolder, config: Config) -> None:
    """Raise ResumeError where the run was already given more evaluations than `budget`; asked ones count."""
    events = Journal(folder.journal).events
    spent = sum(event["event"] == "baseline" for event in events)
    spent += sum(len(event["ids"]) for event in events if event["event"] == "asked")
    if spent > config.budget:
        raise ResumeError(
            f"{folder.path} already has {spent} evaluations, budget = {config.budget} is less. The budget is the total "
            f"of a run: give --budget {spent} or more."
        )


def _finished(folder: RunFolder, config: Config) -> str | None:
    """Why nothing is left to do, where the folder holds all final files; what is missing is made again."""
    finals = [folder.results, folder.merged, folder.card, folder.provenance]
    finals += [folder.figures / f"{name}.png" for name in ("coefficients", "convergence")]
    events = Journal(folder.journal).events
    if not events or events[-1]["event"] != "finished" or not all(path.exists() for path in finals):
        return None
    try:
        found = read_json(folder.results)
    except ResumeError:
        return None
    budget, evaluations = found.get("budget"), found.get("evaluations")
    if not isinstance(budget, int) or not isinstance(evaluations, int):
        return None
    if evaluations < budget <= config.budget:
        stopped = (found.get("validation") or {}).get("stopped")
        why = "no better validation score came (validation.patience)" if stopped else "the optimizer was done"
        return f"the search ended after {evaluations} evaluations: {why}; a larger --budget does not continue it"
    return "nothing is left to do; a larger --budget continues this run" if budget == config.budget else None


def _check_provenance(folder: RunFolder, now: dict[str, Any], progress: Progress) -> None:
    if not folder.provenance.exists():
        write_json(folder.provenance, now)
        return
    before = read_json(folder.provenance)
    was, found = (str(facts.get("checkpoints", {}).get("fingerprint")) for facts in (before, now))
    if was != found:
        raise ResumeError(
            f"the checkpoints are not the ones that {folder.path} was begun with: the fingerprint of their content is "
            f"{found[:12]}, it was {was[:12]}. Restore them, or move the folder away to start again."
        )
    measured = before.get("measured", {})
    other = [name for name, digest in now["measured"].items() if measured.get(name, digest) != digest]
    if other:
        raise ResumeError(
            f"{', '.join(other)} changed since {folder.path} was begun, and scores by two measures must not be mixed: "
            f"its SHA-256 is {now['measured'][other[0]][:12]}, it was {str(measured[other[0]])[:12]}. Restore it, or "
            f"move the folder away to start again."
        )
    for change in changes(before, now):
        progress.line(f"warning: since this run began: {change}; the last digits may differ from here on")


def _metadata(session: Session, document: Mapping[str, Any]) -> dict[str, str]:
    """Text metadata of merged.safetensors."""
    facts = {
        "run": session.folder.path.name,
        "checkpoints": session.journal.events[0]["checkpoints"],
        "best": document["best"]["name"],
        "label": session.label,
        "optimism": document["optimism"],
    }
    if document["exported"] == "validated":
        chosen = document["validation"]["chosen"]
        facts |= {"validated": chosen, "coefficients": document["coefficients"]["validated"]}
    # Other libraries (transformers) ask for the format.
    return {"format": "pt", "wsopt": json.dumps(facts, sort_keys=True)}
