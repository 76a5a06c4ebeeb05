from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kellgren.faults import InputError
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.linear import L2_GRID, LOGISTIC, log_loss
from kellgren.radiomics.systems import fit_run
from kellgren.runs import Run
from kellgren.tables import Predictions
from tests.made_radiomics import FEATURES, made_cases, made_material, quiet

LINEAR = (
    "demographics",
    "shape",
    "texture",
    "cartilage",
    "bone",
    "all_radiomics",
    "all_radiomics_ordinal",
    "all_radiomics_refit",
)
READS = {"shape": 5, "texture": 10, "cartilage": 9, "bone": 6, "demographics": 3}


def fitted(name, material, task="oa", *, seed=0):
    return SYSTEMS[name](material, task, seed=seed, watch=quiet)


def with_values(material, change):
    values = material.table.values.copy()
    change(values)
    return replace(material, table=replace(material.table, values=values))


@pytest.fixture(scope="module")
def material():
    return made_material()


@pytest.mark.parametrize("task", ["oa", "kl"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_linear_system_speaks_of_every_knee_and_feature(material, name, task):
    found = fitted(name, material, task)
    assert found.logits.shape == (90, {"oa": 1, "kl": 5}[task])
    assert len(found.evidence) == found.z.shape[1] == READS.get(name, 15)
    assert np.isfinite(found.logits).all()


@pytest.mark.parametrize("name", ["all_radiomics", "all_radiomics_ordinal", "all_radiomics_refit"])
def test_a_feature_that_falls_with_the_grade_has_the_most_negative_weight(material, name):
    for task in ("oa", "kl"):
        weight = fitted(name, material, task).evidence.groupby("feature")["weight"].sum()
        assert weight.idxmin() == FEATURES[0]
        assert weight.min() < 0


def test_two_fits_are_the_same_to_the_bit(material):
    for name in ("all_radiomics", "all_radiomics_refit"):
        first, second = (fitted(name, material, "kl", seed=3).logits for _ in range(2))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["shape", "all_radiomics_ordinal"])
def test_a_fit_does_not_see_the_grades_of_the_test_knees(material, name):
    hidden = tuple(c if c.split == "train" else replace(c, kl=0) for c in material.cases)
    found = fitted(name, replace(material, cases=hidden)).logits
    np.testing.assert_array_equal(found, fitted(name, material).logits)


def test_a_knee_is_scored_whatever_the_other_test_knees_are(material):
    def spoil(values):
        values[70:] = 1e6

    found = fitted("all_radiomics", with_values(material, spoil)).logits
    np.testing.assert_array_equal(found[:70], fitted("all_radiomics", material).logits[:70])


def test_a_missing_value_counts_as_the_mean_of_the_training_knees(material):
    def drop(values):
        values[65, 2, 1] = np.nan

    def fill(values):
        values[65, 2, 1] = values[:60, 2, 1].mean()

    one, other = (fitted("all_radiomics", with_values(material, do)) for do in (drop, fill))
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-12)


def test_a_feature_that_is_missing_everywhere_or_constant_changes_nothing(material):
    def spoil(values):
        values[:, 0, 1], values[:, 1, 2] = np.nan, 7.0

    found = fitted("all_radiomics", with_values(material, spoil))
    gone = found.evidence.set_index(["region", "feature"])["weight"]
    assert gone["roi_1", FEATURES[1]] == gone["roi_2", FEATURES[2]] == 0


def test_the_strength_is_the_one_of_lowest_loss_out_of_fold(material):
    record = fitted("all_radiomics_ordinal", material, "kl").record
    assert record["grid"] == list(L2_GRID)
    assert record["strength"] == record["grid"][np.argmin(record["fold_loss"])]


def test_the_loss_out_of_fold_is_that_of_scikit_learn(material):
    train = material.rows("train")
    x, y = material.table.flat()[train], material.kl[train]
    record = fitted("all_radiomics", material, "kl").record
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    for strength, loss in list(zip(record["grid"], record["fold_loss"], strict=True))[3:6]:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)
        scores = cross_val_predict(
            make_pipeline(StandardScaler(), model), x, y, cv=folds, method="decision_function"
        )
        assert log_loss(scores, y) == pytest.approx(loss)


def test_the_published_protocol_grades_each_test_knee_by_a_model_that_did_not_see_it(material):
    test = material.rows("test")
    x, y = material.table.flat()[test], material.target("oa")[test]
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000)
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    expected = cross_val_predict(
        make_pipeline(StandardScaler(), model), x, y, cv=folds, method="decision_function"
    )
    found = fitted("all_radiomics_refit", material, "oa").logits[test, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_published_protocol_sorts_the_test_knees_first(material):
    turned = np.arange(90)[::-1]
    table = material.table.of(material.table.case_id[turned].tolist())
    other = replace(material, cases=material.cases[::-1], table=table)
    found = fitted("all_radiomics_refit", other).logits[turned]
    np.testing.assert_allclose(found, fitted("all_radiomics_refit", material).logits)


def test_the_published_protocol_does_not_look_at_the_training_knees(material):
    def spoil(values):
        values[:60] = 0

    found = fitted("all_radiomics_refit", with_values(material, spoil)).logits[60:]
    np.testing.assert_array_equal(found, fitted("all_radiomics_refit", material).logits[60:])


def test_demographics_need_no_features_and_stand_a_missing_value(material):
    cases = (replace(material.cases[0], bmi=None, sex=None), *material.cases[1:])
    empty = replace(material.table, regions=(), features=(), values=np.zeros((90, 0, 0)))
    found = fitted("demographics", replace(material, cases=cases, table=empty), "oa")
    assert found.evidence["feature"].tolist() == ["age", "sex", "bmi"]
    assert found.z[0, 1] == 0.0  # the mean


@pytest.mark.parametrize(
    ("name", "said"),
    [("shape", "no shape features among 10"), ("bone", "no bone"), ("demographics", "no age")],
)
def test_a_system_without_its_features_is_refused(material, name, said):
    table = replace(
        material.table,
        regions=("roi_2", "roi_4", "roi_5", "roi_6", "roi_7"),
        features=FEATURES[1:],
        values=material.table.values[:, :, 1:],
    )
    cases = tuple(replace(c, age=None, sex=None, bmi=None) for c in material.cases)
    with pytest.raises(InputError, match=said):
        fitted(name, replace(material, cases=cases, table=table))


@pytest.mark.parametrize(
    ("name", "train", "test", "said"),
    [("shape", 24, 25, "training knees.*4 of KL 4"), ("all_radiomics_refit", 25, 24, "test knees")],
)
def test_a_grade_with_too_few_knees_for_five_folds_is_named(name, train, test, said):
    few = made_material(train=train, test=test)
    grades = [i % 5 for i in range(train)] + [i % 5 for i in range(test)]
    cases = tuple(replace(c, kl=k) for c, k in zip(made_cases(train, test), grades, strict=True))
    with pytest.raises(InputError, match=said):
        fitted(name, replace(few, cases=cases), "kl")


def test_a_run_folder_holds_predictions_and_weights(material, tmp_path):
    run = Run.at(tmp_path / "shape-single_kl-s0")
    run.folder.mkdir()
    fit_run(run, SYSTEMS["shape"], material, watch=quiet)
    assert Predictions.read(run.predictions).prob_kl.shape == (30, 5)
    assert pd.read_csv(run.attribution).columns.tolist() == ["region", "feature", "weight"]
    assert run.record()["fitted"]["strength"] in LOGISTIC.grid
