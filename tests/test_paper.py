"""The analysis against published answers: the paper's own numbers, and those of other fields.

Data of the statistics tests, as facts with their source: subarachnoid haemorrhage data of pROC
(Turck et al. 2010; expected values from its test suite), ovarian data of DeLong et al. (1988) as
in the SAS/STAT documentation, McNemar tables from R, VassarStats, PSU STAT 504 and Fagerland et
al. (2013), p-values from Bioconductor's multtest.
"""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from kellgren.analysis.calibration import (
    calibration,
    calibration_error,
    equal_width,
    reliability,
)
from kellgren.analysis.comparison import auc_covariance, delong, mcnemar, mcnemar_chi_square
from kellgren.analysis.embedding import kept_neighbours
from kellgren.analysis.geometry import adjacent_distances, principal_axis, rho_of_auroc, spearman
from kellgren.analysis.multiplicity import adjusted
from kellgren.analysis.ordinal import sampled_tau_b, weighted_kappa
from kellgren.analysis.overlap import saliency_overlap
from kellgren.analysis.performance import METRICS, auc, class_f1, confusion
from kellgren.analysis.resampling import resample, sampled
from kellgren.analysis.similarity import cka, debiased_cka, linear_cka, rbf_gram
from kellgren.config import AnalysisSettings
from kellgren.report.published import TABLE1, TABLE2, TABLE3
from kellgren.runs import Run
from kellgren.study import analyze
from kellgren.tables import Predictions

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "published_predictions"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the paper's published predictions are not on this machine"
)

# True negative, false positive, false negative, true positive that the accuracy and the F1 of
# Table 1 imply for 33 and 65 knees, and the AUC in units of 1 / (2 x 33 x 65).
OA_COUNTS = {
    ("resnet3d", "single_oa"): (21, 12, 8, 57, 2 * 1889),
    ("resnet3d", "single_kl"): (19, 14, 23, 42, 2 * 1439),
    ("resnet3d", "dual"): (18, 15, 3, 62, 2 * 1857),
    ("m3t", "single_oa"): (15, 18, 9, 56, 2 * 1699),
    ("m3t", "single_kl"): (18, 15, 8, 57, 3509),
    ("m3t", "dual"): (22, 11, 9, 56, 2 * 1968),
    ("nnmamba", "single_oa"): (25, 8, 16, 49, 2 * 1824),
    ("nnmamba", "single_kl"): (13, 20, 3, 62, 2 * 1863),
    ("nnmamba", "dual"): (11, 22, 7, 58, 2 * 1757),
}
KL_RIGHT = {
    ("resnet3d", "single_kl"): 36,
    ("resnet3d", "dual"): 57,
    ("m3t", "single_kl"): 38,
    ("m3t", "dual"): 45,
    ("nnmamba", "single_kl"): 38,
    ("nnmamba", "dual"): 32,
}
OUTCOME = (
    "00001101001011001011101000000000100110110000000001100010001010011101101111000110"
    "100000010000000000001111110001000"
)
WFNS = (
    "11113254125255125225211112121134214541425511241125521251222151125214524414121421"
    "232421451154221113125225552445111"
)
S100B = """
    0.13 0.14 0.1 0.04 0.13 0.1 0.47 0.16 0.18 0.1 0.12 0.1 0.44 0.71 0.04 0.08 0.49 0.04 0.07
    0.33 0.09 0.09 0.07 0.11 0.07 0.17 0.07 0.11 0.13 0.19 0.05 0.16 0.41 0.14 0.34 0.35 0.48
    0.09 0.96 0.25 0.5 0.46 0.16 0.07 0.43 0.45 0.11 0.08 0.09 0.86 0.52 0.08 0.06 0.13 2.07 0.1
    0.14 0.15 0.07 0.06 0.77 0.05 0.09 0.3 0.03 0.09 0.04 0.23 0.7 0.09 0.27 0.71 0.08 0.26 0.08
    0.16 0.09 0.13 0.1 0.08 0.11 0.33 0.11 0.28 0.07 0.1 0.32 0.22 0.07 0.05 0.24 0.38 0.1 0.15
    0.08 0.14 0.1 0.07 0.04 0.19 0.56 0.14 0.58 0.32 0.82 0.74 0.15 0.47 0.17 0.44 0.15 0.5 0.48
"""
NDKA = """
    3.01 8.54 8.09 10.42 17.4 12.75 6 13.2 15.54 6.01 15.96 17.86 5.18 8.9 13.41 20.75 11.6
    16.11 32.37 54.82 32.41 49.94 40.34 9.47 6.29 12.53 6.54 6.3 80.3 12.8 9.8 9.81 9.85 18.21
    5.03 14.04 21.93 8.02 7.42 8.38 6.59 9.63 13.12 7.96 14.34 41.43 7.63 7.06 12.59 13.56 3.87
    9.44 7.66 12.98 419.19 27.19 22.27 9.95 21.22 11.73 10.4 58.83 6.39 11.09 12.22 13.67 17.21
    22.63 12.9 9.7 21.57 8.23 72.57 15.54 10.51 10.6 14.57 5.19 9.63 4.61 21.48 17.3 12.71 9.44
    11.07 19.46 10.83 5.37 11.97 7.75 9.83 10.55 28.49 8.53 12.57 12.9 46.83 11.68 12.67 9.01
    9.57 34.06 11.72 14.26 47.61 11.67 24.58 10.33 13.87 15.89 22.43 6.79 13.45
"""
OVARIAN = """
    3.0,5.8,10,0 3.2,6.3,5,1 3.9,6.8,3,1 2.8,4.8,6,0 3.2,5.8,3,1 0.9,4.0,5,0 2.5,5.7,8,0
    1.6,5.6,5,1 3.8,5.7,5,1 3.7,6.7,6,1 3.2,5.4,4,1 3.8,6.6,6,1 4.1,6.6,5,1 3.6,5.7,5,1
    4.3,7.0,4,1 3.6,6.7,4,0 2.3,4.4,6,1 4.2,7.6,4,0 4.0,6.6,6,0 3.5,5.8,6,1 3.8,6.8,7,1
    3.0,4.7,8,0 4.5,7.4,5,1 3.7,7.4,5,1 3.1,6.6,6,1 4.1,8.2,6,1 4.3,7.0,5,1 4.3,6.5,4,1
    3.2,5.1,5,1 2.6,4.7,6,1 3.3,6.8,6,0 1.7,4.0,7,0 3.7,6.1,5,1 3.3,6.3,7,1 4.2,7.7,6,1
    3.5,6.2,5,1 2.9,5.7,9,0 2.1,4.8,7,1 2.8,6.2,8,0 4.0,7.0,7,1 3.3,5.7,6,1 3.7,6.9,5,1
    3.6,6.6,5,1
"""


def numbers(text):
    return np.array(text.split(), dtype=float)


def mcnemar_of(b, c):
    model = np.repeat([True, False], [b, c])
    return mcnemar(model, ~model)


class TestTable1:
    @pytest.mark.parametrize("row", OA_COUNTS)
    def test_the_implied_oa_tables_give_the_printed_numbers(self, row):
        tn, fp, fn, tp, half_pairs = OA_COUNTS[row]
        table = np.array([[tn, fp], [fn, tp]])
        assert table.sum(axis=1).tolist() == [33, 65]
        printed_auc, printed_accuracy, printed_f1 = TABLE1[row][:3]
        assert round(half_pairs / (2 * 33 * 65), 4) == printed_auc
        assert round(np.trace(table) / 98, 4) == printed_accuracy
        assert round(float(class_f1(table)[1]), 4) == printed_f1

    @pytest.mark.parametrize("row", KL_RIGHT)
    def test_printed_kl_accuracies_are_counts_of_98(self, row):
        assert round(KL_RIGHT[row] / 98, 4) == TABLE1[row][4]


class TestTable2:
    @pytest.mark.parametrize("row", TABLE2)
    def test_no_printed_auroc_belongs_to_the_printed_correlation(self, row):
        """rho determines the AUC of a score without ties; all nine rows contradict this."""
        _, _, rho, printed, _ = TABLE2[row]
        implied = [
            0.5 + (abs(rho) + half) / (2 * rho_of_auroc(1.0, positive=65, negative=33))
            for half in (-0.0005, 0.0005)
        ]
        assert not implied[0] <= printed <= implied[1]

    def test_printed_correlations_obey_their_bounds(self):
        for _, rho_kl, rho_oa, _, rho_adjacent in TABLE2.values():
            assert abs(rho_oa) <= rho_of_auroc(1.0, positive=65, negative=33)
            assert abs(rho_kl) <= 0.97478
            assert round(rho_adjacent * 5) == pytest.approx(rho_adjacent * 5)

    def test_the_bound_on_rho_kl_is_that_of_a_perfect_order(self):
        kl = np.repeat(np.arange(5), [21, 12, 22, 28, 15])
        assert spearman(np.arange(98.0), kl) == pytest.approx(0.97478, abs=5e-6)


class TestTable3:
    def test_all_rows_fit_a_cartilage_share_between_0_0064_and_0_054(self):
        """Recall parts of T_1 <= T_5 <= T_10 <= c, growing by at most the added volume."""
        fits = [c for c in np.arange(0.001, 0.1, 0.0001) if all(map(fitting(c), TABLE3.values()))]
        assert min(fits) == pytest.approx(0.0064, abs=2e-4)
        assert max(fits) == pytest.approx(0.054, abs=1e-3)


def fitting(c):
    """Whether a share c of cartilage allows a row of Table 3, up to its rounding."""

    def fits(row):
        top1, dice_5, dice_10 = row[1:]
        half = 0.00005
        at_1 = 0.01 * (top1 - half), 0.01 * (top1 + half)
        at_5 = [(dice_5 + s * half) * (0.05 + c) / 2 for s in (-1, 1)]
        at_10 = [(dice_10 + s * half) * (0.10 + c) / 2 for s in (-1, 1)]
        ordered = at_1[0] <= at_5[1] and at_5[0] <= at_10[1] and at_10[0] <= c and at_5[0] <= c
        grows = at_5[0] - at_1[1] <= 0.04 and at_10[0] - at_5[1] <= 0.05
        return ordered and grows

    return fits


POOR = np.array([value == "1" for value in OUTCOME])
MARKERS = {
    "wfns": np.array([int(value) for value in WFNS], dtype=float),
    "s100b": numbers(S100B),
    "ndka": numbers(NDKA),
}


class TestDeLong:
    def test_aucs_and_covariances_are_those_of_proc(self):
        aucs, covariance = auc_covariance(POOR, np.stack(list(MARKERS.values())))
        expected = [0.823678861788618, 0.731368563685637, 0.611957994579946]
        np.testing.assert_allclose(aucs, expected, rtol=1e-13)
        variances = [0.00146991470882363, 0.00266868245717244, 0.0031908105493913]
        np.testing.assert_allclose(np.diag(covariance), variances, rtol=1e-12)
        pairs = [covariance[0, 2], covariance[2, 1], covariance[1, 0]]
        expected = [-0.000532967856762438, -0.000756164938056579, 0.00119615567376754]
        np.testing.assert_allclose(pairs, expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("pair", "z", "p", "interval"),
        [
            (
                ("wfns", "s100b"),
                2.20898359144091,
                0.0271757822291882,
                (0.0104061769564846, 0.174214419249478),
            ),
            (
                ("wfns", "ndka"),
                2.79777591868904,
                0.00514557970691098,
                (0.0634011709339876, 0.3600405634833566),
            ),
            (
                ("ndka", "s100b"),
                -1.39077002573558,
                0.164295175223054,
                (-0.2876917446341914, 0.0488706064228094),
            ),
        ],
    )
    def test_differences_are_those_of_proc(self, pair, z, p, interval):
        found = delong(POOR, *(MARKERS[name] for name in pair))
        assert (found.z, found.p) == pytest.approx((z, p), rel=1e-12)
        assert (found.ci_low, found.ci_high) == pytest.approx(interval, rel=1e-12)

    def test_ovarian_data_give_the_values_of_sas(self):
        alb, tp, total, y = np.array([row.split(",") for row in OVARIAN.split()], dtype=float).T
        scores = np.stack([alb, tp, 10 - total])
        aucs, covariance = auc_covariance(y == 1, scores)
        np.testing.assert_allclose(aucs, [0.73655914, 0.64784946, 0.72580645], atol=5e-9)
        errors = [0.09269435, 0.10004738, 0.10282161]
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), errors, atol=5e-9)
        found = delong(y == 1, scores[0], scores[2])
        assert (found.difference, found.se) == pytest.approx((0.01075269, 0.09534362), abs=5e-9)
        assert found.p == pytest.approx(0.9102, abs=5e-5)


class TestMcNemar:
    @pytest.mark.parametrize(
        ("b", "c", "p", "decimals"),
        [
            (121, 59, 4.4344e-06, 10),
            (70, 59, 0.378688, 6),
            (80, 59, 0.089452, 6),
            (30, 60, 0.00206, 5),
            (10, 30, 0.002221, 6),
            (10, 10, 1.0, 12),
            (1, 7, 2 * 9 / 256, 12),
        ],
    )
    def test_exact_p_values_are_the_published_ones(self, b, c, p, decimals):
        assert mcnemar_of(b, c).p == pytest.approx(p, abs=0.5 * 10**-decimals)
        assert mcnemar_of(c, b).p == mcnemar_of(b, c).p

    @pytest.mark.parametrize(
        ("b", "c", "corrected", "plain"),
        [
            (121, 59, (20.67222, 5.450095e-06), (21.35556, 3.815136e-06)),
            (70, 59, (0.7751938, 0.3786151), (0.9379845, 0.3327967)),
            (80, 59, (2.87769784, 0.08981434), (3.17266187, 0.07488031)),
            (86, 150, (16.81780, 4.114562e-05), (17.3559, 3.099e-05)),
        ],
    )
    def test_chi_square_forms_are_the_published_ones(self, b, c, corrected, plain):
        for expected, with_edwards in ((corrected, True), (plain, False)):
            found = mcnemar_chi_square(b, c, corrected=with_edwards)
            assert found == pytest.approx(expected, rel=2e-4 if expected is plain else 1e-6)

    @pytest.mark.parametrize(("b", "c", "p"), [(1, 7, 0.0390625), (10, 30, 0.00145049)])
    def test_mid_p_values_are_the_published_ones(self, b, c, p):
        assert mcnemar_of(b, c).p_mid == pytest.approx(p, abs=5e-9)

    @pytest.mark.parametrize(
        ("backbone", "low", "high"),
        [("resnet3d", 0.727, 0.871), ("nnmamba", 0.405, 0.583), ("m3t", 0.016, 0.382)],
    )
    def test_the_margins_of_table_1_bound_every_p_of_dual_against_single_oa(
        self, backbone, low, high
    ):
        single, dual = OA_COUNTS[backbone, "single_oa"], OA_COUNTS[backbone, "dual"]
        found = [
            mcnemar_of(dual[0] + dual[3] - both_0 - both_1, single[0] + single[3] - both_0 - both_1)
            for both_0 in overlaps(single[0], dual[0], of=33)
            for both_1 in overlaps(single[3], dual[3], of=65)
        ]
        assert min(f.p for f in found) == pytest.approx(low, abs=5e-4)
        assert max(f.p for f in found) == pytest.approx(high, abs=5e-4)


def overlaps(first, second, *, of):
    """Possible numbers of cases that both are right on."""
    return range(max(0, first + second - of), min(first, second) + 1)


class TestSmallAnswers:
    def test_auc_of_the_textbook_toy(self):
        assert auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75

    def test_one_against_rest_auc_of_three_classes(self):
        y = np.array([0, 1, 0, 2])
        p = np.array([[1, 0, 0], [0.1, 0.5, 0.4], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
        found = np.mean([auc(y == k, p[:, k]) for k in range(3)])
        assert found == pytest.approx((0.625 + 1 + 0.5) / 3)

    def test_macro_f1_of_three_classes(self):
        table = np.zeros((3, 3), dtype=np.int64)
        np.add.at(table, ([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]), 1)
        assert class_f1(table).mean() == pytest.approx(0.2666667, abs=5e-8)

    def test_spearman_without_and_with_ties(self):
        iq = np.array([86.0, 97, 99, 100, 101, 103, 106, 110, 112, 113])
        hours = np.array([2.0, 20, 28, 27, 50, 29, 7, 17, 6, 12])
        assert spearman(iq, hours) == pytest.approx(-0.1757575758, abs=5e-11)
        tied = spearman(np.arange(1.0, 6), np.array([5.0, 6, 7, 8, 7]))
        assert tied == pytest.approx(0.8207826817, abs=5e-11)

    def test_principal_axis_of_the_iris_flowers(self):
        z, species = load_iris(return_X_y=True)
        axis = principal_axis(z)
        assert axis.evr == pytest.approx(0.92461872, abs=5e-9)
        assert abs(spearman(axis.score(z), species)) == pytest.approx(0.92981977, abs=5e-9)
        expected = [3.20828116, 1.62048882]
        np.testing.assert_allclose(adjacent_distances(z, species)[:2], expected, atol=5e-9)

    def test_holm_and_benjamini_hochberg_of_multtest(self):
        p = numbers(
            ".838541367553 .642193923795 .680845947633 .967833824309 .71626938238 "
            ".177096952723 5.23656777208e-05 .0202732688798 .00028140506198 .0149877310796"
        )
        holm, bh = (np.sort(adjusted(p, method=m)) for m in ("holm", "fdr_bh"))
        first = [0.000523656777, 0.002532645558, 0.119901848637, 0.141912882159, 1, 1]
        np.testing.assert_allclose(holm[:6], first, atol=5e-13)
        expected = (
            ".000523656777 .001407025310 .049959103599 .050683172200 .354193905446 "
            ".895336727975 .895336727975 .895336727975 .931712630614 .967833824309"
        )
        np.testing.assert_allclose(bh, numbers(expected), atol=5e-13)

    def test_ratings_of_hanley_and_mcneil_give_their_area_with_heavy_ties(self):
        """Radiology 143 (1982) 29-36: 58 normal and 51 abnormal images rated 1 to 5; AUC 0.893."""
        normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
        score = np.concatenate([np.repeat(np.arange(1.0, 6), c) for c in (normal, abnormal)])
        positive = np.repeat([False, True], [58, 51])
        aucs, covariance = auc_covariance(positive, score[None])
        assert auc(positive, score) == pytest.approx(0.8931711, abs=5e-8)
        assert aucs[0] == pytest.approx(0.8931711, abs=5e-8)
        assert np.sqrt(covariance[0, 0]) == pytest.approx(0.0307244, abs=5e-8)

    def test_weighted_kappas_of_irr_sas_and_scikit_learn(self):
        """Raters 2 and 3 of `anxiety` in R's irr; a table of SAS FREQ; one of scikit-learn."""
        pairs = "3261446423422146313121323333212113333242"
        levels = "12346"
        anxiety = np.zeros((5, 5), dtype=np.int64)
        for first, second in zip(pairs[::2], pairs[1::2], strict=True):
            anxiety[levels.index(first), levels.index(second)] += 1
        found = [float(weighted_kappa(anxiety, power=power)) for power in (0, 1, 2)]
        assert found == pytest.approx([-0.006289308, 0.1459075, 0.2520325], abs=5e-8)
        sas = np.array([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
        found = [float(weighted_kappa(sas, power=power)) for power in (0, 1)]
        assert found == pytest.approx([0.4842, 0.4701], abs=5e-5)
        y = np.repeat([0, 1, 2], [46, 44, 10]), np.repeat([0, 1, 2], [50, 40, 10])
        found = [float(weighted_kappa(confusion(*y, classes=3), power=p)) for p in (0, 1, 2)]
        assert found == pytest.approx([0.9315068, 0.9411765, 0.9541284], abs=5e-8)

    def test_kendalls_tau_of_the_scipy_example(self):
        """x = 12, 2, 1, 12, 2 and y = 1, 4, 7, 1, 0; grades are the ranks of y."""
        score, grades = np.array([12.0, 2, 1, 12, 2]), np.array([1, 3, 4, 1, 0])
        found = sampled_tau_b(score, grades, np.ones((5, 1), dtype=np.int64))
        assert found[0] == pytest.approx(-0.4714045208, abs=5e-11)

    def test_brier_score_and_calibration_errors(self):
        """scikit-learn's toy; the example of torchmetrics' documentation with two bins."""
        prob, happened = np.array([0.1, 0.9, 0.8, 0.3]), np.array([0, 1, 1, 0]) > 0
        found = calibration(prob, happened, rng=np.random.default_rng(0), draws=10)
        assert found.brier == pytest.approx(0.0375)
        prob, happened = np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([0, 0, 1, 1, 1]) > 0
        diagram = reliability(prob, happened, equal_width(prob, bins=2))
        found = [calibration_error(diagram, power=p) for p in (1.0, 2.0, np.inf)]
        assert found == pytest.approx([0.2900, 0.2918, 0.3167], abs=5e-5)

    def test_cka_of_the_demonstration_of_kornblith_and_others(self):
        """Printed outputs of Demo.ipynb, google-research/representation_similarity."""
        rng = np.random.RandomState(1337)
        x = rng.randn(100, 10)
        y = rng.randn(100, 10) + x
        assert linear_cka(x, y) == pytest.approx(0.5576132566, abs=5e-11)
        assert debiased_cka(x, y) == pytest.approx(0.5134564895, abs=5e-11)
        rbf = cka(rbf_gram(x, share=0.5), rbf_gram(y, share=0.5))
        assert rbf == pytest.approx(0.65483, abs=5e-6)

    def test_attribution_inside_outside_and_half_inside_the_mask(self):
        """The localisation cases of Quantus' tests."""
        mask = np.zeros((4, 4, 4), dtype=bool)
        mask[:2] = True
        whole = [mask, ~mask, np.ones_like(mask)]
        found = [saliency_overlap(s.astype(np.float64), mask).mass_roi for s in whole]
        assert found == [1.0, 0.0, 0.5]

    def test_trustworthiness_of_five_points_in_disorder(self):
        """scikit-learn's test: 0..4 placed at 0, 2, 4, 1, 3, one neighbour."""
        z, place = np.arange(5.0)[:, None], np.array([0.0, 2, 4, 1, 3])[:, None]
        assert kept_neighbours(z, place, neighbours=1) == pytest.approx(0.2)

    def test_holm_leaves_no_kl_claim_of_m3t(self):
        """With every unquoted p-value set to 1, which is the most favourable case."""
        quoted = {"m_oa": 0.002, "m_macro_auc": 0.048, "m_macro_f1": 0.032, "r_macro_auc": 0.004}
        p = np.array([*quoted.values(), 0.0005, 0.0005, *np.ones(12)])
        holm = dict(zip(quoted, adjusted(p, method="holm"), strict=False))
        assert holm["m_oa"] < 0.05
        assert min(holm["m_macro_auc"], holm["m_macro_f1"], holm["r_macro_auc"]) > 0.05


@pytest.fixture(scope="module")
def published_runs(tmp_path_factory):
    """Run folders of the authors' published per-knee predictions."""
    folder = tmp_path_factory.mktemp("runs")
    for backbone, supervision in product(("resnet3d", "m3t"), ("single_oa", "single_kl", "dual")):
        given = pd.read_csv(PUBLISHED / f"{backbone}_{supervision}.csv", dtype=str)
        heads = [c for c in given.columns if c == "prob_oa" or c.startswith("prob_kl_")]
        table = given.rename(columns={"CMT_ID": "case_id", "label_kl": "kl"})
        run = folder / f"{backbone}-{supervision}-s0"
        run.mkdir()
        table[["case_id", "kl", *heads]].to_csv(run / "predictions.csv", index=False)
    return folder


RESAMPLES = 40_000
THEIR_RESAMPLES = 10_000
NAMES = {"AUC": "auc", "Acc": "accuracy", "F1": "f1", "M-AUC": "macro_auc", "M-F1": "macro_f1"}


@pytest.fixture(scope="module")
def published_study(published_runs):
    return analyze(Run.all_in(published_runs), settings=AnalysisSettings(resamples=RESAMPLES))


def theirs():
    """The authors' recomputed statistics: backbone, task, metric and the rest of the row."""
    if not PUBLISHED.is_dir():
        return []
    with (PUBLISHED / "stats_recomputed_with_fdr.csv").open() as file:
        keys = [
            ((row["backbone"], row["task"].lower(), NAMES[row["metric"]]), row)
            for row in csv.DictReader(file)
        ]
    return [pytest.param(key, row, id="-".join(key)) for key, row in keys]


def of_key(study, key):
    """The row of Dual against the single model of that backbone, task and metric."""
    table = study.comparisons.query("family == 'dual-vs-single'")
    return table.set_index(["backbone", "task", "metric"]).loc[key]


@pytest.fixture(scope="module")
def samples_of(published_runs):
    """Differences of a metric over the resamples of `published_study`, by backbone and task."""
    drawn = resample(98, resamples=RESAMPLES, rng=np.random.default_rng(AnalysisSettings().seed))

    def sample(key):
        backbone, task, metric = key
        models = [
            Predictions.read(published_runs / f"{backbone}-{name}-s0" / "predictions.csv")
            for name in ("dual", f"single_{task}")
        ]
        dual, single = (sampled(METRICS[task][metric], model, drawn) for model in models)
        return dual - single

    return sample


@needs_published
class TestPublishedPredictions:
    @pytest.mark.parametrize("row", [row for row in TABLE1 if row[0] != "nnmamba"])
    def test_they_give_table_1_to_the_last_digit(self, published_study, row):
        found = published_study.performance.set_index(
            ["backbone", "supervision", "task", "metric"]
        )["value"]
        for (task, metric), printed in zip(
            product(("oa", "kl"), ("auc", "accuracy", "f1")), TABLE1[row], strict=True
        ):
            name = f"macro_{metric}" if task == "kl" and metric != "accuracy" else metric
            if printed is not None:
                assert round(found[(*row, task, name)], 4) == printed, (task, name)

    def test_their_confusion_tables_are_the_implied_ones(self, published_study):
        table = published_study.confusion.query("head == 'oa'")
        for (backbone, supervision), cells in table.groupby(["backbone", "supervision"]):
            assert cells["count"].tolist() == list(OA_COUNTS[backbone, supervision][:4])

    def test_saturated_probabilities_rank_m3t_single_kl_otherwise_than_their_sum(
        self, published_runs, tmp_path
    ):
        """The given column has ties of float32; the log-odds of the five columns have none."""
        path = published_runs / "m3t-single_kl-s0" / "predictions.csv"
        given = Predictions.read(path)
        pd.read_csv(path, dtype=str).drop(columns="prob_oa").to_csv(tmp_path / "p.csv", index=False)
        implied = Predictions.read(tmp_path / "p.csv")
        assert (given.oa_source, implied.oa_source) == ("column", "kl")
        found = [round(auc(p.kl >= 2, p.score_oa), 4) for p in (given, implied)]
        assert found == [0.8179, 0.8098]

    @pytest.mark.parametrize(("key", "row"), theirs())
    def test_differences_are_theirs(self, published_study, key, row):
        found = of_key(published_study, key)
        for ours, name in (("model_value", "dual"), ("reference_value", "single")):
            assert round(found[ours], 6) == pytest.approx(float(row[name]), abs=1.01e-6)
        assert round(found["difference"], 6) == pytest.approx(float(row["delta"]), abs=1e-9)

    @pytest.mark.parametrize(("key", "row"), theirs())
    def test_intervals_are_theirs_within_the_error_of_both_bootstraps(
        self, published_study, samples_of, key, row
    ):
        """Their percentile lies between those of ours that are five standard errors of the share
        below it away, which needs no assumption on the distribution."""
        samples = samples_of(key)
        for share, end in ((0.025, "ci_lo"), (0.975, "ci_hi")):
            slack = 5 * np.sqrt(0.025 * 0.975 * (1 / RESAMPLES + 1 / THEIR_RESAMPLES))
            low, high = np.quantile(samples, [share - slack, share + slack])
            assert low - 1e-6 <= float(row[end]) <= high + 1e-6

    @pytest.mark.parametrize(("key", "row"), theirs())
    def test_p_values_are_theirs_within_the_error_of_both_bootstraps(
        self, published_study, key, row
    ):
        found, their_p = of_key(published_study, key), float(row["p_value"])
        if row["test"] == "mcnemar_exact":
            assert found["test"] == "McNemar exact"
            assert found["p"] == pytest.approx(their_p, rel=1e-12)
            (_, b), (c, _) = json.loads(row["mcnemar_table"])
            assert (found["mcnemar_b"], found["mcnemar_c"]) == (b, c)
        else:
            tail = max(found["p"], their_p) / 2
            error = 2 * np.sqrt(tail * (1 - tail) * (1 / RESAMPLES + 1 / THEIR_RESAMPLES))
            assert found["p"] == pytest.approx(their_p, abs=5 * error)

    def test_their_false_discovery_rates_follow_from_their_p_values(self):
        """Six of their 18 tests are not published; they are larger than those below 0.1."""
        rows = [test.values[1] for test in theirs()]
        p = np.array([float(row["p_value"]) for row in rows])
        q = adjusted(np.append(p, np.full(6, np.nan)), method="fdr_bh")[: len(p)]
        small = p < 0.1
        expected = np.array([float(row["q_value_BH"]) for row in rows])
        np.testing.assert_allclose(q[small], expected[small], atol=5e-7)

    def test_their_train_fit_geometry_obeys_the_identity(self):
        with (PUBLISHED / "severity_axis_trainfit_summary.csv").open() as file:
            for row in csv.DictReader(file):
                area = float(row["OA_probe_AUROC_test"])
                rho = rho_of_auroc(area, positive=65, negative=33)
                assert rho == pytest.approx(float(row["abs_spearman_PC1_OA"]), abs=1e-9)
