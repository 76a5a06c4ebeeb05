"""The GPU programs without a GPU, where triton is installed: interpreted, and compiled."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed; it comes with builds of torch for CUDA",
)


def run(script, **environment):
    """Run in a process of its own: triton chooses its interpreter when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_interpreted_programs_compute_what_torch_does():
    said = run(
        """
        import torch
        from kellgren.learn.backbones.scan import gpu, slabs
        from tests.test_scan import inputs, largest_error

        gpu.CHUNK = 32
        for regime in ("tiny", "learned", "large"):
            arguments = list(inputs(regime, n=2, channels=19, states=3, length=70).values())
            found, expected = gpu.scan(*arguments), slabs.scan(*arguments)
            weight = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
            gradients = [torch.autograd.grad(y, arguments, weight) for y in (found, expected)]
            print(largest_error([found, *gradients[0]], [expected, *gradients[1]]) < 1e-12)
        """,
        TRITON_INTERPRET="1",
    )
    assert said.split() == ["True"] * 3


@pytest.mark.slow
def test_programs_compile_for_a_gpu_that_is_not_there():
    said = run(
        """
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from kellgren.learn.backbones.scan import programs

        constants = {"rows": programs.TILE, "columns": programs.CHANNELS, "depth": 8}
        integers = ("length", "chunk", "channels", "states")
        for name in ("ends", "outputs", "starts_of_adjoint", "gradients"):
            program = getattr(programs, name)
            kinds = {
                x: "constexpr" if x in constants else "i32" if x in integers else "*fp32"
                for x in program.arg_names
            }
            values = {(program.arg_names.index(x),): value for x, value in constants.items()}
            source = ASTSource(program, kinds, values)
            made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
            print(len(made.asm["cubin"]) > 0)
        """
    )
    assert said.split() == ["True"] * 4
