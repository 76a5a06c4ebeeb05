import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kellgren.learn.backbones.nnmamba import NNMAMBA_SIZES, Mamba, MambaLayer, NnMamba, NnMambaSize

NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def full():
    with torch.device("meta"):
        return NnMamba(NNMAMBA_SIZES["full"], (160, 256, 256))


def test_parameters_of_the_parts_are_as_many_as_published():
    net = full()
    parts = [net.in_conv, net.mamba_layer_stem, net.layer1, net.layer2, net.layer3]
    assert [n_parameters(part) for part in parts] == [28_704, 10_560, 611_200, 2_443_008, 9_768_448]
    assert n_parameters(net) + n_parameters(nn.Linear(32, 1)) == 12_876_321


def test_keys_are_those_of_the_published_network():
    keys = set(full().state_dict())
    stem = {
        *(f"in_conv.conv.{i}.{name}" for i in (0, 3) for name in ("weight", "bias")),
        *(f"in_conv.conv.{i}.{name}" for i in (1, 4) for name in NORM),
        *(f"mamba_layer_stem.{name}.weight" for name in ("nin", "nin2")),
        *(f"mamba_layer_stem.{norm}.{name}" for norm in ("norm", "norm2") for name in NORM),
    }
    mamba = {
        "A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight",
        "dt_proj.weight", "dt_proj.bias", "out_proj.weight",
    }  # fmt: skip
    block = {f"conv{i}.weight" for i in (1, 2)} | {f"bn{i}.{n}" for i in (1, 2) for n in NORM}
    down = {"downsample.0.weight", *(f"downsample.1.{name}" for name in NORM)}
    layers = {f"layer{i}.{j}.{key}" for i in (1, 2, 3) for j in (0, 1, 2) for key in block}
    layers |= {f"layer{i}.0.{key}" for i in (1, 2, 3) for key in down}
    mixing = {f"mamba_layer_stem.mamba.{key}" for key in mamba}
    assert keys == stem | mixing | layers | {"mlp.0.weight", "mlp.0.bias"}
    assert len(keys) + 2 == 165, "with the weight and bias of one head"


def test_stages_have_the_published_shapes():
    with torch.device("meta"):
        net = full()
        net.mamba_layer_stem.mamba = nn.Identity()
        shapes = []
        for part in (net.in_conv, net.layer1, net.layer2, net.layer3, net.mlp[0]):
            part.register_forward_hook(lambda _m, x, y: shapes.append(tuple(y.shape[1:])))
        net(torch.empty(1, 1, 160, 256, 256))
    assert shapes == [
        (32, 80, 128, 128),
        (64, 40, 64, 64),
        (128, 20, 32, 32),
        (256, 10, 16, 16),
        (32,),
    ]


def mamba_by_definition(weights, x, *, states):
    """Gu and Dao's block, token by token; x is (n, l, c)."""
    u, z = (x @ weights["in_proj.weight"].T).chunk(2, dim=2)
    n, length, inner = u.shape
    kernel = weights["conv1d.weight"][:, 0]
    padded = torch.cat([u.new_zeros(n, 3, inner), u], dim=1)
    rank = weights["dt_proj.weight"].shape[1]
    h, y = u.new_zeros(n, inner, states), []
    for t in range(length):
        token = F.silu((padded[:, t : t + 4] * kernel.T).sum(1) + weights["conv1d.bias"])
        split = (token @ weights["x_proj.weight"].T).split([rank, states, states], 1)
        dt = F.softplus(split[0] @ weights["dt_proj.weight"].T + weights["dt_proj.bias"])
        decay = torch.exp(-dt[..., None] * weights["A_log"].exp())
        h = decay * h + (dt * token)[..., None] * split[1][:, None]
        out = (h * split[2][:, None]).sum(2) + weights["D"] * token
        y.append((out * F.silu(z[:, t])) @ weights["out_proj.weight"].T)
    return torch.stack(y, dim=1)


@pytest.mark.parametrize("kernel", ["slabs", "numba"])
def test_mamba_block_is_its_definition(kernel):
    torch.manual_seed(0)
    block = Mamba(20, 3, kernel=kernel).double()
    assert block.rank == 2
    x = torch.randn(2, 37, 20, dtype=torch.float64)
    expected = mamba_by_definition(dict(block.named_parameters()), x, states=3)
    torch.testing.assert_close(block(x), expected)


def nnmamba_by_definition(w, x, *, blocks, states):
    """Features of nnMamba from the names and weights of a published file alone."""

    def norm(y, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(y, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])

    def stage(y, name):
        for i in range(blocks):
            at, stride = f"{name}.{i}", 2 if i == 0 else 1
            short = y
            if i == 0:
                short = F.conv3d(y, w[f"{at}.downsample.0.weight"], stride=2)
                short = norm(short, f"{at}.downsample.1")
            y = F.conv3d(y, w[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = F.conv3d(F.relu(norm(y, f"{at}.bn1")), w[f"{at}.conv2.weight"], padding=1)
            y = F.relu(norm(y, f"{at}.bn2") + short)
        return y

    c1 = x
    for conv, bn, stride in ((0, 1, 2), (3, 4, 1)):
        weight, bias = (w[f"in_conv.conv.{conv}.{name}"] for name in ("weight", "bias"))
        c1 = F.conv3d(c1, weight, bias, stride=stride, padding=1)
        c1 = F.relu(norm(c1, f"in_conv.conv.{bn}"))
    stem = "mamba_layer_stem"
    a = F.relu(norm(F.conv3d(c1, w[f"{stem}.nin.weight"]), f"{stem}.norm"))
    mamba = {k.removeprefix(f"{stem}.mamba."): v for k, v in w.items() if ".mamba." in k}
    m = mamba_by_definition(mamba, a.flatten(2).mT, states=states).mT.view_as(a)
    m = F.relu(norm(F.conv3d(m + a, w[f"{stem}.nin2.weight"]), f"{stem}.norm2"))
    c2 = stage(m + c1, "layer1")
    c3 = stage(c2, "layer2")
    c4 = stage(c3, "layer3")
    pooled = torch.cat([y.mean((2, 3, 4)) for y in (c2, c3, c4)], dim=1)
    return F.relu(pooled @ w["mlp.0.weight"].T + w["mlp.0.bias"])


def test_a_file_with_the_published_keys_gives_the_features_of_its_definition(tmp_path):
    torch.manual_seed(1)
    size = NnMambaSize(channels=16, blocks=2, states=3)
    published = NnMamba(size, (16, 16, 32)).state_dict()
    for name, value in published.items():
        if "running" in name or name.endswith(("A_log", "bias", ".D")):
            value.copy_(torch.rand_like(value) + 0.5)
    head = {"mlp.3.weight": torch.randn(1, 32), "mlp.3.bias": torch.randn(1)}
    torch.save(published | head, tmp_path / "best_weight.pth")

    read = torch.load(tmp_path / "best_weight.pth", weights_only=True)
    net = NnMamba(size, (16, 16, 32))
    left = net.load_state_dict(read, strict=False)
    assert left.missing_keys == []
    assert set(left.unexpected_keys) == set(head)
    x = torch.randn(2, 1, 16, 16, 32)
    expected = nnmamba_by_definition({k: v.double() for k, v in read.items()}, x.double(),
                                     blocks=2, states=3)  # fmt: skip
    found = net.eval()(x)
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_gradients_of_the_network_do_not_depend_on_the_kernel():
    gradients = []
    for kernel in ("slabs", "numba"):
        torch.manual_seed(2)
        net = NnMamba(NnMambaSize(channels=8, blocks=1, states=4, kernel=kernel), (16, 16, 32))
        net = net.double().eval()
        x = torch.randn(1, 1, 16, 16, 32, dtype=torch.float64, requires_grad=True)
        gradients.append(torch.autograd.grad(net(x).sum(), [x, *net.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_mamba_block_starts_with_the_published_rates_and_steps():
    torch.manual_seed(0)
    block = Mamba(32, 8)
    steps = F.softplus(block.dt_proj.bias)
    assert steps.min() >= 0.999e-3
    assert steps.max() <= 1.001e-1
    assert abs(steps.log().mean() - math.log(1e-2)) < 0.5
    torch.testing.assert_close(block.A_log.exp()[5], torch.arange(1.0, 9))
    assert block.D.eq(1).all()


def test_a_voxel_changes_no_voxel_before_it_in_row_major_order():
    torch.manual_seed(0)
    layer = MambaLayer(NnMambaSize(channels=16, states=2)).eval()
    x = torch.randn(1, 16, 3, 4, 5)
    changed = x.clone()
    changed[0, :, 1, 2, 3] += 1.0
    same = (layer(x) == layer(changed)).all(1).flatten()
    position = 1 * 4 * 5 + 2 * 5 + 3
    assert same[:position].all()
    assert not same[position]
    assert not same[-1]


def test_css_is_the_mean_over_flips_of_tokens_and_channels():
    torch.manual_seed(0)
    layer = MambaLayer(NnMambaSize(channels=6, states=2, css=True))
    x = torch.randn(2, 11, 6)
    scan = layer.mamba
    tokens, channels = x[:, range(10, -1, -1)], x[:, :, range(5, -1, -1)]
    both = tokens[:, :, range(5, -1, -1)]
    expected = scan(x) + scan(tokens)[:, range(10, -1, -1)]
    expected += scan(channels)[:, :, range(5, -1, -1)]
    expected += scan(both)[:, :, range(5, -1, -1)][:, range(10, -1, -1)]
    torch.testing.assert_close(layer.mix(x), expected / 4)
    torch.testing.assert_close(layer.mix(x.flip(1)), layer.mix(x).flip(1))


def test_css_has_the_same_weights():
    with torch.device("meta"):
        css = NnMamba(NNMAMBA_SIZES["css"], (160, 256, 256)).state_dict()
    assert {k: v.shape for k, v in css.items()} == {
        k: v.shape for k, v in full().state_dict().items()
    }


def test_features_are_the_hidden_layer_of_three_stage_means():
    torch.manual_seed(0)
    net = NnMamba(NNMAMBA_SIZES["small"], (16, 16, 32)).eval()
    means = []
    for layer in (net.layer1, net.layer2, net.layer3):
        layer.register_forward_hook(lambda _m, _x, y: means.append(y.mean((2, 3, 4))))
    features = net(torch.randn(2, 1, 16, 16, 32))
    torch.testing.assert_close(features, F.relu(net.mlp[0](torch.cat(means, dim=1))))
    assert features.shape == (2, 32)
