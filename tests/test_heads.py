import math

import pytest
import torch

from kellgren.config import SUPERVISIONS, TrainingSettings
from kellgren.learn.heads import KL, OA, OA_SOFTMAX, named_weights, supervised_loss, weighted_tasks


def test_the_objective_is_the_weighted_sum_of_the_losses_of_the_heads():
    tasks = weighted_tasks(("oa", "kl"), TrainingSettings(lambda_oa=0.5, lambda_kl=2.0))
    losses = {"oa": torch.tensor(3.0), "kl": torch.tensor(5.0)}
    assert (
        supervised_loss(losses, named_weights(tasks, TrainingSettings())).item() == 0.5 * 3 + 2 * 5
    )


@pytest.mark.parametrize("name", ["single_oa", "single_kl", "dual"])
def test_a_supervision_setting_names_its_heads(name):
    heads = {task.name for task in weighted_tasks(SUPERVISIONS[name].tasks, TrainingSettings())}
    assert heads == {"single_oa": {"oa"}, "single_kl": {"kl"}, "dual": {"oa", "kl"}}[name]


def test_chance_logits_cost_the_logarithm_of_the_number_of_classes():
    kl = torch.tensor([0, 1, 2, 3, 4])
    assert OA.loss(torch.zeros(5, 1), kl).item() == pytest.approx(math.log(2))
    assert KL.loss(torch.zeros(5, 5), kl).item() == pytest.approx(math.log(5))


def test_two_class_softmax_is_the_binary_loss_of_the_difference_of_its_logits():
    logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kl = torch.tensor([0, 1, 2, 3, 4, 0, 2])
    difference = OA_SOFTMAX.stored(logits)
    assert OA_SOFTMAX.loss(logits, kl).item() == pytest.approx(OA.loss(difference, kl).item())


def test_grade_two_is_oa_and_grade_one_is_not():
    sure = torch.full((1, 1), 20.0)
    assert OA.loss(sure, torch.tensor([2])).item() < 1e-6
    assert OA.loss(sure, torch.tensor([1])).item() == pytest.approx(20, rel=1e-6)


def test_the_kl_head_is_explained_by_the_logit_of_the_predicted_grade():
    logits = torch.tensor([[0.0, 3.0, 1.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0, 0.0]])
    assert KL.explained(logits).tolist() == [3.0, 9.0]
    assert OA.explained(torch.tensor([[-2.0]])).tolist() == [-2.0]
