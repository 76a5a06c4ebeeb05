import numpy as np
import pandas as pd
import pytest

from kellgren.faults import InputError
from kellgren.tables import LOGIT_KL, PROB_KL, Features, Predictions, read_overlaps, write_csv


def written(folder, **columns):
    path = folder / "predictions.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def kl_columns(names, values):
    return dict(zip(names, np.asarray(values, dtype=float).T, strict=True))


class TestReading:
    def test_rows_are_sorted_by_case_id_and_ids_stay_text(self, tmp_path):
        path = written(tmp_path, case_id=["010", "009"], kl=[4, 0], logit_oa=[2.0, -2.0])
        predictions = Predictions.read(path)
        assert predictions.case_id.tolist() == ["009", "010"]
        assert predictions.kl.tolist() == [0, 4]

    def test_the_oa_head_comes_before_the_kl_head(self, tmp_path):
        kl_head = kl_columns(LOGIT_KL, [[9, 0, 0, 0, 0]])
        path = written(tmp_path, case_id=["a"], kl=[0], logit_oa=[3.0], **kl_head)
        predictions = Predictions.read(path)
        assert predictions.oa_source == "head"
        assert predictions.score_oa.tolist() == [3.0]

    def test_a_kl_head_alone_implies_oa(self, tmp_path):
        path = written(tmp_path, case_id=["a"], kl=[0], **kl_columns(LOGIT_KL, [[0, 0, 0, 0, 0]]))
        predictions = Predictions.read(path)
        assert predictions.oa_source == "kl"
        assert predictions.prob_oa[0] == pytest.approx(3 / 5)

    def test_given_probabilities_are_the_scores_as_they_stand(self, tmp_path):
        prob = [[0.1, 0.2, 0.3, 0.2, 0.2]]
        path = written(tmp_path, case_id=["a"], kl=[1], prob_oa=[0.25], **kl_columns(PROB_KL, prob))
        predictions = Predictions.read(path)
        assert predictions.oa_source == "column"
        assert predictions.score_oa.tolist() == [0.25]
        np.testing.assert_array_equal(predictions.score_kl, prob)

    def test_a_probability_of_zero_implies_oa_without_a_warning(self, tmp_path):
        prob = [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
        path = written(tmp_path, case_id=["a", "b"], kl=[2, 0], **kl_columns(PROB_KL, prob))
        assert Predictions.read(path).prob_oa.tolist() == [1.0, 0.0]

    def test_empty_columns_of_an_absent_head_are_no_head(self, tmp_path):
        empty = {name: [""] for name in LOGIT_KL}
        path = written(tmp_path, case_id=["a"], kl=[0], logit_oa=[1.0], **empty)
        assert Predictions.read(path).score_kl is None

    def test_only_the_asked_split_is_read(self, tmp_path):
        path = written(
            tmp_path, case_id=["a", "b"], split=["train", "test"], kl=[0, 1], logit_oa=[1.0, 2.0]
        )
        assert Predictions.read(path).case_id.tolist() == ["b"]
        assert Predictions.read(path, split="train").case_id.tolist() == ["a"]

    def test_a_byte_order_mark_is_not_part_of_the_first_column(self, tmp_path):
        path = tmp_path / "predictions.csv"
        path.write_text("case_id,kl,logit_oa\na,0,1.5\n", encoding="utf-8-sig")
        assert Predictions.read(path).case_id.tolist() == ["a"]


class TestRefusal:
    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"case_id": ["a", "a"], "kl": [0, 1], "logit_oa": [1, 2]}, "case a more than once"),
            ({"case_id": ["a"], "logit_oa": [1]}, "add \\['kl'\\]"),
            ({"case_id": ["a"], "kl": [7], "logit_oa": [1]}, "case a: found kl '7'"),
            ({"case_id": ["a"], "kl": ["2.0"], "logit_oa": [1]}, "a grade from 0 to 4"),
            ({"case_id": ["a"], "kl": [0]}, "at least one head"),
            ({"case_id": ["a"], "kl": [0], "logit_oa": ["high"]}, "case a.*finite numbers"),
            ({"case_id": ["a"], "kl": [0], "logit_oa": ["inf"]}, "case a.*finite numbers"),
            ({"case_id": ["a", "b"], "kl": [0, 1], "logit_oa": [1, ""]}, "case b.*finite numbers"),
            ({"case_id": ["a"], "kl": [0], "prob_oa": [1.2]}, "probabilities in \\[0, 1\\]"),
            ({"case_id": ["a"], "kl": [0], "logit_kl_0": [1]}, "logit_kl_4"),
            ({"case_id": ["a"], "kl": [0], "split": ["train"], "logit_oa": [1]}, "no row of the"),
        ],
    )
    def test_a_bad_table_is_refused_by_name(self, tmp_path, columns, says):
        with pytest.raises(InputError, match=says):
            Predictions.read(written(tmp_path, **columns))

    def test_probabilities_that_do_not_sum_to_one_are_refused(self, tmp_path):
        wrong = kl_columns(PROB_KL, [[0.5, 0.5, 0.5, 0, 0]])
        with pytest.raises(InputError, match=r"sums to 1\.5"):
            Predictions.read(written(tmp_path, case_id=["a"], kl=[0], **wrong))

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            Predictions.read(tmp_path / "predictions.csv")


class TestTake:
    def test_rows_may_repeat(self, tmp_path):
        path = written(tmp_path, case_id=["a", "b"], kl=[0, 4], logit_oa=[-1.0, 1.0])
        taken = Predictions.read(path).take(np.array([1, 1, 0]))
        assert taken.kl.tolist() == [4, 4, 0]
        assert taken.oa_source == "head"
        assert taken.score_kl is None


class TestFeatures:
    def made(self):
        ids, split = np.array(["b", "a", "c"], dtype=object), np.array(["test", "test", "train"])
        z = np.arange(6.0).reshape(3, 2)
        return Features(ids, split.astype(object), np.array([1, 0, 4]), z)

    def test_what_is_written_is_read(self, tmp_path):
        self.made().write(tmp_path / "features.npz")
        read = Features.read(tmp_path / "features.npz")
        assert read.case_id.tolist() == ["b", "a", "c"]
        np.testing.assert_array_equal(read.z, self.made().z)

    def test_a_split_is_sorted_by_case_id(self):
        test = self.made().of_split("test")
        assert test.case_id.tolist() == ["a", "b"]
        assert test.kl.tolist() == [0, 1]

    def test_a_missing_array_is_named(self, tmp_path):
        np.savez(tmp_path / "features.npz", z=np.zeros((1, 2)))
        with pytest.raises(InputError, match="case_id"):
            Features.read(tmp_path / "features.npz")

    def test_arrays_of_different_length_are_refused(self, tmp_path):
        arrays = {"case_id": ["a"], "split": ["test"], "kl": [0], "z": np.zeros((2, 2))}
        np.savez(tmp_path / "features.npz", **arrays)
        with pytest.raises(InputError, match="lengths"):
            Features.read(tmp_path / "features.npz")


class TestOverlaps:
    def test_case_ids_stay_text_and_empty_cells_are_missing(self, tmp_path):
        row = {"case_id": "007", "head": "oa", "mass_roi": np.nan, "top1_roi": 0.5}
        write_csv(tmp_path / "o.csv", pd.DataFrame([{**row, "dice_5": 0.1, "dice_10": 0.1}]))
        table = read_overlaps(tmp_path / "o.csv")
        assert table["case_id"].tolist() == ["007"]
        assert np.isnan(table["mass_roi"][0])

    def test_a_missing_measure_is_named(self, tmp_path):
        write_csv(tmp_path / "o.csv", pd.DataFrame({"case_id": ["a"], "head": ["oa"]}))
        with pytest.raises(InputError, match="mass_roi"):
            read_overlaps(tmp_path / "o.csv")
