"""Every function and every test that the page of formulas names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE, TESTS = ROOT / "unif2ace_core", ROOT / "tests"
PAGE = (CORE / "README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not re.match(r"\|(-|\s*formula\s*\|)", line)
]


def named(cell: str) -> tuple[str, str]:
    """`file.py::name` -> file and name."""
    match = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", cell)
    assert match, cell
    return match[1], match[2]


def definitions(path: Path) -> set[str]:
    """Functions and classes at the top of a module, read without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_every_row_has_a_formula_a_function_and_a_test() -> None:
    assert len(ROWS) > 40
    assert all(len(row) == 3 and all(row) for row in ROWS)
    formulas = [row[0] for row in ROWS]
    assert len(set(formulas)) == len(formulas)


def test_every_function_on_the_page_exists() -> None:
    for _, function, _ in ROWS:
        file, name = named(function)
        assert name in definitions(CORE / file), function


def test_every_test_on_the_page_exists() -> None:
    for _, _, test in ROWS:
        file, name = named(test)
        assert name.startswith("test_") and name in definitions(TESTS / file), test


def test_every_module_of_the_diffusion_and_the_model_is_on_the_page() -> None:
    files = {named(function)[0] for _, function, _ in ROWS}
    for folder in ("diffusion", "model"):
        modules = {f"{folder}/{path.name}" for path in (CORE / folder).glob("*.py") if path.name != "__init__.py"}
        assert modules <= files
