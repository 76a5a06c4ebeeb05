import numpy as np
import pytest

from kellgren.faults import InputError
from kellgren.radiomics.table import FeatureTable

WIDE = "case_id,roi_name,original_shape_A,original_glcm_B\n"
KNEES = WIDE + "k2,roi_1,1.5,2\nk1,roi_2,3,nan\nk1,roi_1,5,inf\n"


def table(tmp_path, text, name="wide.csv"):
    (tmp_path / name).write_text(text)
    return FeatureTable.read([tmp_path / name])


def test_a_wide_table_is_read_by_case_and_region_whatever_its_order(tmp_path):
    found = table(tmp_path, KNEES)
    assert found.case_id.tolist() == ["k1", "k2"]
    assert found.regions == ("roi_1", "roi_2")
    assert found.values[:, :, 0].tolist()[0] == [5.0, 3.0]
    assert found.values[1, 0].tolist() == [1.5, 2.0]


def test_an_absent_region_and_an_undefined_feature_are_nan(tmp_path):
    found = table(tmp_path, KNEES)
    assert np.isnan(found.values[1, 1]).all()
    assert np.isnan(found.values[0, :, 1]).all()


def test_what_is_written_is_read_back(tmp_path):
    found = table(tmp_path, KNEES)
    found.write(tmp_path / "again.csv")
    np.testing.assert_array_equal(FeatureTable.read([tmp_path / "again.csv"]).values, found.values)


def test_two_files_are_one_table_and_knees_come_in_the_order_asked_for(tmp_path):
    (tmp_path / "more.csv").write_text(WIDE + "k3,roi_1,7,8\n")
    (tmp_path / "wide.csv").write_text(KNEES)
    both = FeatureTable.read([tmp_path / "wide.csv", tmp_path / "more.csv"])
    assert both.of(["k3", "k1"]).flat()[:, 0].tolist() == [7.0, 5.0]
    assert both.columns[1] == ("roi_1", "original_glcm_B")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case_id,original_shape_A\nk1,2\n", "roi_name"),
        (KNEES + "k2,roi_1,1,2\n", "case k2.*roi_1 twice"),
        (KNEES.replace("1.5", "many"), "text in the column original_shape_A"),
        ("", "a CSV table"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        table(tmp_path, text)


def test_a_knee_without_features_is_named(tmp_path):
    with pytest.raises(InputError, match=r"case k9.*no features"):
        table(tmp_path, KNEES).of(["k9"])
