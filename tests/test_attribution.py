import pytest
import torch
from torch import nn

from kellgren.config import ExplanationSettings
from kellgren.learn.attribution import METHODS, absolute_gradient, gradients
from kellgren.learn.heads import KL, OA
from kellgren.learn.model import HierarchicalNet


class Weighted(nn.Module):
    """One feature, the weighted sum of the voxels: its gradient is known."""

    n_features = 1

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * self.weight).flatten(1).sum(1, keepdim=True)


def weighted_net() -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet(Weighted(torch.randn(3, 4, 5)), 1, [OA, KL]).eval()


IMAGE = torch.randn(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def oa_weights(model: HierarchicalNet) -> torch.Tensor:
    return model.encoder.weight * model.heads["oa"].weight[0, 0]


def test_the_gradient_of_a_linear_network_is_its_weights():
    model = weighted_net()
    maps = gradients(model, IMAGE, [OA, KL])
    assert torch.allclose(maps["oa"], oa_weights(model).expand(2, 3, 4, 5))
    grade = model(IMAGE).logits["kl"].argmax(1)
    rows = model.heads["kl"].weight[grade, 0]
    assert torch.allclose(maps["kl"], rows[:, None, None, None] * model.encoder.weight)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_a_map_per_head_that_is_never_negative(method):
    settings = ExplanationSettings(method=method, copies=2, steps=4)
    maps = METHODS[method](weighted_net(), IMAGE, [OA, KL], settings)
    assert {name: m.shape for name, m in maps.items()} == {h: (2, 3, 4, 5) for h in ("oa", "kl")}
    assert all((m >= 0).all() and m.max() > 0 for m in maps.values())


def test_without_noise_smoothgrad_is_the_absolute_gradient():
    model, settings = weighted_net(), ExplanationSettings(noise_sd=0, copies=3)
    smooth = METHODS["smoothgrad"](model, IMAGE, [OA, KL], settings)
    plain = absolute_gradient(model, IMAGE, [OA, KL], settings)
    assert all(torch.allclose(smooth[h], plain[h]) for h in ("oa", "kl"))


def test_without_noise_the_releases_variant_is_the_positive_gradient_times_input():
    model, settings = weighted_net(), ExplanationSettings(noise_sd=0, copies=2)
    maps = METHODS["noisy_gradient_input"](model, IMAGE, [OA], settings)
    assert torch.allclose(maps["oa"], (oa_weights(model) * IMAGE[:, 0]).clamp(min=0))


def test_integrated_gradients_of_a_linear_network_are_weight_times_input():
    model, settings = weighted_net(), ExplanationSettings(steps=4)
    maps = METHODS["integrated_gradients"](model, IMAGE, [OA], settings)
    assert torch.allclose(maps["oa"], (oa_weights(model) * IMAGE[:, 0]).abs(), atol=1e-6)


def test_occluding_one_voxel_of_a_linear_network_takes_its_weight_times_input():
    model, settings = weighted_net(), ExplanationSettings.model_construct(window=(1, 1, 1))
    maps = METHODS["occlusion"](model, IMAGE, [OA], settings)
    assert torch.allclose(maps["oa"], (oa_weights(model) * IMAGE[:, 0]).abs(), atol=1e-5)


def test_the_kl_head_is_explained_by_the_grade_predicted_for_the_whole_volume():
    model, settings = weighted_net(), ExplanationSettings(steps=8)
    grade = model(IMAGE).logits["kl"].argmax(1)
    maps = METHODS["integrated_gradients"](model, IMAGE, [KL], settings)
    rows = model.heads["kl"].weight[grade, 0][:, None, None, None]
    expected = (rows * model.encoder.weight * IMAGE[:, 0]).abs()
    assert torch.allclose(maps["kl"], expected, atol=1e-6)


def test_saliency_of_a_clipped_line_is_that_of_the_published_example():
    """Captum's test of its Saliency: |gradient| of 1 - ReLU(1 - x) at 1, 2, 3, 0, -1, 7."""

    class Clipped(nn.Module):
        n_features = 6

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 1 - torch.relu(1 - image.flatten(1))

    model = HierarchicalNet(Clipped(), 6, [OA]).eval()
    nn.init.ones_(model.heads["oa"].weight)
    image = torch.tensor([1.0, 2, 3, 0, -1, 7]).reshape(1, 1, 1, 2, 3)
    maps = absolute_gradient(model, image, [OA], ExplanationSettings())
    assert maps["oa"].flatten().tolist() == [0, 0, 0, 1, 1, 0]
