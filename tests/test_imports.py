"""The floors, seen from a fresh interpreter."""

import subprocess
import sys

import pytest

NO_TORCH = [
    "kellgren",
    "kellgren.cli",
    "kellgren.study",
    "kellgren.report",
    "kellgren.importers",
    "kellgren.store",
    "kellgren.phantom",
    "kellgren.analysis.comparison",
    "kellgren.radiomics.benchmark",
]
HEAVY = ["torch", "matplotlib", "sklearn", "scipy.stats", "pandas", "nibabel", "statsmodels"]


def loads(module: str, wanted: str) -> bool:
    code = f"import sys, {module}; print({wanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


@pytest.mark.parametrize("module", NO_TORCH)
def test_only_the_learning_wing_loads_torch(module):
    assert not loads(module, "torch")


def test_this_fence_can_fail():
    assert loads("kellgren.learn.heads", "torch")


@pytest.mark.parametrize("wanted", HEAVY)
def test_the_command_line_starts_light(wanted):
    assert not loads("kellgren.cli", wanted)
