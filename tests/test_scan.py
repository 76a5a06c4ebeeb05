import logging
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from kellgren.faults import InputError
from kellgren.learn.backbones import scan
from kellgren.learn.backbones.scan import convolution, cpu, kernel_for, selective_scan, slabs
from kellgren.learn.backbones.scan.threads import BLOCK, Share

CPU = torch.device("cpu")
REGIMES = ["tiny", "initial", "learned", "large"]
HERE = ["slabs", "numba"]


def inputs(regime, *, n=2, channels=3, states=4, length=40, dtype=torch.float64):
    """Arguments with tiny steps, as at the start of training, with learned rates, huge steps."""
    random = torch.Generator().manual_seed(len(regime) + length)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    rates = torch.arange(1.0, states + 1, dtype=torch.float64).repeat(channels, 1)
    if regime == "learned":
        rates = (2 * normal(channels, states)).exp()
    bias = {"tiny": -9.0, "initial": -4.0, "learned": -2.0, "large": 15.0}[regime]
    arguments = {
        "u": normal(n, length, channels),
        "delta": normal(n, length, channels),
        "a": -rates,
        "b": normal(n, length, states),
        "c": normal(n, length, states),
        "d": normal(channels),
        "z": normal(n, length, channels),
        "delta_bias": bias + normal(channels),
    }
    return {name: x.to(dtype).requires_grad_() for name, x in arguments.items()}


def one_token_after_another(u, delta, a, b, c, *, d, z, delta_bias):
    """The definition, literally."""
    dt = F.softplus(delta + delta_bias, threshold=100)
    h, y = 0.0, []
    for dt_t, u_t, b_t, c_t in zip(*(x.unbind(1) for x in (dt, u, b, c)), strict=True):
        h = torch.exp(dt_t[:, :, None] * a) * h + (dt_t * u_t)[..., None] * b_t[:, None]
        y.append((h * c_t[:, None]).sum(2) + d * u_t)
    return torch.stack(y, dim=1) * F.silu(z)


def with_gradients(function, arguments, **choice):
    y = function(**arguments, **choice)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((weight * y).sum(), list(arguments.values()))]


def largest_error(found, expected):
    return max(
        ((x - y).abs().max() / y.abs().max().clamp_min(1e-30)).item()
        for x, y in zip(found, expected, strict=True)
    )


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("length", [2, 15, 16, 17, 131])
@pytest.mark.parametrize("kernel", HERE)
def test_output_and_all_gradients_are_those_of_the_definition(kernel, regime, length):
    arguments = inputs(regime, length=length)
    found = with_gradients(selective_scan, arguments, kernel=kernel)
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-11


@pytest.mark.parametrize("channels", [1, 16, 19, 40])
def test_number_of_channels_need_not_fill_vectors(channels):
    arguments = inputs("learned", n=1, channels=channels, length=50)
    found = with_gradients(selective_scan, arguments, kernel="numba")
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-12


@pytest.mark.parametrize("cells", [1, 24, 24 * 3, 24 * 7, 24 * 10**6])
def test_number_of_chunks_changes_nothing_in_torch(monkeypatch, cells):
    monkeypatch.setattr(slabs, "CELLS_AT_ONCE", {"cpu": cells})
    arguments = inputs("learned", length=201)
    found = with_gradients(selective_scan, arguments, kernel="slabs")
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-12


def test_number_of_threads_and_chunks_changes_nothing_in_compiled_loops(monkeypatch, threads):
    monkeypatch.setattr("kellgren.learn.backbones.scan.threads.SHORTEST_CHUNK", 20)
    arguments = inputs("learned", n=1, length=201)
    chunks, _ = Share(1, 201, 3, 4).cut(threads)
    assert chunks == {1: 1, 3: 5}[threads]
    found = with_gradients(selective_scan, arguments, kernel="numba")
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-12


@pytest.mark.parametrize("kernel", HERE)
def test_bits_are_the_same_on_every_call(kernel, threads):
    arguments = inputs("initial", channels=40, length=3000, dtype=torch.float32)
    first = with_gradients(selective_scan, arguments, kernel=kernel)
    for _ in range(2):
        again = with_gradients(selective_scan, arguments, kernel=kernel)
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("kernel", HERE)
def test_a_single_token_has_no_memory(kernel):
    arguments = inputs("learned", length=1)
    y, *gradients = with_gradients(selective_scan, arguments, kernel=kernel)
    expected = with_gradients(one_token_after_another, arguments)
    torch.testing.assert_close([y, *gradients], expected)
    assert gradients[2].eq(0).all(), "the rates cannot matter"


@pytest.mark.parametrize("length", [1, 5, 18])
@pytest.mark.parametrize("kernel", HERE)
def test_gradients_agree_with_finite_differences(kernel, length):
    arguments = inputs("learned", n=1, channels=2, states=2, length=length)
    function = scan.KERNELS[kernel].scan
    assert torch.autograd.gradcheck(function, tuple(arguments.values()))


def in_both_precisions(regime, length, *, channels=4, states=8):
    """The same numbers, which are all single, in single and in double precision."""
    arguments = inputs(
        regime, n=1, channels=channels, states=states, length=length, dtype=torch.float32
    )
    doubles = {name: x.detach().double().requires_grad_() for name, x in arguments.items()}
    return arguments, doubles


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("kernel", HERE)
def test_single_precision_stays_accurate_over_a_thousand_tokens(kernel, regime):
    single, double = in_both_precisions(regime, 1000)
    found = with_gradients(selective_scan, single, kernel=kernel)
    expected = with_gradients(one_token_after_another, double)
    assert all(x.isfinite().all() for x in found)
    assert largest_error(found, expected) < 5e-6


@pytest.mark.parametrize("regime", ["tiny", "initial", "large"])
def test_single_precision_stays_accurate_over_65536_tokens(regime):
    single, double = in_both_precisions(regime, 65_536)
    found = with_gradients(selective_scan, single, kernel="numba")
    expected = with_gradients(selective_scan, double, kernel="slabs")
    assert largest_error(found, expected) < 1e-5


@pytest.mark.slow
def test_what_single_precision_is_held_against_is_the_definition_over_65536_tokens():
    _, double = in_both_precisions("tiny", 65_536)
    found = with_gradients(selective_scan, double, kernel="slabs")
    assert largest_error(found, with_gradients(one_token_after_another, double)) < 1e-10


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("name", ["u", "delta", "a", "b", "c", "z"])
def test_a_number_that_is_none_shows(kernel, name):
    arguments = {key: x.detach() for key, x in inputs("initial", dtype=torch.float32).items()}
    arguments[name].view(-1)[0] = torch.nan
    y = selective_scan(**arguments, kernel=kernel)
    assert y[0, 0, 0].isnan() or name == "a"
    assert y[0, 1:, 0].isnan().all() or name in ("c", "z"), "states remember it"


@pytest.mark.parametrize("kernel", HERE)
def test_constant_input_settles_at_the_geometric_sum(kernel):
    length, dt, rate = 400, 0.1, -2.0
    ones = torch.ones(1, length, 1, dtype=torch.float64)
    bias = torch.tensor([dt], dtype=torch.float64).expm1().log()
    y = selective_scan(
        ones, 0 * ones, torch.full((1, 1), rate, dtype=torch.float64), ones, ones,
        d=torch.zeros(1, dtype=torch.float64), z=ones, delta_bias=bias, kernel=kernel,
    )  # fmt: skip
    decay = torch.tensor(dt * rate, dtype=torch.float64).exp()
    t = torch.arange(1, length + 1)
    expected = dt * (1 - decay**t) / (1 - decay) * F.silu(ones[0, :, 0])
    torch.testing.assert_close(y[0, :, 0], expected)


@pytest.mark.parametrize("kernel", HERE)
def test_a_token_changes_nothing_before_it(kernel):
    arguments = inputs("initial", length=90)
    changed = {name: x.detach().clone() for name, x in arguments.items()}
    for name in ("u", "delta", "b", "c", "z"):
        changed[name][:, 50] += 1.0
    y = selective_scan(**arguments, kernel=kernel)
    y_changed = selective_scan(**changed, kernel=kernel)
    assert torch.equal(y[:, :50], y_changed[:, :50])
    assert not torch.equal(y[:, 50], y_changed[:, 50])


def test_views_give_the_same_as_copies():
    arguments = inputs("initial", channels=16, length=33)
    beside = torch.cat([arguments["u"], arguments["z"]], dim=2).detach()
    views = dict(zip(("u", "z"), beside.chunk(2, dim=2), strict=True))
    views["delta"] = arguments["delta"].detach().transpose(1, 2).contiguous().transpose(1, 2)
    expected = selective_scan(**arguments, kernel="numba")
    assert torch.equal(selective_scan(**(arguments | views), kernel="numba"), expected)


@pytest.mark.parametrize("kernel", HERE)
def test_memory_kept_for_backward_is_linear_in_tokens_and_not_in_states(kernel):
    def kept(states):
        arguments = inputs("initial", n=1, channels=16, states=states, length=4096)
        sizes = {}

        def pack(x):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().size() // 8
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            y = selective_scan(**arguments, kernel=kernel)
        del y
        return sum(sizes.values()) / (16 * 4096)

    assert kept(8) < 8 + 8 * (2 / 16 + 1 / BLOCK) + 0.5


@pytest.mark.parametrize("length", [1, 3, 4, 5, 70])
def test_compiled_convolution_is_that_of_torch(monkeypatch, length):
    monkeypatch.setattr(convolution, "TOKENS_AT_ONCE", 32)
    random = torch.Generator().manual_seed(length)
    shapes = [(2, length, 19), (19, 4), (19,), (2, length, 19)]
    *arguments, grad = (
        torch.randn(s, generator=random, dtype=torch.float64).requires_grad_() for s in shapes
    )
    y, expected = convolution.compiled(*arguments), convolution.in_torch(*arguments)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(
        torch.autograd.grad(y, arguments, grad), torch.autograd.grad(expected, arguments, grad)
    )


def test_convolution_is_its_definition():
    x = torch.tensor([1.0, 0, 0, 0, 2.0]).view(1, 5, 1)
    y = convolution.in_torch(x, torch.tensor([[1.0, 10, 100, 1000]]), torch.tensor([0.5]))
    torch.testing.assert_close(y[0, :, 0], F.silu(torch.tensor([1000, 100, 10, 1, 2000.0]) + 0.5))


def test_every_kernel_is_named_and_the_best_one_taken():
    assert kernel_for(CPU) == "numba"
    assert kernel_for(CPU, "slabs") == "slabs"
    assert kernel_for(torch.device("meta")) == "slabs"


@pytest.mark.parametrize(
    ("name", "said"), [("nubma", "one of"), ("mamba_ssm", "does not run on cpu")]
)
def test_a_kernel_that_cannot_run_is_refused_by_name(name, said):
    with pytest.raises(InputError, match=said):
        kernel_for(CPU, name)


def test_without_compiled_loops_torch_takes_over_with_one_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "kellgren.learn.backbones.scan.loops", None)
    monkeypatch.delattr(scan, "loops", raising=False)
    scan.automatic.cache_clear()
    scan.checked.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="for want of numba: .*loops") as warned:
            assert [kernel_for(CPU) for _ in range(3)] == ["slabs"] * 3
        assert len(warned) == 1
        with pytest.raises(InputError, match="scan kernel numba"):
            kernel_for(CPU, "numba")
    finally:
        scan.automatic.cache_clear()
        scan.checked.cache_clear()


def test_a_cache_that_cannot_be_written_is_a_reason(monkeypatch):
    def no_locator():
        raise RuntimeError("cannot cache function 'ends': no locator available")

    monkeypatch.setattr(cpu, "compile_loops", no_locator)
    assert cpu.why_not() == "RuntimeError: cannot cache function 'ends': no locator available"


def test_compilation_is_said_with_its_time(monkeypatch, caplog):
    monkeypatch.setattr(cpu, "was_compiled", lambda: True)
    with caplog.at_level(logging.INFO):
        cpu.compile_loops()
    assert "compiled the selective scan in" in caplog.text


def test_the_kernel_is_the_same_when_the_first_call_asks_for_no_gradient():
    code = (
        "import torch\n"
        "from kellgren.learn.backbones.scan import kernel_for\n"
        "with torch.no_grad():\n"
        "    print(kernel_for(torch.device('cpu')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == kernel_for(torch.device("cpu"))
