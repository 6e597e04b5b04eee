"""Tables as GitHub Markdown and as LaTeX."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from wsopt.compare._base import Comparison
from wsopt.compare._show_details import pair_notes, targets
from wsopt.compare._show_grid import Entry, Grid
from wsopt.compare._show_notes import extent, manifest_notes, split_note, warnings
from wsopt.compare._show_tables import against, effort, scores

_LATEX_COLUMNS = 2
"""Columns of the report split that a page of a paper has room for."""
_PAGE = 88
"""Characters of a table beyond which it is set in a smaller size."""


def tables(comparison: Comparison) -> list[Grid]:
    """The tables that go into a paper: final scores, against the reference, effort, evaluations to targets."""
    found = (scores(comparison), against(comparison), effort(comparison), targets(comparison))
    return [grid for grid in found if grid is not None]


def markdown(comparison: Comparison) -> str:
    """All of `tables` as GitHub Markdown, with their notes."""
    blocks = [f"# {_md(comparison.name)}: {_md(comparison.label)}"]
    blocks += [f"> **{_md(text)}**" for text in warnings(comparison)]
    for grid in tables(comparison):
        blocks += [f"## {_md(grid.title)}", _markdown_table(grid)]
        blocks += [_md(note) for note in grid.notes]
    notes = [extent(comparison), split_note(comparison), *manifest_notes(comparison), *pair_notes(comparison)]
    blocks.append("\n".join(f"- {_md(note)}" for note in notes if note))
    return "\n\n".join(blocks) + "\n"


def _markdown_table(grid: Grid) -> str:
    cells = [[_md(_one_line(header)) for header in grid.headers]]
    for name, entries in grid.rows:
        cells.append([_md(name), *(_md_entry(entry) for entry in entries)])
    for name, entries in grid.below:
        cells.append([f"*{_md(name)}*", *(_md_entry(entry) for entry in entries)])
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(cells[0]))]
    rule = "|" + "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]) + "|"
    padded = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([lines[0], rule, *lines[1:]])


def _md_entry(entry: Entry) -> str:
    return f"**{_md(entry.text)}**" if entry.best else _md(entry.text)


def _md(text: str) -> str:
    """Text in which Markdown sees no markup."""
    escaped = re.sub(r"([\\`*_<|~$])", r"\\\1", text.replace("&", "&amp;"))
    return re.sub(r"\](?=[(\[:])", r"\]", escaped)  # a bracket before one of these would end the text of a link


def _one_line(header: str) -> str:
    """A header without its line breaks."""
    return header.replace("\n", " ")


def latex(comparison: Comparison) -> str:
    """`tables` for a document that loads booktabs, as floats; the first two columns of the report split."""
    lines = ["% Needs \\usepackage{booktabs} in the preamble."]
    for grid in tables(replace(comparison, columns=comparison.columns[:_LATEX_COLUMNS])):
        lines += ["", *_latex_table(grid)]
    notes = [*warnings(comparison), extent(comparison), *pair_notes(comparison)]
    return "\n".join([*lines, "", *(f"% {_ascii(note)}" for note in notes)]) + "\n"


def _latex_table(grid: Grid) -> list[str]:
    headers = [_latex_header(header) for header in grid.headers]
    size = "footnotesize" if sum(grid.widths()) <= _PAGE else "scriptsize"
    lines = [
        "\\begin{table}[htbp]", "  \\centering", f"  \\{size}", "  \\setlength{\\tabcolsep}{3pt}",
        f"  \\caption{{{_tex(grid.title)}. {' '.join(_tex(note) for note in grid.notes)}}}".replace(". }", ".}"),
        f"  \\label{{tab:compare-{grid.key}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
        "    \\toprule",
        f"    {' & '.join(headers)} \\\\",
        "    \\midrule",
    ]  # fmt: skip
    for rows in (grid.rows, grid.below):
        if rows is grid.below and rows:
            lines.append("    \\midrule")
        for name, entries in rows:
            cells = [f"\\textbf{{{_tex(e.text)}}}" if e.best else _tex(e.text) for e in entries]
            # A row that begins with a bracket would be read as an argument of the line break before it.
            lines.append(f"    {{{_tex(name)}}} & {' & '.join(cells)} \\\\")
    return [*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}"]


def _latex_header(header: str) -> str:
    if "\n" not in header:
        return _tex(header)
    rows = " \\\\ ".join(f"{{{_tex(line)}}}" for line in header.split("\n"))
    return f"\\begin{{tabular}}[b]{{@{{}}c@{{}}}}{rows}\\end{{tabular}}"


_TEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "_": "\\_", "%": "\\%", "&": "\\&", "#": "\\#", "$": "\\$",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$",
    "−": "$-$", "—": "---", "–": "--", "×": "$\\times$", "√": "$\\surd$", "±": "$\\pm$", "↓": "$\\downarrow$",
    "↑": "$\\uparrow$", "…": "\\ldots{}", "\u200b": "{}", "≥": "$\\geq$", "≤": "$\\leq$", '"': "''", "[": "{[}",
    "]": "{]}",
}  # fmt: skip


def _tex(text: str) -> str:
    """Text for LaTeX with any engine: what is special escaped, what is not ASCII spelt out or replaced."""
    apart = re.sub(r"-(?=-)", "-\u200b", text)  # two hyphens would become a dash
    return "".join(_TEX[char] if char in _TEX else _ascii(char) for char in apart)


def _ascii(text: str) -> str:
    """Without accents; a question mark for what has no plain letter."""
    plain = (text if text.isascii() else unicodedata.normalize("NFKD", text)) if len(text) == 1 else None
    if plain is None:
        return "".join(_ascii(char) for char in text)
    return " " if plain in "\n\r" else "".join(char for char in plain if char.isascii()) or "?"
