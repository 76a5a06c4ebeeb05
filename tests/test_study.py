from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pytest

from kellgren.analysis.overlap import saliency_overlap
from kellgren.analysis.performance import METRICS, class_f1
from kellgren.config import AnalysisSettings
from kellgren.exemplars import read_exemplars, write_exemplars
from kellgren.faults import InputError
from kellgren.files import write_json
from kellgren.results import COLUMNS, LIKENESS, ORDER, SHAPE, bounds_of
from kellgren.runs import Run
from kellgren.study import Exemplar, StudyResult, analyze, planned_comparisons
from kellgren.tables import LOGIT_KL, Features, Predictions, write_csv

GRADES = np.tile(np.arange(5), 8)
CASES = np.array([f"{i:03d}" for i in range(len(GRADES))], dtype=object)
SETTINGS = AnalysisSettings(resamples=200)
HEADS = {"single_oa": ["oa"], "single_kl": ["kl"], "dual": ["oa", "kl"]}


def made_run(folder, name, *, seed=0, cases=CASES, kl=GRADES):
    """Predictions of a made-up model, with both splits in one file."""
    run = Run.at(folder / name)
    rng = np.random.default_rng([seed, len(name)])
    table = pd.DataFrame({"case_id": cases, "split": "test", "kl": kl})
    if "oa" in HEADS[run.supervision]:
        table["logit_oa"] = kl - 1.5 + rng.normal(size=len(kl))
    if "kl" in HEADS[run.supervision]:
        table[LOGIT_KL] = -((kl[:, None] - np.arange(5)) ** 2) + rng.normal(size=(len(kl), 5))
    train = table.assign(split="train", case_id="train" + table["case_id"].astype(str))
    write_csv(run.predictions, pd.concat([table, train]))
    return run


def with_features(run):
    rng = np.random.default_rng(run.seed)
    kl = np.tile(GRADES, 2)
    ids = np.concatenate([CASES, "train" + CASES])
    split = np.repeat(np.array(["test", "train"], dtype=object), len(CASES))
    z = rng.normal(size=(len(kl), 6)) + np.outer(kl, np.ones(6))
    Features(ids, split, kl, z).write(run.features)
    return run


def with_overlaps(run, *, missing=()):
    rng, rows = np.random.default_rng(run.seed), []
    for case_id in CASES:
        for head in HEADS[run.supervision]:
            saliency = rng.random((4, 5, 6)) * (case_id not in missing)
            overlap = saliency_overlap(saliency, rng.random((4, 5, 6)) < 0.2)
            rows.append({"case_id": case_id, "head": head, **asdict(overlap)})
    write_csv(run.overlap, pd.DataFrame(rows))
    return run


def made_exemplar(*, case_id="007", head="oa"):
    rng = np.random.default_rng(0)
    side, front = (3, 4), (3, 2)
    return Exemplar(
        case_id=case_id,
        kl=3,
        backbone="resnet3d",
        supervision="dual",
        seed=0,
        head=head,
        spacing_mm=(0.7, 0.5, 0.25),
        sagittal_scan=rng.normal(size=side).astype(np.float32),
        sagittal_cartilage=rng.random(side) < 0.5,
        sagittal_saliency=rng.random(side).astype(np.float32),
        coronal_scan=rng.normal(size=front).astype(np.float32),
        coronal_cartilage=rng.random(front) < 0.5,
        coronal_saliency=rng.random(front).astype(np.float32),
        top1_threshold=0.75,
    )


def assert_same_exemplars(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in fields(Exemplar):
            values = getattr(one, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(*values, err_msg=field.name)


@pytest.fixture(scope="module")
def full_runs(tmp_path_factory):
    """Two backbones under three settings, one of them with features too."""
    folder = tmp_path_factory.mktemp("runs")
    names = [f"{b}-{s}-s0" for b in ("resnet3d", "m3t") for s in HEADS]
    runs = [made_run(folder, name, seed=i) for i, name in enumerate(names)]
    for run in runs:
        with_overlaps(run, missing=("003",))
    for run in runs[3:]:
        with_features(run)
    write_exemplars(runs[2].exemplars, [made_exemplar(), made_exemplar(head="kl")])
    record = {
        "asked": {"backbone": {"size": "small", "grid": [24, 48, 48]}},
        "trained": {"epochs": 2, "parameters": 10, "train_seconds": 1.5, "weights_digest": "00ff"},
        "made_with": {"device": "cpu", "torch": "2.13.0"},
    }
    write_json(runs[0].settings_file, record)
    return runs


@pytest.fixture(scope="module")
def study(full_runs):
    return analyze(full_runs, settings=SETTINGS, name="made", protocol={"seeds": [0]})


class TestPlan:
    def runs(self, tmp_path, names):
        return [Run.at(tmp_path / name) for name in names]

    def test_three_backbones_make_18_and_36_tests_of_three_metrics_a_comparison(self, tmp_path):
        names = [f"{b}-{s}-s0" for b in ("nnmamba", "m3t", "resnet3d") for s in HEADS]
        planned = list(planned_comparisons(self.runs(tmp_path, names)))
        families = pd.Series([c.family for c in planned]).value_counts() * 3
        assert families.to_dict() == {"dual-vs-single": 18, "backbone-vs-backbone": 36}

    def test_backbones_stand_in_the_order_of_the_paper_then_by_name(self, tmp_path):
        backbones = ("zebra", "nnmamba", "apple", "m3t", "resnet3d")
        names = [f"{b}-single_oa-s0" for b in backbones]
        planned = planned_comparisons(self.runs(tmp_path, names))
        pairs = [(c.model.backbone, c.reference.backbone) for c in planned]
        assert pairs[:3] == [("resnet3d", "m3t"), ("resnet3d", "nnmamba"), ("resnet3d", "apple")]
        assert pairs[-1] == ("apple", "zebra")

    def test_only_runs_of_one_seed_are_compared(self, tmp_path):
        names = ["m3t-dual-s0", "m3t-single_oa-s0", "m3t-dual-s1", "m3t-single_kl-s1"]
        planned = list(planned_comparisons(self.runs(tmp_path, names)))
        assert [(c.model.seed, c.reference.seed, c.task) for c in planned] == [
            (0, 0, "oa"),
            (1, 1, "kl"),
        ]

    def test_a_lone_run_has_nothing_to_be_compared_with(self, tmp_path):
        assert list(planned_comparisons(self.runs(tmp_path, ["m3t-dual-s0"]))) == []


class TestTables:
    def test_the_columns_are_the_declared_ones(self, study):
        for name, columns in COLUMNS.items():
            assert getattr(study, name).columns.tolist()[: len(columns)] == columns, name

    def test_the_leading_columns_are_the_ones_of_the_contract(self, study):
        promised = [
            *["model", "reference", "backbone", "task", "metric"],
            *["model_value", "reference_value", "difference", "boot_mean", "se"],
            *["ci_low", "ci_high", "p", "p_holm", "p_bh", "test"],
        ]
        assert study.comparisons.columns.tolist()[: len(promised)] == promised
        promised = ["backbone", "supervision", "seed", "task", "metric", "value", "n"]
        assert study.performance.columns.tolist()[:7] == promised

    def test_performance_is_that_of_the_metrics(self, study, full_runs):
        table = study.performance.set_index(["backbone", "supervision", "task", "metric"])
        for run in full_runs:
            predictions = Predictions.read(run.predictions)
            tasks = ["oa", "kl"] if predictions.prob_kl is not None else ["oa"]
            for task in tasks:
                for name, metric in METRICS[task].items():
                    found = table.loc[(run.backbone, run.supervision, task, name), "value"]
                    assert found == metric(predictions)

    def test_single_kl_is_scored_on_oa_too(self, study):
        rows = study.performance.query("supervision == 'single_kl' and task == 'oa'")
        assert rows["oa_source"].unique().tolist() == ["kl"]
        sources = study.runs.set_index("supervision")["oa_source"].to_dict()
        assert sources == {"single_oa": "head", "single_kl": "kl", "dual": "head"}

    def test_accuracy_and_f1_follow_from_the_confusion_table(self, study):
        values = study.performance.set_index(["backbone", "supervision", "task", "metric"])["value"]
        by_head = study.confusion.groupby(["backbone", "supervision", "head"])
        assert len(by_head) == 8
        for (backbone, supervision, head), cells in by_head:
            table = cells["count"].to_numpy().reshape(2 if head == "oa" else 5, -1)
            assert table.sum() == len(CASES)
            accuracy = values[backbone, supervision, head, "accuracy"]
            assert accuracy == pytest.approx(np.trace(table) / len(CASES))
            scores = class_f1(table)
            expected = scores[1] if head == "oa" else scores.mean()
            metric = "f1" if head == "oa" else "macro_f1"
            assert values[backbone, supervision, head, metric] == pytest.approx(expected)

    def test_differences_are_those_of_the_performance_table(self, study):
        table = study.performance.assign(
            run=study.performance[["backbone", "supervision"]].agg("-".join, axis=1) + "-s0"
        ).set_index(["run", "task", "metric"])["value"]
        for row in study.comparisons.itertuples():
            model = table[row.model, row.task, row.metric]
            reference = table[row.reference, row.task, row.metric]
            assert (row.model_value, row.reference_value) == (model, reference)
            assert row.difference == model - reference

    def test_only_the_accuracy_of_oa_is_tested_by_mcnemar(self, study):
        mcnemar = study.comparisons["test"] == "McNemar exact"
        expected = study.comparisons.eval("task == 'oa' and metric == 'accuracy'")
        assert mcnemar.equals(expected)
        assert (
            study.comparisons.loc[mcnemar, ["ci_low", "mcnemar_b", "p_mid"]]
            .notna()
            .to_numpy()
            .all()
        )

    def test_adjusted_p_values_stay_inside_their_family(self, study):
        for _, rows in study.comparisons.groupby("family"):
            smallest = rows.loc[rows["p"].idxmin()]
            assert smallest["p_holm"] == pytest.approx(min(1.0, len(rows) * smallest["p"]))
            assert (rows["p"] <= rows["p_bh"] + 1e-12).all()
            assert (rows["p_bh"] <= rows["p_holm"] + 1e-12).all()

    def test_backbone_rows_have_no_backbone_of_their_own(self, study):
        rows = study.comparisons.query("family == 'backbone-vs-backbone'")
        assert (rows["backbone"] == "").all()
        assert len(rows) == 12

    def test_geometry_has_a_row_for_each_way_to_fit(self, study):
        rows = study.geometry.query("backbone == 'm3t' and supervision == 'dual'")
        assert rows["fit"].tolist() == ["test", "train", "train_in_sample"]
        assert rows["n"].tolist() == [len(CASES)] * 3
        assert (rows["rho_kl"] > 0).all()

    def test_a_case_without_saliency_is_left_out_of_the_mass_only(self, study):
        rows = study.overlap.set_index("metric")["n"]
        assert (rows["mass_roi"] == len(CASES) - 1).all()
        assert (rows["top1_roi"] == len(CASES)).all()

    def test_overlaps_are_compared_on_the_head_that_both_have(self, study):
        rows = study.overlap_comparisons.query("metric == 'mass_roi'")
        pairs = list(zip(rows["reference"], rows["head"], strict=True))
        expected = [
            (f"{backbone}-single_{head}-s0", head)
            for backbone in ("resnet3d", "m3t")
            for head in ("oa", "kl")
        ]
        assert pairs == expected
        assert (rows["dropped"] == 1).all()
        np.testing.assert_allclose(
            rows["difference"], rows["model_value"] - rows["reference_value"]
        )

    def test_a_uniform_map_would_score_the_chance_that_is_given(self, study):
        rows = study.overlap.query("metric == 'mass_roi'")
        shares = study.overlap.query("metric == 'cartilage_share'")
        np.testing.assert_allclose(rows["chance"], shares["value"])

    def test_what_a_run_was_made_with_comes_from_its_record(self, study):
        row = study.runs.query("backbone == 'resnet3d' and supervision == 'single_oa'").iloc[0]
        assert (row["size"], row["grid"], row["parameters"]) == ("small", "24x48x48", 10)
        assert study.runs.iloc[1]["grid"] == ""

    def test_test_cases_are_counted_where_no_cohort_is_given(self, study):
        row = study.cohort.iloc[0]
        assert (row["split"], row["cases"], row["oa_positive"]) == ("test", 40, 24)


class TestFolder:
    def test_what_is_written_is_read(self, study, tmp_path):
        study.write(tmp_path)
        read = StudyResult.read(tmp_path)
        assert (read.name, read.protocol) == ("made", {"seeds": [0]})
        for name in COLUMNS:
            pd.testing.assert_frame_equal(getattr(read, name), getattr(study, name))
        assert_same_exemplars(read.exemplars, study.exemplars)

    def test_the_tables_are_one_csv_each(self, study, tmp_path):
        study.write(tmp_path)
        expected = {f"{name}.csv" for name in COLUMNS} | {"protocol.json", "exemplars.npz"}
        assert {path.name for path in tmp_path.iterdir()} == expected

    def test_runs_with_predictions_only_leave_the_other_tables_empty(self, tmp_path):
        run = made_run(tmp_path / "runs", "m3t-dual-s0")
        analyze([run], settings=SETTINGS).write(tmp_path / "study")
        read = StudyResult.read(tmp_path / "study")
        for name in ("comparisons", "geometry", "overlap", "overlap_comparisons", "embedding"):
            assert getattr(read, name).empty
            assert getattr(read, name).columns.tolist() == COLUMNS[name]
        assert read.exemplars == ()

    def test_a_folder_that_is_no_study_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"no protocol\.json"):
            StudyResult.read(tmp_path)

    def test_a_table_without_one_of_its_columns_is_refused(self, study, tmp_path):
        study.write(tmp_path)
        write_csv(tmp_path / "chance.csv", study.chance.drop(columns="rule"))
        with pytest.raises(InputError, match="no column rule"):
            StudyResult.read(tmp_path)


class TestAnalyze:
    def test_the_same_seed_gives_the_same_numbers(self, full_runs, study):
        again = analyze(full_runs[::-1], settings=SETTINGS)
        for name in COLUMNS:
            pd.testing.assert_frame_equal(getattr(again, name), getattr(study, name))

    def test_a_case_that_one_run_lacks_is_named(self, tmp_path):
        runs = [
            made_run(tmp_path, "m3t-dual-s0"),
            made_run(tmp_path, "m3t-single_oa-s0", cases=CASES[:-2], kl=GRADES[:-2]),
        ]
        with pytest.raises(InputError, match=r"case 038: .* m3t-dual-s0 and not of m3t-single_oa"):
            analyze(runs, settings=SETTINGS)

    def test_a_case_with_two_reference_grades_is_named(self, tmp_path):
        runs = [
            made_run(tmp_path, "m3t-dual-s0"),
            made_run(tmp_path, "m3t-single_oa-s0", kl=np.roll(GRADES, 1)),
        ]
        with pytest.raises(InputError, match="case 000"):
            analyze(runs, settings=SETTINGS)

    def test_features_of_other_cases_are_refused(self, tmp_path):
        run = with_features(made_run(tmp_path, "m3t-dual-s0"))
        features = Features.read(run.features)
        replace(features, case_id=np.roll(features.case_id, 1)).write(run.features)
        with pytest.raises(InputError, match="test case"):
            analyze([run], settings=SETTINGS)

    def test_no_run_is_refused(self):
        with pytest.raises(InputError, match="no run"):
            analyze([], settings=SETTINGS)

    def test_too_few_knees_of_a_grade_leave_the_interval_out_and_say_so(self, tmp_path):
        few = {"cases": CASES[:10], "kl": GRADES[:10]}
        names = ("m3t-dual-s0", "m3t-single_kl-s0")
        runs = [made_run(tmp_path, name, seed=i, **few) for i, name in enumerate(names)]
        result = analyze(runs, settings=SETTINGS)
        rows = result.comparisons.set_index("metric")
        assert "lack a class" in rows.loc["macro_auc", "warning"]
        assert np.isnan(rows.loc["macro_auc", ["ci_low", "p", "p_holm"]].astype(float)).all()
        assert np.isfinite(rows.loc["macro_auc", "difference"])
        assert np.isfinite(rows.loc["macro_f1", "p"])
        family = rows["p"].notna()
        assert rows.loc[family, "p_holm"].max() <= 1.0

    def test_a_second_seed_changes_nothing_in_the_first(self, full_runs, tmp_path):
        names = ("m3t-dual-s0", "m3t-single_oa-s0", "m3t-dual-s1", "m3t-single_oa-s1")
        runs = [made_run(tmp_path, name, seed=i) for i, name in enumerate(names)]
        both = analyze(runs, settings=SETTINGS).comparisons
        first = analyze(runs[:2], settings=SETTINGS).comparisons
        pd.testing.assert_frame_equal(both[both["seed"] == 0], first)
        assert both["seed"].tolist() == [0, 0, 0, 1, 1, 1]

    def test_the_papers_p_value_is_an_option(self, tmp_path):
        names = ("m3t-dual-s0", "m3t-single_oa-s0")
        runs = [made_run(tmp_path, name, seed=i) for i, name in enumerate(names)]
        ours, papers = (
            analyze(runs, settings=SETTINGS.model_copy(update={"paper_p": asked})).comparisons
            for asked in (False, True)
        )
        by_bootstrap = ours["test"] == "paired bootstrap"
        shares = papers.loc[by_bootstrap, "p"] * 200 / 2
        np.testing.assert_allclose(shares.clip(upper=100), shares.round())
        assert (papers["p"] <= ours["p"] + 1e-12).all()
        assert ours.loc[~by_bootstrap, "p"].equals(papers.loc[~by_bootstrap, "p"])


class TestExemplars:
    def test_pictures_are_read_as_they_were_written(self, tmp_path):
        pictures = (made_exemplar(), made_exemplar(case_id="008", head="kl"))
        write_exemplars(tmp_path / "e.npz", pictures)
        assert_same_exemplars(read_exemplars(tmp_path / "e.npz"), pictures)

    def test_order_is_kept_beyond_ten(self, tmp_path):
        pictures = [made_exemplar(case_id=str(i)) for i in range(12)]
        write_exemplars(tmp_path / "e.npz", pictures)
        assert [e.case_id for e in read_exemplars(tmp_path / "e.npz")] == list(map(str, range(12)))

    def test_no_picture_is_a_file_too(self, tmp_path):
        write_exemplars(tmp_path / "e.npz", [])
        assert read_exemplars(tmp_path / "e.npz") == ()

    def test_a_missing_array_is_named(self, tmp_path):
        np.savez(tmp_path / "e.npz", **{"0/kl": np.asarray(3)})
        with pytest.raises(InputError, match="no array 0/case_id"):
            read_exemplars(tmp_path / "e.npz")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Five seeds of two methods, with features, and the sex of each case."""
    folder = tmp_path_factory.mktemp("seeded")
    names = [f"m3t-{s}-s{seed}" for s in ("single_kl", "dual") for seed in range(5)]
    runs = [with_features(made_run(folder, name, seed=i)) for i, name in enumerate(names)]
    sex = np.where(np.arange(len(CASES)) < 15, "female", "male")
    covariates = pd.DataFrame({"case_id": CASES, "sex": sex})
    return analyze(runs, settings=SETTINGS, covariates=covariates)


class TestFurtherTables:
    def test_five_seeds_make_a_claim_about_methods_and_one_seed_does_not(self, seeded, study):
        assert set(seeded.seeds["about"]) == {"two methods"}
        assert set(study.seeds["about"]) == {"the trained networks, not the methods"}
        assert study.seeds[["se_seeds", "se_both", "p"]].isna().all(axis=None)
        assert (seeded.seeds["se_both"] > seeded.seeds["se_seeds"]).all()

    def test_the_mean_over_seeds_is_that_of_the_performance_table(self, seeded):
        row = seeded.seeds.query("task == 'kl' and metric == 'accuracy'").iloc[0]
        rows = seeded.performance.query("task == 'kl' and metric == 'accuracy'")
        means = rows.groupby("supervision")["value"].mean()
        assert (row["model"], row["reference"]) == ("m3t-dual", "m3t-single_kl")
        assert row["model_mean"] == pytest.approx(means["dual"])
        assert row["difference"] == pytest.approx(means["dual"] - means["single_kl"])

    def test_every_difference_has_what_it_could_not_have_found(self, study):
        rows = study.comparisons.query("metric != 'accuracy' or task != 'oa'")
        np.testing.assert_allclose(rows["mde"] / rows["se"], 2.8015852, atol=1e-6)
        tested = study.comparisons["p_max_t"].dropna()
        assert len(tested) == len(study.comparisons)
        assert tested.between(0, 1).all()

    def test_temperatures_come_from_training_predictions(self, seeded):
        scaled = seeded.calibration.query("scaling == 'temperature'")
        assert set(scaled["head"]) == {"oa", "kl"}
        assert scaled["temperature"].between(1 / 50, 50).all()
        assert (scaled["temperature_low"] <= scaled["temperature"]).all()
        counts = seeded.reliability.groupby(["supervision", "seed", "head", "scaling"])["count"]
        assert (counts.sum() == len(CASES)).all()

    def test_only_a_model_with_two_heads_can_contradict_itself(self, seeded):
        assert set(seeded.hierarchy["supervision"]) == {"dual"}
        by_grade = seeded.hierarchy.query("stratum != 'all'").groupby("seed")["inconsistent"].sum()
        whole = seeded.hierarchy.query("stratum == 'all'").set_index("seed")["inconsistent"]
        pd.testing.assert_series_equal(by_grade, whole, check_dtype=False)

    def test_scores_are_shares_of_their_ceiling(self, seeded):
        np.testing.assert_allclose(
            seeded.noise["share"], seeded.noise["value"] / seeded.noise["ceiling"]
        )
        assert set(seeded.noise["agreement"]) == {0.6, 0.7, 0.8}

    def test_strata_add_up_and_are_absent_without_covariates(self, seeded, study):
        n = seeded.strata.query("metric == 'auc'").groupby(["supervision", "seed"])["n"].sum()
        assert (n == len(CASES)).all()
        assert study.strata.empty

    def test_features_of_two_seeds_are_likened_and_of_two_methods_and_seeds_not(self, seeded):
        assert set(seeded.similarity["differ_in"]) == {"seed", "supervision"}
        assert len(seeded.similarity) == 2 * 10 + 5
        assert seeded.similarity["cka"].between(0, 1 + 1e-9).all()

    def test_axes_of_the_training_split_stand_beside_that_of_the_test_split(self, seeded):
        assert set(seeded.order["axis"]) == {"test", "train", "supervised"}
        assert seeded.order.query("axis == 'train'")["rho_kl"].gt(0).all()
        assert seeded.representation["similarity_p"].between(0, 1).all()

    @pytest.mark.parametrize(
        ("name", "measures"),
        [("order", ORDER), ("representation", SHAPE), ("similarity", LIKENESS)],
    )
    def test_what_features_say_lies_inside_its_interval(self, seeded, name, measures):
        table = getattr(seeded, name)
        for measure in measures:
            low, high = (table[bound] for bound in bounds_of(measure))
            assert (low < high).any() or (table[measure] == 1).all(), measure
            outside = (table[measure] < low - 1e-9) | (table[measure] > high + 1e-9)
            assert not outside.any(), table.loc[outside, [measure, *bounds_of(measure)]]
