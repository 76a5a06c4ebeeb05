"""What became of the knees: courses, concordance, curves, and the published predictions."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.duration.survfunc import SurvfuncRight

from kellgren.analysis.geometry import spearman
from kellgren.analysis.progression import (
    Course,
    change_within,
    concordance,
    course_of,
    free_of_progression,
    hazard_ratio,
    horizon_pairs,
    sampled_concordance,
    survival_pairs,
    within,
)
from kellgren.cohort import Case
from kellgren.config import AnalysisSettings
from kellgren.faults import InputError
from kellgren.follow_up import Reading, read_follow_up, write_follow_up
from kellgren.importers.follow_up import follow_up
from kellgren.progression import progression
from kellgren.report.figures.progression import concordances, curves
from kellgren.report.progression import cautions, summary
from kellgren.runs import Run
from tests.conftest import SHARED
from tests.predictions import made_predictions


def made_course(n=80, seed=0):
    """Knees whose hazard rises with a score; visits each year, some knees lost."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    kl = rng.integers(0, 4, n)
    year = np.ceil(rng.exponential(6 * np.exp(-score)))
    last = rng.integers(1, 5, n).astype(float)
    progressed = year <= last
    months = 12 * np.where(progressed, year, last)
    later = np.where((months == 48) | (progressed & (last == 4)), kl + progressed, -1)
    ids = np.array([f"k{i:03d}" for i in range(n)], dtype=object)
    return Course(ids, kl, months.astype(float), progressed, later), score


def once(score):
    return np.ones((len(score), 1), dtype=np.int64)


def test_a_knee_progresses_at_the_first_visit_with_a_higher_grade():
    grades = {("a", 24.0): 2, ("a", 12.0): 1, ("a", 48.0): 3, ("b", 12.0): 0}
    readings = [Reading(*visit, kl) for visit, kl in grades.items()]
    knees = np.array(["a", "b", "c"], object)
    course = course_of(knees, np.array([1, 1, 1]), readings, horizon=48.0)
    assert list(course.case_id) == ["a", "b"]  # c was never read again
    assert course.months.tolist() == [24, 12]
    assert course.progressed.tolist() == [True, False]  # a lower grade is no progression
    assert course.later_kl.tolist() == [3, -1]


def test_readings_after_the_horizon_do_not_count():
    readings = [Reading("a", 12.0, 1), Reading("a", 72.0, 3)]
    course = course_of(np.array(["a"], object), np.array([1]), readings, horizon=48.0)
    assert (course.months.tolist(), course.progressed.tolist()) == ([12], [False])


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ([Reading("a", 0.0, 1)], "grade 1 at month 0"),
        ([Reading("a", 12.0, 5)], "grade 5"),
        ([Reading("a", 12.0, 1), Reading("a", 12.0, 2)], "twice"),
        ([Reading("z", 12.0, 1)], "none of the 1 knees up to month 48"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(readings, said):
    with pytest.raises(InputError, match=said):
        course_of(np.array(["a"], object), np.array([1]), readings, horizon=48.0)


def test_the_c_index_is_a_count_over_all_usable_pairs():
    course, score = made_course()
    won = usable = 0.0
    for i in range(len(score)):
        for j in range(len(score)):
            later = course.months[j] > course.months[i]
            tied_free = course.months[j] == course.months[i] and not course.progressed[j]
            if course.progressed[i] and (later or tied_free) and i != j:
                usable += 1
                won += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
    assert concordance(survival_pairs(course), score) == pytest.approx(won / usable, abs=1e-12)


def test_the_c_index_is_that_of_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics", reason="scikit-survival is not installed")
    course, score = made_course()
    other = metrics.concordance_index_censored(course.progressed, course.months, score)[0]
    assert concordance(survival_pairs(course), score) == pytest.approx(other, abs=1e-12)


def test_the_auc_at_the_horizon_is_that_of_scikit_learn():
    course, score = made_course()
    known = course.progressed | (course.months >= 48)
    other = roc_auc_score(course.progressed[known], score[known])
    pairs = horizon_pairs(course, horizon=48.0)
    assert concordance(pairs, score) == pytest.approx(other, abs=1e-12)


def test_within_grades_the_grade_itself_says_nothing():
    course, score = made_course()
    pairs = within(survival_pairs(course), course.kl)
    assert concordance(pairs, course.kl.astype(float)) == 0.5
    shifted = score + 100 * course.kl  # orders the grades apart, and knees of one grade as before
    assert concordance(pairs, shifted) == concordance(pairs, score)


def test_a_resample_gives_what_the_repeated_knees_give():
    course, score = made_course(n=30)
    rng = np.random.default_rng(1)
    rows = rng.integers(30, size=30)
    counts = np.bincount(rows, minlength=30)[:, None]
    fields = ("case_id", "kl", "months", "progressed", "later_kl")
    repeated = Course(*(getattr(course, name)[rows] for name in fields))
    sampled = sampled_concordance(survival_pairs(course), score, counts)[0]
    assert sampled == pytest.approx(concordance(survival_pairs(repeated), score[rows]), abs=1e-12)


def test_no_pair_gives_no_number():
    pairs = np.zeros((3, 3), dtype=bool)
    assert np.isnan(concordance(pairs, np.arange(3.0)))


def test_the_curve_is_that_of_statsmodels():
    course, _ = made_course()
    steps = free_of_progression(course)
    other = SurvfuncRight(course.months, course.progressed.astype(int))
    mine = {step.months: (step.free, step.at_risk) for step in steps}
    for months, free, at_risk in zip(other.surv_times, other.surv_prob, other.n_risk, strict=True):
        assert mine[months] == (pytest.approx(free, abs=1e-12), at_risk)
    assert all(step.ci_low < step.free < step.ci_high for step in steps[1:])


def test_change_within_grades_is_the_correlation_of_what_grades_leave():
    course, score = made_course(n=60)
    read = course.take(course.later_kl >= 0)
    mine = score[course.later_kl >= 0]
    adjusted = change_within(read, mine, once(mine))
    moved = change_within(read, mine + 1e-3 * read.kl, once(mine))
    assert -1 < adjusted[0] < 1
    assert moved[0] == pytest.approx(adjusted[0], abs=0.05)
    assert np.isnan(change_within(read, read.kl.astype(float), once(mine))[0])
    alone = read.take(read.kl == 1)  # in one grade there is nothing to adjust for
    score = mine[read.kl == 1]
    plain = spearman(score, alone.later_kl - alone.kl)
    assert change_within(alone, score, once(score))[0] == pytest.approx(plain, abs=1e-12)


def test_a_hazard_ratio_needs_ten_progressions_and_a_score_that_varies_within_grades():
    course, score = made_course(n=200)
    ratio, low, high = hazard_ratio(course, score)
    assert low < ratio < high
    assert low < np.exp(score.std(ddof=1)) < high  # what the knees were made with
    assert np.isnan(hazard_ratio(course, course.kl.astype(float))).all()
    few = course.take(np.cumsum(course.progressed) <= 5)
    assert np.isnan(hazard_ratio(few, score[: len(few.kl)])).all()


def test_readings_are_written_as_they_are_read(tmp_path):
    path = tmp_path / "follow_up.csv"
    readings = [Reading("b", 12.0, 0), Reading("a", 24.0, 4), Reading("a", 12.5, 1)]
    write_follow_up(path, readings)
    assert read_follow_up(path) == sorted(readings)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,12,5", r"line 2: found kl is '5', months is '12'"),
        ("a,0,1", "line 2, months: found '0'"),
        ("a,,1", "months is ''"),
        ("a,12,1\na,12,2", "line 3: found a second reading"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_line(tmp_path, rows, said):
    path = tmp_path / "follow_up.csv"
    path.write_text(f"case_id,months,kl\n{rows}\n")
    with pytest.raises(InputError) as fault:
        read_follow_up(path)
    assert said.replace("\\", "") in str(fault.value)


KNEE = Case("k1", "9000001", "right", "test", 1, Path("k1.nii.gz"))


def test_oai_tables_are_matched_by_subject_and_side(tmp_path):
    table = tmp_path / "kxr_sq_bu06.txt"
    table.write_text(
        "ID|SIDE|READPRJ|V06XRKL\n9000001|1: Right|15|2: 2\n9000001|2: Left|15|4: 4\n"
        "9000001|1: Right|37|3: 3\n"
    )
    assert follow_up([KNEE], [table]) == [Reading("k1", 48.0, 2)]


def test_a_long_table_says_its_visits_and_baseline_is_left_out(tmp_path):
    table = tmp_path / "kl_by_visit.csv"
    table.write_text(
        "ID,SIDE,READPRJ,KLG,Visit\n9000001,1,15,1.0,00m\n9000001,1,15,2.0,12m\n9000001,1,37,,24m\n"
    )
    assert follow_up([KNEE], [table]) == [Reading("k1", 12.0, 2)]


def test_the_same_visit_from_two_tables_is_refused(tmp_path):
    table = tmp_path / "kxr_sq_bu06.csv"
    table.write_text("ID,SIDE,READPRJ,V06XRKL\n9000001,1,15,2\n")
    with pytest.raises(InputError, match="month 48 again"):
        follow_up([KNEE], [table, table])


def test_a_table_of_neither_kind_is_refused(tmp_path):
    table = tmp_path / "grades.csv"
    table.write_text("ID,SIDE,KL\n9000001,1,2\n")
    with pytest.raises(InputError, match="neither a name such as kxr_sq_bu06"):
        follow_up([KNEE], [table])


@pytest.fixture
def study(tmp_path):
    """Two runs and later grades of most of their knees."""
    predictions = made_predictions(n=60)
    rng = np.random.default_rng(3)
    for name, logit in (("dual", True), ("single_oa", False)):
        run = Run.at(tmp_path / f"resnet3d-{name}-s0")
        run.folder.mkdir()
        header = ["case_id", "kl", "prob_oa"] + [f"prob_kl_{k}" for k in range(5)] * logit
        rows = [
            [case, kl, oa, *(prob if logit else [])]
            for case, kl, oa, prob in zip(
                predictions.case_id,
                predictions.kl,
                predictions.prob_oa,
                predictions.prob_kl,
                strict=True,
            )
        ]
        lines = [",".join(map(str, row)) for row in [header, *rows]]
        run.predictions.write_text("\n".join(lines) + "\n")
    readings = [
        Reading(str(case), months, min(int(kl) + int(rng.random() < 0.2), 4))
        for case, kl in zip(predictions.case_id[:50], predictions.kl[:50], strict=True)
        for months in (24.0, 48.0)
    ]
    return Run.all_in(tmp_path), readings


def test_every_predictor_of_every_run_stands_beside_the_grade_at_baseline(study):
    found = progression(*study, horizon=48.0, settings=AnalysisSettings(resamples=200))
    of = found.measures.groupby(["supervision", "predictor"]).size()
    assert set(of.index) == {
        ("", "baseline_kl"),
        ("dual", "expected_kl"),
        ("dual", "oa_score"),
        ("single_oa", "oa_score"),
    }
    assert found.counts["knees"].sum() == 60
    assert found.counts["read_again"].sum() == 50
    baseline = found.measures.query("predictor == 'baseline_kl'").set_index("measure")
    assert baseline.loc["c_index", "difference"] == 0
    assert baseline.loc["c_index_within", "value"] == 0.5


def test_the_same_seed_gives_the_same_tables_and_figures_are_drawn(study, tmp_path):
    settings = AnalysisSettings(resamples=200)
    first, again = (progression(*study, horizon=48.0, settings=settings) for _ in range(2))
    first.write(tmp_path / "a")
    again.write(tmp_path / "b")
    for name in ("progression", "progression_counts", "progression_curves"):
        one, other = (tmp_path / folder / f"{name}.csv" for folder in "ab")
        assert one.read_bytes() == other.read_bytes()
    assert len(concordances(first).axes) == 2
    assert sum(axis.get_visible() for axis in curves(first).axes) == 4
    assert "10 of 60 were not read again" in "\n".join(cautions(first))
    assert "hazard_ratio" in summary(first)


def test_runs_of_other_knees_are_refused(study):
    runs, readings = study
    text = runs[1].predictions.read_text().replace("k000,", "k999,")
    runs[1].predictions.write_text(text)
    with pytest.raises(InputError, match="the same test cases in every run"):
        progression(runs, readings, horizon=48.0, settings=AnalysisSettings(resamples=100))


@pytest.mark.skipif(
    not (SHARED / "data" / "oai_longitudinal").is_dir(), reason="the OAI's later grades are absent"
)
def test_the_published_predictions_order_the_grades_of_four_years_later(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from paper_revisited import run_folders

    from kellgren.importers import IMPORTERS

    cases = IMPORTERS["oaizib-cm"](SHARED / "data" / "oaizib_cm_tables", tables_only=True).cases
    readings = follow_up(cases, [SHARED / "data" / "oai_longitudinal" / "kl_by_visit.csv"])
    runs = run_folders(SHARED / "data" / "published_predictions", tmp_path)
    found = progression(runs, readings, horizon=48.0, settings=AnalysisSettings(resamples=100))
    rho = found.measures.query("measure == 'rho_later_kl' and predictor == 'expected_kl'")
    rho = rho.set_index(["backbone", "supervision"])["value"].round(2)
    # The values of an independent count over the same 78 knees.
    assert rho["resnet3d", "single_kl"] == 0.43
    assert rho["resnet3d", "dual"] == 0.78
    assert rho["m3t", "single_kl"] == 0.67
    assert rho["m3t", "dual"] == 0.70
    assert (found.measures.query("measure == 'rho_later_kl'")["n"] == 78).all()
