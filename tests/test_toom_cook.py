import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kellgren.learn.backbones import toom_cook
from kellgren.learn.backbones.conv3d import Conv3d


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def exactly(x, weight, bias, dilation):
    """The plain sum in float64."""
    bias = None if bias is None else bias.double()
    weight, shape = weight.double(), {"padding": "same", "dilation": dilation}
    return F.conv3d(x.double(), weight, bias, **shape)


def error(found, exact):
    return ((found - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize(("m", "k"), [(1, 3), (2, 3), (4, 3), (6, 3), (2, 5), (4, 5), (2, 7)])
def test_a_scheme_finds_the_sums_of_products_of_neighbours(m, k):
    scheme, generator = toom_cook.scheme(m, k), torch.Generator().manual_seed(m)
    planes, kernel = (
        torch.randn(m + k - 1, generator=generator),
        torch.randn(k, generator=generator),
    )
    products = (scheme.of_kernel @ kernel) * (scheme.of_input @ planes)
    sums = torch.stack([planes[i : i + k] @ kernel for i in range(m)])
    torch.testing.assert_close(scheme.of_output @ products, sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 7, 12])
@pytest.mark.parametrize(("k", "dilation"), [(3, 1), (3, 2), (3, 4), (5, 1), (7, 1)])
def test_it_is_the_convolution(k, dilation, depth):
    x, weight, bias = random(2, 3, depth, 9, 8), random(4, 3, k, 3, k), random(4)
    found = toom_cook.convolve(x, weight, bias, (dilation,) * 3)
    assert error(found, exactly(x, weight, bias, dilation)) < 1e-5


def test_each_axis_has_its_own_dilation():
    x, weight = random(1, 2, 9, 9, 9), random(3, 2, 3, 3, 3)
    found = toom_cook.convolve(x, weight, None, (1, 2, 3))
    assert error(found, exactly(x, weight, None, (1, 2, 3))) < 1e-5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_output_lies_as_the_input_does(layout):
    x = random(2, 3, 6, 7, 8).contiguous(memory_format=layout)
    y = toom_cook.convolve(x, random(4, 3, 3, 3, 3), None, (1, 1, 1))
    assert y.is_contiguous(memory_format=layout)


def large_layer(**changes):
    torch.manual_seed(0)
    return Conv3d(
        **{"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1} | changes
    )


LARGE = (1, 32, 8, 32, 32)


@torch.no_grad()
def test_a_large_layer_takes_it_for_prediction_and_differs_in_the_last_bits(monkeypatch):
    layer, x = large_layer(), random(*LARGE)
    found = layer(x)
    monkeypatch.setattr(toom_cook, "pays", lambda *_: False)
    assert not torch.equal(found, layer(x))
    assert error(found, exactly(x, layer.weight, layer.bias, 1)) < 1e-5


def test_it_never_stands_in_the_way_of_a_gradient():
    assert not toom_cook.pays(large_layer(), random(*LARGE))


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2},
        {"stride": (2, 1, 1)},
        {"padding": 0},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 1, "padding": 0},
        {"kernel_size": 9, "padding": 4},
        {"padding_mode": "circular"},
        {"groups": 2},
        {"out_channels": 16},
        {"dilation": 4, "padding": 4},  # two planes a phase: as many products either way
    ],
)
def test_other_layers_stay_with_the_plain_sum(changes):
    assert toom_cook.pays(large_layer(), random(*LARGE))
    assert not toom_cook.pays(large_layer(**changes), random(*LARGE))


@torch.no_grad()
def test_small_planes_and_other_precisions_stay_with_the_plain_sum():
    layer = large_layer()
    assert not toom_cook.pays(layer, random(1, 32, 8, 16, 16))
    assert not toom_cook.pays(layer, random(*LARGE).double())
    assert not toom_cook.pays(layer, torch.empty(LARGE, device="meta"))
    with torch.autocast("cpu"):
        assert not toom_cook.pays(layer, random(*LARGE))


def test_products_are_counted_as_they_are_made(monkeypatch):
    made, plain = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *a, **k: (made.append(1), plain(*a, **k))[1])
    toom_cook.convolve(random(1, 2, 13, 4, 4), random(2, 2, 3, 3, 3), None, (1, 1, 1))
    assert len(made) == toom_cook.products(13, toom_cook.outputs_at_once(13, 3), 3)


def test_layers_without_a_bias_or_with_one_agree():
    x, weight, bias = random(1, 2, 6, 5, 5), random(3, 2, 3, 3, 3), random(3)
    without = toom_cook.convolve(x, weight, None, (1, 1, 1))
    difference = toom_cook.convolve(x, weight, bias, (1, 1, 1)) - without
    expected = nn.Parameter(bias)[:, None, None, None].expand_as(without[0])
    torch.testing.assert_close(difference[0], expected.detach(), rtol=1e-4, atol=1e-4)
