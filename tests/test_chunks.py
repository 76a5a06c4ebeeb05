import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, roc_auc_score

from kellgren.analysis.chunks import chunk_scores, chunks_of, published_form
from kellgren.analysis.performance import METRICS, called_kl, called_oa
from kellgren.labels import oa_from_kl
from kellgren.tables import Predictions
from tests.predictions import made_predictions

GRADES = np.repeat(np.arange(5), 20)


def by_key(forms):
    return {(form.task, form.metric): form for form in forms}


def test_the_mean_accuracy_of_equal_chunks_is_the_accuracy():
    predictions = made_predictions(kl=GRADES)
    forms = by_key(published_form(predictions))
    for task in ("oa", "kl"):
        form = forms[task, "accuracy"]
        assert form.mean == pytest.approx(METRICS[task]["accuracy"](predictions))
        assert form.sd > 0
        assert form.chunks == 5


def test_chunks_are_scored_as_scikit_learn_scores_them():
    predictions = made_predictions(kl=GRADES, seed=1)
    for rows in chunks_of(predictions.kl):
        part = predictions.take(rows)
        found = chunk_scores(part, "kl")
        called = called_kl(part)
        assert found["macro_f1"] == pytest.approx(f1_score(part.kl, called, average="macro"))
        areas = [roc_auc_score(part.kl == k, part.score_kl[:, k]) for k in range(5)]
        assert found["macro_auc"] == pytest.approx(np.mean(areas))
        oa, found = oa_from_kl(part.kl), chunk_scores(part, "oa")
        assert found["macro_f1"] == pytest.approx(f1_score(oa, called_oa(part), average="macro"))
        assert found["auc"] == pytest.approx(roc_auc_score(oa, part.score_oa))


def test_a_grade_that_a_chunk_lacks_is_left_out_of_its_scores():
    kl = np.array([0, 1, 2, 3])
    prob = softmax(4.0 * np.eye(5)[kl], axis=1)
    ids = np.array(list("abcd"), dtype=object)
    part = Predictions(ids, kl, kl - 1.5, kl / 4, "head", prob, prob)
    assert chunk_scores(part, "kl") == {"accuracy": 1.0, "macro_f1": 1.0, "macro_auc": 1.0}


def test_a_rare_grade_does_not_stop_the_others_from_being_scored():
    forms = by_key(published_form(made_predictions(kl=np.append(np.repeat(np.arange(4), 10), 4))))
    assert forms["kl", "macro_auc"].chunks == 5
    assert np.isfinite(forms["kl", "macro_auc"].mean)


def test_chunks_of_one_class_have_no_area_and_are_not_counted():
    forms = by_key(published_form(made_predictions(kl=np.repeat([2, 3, 4], 10))))
    assert forms["oa", "auc"].chunks == 0
    assert np.isnan(forms["oa", "auc"].mean)
    assert forms["oa", "accuracy"].chunks == 5


def test_fewer_than_five_knees_of_every_class_have_no_published_form():
    assert published_form(made_predictions(kl=[0, 1, 2, 3, 4])) == []
