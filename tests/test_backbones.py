"""What every encoder promises, whatever its architecture."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from kellgren.config import PAPER_GRIDS
from kellgren.faults import InputError
from kellgren.learn.backbones import BACKBONES, build_encoder

GRIDS = {"resnet3d": (24, 32, 40), "m3t": (16, 16, 16), "nnmamba": (24, 32, 40)}
EVERY_SIZE = [(name, size) for name in BACKBONES for size in BACKBONES[name].sizes]
everywhere = pytest.mark.parametrize("name", list(BACKBONES))


def small(name, *, seed=0):
    torch.manual_seed(seed)
    return build_encoder(name, size="small", grid=GRIDS[name])


def images(name, *, n=3, seed=1):
    return torch.randn(n, 1, *GRIDS[name], generator=torch.Generator().manual_seed(seed))


def trained_a_little(name):
    encoder, weight = small(name), torch.linspace(-1, 1, small(name).n_features)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    torch.manual_seed(2)
    for step in range(3):
        optimiser.zero_grad()
        (encoder(images(name, seed=step)) @ weight).square().mean().backward()
        optimiser.step()
    return encoder


@pytest.mark.parametrize(("name", "size"), EVERY_SIZE)
def test_every_size_gives_the_features_that_it_announces_on_the_papers_grid(name, size):
    with torch.device("meta"):
        encoder = build_encoder(name, size=size, grid=PAPER_GRIDS[name])
        if name == "nnmamba":  # a scan in a Python loop: its tensors are checked on small grids
            assert encoder.mlp[0].out_features == encoder.n_features
            return
        features = encoder.eval()(torch.empty(1, 1, *PAPER_GRIDS[name]))
    assert features.shape == (1, encoder.n_features)


@everywhere
def test_small_gives_the_features_that_it_announces(name):
    encoder = small(name)
    assert encoder(images(name)).shape == (3, encoder.n_features)


@everywhere
def test_every_parameter_receives_a_gradient(name):
    encoder, weight = small(name), torch.linspace(-1, 1, small(name).n_features)
    (encoder(images(name)) @ weight).square().mean().backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@everywhere
def test_in_evaluation_a_volume_does_not_depend_on_its_batch(name):
    encoder, batch = trained_a_little(name).eval(), images(name)
    with torch.no_grad():
        alone = torch.cat([encoder(volume[None]) for volume in batch])
        torch.testing.assert_close(alone, encoder(batch), rtol=1e-4, atol=1e-5)


@everywhere
def test_the_input_has_a_gradient_that_is_the_slope_of_the_output(name):
    encoder = trained_a_little(name).eval().double()
    x = images(name, n=1).double().requires_grad_()
    y = encoder(x).sum()
    (gradient,) = torch.autograd.grad(y, x)
    step = 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        slope = encoder(x + step).sum() - encoder(x - step).sum()
    torch.testing.assert_close(slope, 2 * (gradient * step).sum(), rtol=1e-4, atol=1e-12)


@everywhere
def test_weights_survive_a_file(name, tmp_path):
    encoder, other = trained_a_little(name).eval(), small(name, seed=9).eval()
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(encoder(images(name)), other(images(name)))


@everywhere
def test_the_same_seed_trains_to_the_same_bits(name):
    torch.use_deterministic_algorithms(True)
    try:
        one, two = trained_a_little(name).state_dict(), trained_a_little(name).state_dict()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one[key], two[key]) for key in one)


@everywhere
def test_a_grid_that_is_too_small_is_refused(name):
    with pytest.raises(InputError, match="grid"):
        build_encoder(name, size="small", grid=(4, 4, 4))


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match=r"resnet3d.*m3t.*nnmamba"):
        build_encoder("vgg", size="small", grid=(32, 32, 32))


def test_an_unknown_size_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match=r"full.*small.*css"):
        build_encoder("nnmamba", size="huge", grid=(32, 32, 32))
