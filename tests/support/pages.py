"""The pages of docs/ and their fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and the label in the comment above it (``file: contrast.py``)."""

    page: Path
    label: str
    language: str
    text: str

    @property
    def file(self) -> str:
        return self.label.partition(": ")[2]


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"(?:<!-- (\w+: [\w.]+) -->\n)?```(\w*)\n(.*?)```\n", text, re.DOTALL):
            yield Block(page, match[1] or "", match[2], match[3])


FILES = {block.file: block for block in blocks() if block.label.startswith("file: ")}
