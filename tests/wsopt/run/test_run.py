from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from toy_run import StopAfter, request_for, run, write_checkpoints, write_toml
from wsopt.cli._plan import plan_lines
from wsopt.errors import CheckpointError, ExitCode, InputError, Interrupted, ResumeError, WsoptError
from wsopt.progress import SilentProgress
from wsopt.run import RunFolder, execute, make_plan
from wsopt.seeding import SampleNoise
from wsopt.testing.analytic import AnalyticFamily


def events(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.journal.read_text().splitlines()]


def results(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.results.read_text())
    return found


def row(folder: RunFolder, name: str, split: str, reference: str = "digits/train") -> dict[str, Any]:
    (found,) = [
        score
        for score in results(folder)["scores"]
        if score["name"] == name and score["split"] == split and score["reference"] == reference
    ]
    return dict(found)


@pytest.mark.usefixtures("untouched_randomness")
def test_a_run_leaves_what_it_promises(toy: Path) -> None:
    folder = run(toy)
    names = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert names == {
        ".lock",
        "README.md",
        "config.toml",
        "figures/coefficients.png",
        "figures/convergence.png",
        "figures/samples.png",
        "journal.jsonl",
        "merged.safetensors",
        "provenance.json",
        "resolved.json",
        "results.json",
        "samples.npz",
        "timings.jsonl",
    }
    assert folder.config.read_text() == (toy / "toy.toml").read_text()
    found = results(folder)
    assert found["evaluations"] == found["budget"] == 30
    assert {r["name"] for r in found["scores"] if r["split"] == "report"} >= {
        "last", "best-single", "uniform", "power-0.1", "ema-0.9", "ema-0.95", "ema*", "best", "recommended",
    }  # fmt: skip
    assert row(folder, "best", "report")["samples"] == 200
    assert row(folder, "floor", "data", "digits/test")["samples"] == 1197
    assert found["memory"]["search_peak_bytes"] > 0
    assert set(found["timing"]["split"]) == {"merge", "sample", "features", "distance", "optimizer"}


@pytest.mark.usefixtures("undrawn")
def test_the_search_improves_and_best_is_the_lowest_of_the_journal(toy: Path) -> None:
    folder = run(toy, ("budget", "60"))
    told = [event["value"] for event in events(folder) if event["event"] in ("told", "baseline")]
    best = row(folder, "best", "search")["value"]
    assert best == min(told)
    assert best < row(folder, "ema*", "search")["value"]


@pytest.mark.usefixtures("undrawn")
def test_merged_weights_are_the_coefficients_times_the_checkpoints(toy: Path) -> None:
    folder = run(toy)
    alpha = results(folder)["coefficients"]["best"][0]
    assert sum(alpha) == pytest.approx(1.0)
    files = [load_file(path) for path in sorted((toy / "checkpoints").iterdir())]
    merged = load_file(folder.merged)
    for name in ("mean", "spread"):
        expected = sum((a * file[name].double() for a, file in zip(alpha, files, strict=True)), torch.zeros(()))
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-5)
    assert merged["count"].item() == 7
    family = AnalyticFamily(request_for(toy).config.family.params)  # type: ignore[arg-type]
    family.load(family.build(), merged)


@pytest.mark.usefixtures("undrawn")
def test_the_budget_counts_every_evaluation_once(toy: Path) -> None:
    folder = run(toy)
    kinds = [event["event"] for event in events(folder)]
    assert kinds.count("baseline") + kinds.count("told") == 30
    ids = [i for event in events(folder) if event["event"] == "asked" for i in event["ids"]]
    assert ids == list(range(len(ids)))


@pytest.mark.usefixtures("undrawn")
def test_same_seed_same_journal_other_seed_another(toy: Path) -> None:
    first = run(toy).journal.read_bytes()
    write_toml(toy, output="again")
    assert run(toy).journal.read_bytes() == first
    write_toml(toy, seed=1)
    assert run(toy).journal.read_bytes() != first


@pytest.mark.usefixtures("undrawn")
def test_the_score_does_not_depend_on_the_batch_size(toy: Path) -> None:
    first, other = events(run(toy)), events(run(toy, ("search.batch_size", "7")))
    for one, two in zip(first, other, strict=True):
        if "value" in one:
            # corner pixels are constant: the reference is singular, and its root magnifies the order of summation
            assert one["value"] == pytest.approx(two["value"], rel=1e-6)


@pytest.mark.parametrize("stop", [1, 4, 9, 10, 14, 21, 29, 31, 37])
@pytest.mark.usefixtures("undrawn")
def test_stopped_anywhere_and_continued_the_journal_is_the_undisturbed_one(toy: Path, stop: int) -> None:
    undisturbed = run(toy).journal.read_bytes()
    write_toml(toy, output="other")
    with pytest.raises(Interrupted, match=r"stopped after \d+ of 30 evaluations"):
        run(toy, progress=StopAfter(stop))
    folder = run(toy)
    assert folder.journal.read_bytes() == undisturbed


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_cut_at_any_byte_and_continued_the_journal_is_the_undisturbed_one(toy: Path) -> None:
    """What a kill leaves: any prefix of the journal, a torn line included, and no final files."""
    folder = run(toy)
    undisturbed = folder.journal.read_bytes()
    generator = np.random.Generator(np.random.PCG64(5))
    for length in sorted(int(i) for i in generator.integers(0, len(undisturbed), 12)):
        folder.journal.write_bytes(undisturbed[:length])
        folder.results.unlink()
        run(toy)
        assert folder.journal.read_bytes() == undisturbed


def test_a_finished_run_is_left_alone_and_what_was_deleted_is_made_again(toy: Path) -> None:
    folder = run(toy)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.name != ".lock"}
    run(toy)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.name != ".lock"} == before
    for path in (folder.merged, folder.card, folder.results, folder.figures / "convergence.png"):
        whole = path.read_bytes()
        path.unlink()
        run(toy)
        assert path.read_bytes() == whole, path.name
    folder.results.write_text("{torn")
    run(toy)
    assert results(folder)["evaluations"] == 30


@pytest.mark.usefixtures("undrawn")
def test_a_larger_budget_continues_a_finished_run(toy: Path) -> None:
    folder = run(toy)
    first = folder.journal.read_bytes()
    assert run(toy, ("budget", "47")).path == folder.path
    assert folder.journal.read_bytes().startswith(first)
    assert results(folder)["evaluations"] == 47
    straight = run_elsewhere(toy, ("budget", "47"))
    told = [[e for e in events(f) if e["event"] == "told"] for f in (folder, straight)]
    assert told[0] == told[1]


def run_elsewhere(toy: Path, *overrides: tuple[str, str]) -> RunFolder:
    write_toml(toy, output="elsewhere")
    return run(toy, *overrides)


@pytest.mark.usefixtures("undrawn")
def test_a_smaller_budget_is_refused_and_nothing_changes(toy: Path) -> None:
    folder = run(toy)
    before = {p: p.read_bytes() for p in folder.path.iterdir() if p.is_file() and p.name != "timings.jsonl"}
    for budget in ("24", "22"):
        with pytest.raises(ResumeError, match=f"already has 30 evaluations, budget = {budget} is less"):
            run(toy, ("budget", budget))
    assert {p: p.read_bytes() for p in folder.path.iterdir() if p.is_file() and p.name != "timings.jsonl"} == before


@pytest.mark.usefixtures("undrawn")
def test_resume_with_another_config_shows_the_difference(toy: Path) -> None:
    folder = run(toy)
    with pytest.raises(ResumeError) as caught:
        run(toy, ("optimizer.iter", "9"), resume=folder.path)
    assert caught.value.exit_code == ExitCode.RESUME
    assert "optimizer.iter: 5 -> 9" in str(caught.value)
    with pytest.raises(ResumeError, match="is no run folder"):
        run(toy, resume=toy)


@pytest.mark.usefixtures("undrawn")
def test_changed_checkpoints_are_refused(toy: Path) -> None:
    with pytest.raises(Interrupted):
        run(toy, progress=StopAfter(5))
    path = toy / "checkpoints" / "step-000040.safetensors"
    save_file(load_file(path) | {"mean": torch.zeros(1, 8, 8)}, path, metadata={"step": "40"})
    with pytest.raises(ResumeError, match="the checkpoints are not the ones"):
        run(toy)


@pytest.mark.usefixtures("undrawn")
def test_a_second_process_is_kept_out(toy: Path) -> None:
    request = request_for(toy)
    folder = run(toy)
    with folder.locked(), pytest.raises(ResumeError, match="is in use by another process"):
        execute(request, SilentProgress())


@pytest.mark.usefixtures("undrawn")
def test_a_nan_in_a_checkpoint_ends_the_run_before_it_begins(toy: Path) -> None:
    path = toy / "checkpoints" / "step-000040.safetensors"
    tensors = load_file(path)
    tensors["mean"][0, 0, 0] = torch.nan
    save_file(tensors, path, metadata={"step": "40"})
    with pytest.raises(CheckpointError, match=r"step-000040\.safetensors: tensor mean has 1 of 64 values"):
        run(toy)


@pytest.mark.usefixtures("undrawn")
def test_another_architecture_is_told_with_the_fix(toy: Path) -> None:
    with pytest.raises(CheckpointError, match=r"mean is \[1, 8, 8\], the network has \[1, 4, 4\].*Set \[family\]"):
        run(toy, ("family.size", "4"))


@pytest.mark.usefixtures("undrawn")
def test_a_failing_candidate_is_recorded_and_the_search_goes_on(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AnalyticFamily.sample
    calls = iter(range(10_000))

    def sample(self: AnalyticFamily, *args: Any) -> Any:
        if next(calls) % 7 == 5:
            raise MemoryError("no room")
        return original(self, *args)

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    folder = run(toy)
    failures = [event for event in events(folder) if "failure" in event]
    assert failures
    assert all(event["failure"] == "MemoryError: no room" for event in failures)
    assert results(folder)["failed"] == sum(event["event"] in ("told", "baseline") for event in failures)


@pytest.mark.usefixtures("undrawn")
def test_many_failures_in_a_row_end_the_run_with_their_reason(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AnalyticFamily.sample
    calls = iter(range(10_000))

    def sample(self: AnalyticFamily, *args: Any) -> Any:
        if next(calls) >= 15:
            raise RuntimeError("broken at last")
        return original(self, *args)

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    message = "4 candidates in a row failed, the last with: RuntimeError: broken at last"
    with pytest.raises(WsoptError, match=message) as caught:
        run(toy, ("search.max_failures", "4"))
    assert caught.value.exit_code == ExitCode.FAILED


@pytest.mark.usefixtures("undrawn")
def test_starts_that_fit_no_baseline_are_refused_with_the_list(toy: Path) -> None:
    with pytest.raises(
        InputError, match=r"search\.starts = \['emma-\*'\] are not among the baselines .* These are: last, uniform"
    ):
        run(toy, ("search.starts", '["emma-*"]'))


@pytest.mark.usefixtures("undrawn")
def test_a_budget_below_the_baselines_is_refused(toy: Path) -> None:
    with pytest.raises(InputError, match=r"budget = 5 does not cover the 8 baselines.*Set budget to 11 or more"):
        run(toy, ("budget", "5"))


@pytest.mark.usefixtures("undrawn")
def test_the_plan_counts_without_reading_or_writing(toy: Path) -> None:
    request = request_for(toy)
    plan = make_plan(request.config, request.registry)
    assert plan.checkpoints["count"] == 8
    assert plan.checkpoints["values"] == 64 + 64 + 3 + 1
    assert plan.evaluations["baselines"] == 8
    assert plan.memory_bytes["differences"] == 7 * 512 * 4  # 131 values in two blocks of 256
    assert {policy: (row["tensors"], row["values"], row["names"]) for policy, row in plan.policy.items()} == {
        "combine": (3, 131, ["constant", "mean", "spread"]),
        "not floating": (1, 1, ["count"]),
    }
    text = dict(plan_lines(plan))
    assert text["tensors"].startswith("3 (131 values) combined")
    assert "1 (1 value) not floating, copied: count" in text.values()
    assert plan.seconds["evaluation"] > 0
    assert not plan.exists
    assert not (toy / "runs").exists()


@pytest.mark.usefixtures("undrawn")
def test_window_and_interval_are_taken(toy: Path) -> None:
    folder = run(toy, ("checkpoints.window", "[20, 80]"), ("checkpoints.interval", "20"))
    assert results(folder)["steps"] == [20, 40, 60, 80]


@pytest.mark.usefixtures("undrawn")
def test_many_checkpoints_in_one_block(toy: Path) -> None:
    write_checkpoints(toy / "checkpoints", count=40)
    assert len(results(run(toy))["coefficients"]["best"][0]) == 40


@pytest.mark.usefixtures("undrawn")
def test_a_budget_that_was_finished_before_a_larger_one_is_refused_too(toy: Path) -> None:
    folder = run(toy)
    run(toy, ("budget", "40"))
    merged = folder.merged.read_bytes()
    with pytest.raises(ResumeError, match="already has 40 evaluations, budget = 30 is less"):
        run(toy)
    assert folder.merged.read_bytes() == merged
    assert results(folder)["budget"] == 40


@pytest.mark.usefixtures("undrawn")
def test_one_changed_value_in_a_checkpoint_or_an_ema_is_noticed(toy: Path) -> None:
    (toy / "ema").mkdir()
    ema = toy / "ema" / "ema-0.9.safetensors"
    ema.write_bytes((toy / "checkpoints" / "step-000080.safetensors").read_bytes())
    settings = ("checkpoints.ema_path", str(toy / "ema"))
    folder = run(toy, settings)
    assert row(folder, "train-ema-0.9", "search")["value"] == row(folder, "last", "search")["value"]
    for path in (toy / "checkpoints" / "step-000040.safetensors", ema):
        before = path.read_bytes()
        middle = len(before) - 400
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        with pytest.raises(ResumeError, match="the checkpoints are not the ones"):
            run(toy, settings, ("budget", "40"))
        path.write_bytes(before)
    run(toy, settings, ("budget", "40"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_merged_weights_keep_the_checkpoints_dtypes(toy: Path, dtype: torch.dtype) -> None:
    for path in (toy / "checkpoints").iterdir():
        tensors = load_file(path)
        save_file(tensors | {"mean": tensors["mean"].to(dtype)}, path, metadata={"step": path.stem[-6:]})
    merged = load_file(run(toy).merged)
    assert (merged["mean"].dtype, merged["spread"].dtype, merged["count"].dtype) == (dtype, torch.float32, torch.int64)


@pytest.mark.usefixtures("undrawn")
def test_a_winner_that_fails_on_the_report_split_fails_the_run_and_can_be_tried_again(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run_elsewhere(toy).journal.read_bytes()
    write_toml(toy)
    with monkeypatch.context() as patch:
        original = AnalyticFamily.sample

        def sample(self: AnalyticFamily, model: Any, indices: Any, noise: SampleNoise, size: int) -> Any:
            if noise.split == "report":
                raise RuntimeError("no more memory")
            return original(self, model, indices, noise, size)

        patch.setattr(AnalyticFamily, "sample", sample)
        with pytest.raises(
            WsoptError, match="the winner could not be scored on the report split: RuntimeError: no more"
        ):
            run(toy)
    assert run(toy).journal.read_bytes() == undisturbed


def test_all_starts_failing_says_why(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(self: AnalyticFamily, *args: Any) -> Any:
        raise RuntimeError("shape mismatch in layer 3")

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    message = r"failed, the first \(ema-0\.9\) with: RuntimeError: shape mismatch in layer 3"
    with pytest.raises(WsoptError, match=message):
        run(toy)


def test_the_command_is_kept(toy: Path) -> None:
    request = request_for(toy)
    folder = execute(replace(request, command="wsopt run toy.toml --set seed=0"), SilentProgress())
    assert json.loads(folder.provenance.read_text())["command"] == "wsopt run toy.toml --set seed=0"
