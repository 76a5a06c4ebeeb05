import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from kellgren.learn.backbones.conv3d import Conv3d, takes_slow_path, too_narrow_for_bfloat16
from kellgren.learn.backbones.recompute import recompute_activations
from kellgren.learn.backbones.residual import (
    BasicBlock,
    ResidualNet,
    ResidualSize,
    Step,
    ZeroPadShortcut,
)
from kellgren.learn.backbones.resnet3d import RESNET3D_SIZES, ResNet3D

PAPER_GRID = (160, 256, 256)


def on_meta(size, grid=PAPER_GRID):
    with torch.device("meta"):
        return ResNet3D(size, grid)


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def stage_shapes(net):
    """Shapes after stem, pooling and each stage, without computing anything."""
    shapes = []
    for name in ("conv1", "pool", "layer1", "layer2", "layer3", "layer4"):
        net.get_submodule(name).register_forward_hook(lambda _m, _x, y: shapes.append(y.shape[1:]))
    net(torch.empty(1, 1, *PAPER_GRID, device="meta"))
    return [tuple(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("size", "parameters", "keys"),
    [
        (ResidualSize(depth=10), 14_355_520, 72),
        (ResidualSize(depth=18), 33_160_000, 120),
        (ResidualSize(depth=18, shortcut="A"), 32_986_176, 102),
        (ResidualSize(depth=34, shortcut="A"), 63_295_808, 198),
        (ResidualSize(depth=50), 46_155_072, 318),
        (ResidualSize(depth=101), 85_201_216, 624),
    ],
)
def test_parameters_and_keys_are_as_many_as_medicalnets(size, parameters, keys):
    net = on_meta(size)
    assert (n_parameters(net), len(net.state_dict())) == (parameters, keys)


def test_stages_of_basic_blocks_have_medicalnets_shapes():
    assert stage_shapes(on_meta(RESNET3D_SIZES["full"])) == [
        (64, 80, 128, 128),
        (64, 40, 64, 64),
        (64, 40, 64, 64),
        (128, 20, 32, 32),
        (256, 20, 32, 32),
        (512, 20, 32, 32),
    ]


def test_stages_of_bottlenecks_have_medicalnets_shapes():
    assert stage_shapes(on_meta(RESNET3D_SIZES["r50"]))[2:] == [
        (256, 40, 64, 64),
        (512, 20, 32, 32),
        (1024, 20, 32, 32),
        (2048, 20, 32, 32),
    ]


def test_strided_stages_halve_the_grid_each():
    assert stage_shapes(on_meta(RESNET3D_SIZES["strided"]))[2:] == [
        (64, 40, 64, 64),
        (128, 20, 32, 32),
        (256, 10, 16, 16),
        (512, 5, 8, 8),
    ]


def test_keys_of_a_first_block_are_medicalnets():
    keys = on_meta(RESNET3D_SIZES["r50"]).state_dict()
    block = {key.removeprefix("layer2.0.") for key in keys if key.startswith("layer2.0.")}
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert block == {
        *(f"conv{i}.weight" for i in (1, 2, 3)),
        *(f"bn{i}.{name}" for i in (1, 2, 3) for name in norm),
        "downsample.0.weight",
        *(f"downsample.1.{name}" for name in norm),
    }
    assert {"conv1.weight", "bn1.weight"} < keys.keys()


@pytest.mark.parametrize(("depth", "dilations"), [(18, [1, 1, 2, 4]), (50, [1, 1, 2, 4])])
def test_every_wide_convolution_of_a_stage_is_dilated_alike(depth, dilations):
    net = on_meta(ResidualSize(depth=depth))
    for i, dilation in enumerate(dilations, start=1):
        convs = [m for m in net.get_submodule(f"layer{i}").modules() if hasattr(m, "dilation")]
        wide = {conv.dilation for conv in convs if conv.kernel_size == (3, 3, 3)}
        assert wide == {(dilation,) * 3}


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_176_512), (50, 23_508_032)])
def test_in_two_dimensions_it_is_as_large_as_the_published_network(depth, parameters):
    """The published counts, 11,689,512 and 25,557,032, less 1000 classes."""
    with torch.device("meta"):
        net = ResidualNet(ResidualSize(depth=depth, geometry="strided"), dims=2, c_in=3)
    assert n_parameters(net) == parameters


def test_zero_pad_shortcut_thins_out_and_appends_empty_channels():
    x = torch.randn(2, 3, 5, 6, 7)
    expected = F.avg_pool3d(x, 1, stride=2)
    expected = torch.cat([expected, torch.zeros_like(expected)], dim=1)
    assert torch.equal(ZeroPadShortcut(2, 3)(x), expected)


def slope_and_gradient(net, x):
    """Change of a random projection along a small step, measured and by the gradient."""
    random = torch.Generator().manual_seed(1)
    y = net(x)
    weight = torch.randn(y.shape, generator=random, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * y).sum(), x)
    step = 1e-6 * torch.randn(x.shape, generator=random, dtype=torch.float64)
    slope = (weight * (net(x + step) - net(x - step))).sum() / 2
    return slope, (gradient * step).sum()


def shortcut_a_net():
    torch.manual_seed(0)
    return ResNet3D(ResidualSize(depth=10, width=4, shortcut="A"), (16, 16, 16)).double().eval()


def test_gradient_through_shortcut_a_agrees_with_finite_differences():
    x = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(*slope_and_gradient(shortcut_a_net(), x), rtol=1e-5, atol=1e-12)


def test_a_detached_shortcut_would_fail_that_test(monkeypatch):
    pad = ZeroPadShortcut.forward
    monkeypatch.setattr(ZeroPadShortcut, "forward", lambda self, x: pad(self, x).detach())
    x = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64, requires_grad=True)
    slope, from_gradient = slope_and_gradient(shortcut_a_net(), x)
    assert abs(from_gradient / slope - 1) > 0.01


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_block_that_learned_nothing_passes_on_its_shortcut(shortcut):
    block = BasicBlock(Step(4, 8, stride=2), shortcut=shortcut).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 4, 6, 6, 6)
    assert torch.equal(block(x), F.relu(block.downsample(x)))


def test_convolutions_start_from_kaimings_fan_out_distribution():
    torch.manual_seed(0)
    weight = ResNet3D(ResidualSize(depth=10, width=16), (24, 32, 32)).layer4[0].conv2.weight
    expected = (2 / (weight.shape[0] * 27)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.01)


def count_flops(net, grid):
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, net.conv1.in_channels, *grid, device="meta"))
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize(
    ("size", "grid", "gflop"),
    [
        ("r10", PAPER_GRID, 707.8),
        ("r18", PAPER_GRID, 1534.3),
        ("r34", PAPER_GRID, 2838.9),
        ("r50", PAPER_GRID, 2078.9),
        ("r101", PAPER_GRID, 3676.1),
        ("strided", PAPER_GRID, 313.5),
        ("r18", (40, 64, 64), 24.0),
        ("r50", (40, 64, 64), 32.5),
        ("r18", (80, 128, 128), 191.8),
        ("r50", (80, 128, 128), 259.9),
        ("r18", (128, 128, 128), 306.9),
        ("r50", (128, 128, 128), 415.8),
    ],
)
def test_a_forward_pass_costs_the_operations_of_the_published_geometry(size, grid, gflop):
    """Two per multiply-add. Shortcut B adds three convolutions of width one to the size "full"."""
    found = count_flops(on_meta(RESNET3D_SIZES[size], grid), grid)
    assert found == pytest.approx(gflop, rel=0.005)


def single(c, grid, *, stride=1, dilation=1, bias=False, kernel=3):
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    ours = Conv3d(c, 2 * c, kernel, **shape)
    plain = torch.nn.Conv3d(c, 2 * c, kernel, **shape)
    plain.load_state_dict(ours.state_dict())
    return ours, plain, torch.randn(1, c, *grid)


def with_gradients(conv, x):
    x = x.clone().requires_grad_()
    y = conv(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in conv.parameters())]


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"stride": 2},
        {"dilation": 2},
        {"dilation": 4, "bias": True},
        {"kernel": 1, "stride": 2},
        {"kernel": 1, "bias": True},
    ],
)
def test_a_small_single_volume_is_convolved_alike_by_onednn(shape):
    ours, plain, x = single(16, (10, 12, 9), **shape)
    assert takes_slow_path(x, ours.weight)
    for found, expected in zip(with_gradients(ours, x), with_gradients(plain, x), strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6 * scale)


def test_its_gradients_agree_with_double_precision():
    ours, plain, x = single(16, (10, 12, 9), dilation=2, bias=True)
    exact = with_gradients(plain.double(), x.double())
    for found, expected in zip(with_gradients(ours, x), exact, strict=True):
        error = (found - expected).abs().max() / expected.abs().max()
        assert error < 1e-5


def test_onednn_is_taken_where_aten_would_not_and_nowhere_else():
    ours, _, x = single(16, (10, 12, 9))
    assert takes_slow_path(x, ours.weight)
    assert takes_slow_path(torch.empty(1, 64, 10, 32, 4), torch.empty(64, 64, 3, 3, 3))
    assert not takes_slow_path(torch.empty(1, 64, 10, 33, 4), torch.empty(64, 64, 3, 3, 3))
    assert not takes_slow_path(x.expand(2, -1, -1, -1, -1), ours.weight)
    assert not takes_slow_path(x.double(), ours.weight.double())
    assert not takes_slow_path(x, torch.empty(8, 16, 7, 7, 7))
    assert not takes_slow_path(x.to("meta"), ours.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_slow_path(x, ours.weight)
        assert ours(x).dtype == torch.bfloat16


NARROW = [
    ((2, 4, 4), {}),
    ((1, 1, 1), {"stride": 2}),
    ((8, 1, 1), {"stride": 2}),
    ((3, 8, 8), {"kernel": 5}),
]


@pytest.mark.parametrize(("grid", "shape"), NARROW)
def test_in_bfloat16_a_narrow_volume_trains_in_float32(grid, shape):
    """There, oneDNN leaves gradients of weights unwritten: random numbers, NaN, or a crash."""
    ours, plain, x = single(16, grid, **shape)
    assert too_narrow_for_bfloat16(x, ours.weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(ours, x)
    assert found[0].dtype == torch.float32
    for one, expected in zip(found, with_gradients(plain, x), strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("shape", [{}, {"stride": 2}, {"dilation": 2}, {"kernel": 1}])
@pytest.mark.parametrize("grid", [(4, 4, 4), (4, 7, 12), (10, 8, 8)])
def test_in_bfloat16_a_wider_volume_has_gradients_near_those_of_float32(grid, shape):
    ours, plain, x = single(16, grid, **shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(ours, x)
    assert found[0].dtype == torch.bfloat16
    for one, expected in zip(found, with_gradients(plain, x), strict=True):
        assert (one - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_frozen_weight_or_input_asks_for_no_gradient():
    ours, plain, x = single(8, (6, 6, 6))
    for net in (ours, plain):
        net.weight.requires_grad_(False)
    found, expected = (
        torch.autograd.grad(net(v).sum(), v)[0]
        for net, v in ((ours, x.clone().requires_grad_()), (plain, x.clone().requires_grad_()))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    ours.weight.requires_grad_(True)
    ours(x).sum().backward()
    assert ours.weight.grad is not None


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_recomputing_changes_no_gradient_and_no_running_statistic(shortcut):
    def made():
        torch.manual_seed(0)
        return ResNet3D(ResidualSize(depth=18, width=8, shortcut=shortcut), (16, 16, 16)).train()

    plain, recomputed, x = made(), made(), torch.randn(2, 1, 16, 16, 16)
    recompute_activations(recomputed)
    for net in (plain, recomputed):
        for _ in range(2):
            net(x).square().sum().backward()
    expected, found = dict(plain.named_parameters()), dict(recomputed.named_parameters())
    assert all(torch.equal(expected[name].grad, found[name].grad) for name in expected)
    expected, found = plain.state_dict(), recomputed.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert found["bn1.num_batches_tracked"] == 2
