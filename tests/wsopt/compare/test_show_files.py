from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from compare_cells import METHODS, make_cell, make_comparison
from wsopt.compare import Comparison, analyse
from wsopt.compare._show_bars import costs, gaps, wins
from wsopt.compare._show_curves import convergence, report_columns, report_curve
from wsopt.compare._show_data import cells_csv, comparison_json, runs_csv
from wsopt.compare._show_html import CAPTIONS, page
from wsopt.compare._show_markdown import latex, markdown
from wsopt.compare._show_reach import ecdf, running_times
from wsopt.compare._show_style import label_ends, looks, new_figure, scale
from wsopt.compare._show_write import draw_figures, write_comparison

SPECIAL = r"a_b % c & #1 {x} ~y ^z \w $v <i> | [k] --set"
PNG = b"\x89PNG\r\n\x1a\n"


def small(methods: int = 2, instances: int = 1) -> Comparison:
    """Few evaluations, one failure."""
    cells = [
        make_cell(
            METHODS[m], f"train.seed={i + 1}", [5.0, 4.0, float("nan"), 3.0 - m, 3.5], baselines=2, ema_star=4.0,
            combination=[False, True, True, True, True], curve=(2, 5),
        )
        for m in range(methods)
        for i in range(instances)
    ]  # fmt: skip
    return analyse(cells, name="small", reference=METHODS[0], comparisons=None, forced=())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Comparison]:
    folder = tmp_path_factory.mktemp("comparison")
    made = make_comparison(2, 3, forced=("samples: 500 & 1000 <b>",))
    return folder, write_comparison(made, folder), made


class Balanced(HTMLParser):
    """Collects tags that are not closed, or in another order than opened, and addresses."""

    _VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [value for key, value in found.items() if key in ("src", "href") and value]
        self.ids += [found["id"]] if found.get("id") else []  # type: ignore[list-item]
        if tag not in self._VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def parsed(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    parser.close()
    return parser


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_files_are_written(written: tuple[Path, list[Path], Comparison]) -> None:
    folder, paths, _ = written
    assert {str(path.relative_to(folder)) for path in paths} == {
        "runs.csv", "cells.csv", "table.md", "table.tex", "comparison.json", "report.html",
        *(f"figures/{name}.png" for name in CAPTIONS),
    }  # fmt: skip
    assert sorted(paths) == sorted(path for path in folder.rglob("*") if path.is_file())  # nothing temporary is left
    assert all(path.read_bytes().startswith(PNG) for path in paths if path.suffix == ".png")


def test_no_nan_and_no_infinity_is_printed(written: tuple[Path, list[Path], Comparison]) -> None:
    folder, _, _ = written
    for name in ("runs.csv", "cells.csv", "table.md", "table.tex", "comparison.json"):
        assert not re.search(r"\b(nan|-?inf|infinity)\b", (folder / name).read_text(encoding="utf-8"), re.IGNORECASE)
    cells = [text for row in parsed((folder / "report.html").read_text(encoding="utf-8")).rows for text in row]
    assert len(cells) > 100
    assert not [text for text in cells if re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)]


def test_the_page_is_well_formed_and_alone(written: tuple[Path, list[Path], Comparison]) -> None:
    folder, _, made = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    found = parsed(text)
    assert found.wrong == []
    assert found.open == []
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in found.addresses)
    assert sum(address.startswith("data:") for address in found.addresses) == len(CAPTIONS)
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)
    assert "http" not in text
    assert "<b>" not in text  # of a method's name and of a forced difference
    assert html.escape(made.forced[0]) in text
    assert text.index("samples: 500") < text.index("<nav>")
    assert all(html.escape(caption) in text for caption in CAPTIONS.values())


def test_the_same_comparison_gives_the_same_texts(written: tuple[Path, list[Path], Comparison]) -> None:
    folder, _, made = written
    again = replace(made, cells=tuple(reversed(made.cells)))
    texts = {"runs.csv": runs_csv(again), "cells.csv": cells_csv(again), "table.md": markdown(again)}
    for name, text in {**texts, "table.tex": latex(again)}.items():
        assert (folder / name).read_text(encoding="utf-8") == text
    assert json.loads((folder / "comparison.json").read_text(encoding="utf-8")) == comparison_json(again)


def test_figures_that_no_longer_belong_are_removed_and_others_kept(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("ecdf.png", "mine.png"):
        (figures / name).write_bytes(PNG)
    made = make_comparison(
        1, 1, 12, search_comparable=False, search={}, targets=(), ecdf={}, wins={}, report={}, gaps=()
    )
    write_comparison(made, tmp_path)
    assert sorted(path.name for path in figures.iterdir()) == ["costs.png", "mine.png"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "was not scored on the report split" in text
    assert parsed(text).wrong == []


def test_runs_csv_is_read_back() -> None:
    made = small()
    rows = read(runs_csv(made))
    assert len(rows) == 10
    own = [row for row in rows if row["algorithm_name"] == "lcsc"]
    assert [row["evaluations"] for row in own] == ["1", "2", "3", "4", "5"]
    assert [row["value"] for row in own] == ["5.0", "4.0", "", "3.0", "3.5"]
    # The first is no combination, and what failed leaves the best as it was.
    assert [row["raw_y"] for row in own] == ["", "4.0", "4.0", "3.0", "3.0"]
    assert [row["baseline"] for row in own] == ["1", "1", "0", "0", "0"]
    assert [row["combination"] for row in own] == ["0", "1", "1", "1", "1"]
    assert {row["instance_name"] for row in own} == {"train.seed=1"}
    assert {row["data_id"] for row in rows} == {"1", "2"}


def test_numbers_in_csv_keep_all_digits() -> None:
    losses = [1 / 3, 0.1 + 0.2, 1e-17]
    made = analyse(
        [make_cell(SPECIAL, losses=losses, baselines=1)], name="x", reference=None, comparisons=None, forced=()
    )
    rows = read(runs_csv(made))
    assert [float(row["loss"]) for row in rows] == losses
    assert rows[0]["algorithm_name"] == SPECIAL


def test_cells_csv_has_a_row_per_run() -> None:
    rows = read(cells_csv(small(2, 2)))
    assert [(row["method"], row["instance"]) for row in rows] == [
        (METHODS[1], "train.seed=1"), (METHODS[1], "train.seed=2"), ("lcsc", "train.seed=1"), ("lcsc", "train.seed=2"),
    ]  # fmt: skip
    assert rows[0]["search"] == "2.0"
    assert rows[0]["failed"] == "1"
    assert rows[0]["best fid/digits/digits/train"] == "1.0"
    assert rows[0]["ema* fid/digits/digits/test"] == "17.0"
    assert json.loads(rows[0]["optimizer_facts"]) == {"name": METHODS[1]}


def test_maximised_values_are_natural_in_the_files() -> None:
    cells = [make_cell("a", losses=[-1.0, -2.0, float("nan"), -3.0], baselines=1, sign=-1.0, ema_star=-1.0)]
    made = analyse(cells, name="up", reference=None, comparisons=None, forced=())
    assert [row["raw_y"] for row in read(runs_csv(made))] == ["1.0", "2.0", "2.0", "3.0"]
    assert read(cells_csv(made))[0]["search"] == "3.0"
    assert comparison_json(made)["cells"][0]["ema_star"] == 1.0


def test_json_leaves_out_what_there_is_one_of_per_evaluation() -> None:
    found = comparison_json(small(2, 2))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert {"losses", "seconds", "search_curves"}.isdisjoint(found["cells"][0].keys() - {"search"})
    assert found["methods"] == [METHODS[1], "lcsc"]
    assert found["finals"][0]["column"] == {"metric": "fid", "features": "digits", "reference": "digits/train"}
    assert found["wins"][0] == {"column": None, "matrix": [[0, 2], [0, 0]]}
    assert [point["evaluations"] for point in found["report"][0]["points"]] == [2, 5]


def test_markdown_word_for_word() -> None:
    text = markdown(small(2, 1)).splitlines()
    start = text.index("## Final scores over 1 instance")
    assert text[:1] == ["# small: FD(digits)"]
    header, rule, *rows = text[start + 2 : start + 9]
    assert [part.strip() for part in header.strip("|").split("|")][:2] == ["method", "search FD(digits) ↓"]
    assert re.fullmatch(r"\|:-+\|(-+:\|)+", rule)
    assert [[part.strip() for part in row.strip("|").split("|")][:3] for row in rows[:3]] == [
        ["one-plus-one, sqrt-whitened, step 0.03", "**2.00**", "**1.00**"],
        ["lcsc", "3.00", "1.50"],
        ["*EMA\\**", "4.00", "17.00"],
    ]
    assert len({len(line) for line in [header, rule, *rows]}) == 1  # readable as plain text too


def test_markdown_sees_no_markup_in_names() -> None:
    made = analyse(
        [make_cell(name, losses=[3.0, 2.0, 1.0], baselines=1) for name in (SPECIAL, "[a](b)")],
        name="x", reference=None, comparisons=None, forced=(),
    )  # fmt: skip
    text = markdown(made)
    assert r"a\_b % c &amp; #1 {x} \~y ^z \\w \$v \<i> \| [k] --set" in text
    assert r"[a\](b)" in text


def test_latex_escapes_and_balances() -> None:
    made = analyse(
        [make_cell(name, losses=[3.0, 2.0, 1.0], baselines=1) for name in (SPECIAL, "naïve √ ß 優")],
        name="x", reference="naïve √ ß 優", comparisons=None, forced=(),
    )  # fmt: skip
    text = latex(made)
    assert text.isascii()
    assert r"a\_b \% c \& \#1 \{x\} \textasciitilde{}y \textasciicircum{}z \textbackslash{}w" in text
    assert r"\$v $<$i$>$ $|$ {[}k{]} -{}-set" in text
    assert r"naive $\surd$ ? ?" in text
    plain = re.sub(r"\\[{}\\%&#_$]", "", re.sub(r"(?m)^%.*$", "", text))
    assert plain.count("{") == plain.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
    for body in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL):
        rows = [line for line in body.replace("\\midrule", "").splitlines() if line.strip()]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
        assert all(line.endswith(r" \\") for line in rows)


def test_latex_marks_the_best() -> None:
    assert r"\textbf{2.00} & \textbf{1.00}" in latex(small(2, 1))


def test_zero_negative_and_wide_values_are_drawn() -> None:
    losses = {"a": [1e6, 3.0, 1e-6], "b": [5.0, 0.0, -2.0]}
    cells = [
        make_cell(name, f"train.seed={i}", [x + 0.1 * i for x in values], baselines=1, ema_star=3.0)
        for name, values in losses.items()
        for i in (1, 2)
    ]
    made = analyse(cells, name="wide", reference="a", comparisons=None, forced=())
    for figure in (convergence, running_times):
        data = figure(made)
        assert data is not None
        assert data.startswith(PNG)


def test_axes_are_logarithmic_only_for_positive_values_that_range_far() -> None:
    for values, kind in (([1.0, 5.0], "log"), ([1.0, 3.9], "linear"), ([0.0, 50.0], "linear"), ([-1.0, 9.0], "linear")):
        axes = new_figure(3, 2).subplots()
        scale(axes, [np.array([*values, math.nan])])
        assert axes.get_yscale() == kind
        low, high = axes.get_ylim()
        assert low < min(values)
        assert high > max(values)


def test_labels_keep_apart_and_inside() -> None:
    axes = new_figure(6, 4).subplots()
    axes.set_ylim(0, 1)
    label_ends(axes, [(str(i), 0.999, "black") for i in range(12)] + [("gone", math.nan, "black")])
    heights = sorted(text.xyann[1] for text in axes.texts)  # type: ignore[attr-defined]
    assert len(heights) == 12
    assert min(np.diff(heights)) * 0.75 * 4 * 72 >= 9  # points: a line of text
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_every_method_has_its_own_look() -> None:
    names = tuple(f"m{i}" for i in range(13))
    found = looks(replace(make_comparison(2, 1, 12), methods=names, reference="m3"))
    assert len({(look.colour, look.dash) for look in found.values()}) == 13
    assert found["m3"].colour == "#222222"


def test_what_has_no_data_is_not_drawn() -> None:
    made = make_comparison(1, 1, 12)
    bare = replace(made, report={}, ecdf={}, targets=(), search={}, gaps=(), costs=())
    assert draw_figures(bare) == {}
    assert wins(made) is None
    unmeasured = tuple(replace(gap, optimism=None) for gap in made.gaps)
    assert gaps(replace(made, gaps=unmeasured)) is None
    idle = tuple(replace(cost, seconds=None, optimizer_seconds=0.0) for cost in made.costs)
    assert costs(replace(made, costs=idle)) is None
    assert report_columns(replace(made, columns=made.columns[:1])) is None
    assert report_curve(replace(made, columns=())) is None
    text = page(bare, {})
    assert parsed(text).wrong == []
    assert "<img" not in text


def test_the_same_figure_has_the_same_bytes() -> None:
    made = make_comparison(2, 2, 12)
    assert gaps(made) == gaps(made)


def test_dollars_in_names_are_no_formulas() -> None:
    cells = [make_cell(name, losses=[3.0, 2.0, 1.0 + i], baselines=1) for i, name in enumerate((SPECIAL, "$x$ $y"))]
    made = analyse(cells, name="$", reference=SPECIAL, comparisons=None, forced=())
    assert ecdf(made) is not None
    assert parsed(page(made, {})).wrong == []
