"""Line numbers of TOML keys."""

from __future__ import annotations

import tomllib

import pytest

from wsopt.config._locate import Key, key_lines

TEXT = '''# comment with [brackets] and a = 1
top = 1 # trailing
"quoted key" = "a # no comment \\" ]"
'literal' = 'C:\\'
many = """
not_a_key = 1
[not_a_table]
"""

[table]  # [other]
list = [
  1, # one
  [2,
   3],
  "]",
]
a.b.c = true
inline = { x = 1, y = [1, 2], "z w" = { deep = 2020-01-02 } }

[ a . "b c" ]
k = -1.5e3
raw = \'\'\'
x = [
\'\'\'
[[rows]]
v = 1
[[rows]]
v = 2
[rows.sub]
w = 3
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("top",), 2),
        (("quoted key",), 3),
        (("literal",), 4),
        (("many",), 5),
        (("table",), 10),
        (("table", "list"), 11),
        (("table", "list", 0), 12),
        (("table", "list", 1), 13),
        (("table", "list", 1, 1), 14),
        (("table", "list", 2), 15),
        (("table", "a", "b"), 17),
        (("table", "a", "b", "c"), 17),
        (("table", "inline", "z w", "deep"), 18),
        (("a", "b c"), 20),
        (("a", "b c", "k"), 21),
        (("a", "b c", "raw"), 22),
        (("rows",), 25),
        (("rows", 0, "v"), 26),
        (("rows", 1, "v"), 28),
        (("rows", 1, "sub", "w"), 30),
    ],
)
def test_lines(key: Key, line: int) -> None:
    assert tomllib.loads(TEXT)
    assert key_lines(TEXT)[key] == line


def test_what_looks_like_a_key_in_a_string_is_none() -> None:
    lines = key_lines(TEXT)
    assert ("not_a_key",) not in lines
    assert ("not_a_table",) not in lines


def test_windows_line_ends_and_empty_files() -> None:
    assert key_lines("a = 1\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 2, ("b", "c"): 3}
    assert key_lines("") == {}
    assert key_lines("a = 1  # no newline at the end") == {("a",): 1}
