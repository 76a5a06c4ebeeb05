"""The radiomics systems on the 481 graded knees of OAIZIB-CM; skipped without the data."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.preprocessing import StandardScaler

from kellgren.analysis.chunks import published_form
from kellgren.analysis.ordinal import ordinal_performance
from kellgren.analysis.performance import METRICS
from kellgren.config import RadiomicsSettings
from kellgren.importers import import_oaizib_cm
from kellgren.labels import grade_log_odds, oa_log_odds
from kellgren.radiomics import linear
from kellgren.radiomics.benchmark import SYSTEMS
from kellgren.radiomics.systems import Material
from kellgren.radiomics.table import FeatureTable
from kellgren.report.published import CONTEXT
from kellgren.store import Store
from kellgren.tables import Predictions
from tests.conftest import SHARED
from tests.made_radiomics import quiet

DATA = SHARED / "data"
TABLES = [DATA / "radiomics" / f"radiomics_{s}_wide.csv.gz" for s in ("train", "test")]
pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in TABLES), reason="the published feature tables are not here"
)

# Accuracy, macro-F1, quadratic kappa and macro-AUC of the grade; accuracy, F1 and AUC of OA: what
# an independent analysis of the same tables gave.
REFERENCE = {
    "demographics": ((0.255, 0.229, 0.222, 0.543), (0.582, 0.655, 0.641)),
    "all_radiomics": ((0.510, 0.504, 0.690, 0.786), (0.724, 0.787, 0.825)),
    "cartilage": ((0.490, 0.478, 0.717, 0.795), (0.735, 0.797, 0.808)),
    "bone": ((0.367, 0.359, 0.533, 0.708), (0.714, 0.770, 0.774)),
    "shape": ((0.459, 0.436, 0.711, 0.786), (0.724, 0.780, 0.834)),
    "texture": ((0.439, 0.443, 0.636, 0.768), (0.724, 0.784, 0.805)),
}


@cache
def material():
    cases = tuple(import_oaizib_cm(DATA / "oaizib_cm_tables", tables_only=True).cases)
    table = FeatureTable.read(TABLES).of([case.case_id for case in cases])
    store = Store(Path("prepared"), (32, 128, 128), (2, 4, 5))
    return Material(cases, table, store, RadiomicsSettings(systems=("shape",)))


def on_test(logits, task):
    """The logits of the test knees as predictions, by case id."""
    knees = material()
    rows = knees.rows("test")
    rows = rows[np.argsort(knees.table.case_id[rows].astype(str))]
    ids, kl, logits = knees.table.case_id[rows], knees.kl[rows], logits[rows]
    if task == "oa":
        return Predictions(ids, kl, logits[:, 0], expit(logits[:, 0]), "head")
    oa = oa_log_odds(logits)
    prob = softmax(logits, axis=1)
    return Predictions(ids, kl, oa, expit(oa), "kl", grade_log_odds(logits), prob)


@cache
def graded(name, task):
    return on_test(SYSTEMS[name](material(), task, seed=0, watch=quiet).logits, task)


def scores(found, task):
    values = {name: metric(found) for name, metric in METRICS[task].items()}
    if task == "oa":
        return values["accuracy"], values["f1"], values["auc"]
    kappa = ordinal_performance(found)["quadratic_kappa"]
    return values["accuracy"], values["macro_f1"], kappa, values["macro_auc"]


def test_the_cohort_is_that_of_the_paper():
    knees = material()
    assert np.bincount(knees.kl[knees.rows("train")]).tolist() == [82, 46, 86, 111, 58]
    assert np.bincount(knees.kl[knees.rows("test")]).tolist() == [21, 12, 22, 28, 15]
    assert knees.table.flat().shape == (481, 535)


@pytest.mark.parametrize("task", ["oa", "kl"])
def test_the_published_protocol_gives_the_published_row(task):
    row = CONTEXT[task][2]
    assert row.method == "All radiomics"
    forms = [form for form in published_form(graded("all_radiomics_refit", task))]
    found = {form.metric: form for form in forms if form.task == task}
    auc = found["auc" if task == "oa" else "macro_auc"]
    for form, (mean, sd) in [
        (found["accuracy"], row.accuracy),
        (found["macro_f1"], row.macro_f1),
        (auc, row.auc),
    ]:
        assert form.mean == pytest.approx(mean, abs=0.006 if task == "oa" else sd / 2), form
        assert form.sd == pytest.approx(sd, abs=0.03), form


@pytest.mark.parametrize("name", REFERENCE)
def test_oa_is_graded_as_in_an_independent_analysis(name):
    assert scores(graded(name, "oa"), "oa") == pytest.approx(REFERENCE[name][1], abs=0.02)


@pytest.mark.parametrize("name", [name for name in REFERENCE if name != "bone"])
def test_the_grade_is_called_as_in_an_independent_analysis(name):
    assert scores(graded(name, "kl"), "kl") == pytest.approx(REFERENCE[name][0], abs=0.02)


def test_bone_is_as_in_an_independent_analysis_at_its_strength_and_without_a_cut_off():
    # Out of fold the loss is lowest at C = 0.01, where F1 and kappa are 0.04 and 0.06 lower than in
    # the other analysis. That is of C = 0.03 and of features that are not cut off.
    knees = material()
    train, y, x = knees.rows("train"), knees.target("kl"), linear.bone(knees).x
    z = StandardScaler().fit(x[train]).transform(x)
    weights = linear.fit_logistic(z[train], y[train], 0.03)
    found = scores(on_test(linear.scores_of(z, weights), "kl"), "kl")
    assert found == pytest.approx(REFERENCE["bone"][0], abs=5e-4)


def test_a_linear_ordinal_model_is_as_good_as_the_best_published_network():
    accuracy, macro_f1, kappa, _ = scores(graded("all_radiomics_ordinal", "kl"), "kl")
    assert accuracy >= 0.54
    assert macro_f1 >= 0.54
    assert kappa >= 0.71


def test_the_person_alone_says_little():
    accuracy, _, _, area = scores(graded("demographics", "kl"), "kl")
    assert accuracy < 28 / 98 + 0.01  # always calling the most frequent grade
    assert area < 0.6
