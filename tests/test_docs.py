"""The docs say what the code does."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from kellgren.cli import app
from kellgren.config.supervision import SUPERVISIONS
from kellgren.report.noise_page import noise_page
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


def steps(page):
    """Commands after "$ ", with the lines of a here-document, and what is shown below each."""
    blocks = re.findall(r"^```\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        for step in block.removeprefix("$ ").split("\n$ "):
            command, _, below = step.partition("\n")
            if "<<'END'" in command:
                yield f"{command}\n{below}", ""
            else:
                yield command, below


def said(command):
    """What a command prints, in this process where it is ours."""
    if not command.startswith("kellgren "):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["bash", "-ec", command], check=True, env=os.environ | {"PATH": path})
        return ""
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    if done.exception is None or isinstance(done.exception, SystemExit):
        return done.output
    return f"{done.output}error: {done.exception}"


@pytest.mark.slow
def test_the_tutorial_on_checking_shows_what_is_really_said(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "checking-your-data.md").read_text(encoding="utf-8")
    tutorial, _, _ = page.partition("## What it looks for")
    monkeypatch.chdir(tmp_path)
    for command, shown in steps(tutorial):
        found = " ".join(said(command).split())
        pattern = re.escape(" ".join(shown.split())).replace(r"\.\.\.", ".*")
        assert not shown or re.fullmatch(pattern, found), f"$ {command}\n{found}"


def test_the_page_on_noise_is_what_the_kept_tables_make():
    kept = {
        study: pd.read_csv(ROOT / "docs" / "results" / f"{study}-truth_methods.csv")
        for study in ("noise", "supervision", "size", "lambda")
    }
    tables = {name: of.assign(reference=of["reference"].fillna("")) for name, of in kept.items()}
    text = (ROOT / "benchmarks" / "noise_page.md").read_text(encoding="utf-8")
    page = noise_page(text, tables)
    assert page == (ROOT / "docs" / "noise.md").read_text(encoding="utf-8")
    assert "{{" not in page


def test_every_supervision_is_explained_and_no_other():
    text = (ROOT / "docs" / "choose-a-supervision.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", text, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(SUPERVISIONS)


def test_the_noise_of_the_oa_label_is_what_the_page_prints():
    page = str(ROOT / "docs" / "choose-a-supervision.md")
    assert doctest.testfile(page, module_relative=False).failed == 0


def test_no_benchmark_script_hides_a_module_of_another_package():
    # A script's own folder comes first on the path: `coverage.py` there once hid the package that
    # numba asks for, and the scan fell back to plain torch.
    known = sys.stdlib_module_names | set(packages_distributions()) | {"coverage"}
    assert not {path.stem for path in (ROOT / "benchmarks").glob("*.py")} & known
