"""The docs say what the code does."""

import re
from pathlib import Path

import pytest

from kellgren.results import COLUMNS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("table", sorted(COLUMNS))
def test_every_column_of_every_table_is_described(table):
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    assert set(COLUMNS[table]) - named == set()
    assert f"`{table}.csv`" in text


def test_the_tree_in_the_readme_names_what_there_is():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("```")[-2]
    for name in re.findall(r"^  ([a-z_0-9]+(?:\.py|/))", tree, flags=re.MULTILINE):
        assert (ROOT / "src" / "kellgren" / name).exists(), name


def test_no_document_points_to_a_file_that_is_absent():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
