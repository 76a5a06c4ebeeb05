import csv
from pathlib import Path

import pytest

from kellgren.report.published import (
    CONTEXT,
    FIG2,
    FIG2_P,
    TABLE1,
    TABLE2,
    TABLE3,
    published,
)

PAPER = Path(__file__).parents[2] / "shared" / "paper"
BACKBONES = {"ResNet3D": "resnet3d", "M3T": "m3t", "nnMamba": "nnmamba"}
COLUMNS = {
    "oa_acc": "oa_accuracy",
    "kl_acc": "kl_accuracy",
    "rho_pc1_kl": "rho_kl",
    "rho_pc1_oa": "rho_oa",
    "rho_k_dadj": "rho_adjacent",
}


def printed(name: str) -> list[dict[str, str]]:
    path = PAPER / name
    if not path.exists():
        pytest.skip(f"{path} is not here: the paper's tables as CSV")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    ("table", "file", "rows"),
    [
        ("table1", "table1_predictive.csv", TABLE1),
        ("table2", "table2_geometry.csv", TABLE2),
        ("table3", "table3_saliency.csv", TABLE3),
    ],
)
def test_every_cell_is_what_the_paper_printed(table, file, rows):
    lines = printed(file)
    assert len(lines) == len(rows)
    for line in lines:
        backbone = BACKBONES[line.pop("backbone")]
        key = line.pop("setting", None) or line.pop("branch")
        for column, text in line.items():
            value = published(table, backbone, key, COLUMNS.get(column, column))
            assert value == (float(text) if text else None), (backbone, key, column)


def test_every_quoted_difference_is_what_the_paper_printed():
    names = {
        "kl_macro_auc": "macro_auc",
        "kl_acc": "accuracy",
        "kl_macro_f1": "macro_f1",
        "oa_auc": "auc",
        "oa_acc": "accuracy",
        "oa_f1": "f1",
    }
    for line in printed("fig2_differences.csv"):
        key = (BACKBONES[line["backbone"]], line["task"].lower(), names[line["metric"]])
        wanted = float(line["mean_difference"]) if line["mean_difference"] else None
        assert published("fig2", *key) == wanted
        assert FIG2_P.get(key, "") == line["p_value"]


def test_contextual_rows_are_those_of_the_paper():
    tasks = {"OA-B": "oa", "OA-5": "kl"}
    lines = printed("table4_5_chen.csv")
    for task, key in tasks.items():
        mine = [line for line in lines if line["task"] == task]
        for line, row in zip(mine, CONTEXT[key], strict=True):
            assert row.accuracy == (float(line["acc"]), float(line["acc_sd"]))
            assert row.macro_f1 == (float(line["f1"]), float(line["f1_sd"]))
            assert row.auc == (float(line["auc"]), float(line["auc_sd"]))
            assert row.images == line["input"]


def test_a_cell_that_the_paper_left_empty_is_none():
    assert published("table1", "resnet3d", "single_oa", "kl_accuracy") is None
    assert published("table1", "resnet3d", "ordinal", "oa_auc") is None
    assert published("fig2", "nnmamba", "oa", "auc") is None


def test_every_printed_accuracy_is_a_count_of_98():
    for values in TABLE1.values():
        for accuracy in (values[1], values[4]):
            if accuracy is not None:
                assert accuracy == round(round(accuracy * 98) / 98, 4)


def test_no_printed_pair_of_rho_and_auroc_can_hold_on_the_98_test_knees():
    factor = (3 * 33 * 65 / (98**2 - 1)) ** 0.5  # |rho| = (2 A - 1) x factor, without ties
    for _, _, rho, auroc, _ in TABLE2.values():
        lowest, highest = ((r / factor + 1) / 2 for r in (abs(rho) - 5e-4, abs(rho) + 5e-4))
        assert not lowest - 5e-4 <= auroc <= highest + 5e-4


def test_quoted_differences_lie_near_those_of_table_1():
    singles = {"oa": "single_oa", "kl": "single_kl"}
    for backbone, task, metric in FIG2_P:
        dual = published("table1", backbone, "dual", f"{task}_{metric}")
        single = published("table1", backbone, singles[task], f"{task}_{metric}")
        assert published("fig2", backbone, task, metric) == pytest.approx(dual - single, abs=0.003)
    assert set(FIG2) == {(backbone, task) for backbone, task, _ in FIG2_P}
