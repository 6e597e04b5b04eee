"""Style and script of the HTML page; nothing in it is loaded from elsewhere."""

from __future__ import annotations

CSS = """
:root { --ink: #1f2328; --soft: #5d6570; --line: #d5dae0; --paper: #fff; --band: #f4f6f8; --accent: #0060a0;
  --warn: #fff4d6; --edge: #d9a400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa4af; --line: #3b434c; --paper: #15191e;
  --band: #1e242b; --accent: #6cb8f0; --warn: #3a3010; --edge: #b98c00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; border-top: 1px solid var(--line); padding-top: 20px; }
h3 { font-size: 1rem; margin: 24px 0 6px; }
p { margin: 6px 0; max-width: 80ch; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: 2px 20px; list-style: none; padding: 0; margin: 16px 0 0; }
.note, figcaption { color: var(--soft); font-size: 0.88rem; max-width: 100ch; }
.warning { background: var(--warn); border-left: 5px solid var(--edge); padding: 10px 16px; margin: 16px 0; }
.warning p { margin: 4px 0; }
.scroll { overflow-x: auto; margin: 10px 0 4px; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; }
th { vertical-align: bottom; border-bottom: 2px solid var(--ink); font-weight: 600; }
th:first-child, td:first-child, .text { text-align: left; }
td:first-child { white-space: normal; min-width: 17em; max-width: 24em;
  overflow-wrap: anywhere; position: sticky; left: 0; background: var(--paper); }
tbody tr:nth-child(even), tbody tr:nth-child(even) td:first-child { background: var(--band); }
tbody + tbody tr:first-child td { border-top: 2px solid var(--line); }
tbody + tbody td { color: var(--soft); }
td.best { font-weight: 700; color: var(--ink); }
th[data-sorts] { cursor: pointer; user-select: none; }
th[aria-sort]::after { content: " \\25B4"; font-size: 0.8em; }
th[aria-sort="descending"]::after { content: " \\25BE"; }
figure { margin: 16px 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: 6px; }
details { margin: 8px 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--band); padding: 12px; overflow-x: auto; font-size: 0.8rem; line-height: 1.4; }
@media (max-width: 640px) { main { padding: 12px 12px 40px; } th, td { padding: 3px 7px; }
  td:first-child { min-width: 9em; } }
@media print { main { max-width: none; padding: 0; } nav { display: none; } h2, h3 { break-after: avoid; }
  figure, tr, .warning { break-inside: avoid; } .scroll { overflow: visible; } table { font-size: 0.7rem; }
  th, td { padding: 2px 5px; } body { font-size: 12px; } }
"""

# Sorts the methods, not the baselines below them; a second click turns the order round; what has no number stays last.
JS = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const number = (row, i) => { const v = row.cells[i].dataset.value; return v === undefined ? NaN : Number(v); };
  table.tHead.querySelectorAll("th").forEach((head, i) => {
    head.dataset.sorts = "";
    head.tabIndex = 0;
    head.title = "sort";
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows], turn = down ? -1 : 1, numeric = rows.some((row) => !isNaN(number(row, i)));
      rows.sort((a, b) => {
        if (!numeric) return turn * a.cells[i].textContent.localeCompare(b.cells[i].textContent);
        const x = number(a, i), y = number(b, i);
        return isNaN(x) ? (isNaN(y) ? 0 : 1) : isNaN(y) ? -1 : turn * (x - y);
      });
      body.append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
"""
