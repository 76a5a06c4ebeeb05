import pytest
import torch
import torch.nn.functional as F

from kellgren.learn.backbones import scan
from kellgren.learn.backbones.scan import selective_scan

REGIMES = ["init", "learned", "large"]


def inputs(regime, *, n=2, channels=3, states=4, length=40, dtype=torch.float64):
    """Arguments as at the start of training, with learned rates, or with huge steps."""
    random = torch.Generator().manual_seed(len(regime) + length)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    rates = torch.arange(1.0, states + 1, dtype=torch.float64).repeat(channels, 1)
    if regime == "learned":
        rates = (3 * normal(channels, states)).exp()
    bias = {"init": -4.0, "learned": -2.0, "large": 30.0}[regime]
    arguments = {
        "u": normal(n, channels, length),
        "delta": normal(n, channels, length),
        "a": -rates,
        "b": normal(n, states, length),
        "c": normal(n, states, length),
        "d": normal(channels),
        "z": normal(n, channels, length),
        "delta_bias": bias + normal(channels),
    }
    return {name: x.to(dtype).requires_grad_() for name, x in arguments.items()}


def one_token_after_another(u, delta, a, b, c, *, d, z, delta_bias):
    """The definition, literally."""
    dt = F.softplus(delta + delta_bias[:, None])
    h, y = 0.0, []
    for t in range(u.shape[2]):
        decay = torch.exp(dt[:, :, t, None] * a)
        h = decay * h + (dt[:, :, t] * u[:, :, t])[..., None] * b[:, None, :, t]
        y.append((h * c[:, None, :, t]).sum(2) + d * u[:, :, t])
    return torch.stack(y, dim=2) * F.silu(z)


def with_gradients(function, arguments):
    y = function(**arguments)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((weight * y).sum(), list(arguments.values()))]


def largest_error(found, expected):
    return max(
        ((x - y).abs().max() / y.abs().max().clamp_min(1e-30)).item()
        for x, y in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("length", [2, 15, 16, 17, 131])
def test_output_and_all_gradients_are_those_of_the_definition(regime, length):
    arguments = inputs(regime, length=length)
    found = with_gradients(selective_scan, arguments)
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-12


@pytest.mark.parametrize("cells", [1, 24, 24 * 3, 24 * 7, 24 * 10**6])
def test_number_of_chunks_changes_nothing(monkeypatch, cells):
    monkeypatch.setattr(scan, "CELLS_AT_ONCE", {"cpu": cells})
    arguments = inputs("learned", length=201)
    found = with_gradients(selective_scan, arguments)
    assert largest_error(found, with_gradients(one_token_after_another, arguments)) < 1e-12


def test_a_single_token_has_no_memory():
    arguments = inputs("learned", length=1)
    y, *gradients = with_gradients(selective_scan, arguments)
    expected = with_gradients(one_token_after_another, arguments)
    torch.testing.assert_close([y, *gradients], expected)
    assert gradients[2].eq(0).all(), "the rates cannot matter"


@pytest.mark.parametrize("length", [1, 5, 18])
def test_gradients_agree_with_finite_differences(length):
    arguments = inputs("learned", n=1, channels=2, states=2, length=length)

    def positional(u, delta, a, b, c, d, z, delta_bias):
        return selective_scan(u, delta, a, b, c, d=d, z=z, delta_bias=delta_bias)

    assert torch.autograd.gradcheck(positional, tuple(arguments.values()))


@pytest.mark.parametrize("regime", REGIMES)
def test_single_precision_stays_accurate_over_a_thousand_tokens(regime):
    exact = inputs(regime, n=1, channels=8, states=8, length=1000)
    single = {name: x.detach().float().requires_grad_() for name, x in exact.items()}
    rounded = {name: x.detach().double().requires_grad_() for name, x in single.items()}
    found = with_gradients(selective_scan, single)
    expected = with_gradients(one_token_after_another, rounded)
    assert all(x.isfinite().all() for x in found)
    assert largest_error(found, expected) < 5e-6


def test_constant_input_settles_at_the_geometric_sum():
    length, dt, rate = 400, 0.1, -2.0
    ones = torch.ones(1, 1, length, dtype=torch.float64)
    bias = torch.tensor([dt], dtype=torch.float64).expm1().log()
    y = selective_scan(
        ones, 0 * ones, torch.full((1, 1), rate, dtype=torch.float64), ones, ones,
        d=torch.zeros(1, dtype=torch.float64), z=ones, delta_bias=bias,
    )  # fmt: skip
    decay = torch.tensor(dt * rate, dtype=torch.float64).exp()
    t = torch.arange(1, length + 1)
    expected = dt * (1 - decay**t) / (1 - decay) * F.silu(ones[0, 0])
    torch.testing.assert_close(y[0, 0], expected)


def test_a_token_changes_nothing_before_it():
    arguments = inputs("init", length=90)
    changed = {name: x.detach().clone() for name, x in arguments.items()}
    for name in ("u", "delta", "b", "c", "z"):
        changed[name][..., 50] += 1.0
    y, y_changed = selective_scan(**arguments), selective_scan(**changed)
    assert torch.equal(y[..., :50], y_changed[..., :50])
    assert not torch.equal(y[..., 50], y_changed[..., 50])


def test_memory_kept_for_backward_is_linear_in_tokens_and_not_in_states():
    def kept(states):
        arguments = inputs("init", n=1, channels=16, states=states, length=4096)
        sizes = {}

        def pack(x):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().size() // 8
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            y = selective_scan(**arguments)
        del y
        return sum(sizes.values()) / (16 * 4096)

    assert kept(8) < 8 + 8 * (2 / 16 + 1 / scan.BLOCK) + 0.5
