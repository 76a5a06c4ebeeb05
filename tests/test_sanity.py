from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kellgren.evidence import Evidence
from kellgren.runs import Run
from kellgren.sanity import control_rows, deletion_rows, randomisation_rows, repeatability_rows
from kellgren.volume import write_nifti

MEASURES = ["mass_roi", "top1_roi", "dice_5", "dice_10"]
CASES = [f"k{i}" for i in range(20)]


def evidence(folder: Path, *, seed: int = 0, own: float = 0.2, shift: float = 0.1) -> Evidence:
    run = Run.at(folder / f"m3t-single_oa-s{seed}")
    run.folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 0.1, len(CASES))
    pd.DataFrame({"case_id": CASES, "kl": [0, 3] * 10, "logit_oa": rng.normal(size=20)}).to_csv(
        run.predictions, index=False
    )
    overlaps = pd.DataFrame({"case_id": CASES, "head": "oa"} | {m: base + own for m in MEASURES})
    overlaps.to_csv(run.overlap, index=False)
    controls = pd.DataFrame(
        {"case_id": CASES, "head": "", "control": "centre"}
        | {m: base + own - shift for m in MEASURES}
    )
    controls.to_csv(run.controls, index=False)
    return Evidence.of(run)


def test_a_constant_lead_over_a_control_has_no_spread(tmp_path):
    rows = control_rows(evidence(tmp_path), resamples=200, seed=0)
    assert [row["metric"] for row in rows] == MEASURES
    for row in rows:
        assert row["difference"] == pytest.approx(0.1)
        assert row["difference_low"] == pytest.approx(0.1)
        assert row["difference_high"] == pytest.approx(0.1)
        assert row["saliency"] - row["value"] == pytest.approx(0.1)
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert (row["control"], row["n"]) == ("centre", 20)


def test_cases_without_a_value_are_left_out_of_both(tmp_path):
    found = evidence(tmp_path)
    found.overlaps.loc[:4, "mass_roi"] = np.nan
    row = control_rows(found, resamples=200, seed=0)[0]
    assert row["n"] == 15
    assert row["difference"] == pytest.approx(0.1)


def test_a_run_without_controls_has_no_rows(tmp_path):
    found = evidence(tmp_path)
    found.run.controls.unlink()
    assert control_rows(found, resamples=200, seed=0) == []
    assert deletion_rows(found, resamples=200, seed=0) == []
    assert randomisation_rows(found) == []


def test_deletion_counts_the_size_of_the_change_not_its_sign(tmp_path):
    found = evidence(tmp_path)
    rows = {"case_id": CASES, "head": "oa", "region": "cartilage", "change_of_logit": [-2, 2] * 10}
    pd.DataFrame(rows).to_csv(found.run.deletion, index=False)
    (row,) = deletion_rows(found, resamples=200, seed=0)
    assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (2, 2, 2, 20)


def test_randomisation_is_a_mean_over_maps_that_have_a_correlation(tmp_path):
    found = evidence(tmp_path)
    rows = {"case_id": ["a", "b", "c"], "head": "oa", "depth": 1, "stage": "heads"}
    pd.DataFrame(rows | {"rho": [0.5, 0.7, None]}).to_csv(found.run.randomisation, index=False)
    (row,) = randomisation_rows(found)
    assert row["rho"] == pytest.approx(0.6)
    assert row["n"] == 2


def test_equal_maps_of_two_seeds_repeat_perfectly(tmp_path):
    both = [evidence(tmp_path, seed=seed) for seed in (0, 1)]
    values = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    for i, found in enumerate(both):
        write_nifti(found.run.saliency / "k1-oa.nii.gz", values, np.eye(4))
        write_nifti(found.run.saliency / "k2-oa.nii.gz", values if i else -values, np.eye(4))
    rows = {row["case_id"]: row for row in repeatability_rows(both)}
    assert rows["k1"]["rho"] == pytest.approx(1)
    assert rows["k2"]["rho"] == pytest.approx(-1)
    assert (rows["k1"]["seed"], rows["k1"]["other_seed"], rows["k1"]["head"]) == (0, 1, "oa")
