import pytest
import torch
from torch import nn

from kellgren.learn.backbones import m3t
from kellgren.learn.backbones.folded import folded, predicts
from kellgren.learn.backbones.m3t import M3T, M3T_SIZES
from kellgren.learn.backbones.residual import ResidualNet, ResidualSize

GRID = (8, 8, 8)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def with_statistics(network):
    """As after training: norms that scale, shift and have seen something."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def small_m3t():
    torch.manual_seed(0)
    return with_statistics(M3T(M3T_SIZES["small"], GRID))


def volumes(n=2):
    return torch.randn(n, 1, *GRID, generator=torch.Generator().manual_seed(2))


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]


@torch.no_grad()
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [ResidualSize(10, 4, "A"), ResidualSize(50, 4, "B", "strided")])
def test_a_residual_network_without_its_norms_gives_the_same_features(size, dims):
    torch.manual_seed(0)
    network = with_statistics(ResidualNet(size, dims=dims, c_in=1))
    x = torch.randn(2, 1, *(32,) * dims)
    assert norms(network)
    assert not norms(folded(network))
    expected = network(x)
    assert (folded(network)(x) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_m3t_folds_its_norms_for_prediction_alone(monkeypatch):
    calls, net = [], small_m3t()
    monkeypatch.setattr(m3t, "folded", lambda network: (calls.append(1), folded(network))[1])
    with_gradient = net(volumes())
    assert not calls
    with torch.no_grad():
        torch.testing.assert_close(net(volumes()), with_gradient.detach(), **CLOSE)
        assert len(calls) == 1
        net.train()(volumes())
    assert len(calls) == 1


@torch.no_grad()
def test_a_prediction_changes_nothing_of_the_network():
    net = small_m3t()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    owned, n_norms = {id(p) for p in net.parameters()}, len(norms(net))
    net(volumes())
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {id(p) for p in net.parameters()} == owned
    assert len(norms(net)) == n_norms


@pytest.mark.parametrize("what", ["weight", "running_var"])
def test_weights_that_change_in_place_are_seen_by_the_next_prediction(what):
    net = small_m3t()
    with torch.no_grad():
        before = net(volumes())
        norm = net.slice_net.layer1[0].bn1
        getattr(norm, what).data.mul_(3)
        after = net(volumes())
    assert not torch.allclose(before, after, **CLOSE)
    torch.testing.assert_close(after, net(volumes()).detach(), **CLOSE)


def test_weights_without_a_norm_are_shared_and_not_copied():
    net = small_m3t()
    pointers = [t.data_ptr() for t in folded(net).project.parameters()]
    assert pointers == [t.data_ptr() for t in net.project.parameters()]


def test_a_norm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    assert len(norms(folded(with_statistics(network)))) == 2


def test_a_pass_predicts_without_gradient_in_evaluation_on_a_cpu():
    network, x = nn.Linear(1, 1).eval(), torch.zeros(1)
    assert not predicts(network, x)
    with torch.no_grad():
        assert predicts(network, x)
        assert not predicts(network, x.to("meta"))
        assert not predicts(network.train(), x)
