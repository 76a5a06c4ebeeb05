import pytest
import torch
from torch import nn

from kellgren.config import TrainingSettings
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.interference import Interference, compared
from kellgren.learn.objective import Objective, dwa_factors, gradients_of, without_conflict

BOTH = ("oa", "kl")


def objective(**settings) -> Objective:
    training = TrainingSettings(**settings)
    return Objective(weighted_tasks(BOTH, training), training)


def two(a: float, b: float) -> dict[str, torch.Tensor]:
    return {"oa": torch.tensor(a), "kl": torch.tensor(b)}


def test_two_opposed_gradients_are_freed_of_each_other():
    g, h = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    (step,) = without_conflict([g, h])
    # g loses its part along h: (1, 0) + (-1, 1) / 2 = (1/2, 1/2); h loses its part along g: (0, 1).
    assert step.tolist() == [0.5, 1.5]
    assert float(step @ g[0]) >= 0
    assert float(step @ h[0]) >= 0


def test_gradients_that_agree_are_simply_added():
    g, h = [torch.tensor([1.0, 2.0])], [torch.tensor([2.0, 0.5])]
    assert without_conflict([g, h])[0].tolist() == [3.0, 2.5]


def test_pcgrad_is_not_a_projection_of_the_sum():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = {"oa": weight[0] * 1.0, "kl": -weight[0] + weight[1]}
    objective(balance="pcgrad").backward(losses, 1.0, [weight])
    assert weight.grad.tolist() == [0.5, 1.5]


def test_for_two_losses_pcgrad_has_the_direction_of_upgrad():
    aggregation = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    matrix = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, -0.5]])
    ours = without_conflict([[matrix[0]], [matrix[1]]])[0]
    theirs = aggregation.UPGrad()(matrix)
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours, aggregation.PCGrad()(matrix))


def test_uncertainty_weights_settle_at_the_logarithm_of_the_loss():
    joint = objective(balance="uncertainty")
    optimizer = torch.optim.SGD(joint.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        joint.joined(two(2.0, 0.5)).backward()
        optimizer.step()
    found = {name: round(s.item(), 3) for name, s in joint.log_variance.items()}
    assert found == {"oa": 0.693, "kl": -0.693}


def test_dwa_favours_the_loss_that_fell_less_and_starts_even():
    assert dwa_factors([{"loss_oa": 1.0, "loss_kl": 1.0}], BOTH) == {"oa": 1.0, "kl": 1.0}
    log = [{"loss_oa": 1.0, "loss_kl": 1.0}, {"loss_oa": 0.9, "loss_kl": 0.3}]
    factors = dwa_factors(log, BOTH)
    assert factors["oa"] > 1 > factors["kl"]
    assert sum(factors.values()) == pytest.approx(2)


def test_fixed_weights_are_eq_3_whatever_the_log():
    joint = objective(lambda_oa=0.5, lambda_kl=2.0)
    joint.begin([{"loss_oa": 1.0, "loss_kl": 9.0}] * 3)
    assert joint.joined(two(3.0, 5.0)).item() == 0.5 * 3 + 2 * 5


@pytest.mark.parametrize(
    ("g", "h", "cosine", "conflict", "likeness"),
    [
        ([3.0, 0.0], [3.0, 0.0], 1.0, 0.0, 1.0),
        ([1.0, 0.0], [-2.0, 0.0], -1.0, 1.0, 0.8),
        ([1.0, 0.0], [0.0, 1.0], 0.0, 0.0, 1.0),
        ([0.0, 0.0], [0.0, 1.0], 0.0, 0.0, 0.0),
    ],
)
def test_interference_is_known_for_gradients_in_the_plane(g, h, cosine, conflict, likeness):
    found = compared([torch.tensor(g)], [torch.tensor(h)])
    assert found == pytest.approx({"cosine": cosine, "conflict": conflict, "likeness": likeness})


def test_looking_changes_no_gradient_and_tells_what_a_step_would_take_away():
    net = nn.Linear(3, 2)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    losses = {"oa": net(x)[:, 0].square().mean(), "kl": net(x).square().mean()}
    watched = Interference(1, 0.1)
    watched.look(net, losses, 0)
    watched.look(net, losses, 1)
    g, h = gradients_of(list(losses.values()), list(net.parameters()))
    along = sum(float((a * b).sum()) for a, b in zip(g, h, strict=True))
    found = watched.means()
    assert found["affinity_oa_to_kl"] == pytest.approx(0.1 * along / losses["kl"].item())
    assert found["cosine_encoder"] > 0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_one_head_has_nothing_to_interfere_with():
    watched = Interference(1, 0.1)
    watched.look(nn.Linear(1, 1), {"kl": torch.tensor(1.0)}, 0)
    assert watched.means() == {}
