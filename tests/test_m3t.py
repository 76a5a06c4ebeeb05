import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kellgren.faults import InputError
from kellgren.learn.backbones import m3t
from kellgren.learn.backbones.m3t import M3T, M3T_SIZES, Attention
from kellgren.learn.backbones.recompute import recompute_activations

GRID = (8, 8, 8)


def small(**changes):
    torch.manual_seed(0)
    size = {**vars(M3T_SIZES["small"]), **changes}
    return M3T(m3t.M3TSize(**size), GRID)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def volumes(n=2):
    return torch.randn(n, 1, *GRID, generator=torch.Generator().manual_seed(1))


def test_original_size_has_the_parameters_of_its_parts():
    with torch.device("meta"):
        net = M3T(M3T_SIZES["original"], (128, 128, 128))
    assert n_parameters(net.block3d) == 132_192
    assert n_parameters(net.slice_net) == 23_598_976
    assert n_parameters(net.project) == 1_180_416
    embeddings = [net.class_token, net.separator, net.planes, net.positions]
    assert sum(p.numel() for p in embeddings) == 100_608
    assert n_parameters(net.layers) == 5_267_456
    assert n_parameters(net) == 30_279_648


def test_original_size_costs_the_operations_of_its_parts():
    """3-D block 16.8 and 536.9, 2-D network 1311.0, projection 0.9, transformer 4.5 GFLOP."""
    with torch.device("meta"):
        net = M3T(M3T_SIZES["original"], (128, 128, 128)).eval()
        with FlopCounterMode(display=False, depth=1) as counter, torch.no_grad():
            net(torch.empty(1, 1, 128, 128, 128))
    assert counter.get_total_flops() / 1e9 == pytest.approx(1870.1, rel=0.001)


def test_slice_network_has_the_keys_of_a_two_dimensional_resnet18():
    with torch.device("meta"):
        keys = M3T(M3T_SIZES["full"], (128, 128, 128)).slice_net.state_dict()
    assert len(keys) == 120
    assert keys["conv1.weight"].shape == (64, 16, 7, 7)
    assert keys["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert keys["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)


def test_positions_are_sized_by_the_grid():
    for side in (8, 16):
        assert M3T(M3T_SIZES["small"], (side,) * 3).positions.shape == (3 * side + 4, 64)


@pytest.mark.parametrize("grid", [(24, 48, 48), (32, 32, 31)])
def test_a_grid_that_is_no_cube_is_refused(grid):
    with pytest.raises(InputError, match="a cube"):
        M3T(M3T_SIZES["small"], grid)


def test_sequence_is_class_coronal_separator_sagittal_separator_axial_separator():
    net = small()
    with torch.no_grad():
        for i, p in enumerate([net.class_token, net.separator, net.planes, net.positions]):
            p.fill_((0.1, 0.2, 0, 0)[i])
    tokens = torch.arange(1.0, 25).view(1, 3, 8, 1).expand(2, 3, 8, 64)
    first = net.sequence(tokens)[0, :, 0]
    expected = [0.1, *range(1, 9), 0.2, *range(9, 17), 0.2, *range(17, 25), 0.2]
    torch.testing.assert_close(first, torch.tensor(expected, dtype=torch.float32))


def test_class_token_counts_as_coronal_and_separators_belong_to_the_plane_before():
    net = small()
    with torch.no_grad():
        for p in (net.class_token, net.separator, net.positions):
            p.zero_()
        net.planes.copy_(torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 64))
    first = net.sequence(torch.zeros(1, 3, 8, 64))[0, :, 0]
    assert first.tolist() == [1.0] * (8 + 2) + [2.0] * (8 + 1) + [3.0] * (8 + 1)


def test_planes_are_sliced_along_their_own_axis():
    """Coronal slices follow each other along w, sagittal along d, axial along h."""
    d, h, w = torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij")
    for axis, values in {"coronal": w, "sagittal": d, "axial": h}.items():
        slices = torch.stack(m3t.slices_of(values[None, None]))[:, :, 0]
        plane = list(m3t.PLANE_AXES).index(axis)
        constant = slices.flatten(2).amax(2) == slices.flatten(2).amin(2)
        assert constant.all(1).tolist() == [i == plane for i in range(3)]
        assert slices[plane, :, 0, 0].tolist() == list(range(8))


def test_slices_come_volume_by_volume():
    y = torch.arange(2.0)[:, None, None, None, None].expand(2, 3, 8, 8, 8)
    assert torch.cat(m3t.slices_of(y))[:, 0, 0, 0].tolist() == [0.0] * 24 + [1.0] * 24


def test_reading_slices_in_parts_is_exact_in_evaluation(monkeypatch):
    net = small().eval()
    whole = net(volumes())
    monkeypatch.setattr(m3t, "PIXELS_AT_ONCE", (5 * 8 * 8, 7 * 8 * 8))
    torch.testing.assert_close(net(volumes()), whole, rtol=1e-5, atol=1e-6)


def test_in_training_batch_statistics_are_those_of_all_slices(monkeypatch):
    monkeypatch.setattr(m3t, "PIXELS_AT_ONCE", (1, 1))
    net = small().train()
    seen = []
    net.slice_net.conv1.register_forward_hook(lambda _m, _x, y: seen.append(y.detach()))
    net(volumes())
    (stem,) = seen
    assert len(stem) == 2 * 3 * 8
    torch.testing.assert_close(net.slice_net.bn1.running_mean, 0.1 * stem.mean((0, 2, 3)))


def test_squared_slices_are_plain_slices_of_squared_features():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    squared, plain = small(slices="squared").eval(), small().eval()
    plain.block3d.append(Square())
    assert torch.equal(squared(volumes()), plain(volumes()))
    assert not torch.equal(squared(volumes()), small().eval()(volumes()))


def test_attention_weights_are_scaled_before_the_softmax():
    torch.manual_seed(0)
    attention, x = Attention(12, 3), torch.randn(2, 5, 12)
    q, k, v = (part.view(2, 5, 3, 4).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / 4**0.5).softmax(3)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 3, 5))
    expected = attention.out((weights @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x), expected)


def test_transformer_cannot_tell_the_order_of_tokens_without_positions():
    net = small()
    x = torch.randn(1, 6, 64)
    shuffled = torch.tensor([0, 3, 1, 5, 2, 4])
    torch.testing.assert_close(net.layers(x)[:, shuffled], net.layers(x[:, shuffled]))


def gradients_and_state(net, x):
    x = x.clone().requires_grad_()
    net(x).square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()} | {"x": x.grad}
    return gradients, {name: t.clone() for name, t in net.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
def test_recomputing_changes_no_gradient_and_no_running_statistic(training, monkeypatch):
    monkeypatch.setattr(m3t, "PIXELS_AT_ONCE", (5 * 8 * 8, 7 * 8 * 8))
    plain, recomputed = small().train(training), small().train(training)
    recompute_activations(recomputed)
    for expected, found in zip(
        gradients_and_state(plain, volumes()),
        gradients_and_state(recomputed, volumes()),
        strict=True,
    ):
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_recomputing_keeps_less_for_the_gradient():
    def kept(net):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: (sizes.append(t.numel()), t)[1], lambda t: t
        ):
            net.read_slices(torch.randn(2, 4, 16, 16, 16, requires_grad=True))
        return sum(sizes)

    plain, recomputed = small().train(), small().train()
    recompute_activations(recomputed)
    assert kept(recomputed) < kept(plain) / 2


def test_a_chunk_that_is_recomputed_runs_its_blocks_once_more_and_not_twice():
    net = small().eval()
    recompute_activations(net)
    calls = []
    net.slice_net.layer4[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    net(volumes(1).requires_grad_()).sum().backward()
    assert len(calls) == 2 * 3  # one chunk a plane
