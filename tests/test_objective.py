import sys
from itertools import pairwise

import pytest
import torch
from torch import nn

from kellgren.config import TrainingSettings
from kellgren.faults import InputError
from kellgren.learn.famo import DECAY, RATE, Famo
from kellgren.learn.gradients import gradients_of, upgrad, without_conflict
from kellgren.learn.heads import weighted_tasks
from kellgren.learn.interference import Interference, compared, stepped
from kellgren.learn.objective import Objective, dwa_factors

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


@pytest.fixture
def aggregation():
    found = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    pytest.importorskip("quadprog", reason="the solver of torchjd is not installed")
    return found


OPPOSED = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, -0.5]])


def test_for_two_losses_pcgrad_has_the_direction_of_upgrad(aggregation):
    ours = without_conflict([[row] for row in OPPOSED])[0]
    theirs = aggregation.UPGrad()(OPPOSED)
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours, aggregation.PCGrad()(OPPOSED))


def test_upgrad_is_that_of_torchjd_summed_over_the_losses_and_split_over_the_parameters(
    aggregation,
):
    rows = torch.tensor([[1.0, 0.0, 2.0], [-1.5, 1.0, -1.5], [1.0, -2.0, 0.1]])
    first, rest = upgrad()([[row[:1], row[1:]] for row in rows])
    torch.testing.assert_close(torch.cat([first, rest]), 3 * aggregation.UPGrad()(rows))
    assert (rows @ torch.cat([first, rest]) > -1e-3).all()
    assert (rows @ without_conflict([[row] for row in rows])[0] < -1e-3).any()


def test_upgrad_adds_gradients_that_agree(aggregation):
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = {"oa": weight[0] * 1.0, "kl": weight[0] + weight[1]}
    objective(balance="upgrad").backward(losses, 1.0, [weight])
    torch.testing.assert_close(weight.grad, torch.tensor([2.0, 1.0]))


def test_upgrad_without_torchjd_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(InputError, match=r"no torchjd.*kellgren\[mtl\].*pcgrad") as caught:
        objective(balance="upgrad")
    assert "\n" not in str(caught.value)
    alone = TrainingSettings(balance="upgrad")
    Objective(weighted_tasks(("oa",), alone), alone)


def test_famo_on_two_opposed_gradients_follows_the_one_of_the_smaller_loss():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = {"oa": weight[0] + 0.0, "kl": 4.0 - weight[0]}
    joint = objective(balance="famo")
    joint.backward(losses, 1.0, [weight])
    # p is 1/1 and 1/3 over their sum; the gradients are (1, 0) and (-1, 0).
    torch.testing.assert_close(weight.grad, torch.tensor([0.75 - 0.25, 0.0]))
    assert joint.joined(losses).item() == pytest.approx(2 / (1 / 1 + 1 / 3))


def test_the_step_of_famo_is_the_gradient_of_the_weighted_logarithms():
    weight = nn.Parameter(torch.tensor([1.3, 0.4]))
    losses = {"oa": weight[0].square(), "kl": (weight * torch.tensor([1.0, 2.0])).sum()}
    joint = objective(balance="famo")
    joint.famo.logits += torch.tensor([0.3, -0.2])
    z = torch.softmax(joint.famo.logits, 0)
    values = torch.stack(list(losses.values()))
    log = (z * values.log()).sum() / (z / values).sum().detach()
    (expected,) = torch.autograd.grad(log, weight, retain_graph=True)
    joint.backward(losses, 1.0, [weight])
    torch.testing.assert_close(weight.grad, expected)


def test_the_first_update_of_famo_is_its_rate_toward_the_loss_that_fell_less():
    famo = Famo(2)
    famo.follow(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.9]))
    torch.testing.assert_close(famo.logits, torch.tensor([-RATE, RATE]))
    assert famo.weights(torch.ones(2))[1] > 0.5


def test_the_logits_of_famo_move_as_adam_moves_them_along_the_gradient_of_the_paper():
    famo, theirs = Famo(3), nn.Parameter(torch.zeros(3))
    adam = torch.optim.Adam([theirs], lr=RATE, weight_decay=DECAY)
    falls = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    for before, after in pairwise(falls):
        # d/dxi of sum z_i(xi) d_i, by autograd
        fell = (before + 1e-8).log() - (after + 1e-8).log()
        adam.zero_grad()
        (torch.softmax(theirs, 0) * fell).sum().backward()
        adam.step()
        famo.follow(before, after)
    torch.testing.assert_close(famo.logits, theirs.detach())


def test_famo_is_that_of_torchjd():
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed")
    theirs, joint = scalarization.FAMO(2), objective(balance="famo")
    grads = []
    for oa, kl, oa_after, kl_after in ((2.0, 1.0, 1.5, 0.9), (1.5, 0.8, 1.4, 0.5)):
        values = torch.tensor([oa, kl], requires_grad=True)
        joint.joined(dict(zip(BOTH, values, strict=True))).backward()
        grads.append(values.grad.clone())
        values.grad = None
        theirs(values).backward()
        torch.testing.assert_close(values.grad, grads[-1])
        joint.follow(two(oa, kl), lambda: two(oa_after, kl_after))  # noqa: B023
        theirs.update(torch.tensor([oa_after, kl_after]))
    assert not torch.equal(*grads)


def test_famo_looks_again_only_where_there_are_two_losses_to_weigh():
    def never():
        raise AssertionError

    fixed, famo = objective(), TrainingSettings(balance="famo")
    fixed.follow(two(1.0, 1.0), never)
    Objective(weighted_tasks(("kl",), famo), famo).follow({"kl": torch.tensor(1.0)}, never)


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


def test_looking_changes_nothing_and_tells_what_a_step_takes_away():
    net, lr = nn.Linear(3, 2), 0.1
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def losses():
        return {"oa": net(x)[:, 0].square().mean(), "kl": net(x).square().mean()}

    before, weights = losses(), [p.detach().clone() for p in net.parameters()]
    watched = Interference(1, lr)
    watched.look(net, before, 0, again=losses)
    watched.look(net, before, 1, again=losses)
    found = watched.means()
    assert all(torch.equal(p, was) for p, was in zip(net.parameters(), weights, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert found["cosine_encoder"] > 0
    with torch.no_grad():
        for parameter, g in zip(
            net.parameters(), gradients_of([before["oa"]], list(net.parameters()))[0], strict=True
        ):
            parameter -= lr * g
    assert found["affinity_oa_to_kl"] == pytest.approx(1 - (losses()["kl"] / before["kl"]).item())


def test_for_a_small_step_affinity_is_the_product_of_the_gradients_over_the_loss():
    net, lr = nn.Linear(3, 2).double(), 1e-6
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def losses():
        return {"oa": net(x)[:, 0].square().mean(), "kl": net(x).square().mean()}

    watched = Interference(1, lr)
    watched.look(net, losses(), 0, again=losses)
    g, h = gradients_of(list(losses().values()), list(net.parameters()))
    along = lr * sum(float((a * b).sum()) for a, b in zip(g, h, strict=True))
    found = watched.means()
    assert found["affinity_oa_to_kl"] == pytest.approx(along / losses()["kl"].item(), rel=1e-4)
    assert found["affinity_kl_to_oa"] == pytest.approx(along / losses()["oa"].item(), rel=1e-4)


def test_a_step_is_undone_to_the_bit():
    net = nn.Linear(3, 2)
    was = net.weight.detach().clone()
    with stepped(net, [torch.ones(2, 3), torch.ones(2)], 1 / 3):
        torch.testing.assert_close(net.weight, was - 1 / 3)
    assert torch.equal(net.weight, was)


def test_one_head_has_nothing_to_interfere_with():
    watched = Interference(1, 0.1)
    watched.look(nn.Linear(1, 1), {"kl": torch.tensor(1.0)}, 0, again=dict)
    assert watched.means() == {}
