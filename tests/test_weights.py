"""Released weights: the files are made here after the published layouts, name by name."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from kellgren.config import BackboneSettings, TrainingSettings, read_study
from kellgren.engine import check_backbones
from kellgren.faults import InputError
from kellgren.learn.backbones import build_encoder
from kellgren.learn.backbones.residual import ResidualNet, ResidualSize
from kellgren.learn.train import train
from kellgren.learn.weights import check_weights, load_weights, sha256_of
from kellgren.runs import Run
from tests.conftest import GRID

CUBE = (24, 24, 24)
BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
MEDICALNET = [(10, "B"), (18, "A"), (34, "A"), (50, "B"), (101, "B")]
DILATED, STRIDED = ((1, 1), (2, 1), (1, 2), (1, 4)), ((1, 1), (2, 1), (2, 1), (2, 1))


class Made:
    """Tensors of a file in the making, all from one seed."""

    def __init__(self, seed=0):
        self.random, self.tensors = torch.Generator().manual_seed(seed), {}

    def conv(self, name, c_out, c_in, side, dims=3, groups=1, bias=False):
        shape = (c_out, c_in // groups, *[side] * dims)
        fan = c_out * side**dims / groups
        weight = torch.randn(shape, generator=self.random)
        self.tensors[f"{name}.weight"] = weight.mul_((2 / fan) ** 0.5)
        if bias:
            self.tensors[f"{name}.bias"] = self.uniform(c_out, -0.1, 0.1)

    def norm(self, name, c):
        kinds = {"weight": (0.5, 1), "bias": (-0.1, 0.1)}
        kinds |= {"running_mean": (-0.1, 0.1), "running_var": (0.5, 1.5)}
        for kind, (low, high) in kinds.items():
            self.tensors[f"{name}.{kind}"] = self.uniform(c, low, high)
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name, f_out, f_in, bias=True):
        self.tensors[f"{name}.weight"] = torch.randn(f_out, f_in, generator=self.random) / f_in**0.5
        if bias:
            self.tensors[f"{name}.bias"] = self.uniform(f_out, -0.1, 0.1)

    def uniform(self, n, low, high):
        return torch.rand(n, generator=self.random) * (high - low) + low


def residual_state(depth, shortcut, *, dims=3, c_in=1, seed=0):
    """The published layout of a residual network, without its head."""
    made, deep = Made(seed), depth >= 50
    made.conv("conv1", 64, c_in, 7, dims)
    made.norm("bn1", 64)
    channels = 64
    for i, n_blocks in enumerate(BLOCKS[depth]):
        width, out = 64 * 2**i, 64 * 2**i * (4 if deep else 1)
        for j in range(n_blocks):
            at = f"layer{i + 1}.{j}"
            sides = (1, 3, 1) if deep else (3, 3)
            widths = (channels, width, width, out) if deep else (channels, width, out)
            for k, side in enumerate(sides):
                made.conv(f"{at}.conv{k + 1}", widths[k + 1], widths[k], side, dims)
                made.norm(f"{at}.bn{k + 1}", widths[k + 1])
            if j == 0 and shortcut == "B" and (i > 0 or channels != out):
                made.conv(f"{at}.downsample.0", out, channels, 1, dims)
                made.norm(f"{at}.downsample.1", out)
            channels = out
    return made.tensors


def normed(x, state, name):
    part = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *part)


def residual_features(state, x, *, stages=DILATED):
    """The network as functions of its tensors: a second way to the same features."""
    dims = x.ndim - 2
    conv, pool = (F.conv2d, F.max_pool2d) if dims == 2 else (F.conv3d, F.max_pool3d)
    x = conv(x, state["conv1.weight"], stride=2, padding=3)
    x = pool(F.relu(normed(x, state, "bn1")), 3, stride=2, padding=1)
    for i, (first_stride, dilation) in enumerate(stages, start=1):
        j = 0
        while f"layer{i}.{j}.conv1.weight" in state:
            at, stride = f"layer{i}.{j}", first_stride if j == 0 else 1
            deep = f"{at}.conv3.weight" in state
            y = x
            for k in (1, 2, 3) if deep else (1, 2):
                weight = state[f"{at}.conv{k}.weight"]
                wide = weight.shape[-1] == 3
                here = stride if k == (2 if deep else 1) else 1
                apart = dilation if wide else 1
                y = conv(y, weight, stride=here, dilation=apart, padding=apart if wide else 0)
                y = normed(y, state, f"{at}.bn{k}")
                y = y if k == (3 if deep else 2) else F.relu(y)
            if f"{at}.downsample.0.weight" in state:
                x = conv(x, state[f"{at}.downsample.0.weight"], stride=stride)
                x = normed(x, state, f"{at}.downsample.1")
            elif x.shape != y.shape:
                thin = F.avg_pool3d(x, 1, stride=stride)
                x = torch.cat(
                    [thin, thin.new_zeros(len(x), y.shape[1] - x.shape[1], *y.shape[2:])], 1
                )
            x, j = F.relu(x + y), j + 1
    return x.mean(tuple(range(2, x.ndim)))


def released(state, folder, *, prefix="module.", name="released.pth"):
    """As MedicalNet writes its files: wrapped, prefixed, with a segmentation head beside."""
    named = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    named[f"{prefix}conv_seg.0.weight"] = torch.zeros(512, 32, 2, 2, 2)
    torch.save({"epoch": 3, "state_dict": named, "optimizer": {"lr": 0.1}}, folder / name)
    return folder / name


def images(grid=CUBE, n=2):
    return torch.randn(n, 1, *grid, generator=torch.Generator().manual_seed(5))


def resnet(size, grid=CUBE):
    torch.manual_seed(1)
    return build_encoder("resnet3d", size=size, grid=grid).eval()


@torch.no_grad()
def assert_same_features(found, expected):
    assert expected.abs().mean() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(("depth", "shortcut"), MEDICALNET)
@torch.no_grad()
def test_medicalnets_file_gives_medicalnets_features(depth, shortcut, tmp_path):
    state = residual_state(depth, shortcut)
    encoder = resnet(f"r{depth}")
    started = load_weights(encoder, released(state, tmp_path))
    assert (started.loaded, started.layout) == (len(state), "MedicalNet")
    assert len(state) == len(encoder.state_dict())
    assert started.ignored == ("conv_seg.0.weight",)
    assert_same_features(encoder(images()), residual_features(state, images()))
    assert all(torch.equal(encoder.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize("legacy", [True, False])
def test_both_formats_of_torch_and_bare_names_are_read(legacy, tmp_path):
    state, path = residual_state(10, "B"), tmp_path / "bare.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert load_weights(resnet("r10"), path).loaded == len(state)


def test_safetensors_are_read_and_counters_may_be_absent(tmp_path):
    state = residual_state(10, "B")
    save_file({n: t for n, t in state.items() if "tracked" not in n}, tmp_path / "w.safetensors")
    encoder = resnet("r10")
    assert load_weights(encoder, tmp_path / "w.safetensors").loaded == 60
    assert torch.equal(encoder.layer4[0].bn2.running_var, state["layer4.0.bn2.running_var"])


def test_another_depth_or_shortcut_is_refused_with_the_size_that_fits(tmp_path):
    path = released(residual_state(18, "A"), tmp_path)
    with pytest.raises(InputError, match=r"ResNet-18.*shortcut A; needed.*ResNet-18.*B.*\['r18'\]"):
        load_weights(resnet("full"), path)
    with pytest.raises(InputError, match=r"ResNet-18.*needed a ResNet-50.*\['r18'\]"):
        load_weights(resnet("r50"), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer3.1.bn2.weight"), r"missing \(1\): layer3\.1\.bn2\.weight"),
        (lambda s: s.update(extra=torch.ones(1)), r"not understood \(1\): extra"),
        (
            lambda s: s.update({"bn1.bias": torch.ones(3)}),
            r"of another shape \(1\): bn1.bias is \(3,\), not \(64,\)",
        ),
        (lambda s: s.update(note="hello"), "note, not plain tensors"),
    ],
)
def test_a_file_that_fits_in_part_is_refused_whole_and_by_name(change, said, tmp_path):
    state = residual_state(18, "A")
    change(state)
    torch.save(state, tmp_path / "part.pth")
    encoder = resnet("r18")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(InputError, match=said):
        load_weights(encoder, tmp_path / "part.pth")
    assert all(torch.equal(before[name], t) for name, t in encoder.state_dict().items())


def test_without_the_prefix_nothing_is_lost_in_silence(tmp_path):
    """MedicalNet's own loader matches no name then, and starts from random weights unsaid."""
    state = residual_state(10, "B")
    path = released(state, tmp_path, prefix="")
    assert load_weights(resnet("r10"), path).loaded == len(state)
    path = released(state, tmp_path, prefix="module.module.")
    with pytest.raises(InputError, match=r"not understood \(73\): module\.conv1\.weight"):
        load_weights(resnet("r10"), path)


class Code:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_weights_is_refused(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth: found"):
        load_weights(resnet("r10"), tmp_path / "w.pth")


def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": Code()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="files that hold code are not opened"):
        load_weights(resnet("r10"), tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth: found No such file"):
        load_weights(resnet("r10"), tmp_path / "nowhere.pth")


@pytest.mark.parametrize(("size", "depth"), [("full", 18), ("original", 50)])
@torch.no_grad()
def test_m3t_reads_its_slices_with_a_published_network(size, depth, tmp_path):
    state = residual_state(depth, "B", dims=2, c_in=3)
    with_head = state | {"fc.weight": torch.ones(1000, 8), "fc.bias": torch.ones(1000)}
    torch.save(with_head, tmp_path / "resnet.pth")
    torch.manual_seed(1)
    encoder = build_encoder("m3t", size=size, grid=(32, 32, 32)).eval()
    started = load_weights(encoder, tmp_path / "resnet.pth")
    assert (started.layout, started.loaded) == ("torchvision", len(state))
    assert started.ignored == ("fc.weight", "fc.bias")
    assert started.initialised == len(encoder.state_dict()) - len(state)
    channels = encoder.block3d[0].out_channels
    assert started.adapted[0].endswith(f"spread over {channels} channels")
    grey = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    expected = residual_features(state, grey.expand(3, 3, 32, 32), stages=STRIDED)
    assert_same_features(encoder.slice_net(grey.expand(3, channels, 32, 32)), expected)


@torch.no_grad()
def test_a_slice_network_of_the_same_channels_is_taken_as_it_is(tmp_path):
    state = residual_state(18, "B", dims=2, c_in=16)
    torch.save(state, tmp_path / "resnet.pth")
    encoder = build_encoder("m3t", size="full", grid=(32, 32, 32)).eval()
    assert load_weights(encoder, tmp_path / "resnet.pth").adapted == ()
    slices = torch.randn(3, 16, 32, 32)
    expected = residual_features(state, slices, stages=STRIDED)
    assert_same_features(encoder.slice_net(slices), expected)


def nnmamba_state(seed=0):
    """The published layout of nnMamba's classifier: 165 tensors."""
    made = Made(seed)
    for conv, norm, c_in in ((0, 1, 1), (3, 4, 32)):
        made.conv(f"in_conv.conv.{conv}", 32, c_in, 3, bias=True)
        made.norm(f"in_conv.conv.{norm}", 32)
    at = "mamba_layer_stem"
    for conv, norm in (("nin", "norm"), ("nin2", "norm2")):
        made.conv(f"{at}.{conv}", 32, 32, 1)
        made.norm(f"{at}.{norm}", 32)
    made.tensors[f"{at}.mamba.A_log"] = torch.arange(1.0, 9).log().repeat(64, 1)
    made.tensors[f"{at}.mamba.D"] = made.uniform(64, 0.5, 1.5)
    made.linear(f"{at}.mamba.in_proj", 128, 32, bias=False)
    made.conv(f"{at}.mamba.conv1d", 64, 64, 4, dims=1, groups=64, bias=True)
    made.linear(f"{at}.mamba.x_proj", 18, 64, bias=False)
    made.linear(f"{at}.mamba.dt_proj", 64, 2)
    made.linear(f"{at}.mamba.out_proj", 32, 64, bias=False)
    for i, (c_in, c) in enumerate([(32, 64), (64, 128), (128, 256)], start=1):
        for j in range(3):
            for k, c_before in ((1, c_in if j == 0 else c), (2, c)):
                made.conv(f"layer{i}.{j}.conv{k}", c, c_before, 3)
                made.norm(f"layer{i}.{j}.bn{k}", c)
        made.conv(f"layer{i}.0.downsample.0", c, c_in, 1)
        made.norm(f"layer{i}.0.downsample.1", c)
    made.linear("mlp.0", 32, 448)
    made.linear("mlp.3", 1, 32)
    return made.tensors


def scanned(state, tokens):
    """One Mamba block in double precision, step by step; tokens are `(l, 32)`."""
    p = {n.removeprefix("mamba_layer_stem.mamba."): t.double() for n, t in state.items()}
    u, z = (tokens @ p["in_proj.weight"].T).chunk(2, dim=1)
    before = F.pad(u, (0, 0, 3, 0)).unfold(0, 4, 1)
    u = F.silu((before * p["conv1d.weight"][:, 0]).sum(2) + p["conv1d.bias"])
    dt, b, c = (u @ p["x_proj.weight"].T).split([2, 8, 8], dim=1)
    dt = F.softplus(dt @ p["dt_proj.weight"].T + p["dt_proj.bias"])
    h, y = torch.zeros(64, 8, dtype=torch.double), []
    for i in range(len(u)):
        decay = torch.exp(-dt[i, :, None] * p["A_log"].exp())
        h = decay * h + (dt[i] * u[i])[:, None] * b[i]
        y.append(h @ c[i])
    return ((torch.stack(y) + p["D"] * u) * F.silu(z)) @ p["out_proj.weight"].T


def nnmamba_features(state, x):
    for conv, norm, stride in ((0, 1, 2), (3, 4, 1)):
        name = f"in_conv.conv.{conv}"
        x = F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, 1)
        x = F.relu(normed(x, state, f"in_conv.conv.{norm}"))
    at = "mamba_layer_stem"
    a = F.relu(normed(F.conv3d(x, state[f"{at}.nin.weight"]), state, f"{at}.norm"))
    m = torch.stack([scanned(state, v.flatten(1).T.double()).T.view_as(v) for v in a]).float()
    m = F.relu(normed(F.conv3d(m + a, state[f"{at}.nin2.weight"]), state, f"{at}.norm2"))
    y, means = m + x, []
    for i in (1, 2, 3):
        for j in range(3):
            name, stride = f"layer{i}.{j}", 2 if j == 0 else 1
            inner = F.conv3d(y, state[f"{name}.conv1.weight"], None, stride, 1)
            inner = F.relu(normed(inner, state, f"{name}.bn1"))
            inner = normed(
                F.conv3d(inner, state[f"{name}.conv2.weight"], None, 1, 1), state, f"{name}.bn2"
            )
            if j == 0:
                y = F.conv3d(y, state[f"{name}.downsample.0.weight"], None, 2)
                y = normed(y, state, f"{name}.downsample.1")
            y = F.relu(inner + y)
        means.append(y.mean((2, 3, 4)))
    return F.relu(F.linear(torch.cat(means, 1), state["mlp.0.weight"], state["mlp.0.bias"]))


@torch.no_grad()
def test_nnmambas_file_gives_nnmambas_features(tmp_path):
    state = nnmamba_state()
    assert len(state) == 165
    torch.save(state, tmp_path / "nnmamba.pth")
    encoder = build_encoder("nnmamba", size="full", grid=(16, 24, 16)).eval()
    started = load_weights(encoder, tmp_path / "nnmamba.pth")
    assert (started.loaded, started.layout) == (163, "nnMamba")
    assert started.ignored == ("mlp.3.weight", "mlp.3.bias")
    x = images((16, 24, 16))
    assert_same_features(encoder(x), nnmamba_features(state, x))


def test_nnmambas_file_of_other_states_is_refused(tmp_path):
    torch.save(nnmamba_state(), tmp_path / "nnmamba.pth")
    encoder = build_encoder("nnmamba", size="small", grid=(16, 24, 16))
    with pytest.raises(InputError, match=r"of another shape \(\d+\): in_conv"):
        load_weights(encoder, tmp_path / "nnmamba.pth")


def monai_resnets():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.networks.nets.resnet", reason="needs monai")


def monai_net(depth, shortcut, state):
    net = getattr(monai_resnets(), f"resnet{depth}")(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=2,
        feed_forward=False,
        shortcut_type=shortcut,
        bias_downsample=False,
    )
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize(("depth", "shortcut"), [(10, "B"), (18, "A"), (50, "B")])
@torch.no_grad()
def test_strided_the_features_are_those_of_monais_network(depth, shortcut, tmp_path):
    state = residual_state(depth, shortcut)
    size = ResidualSize(depth=depth, shortcut=shortcut, geometry="strided")
    ours = ResidualNet(size, dims=3, c_in=1).eval()
    ours.load_state_dict(state)
    x = images((40, 40, 40))
    assert_same_features(ours(x), monai_net(depth, shortcut, state)(x))


@pytest.mark.parametrize("depth", [10, 50])
@torch.no_grad()
def test_dilated_the_features_are_those_of_monais_network_made_medicalnets(depth, tmp_path):
    state = residual_state(depth, "B")
    net = monai_net(depth, "B", state)
    for layer, dilation in ((net.layer3, 2), (net.layer4, 4)):
        for conv in layer.modules():
            if isinstance(conv, torch.nn.Conv3d):
                wide = conv.kernel_size == (3, 3, 3)
                conv.stride = (1, 1, 1)
                conv.dilation = (dilation if wide else 1,) * 3
                conv.padding = (dilation if wide else 0,) * 3
    ours = resnet(f"r{depth}")
    load_weights(ours, released(state, tmp_path))
    assert_same_features(ours(images()), net(images()))


STUDY = """
name = "started"
[cohort.phantom]
train = 10
test = 10
[backbones.resnet3d]
size = "r10"
grid = [24, 24, 24]
weights = "released.pth"
"""


def test_a_study_names_the_file_beside_it_and_says_what_it_gives(tmp_path):
    released(residual_state(10, "B"), tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    study = read_study(tmp_path / "study.toml")
    assert study.backbones["resnet3d"].weights == tmp_path / "released.pth"
    check_backbones(study)
    assert study.protocol()["backbones"]["resnet3d"]["weights"] == "released.pth"
    (tmp_path / "released.pth").unlink()
    with pytest.raises(InputError, match=r"released\.pth: found No such file"):
        check_backbones(study)


def test_what_was_loaded_is_said_in_one_line(tmp_path):
    started = check_weights(resnet("r10"), released(residual_state(10, "B"), tmp_path))
    assert str(started) == (
        "released.pth (MedicalNet): 72 tensors loaded, 1 of another head ignored"
    )


def test_a_run_starts_from_the_file_and_says_so(store, knees, tmp_path):
    state = residual_state(10, "B")
    path = released(state, tmp_path)
    run = Run.at(tmp_path / "runs" / "resnet3d-dual-s0")
    backbone = BackboneSettings(size="r10", grid=GRID, weights=path)
    still = TrainingSettings(epochs=1, batch_size=2, lr=1e-30, weight_decay=0, threads=1)
    train(run, store, knees[:2], backbone=backbone, training=still, device=torch.device("cpu"))
    record = run.record()
    assert record["started_from"]["loaded"] == 72
    assert record["started_from"]["sha256"] == sha256_of(path) == record["asked"]["weights_sha256"]
    assert record["asked"]["backbone"]["weights"] == "released.pth"
    from kellgren.learn.model import load_model

    path.unlink()  # a finished run needs it no more
    trained = load_model(run, device=torch.device("cpu")).encoder
    assert torch.equal(trained.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])


def test_another_file_of_the_same_name_is_not_the_same_run(store, knees, tmp_path):
    run = Run.at(tmp_path / "runs" / "resnet3d-dual-s0")
    once = TrainingSettings(epochs=1, batch_size=2, threads=1)
    for seed in (0, 1):
        path = released(residual_state(10, "B", seed=seed), tmp_path)
        backbone = BackboneSettings(size="r10", grid=GRID, weights=path)
        ask = {"backbone": backbone, "training": once, "device": torch.device("cpu")}
        if seed == 0:
            train(run, store, knees[:2], **ask)
            continue
        with pytest.raises(InputError, match="weights_sha256 was"):
            train(run, store, knees[:2], **ask)
