"""The extraction of a cohort; a stand-in measures, so that PyRadiomics need not be installed."""

import dataclasses
import json
import os
import re
import sys
import time

import numpy as np
import pytest

from kellgren.cli.radiomics import extract
from kellgren.cohort import Case, write_cohort
from kellgren.faults import InputError
from kellgren.radiomics import extraction as module
from kellgren.radiomics.children import outcomes
from kellgren.radiomics.extraction import Extraction
from kellgren.radiomics.table import FeatureTable
from tests.measures import fake, sleep_if_told

ASKED = {"pool": "published", "labels": [1, 2], "mask_source": "not stated"}


@pytest.fixture
def extraction(tmp_path):
    return Extraction(tmp_path / "out" / "features.csv", ASKED, fake)


@pytest.fixture
def here(monkeypatch):
    """The work is done in this process, since a child takes a second to start."""

    def outcomes_here(work, cases, workers):
        for case in cases:
            try:
                work(case)
            except InputError as error:
                yield case.case_id, error.of_case(case.case_id)
            else:
                yield case.case_id, None

    monkeypatch.setattr(module, "outcomes", outcomes_here)


def knee(folder, case_id, content):
    path = folder / f"{case_id}.nii.gz"
    path.write_text(content)
    mask = folder / f"{case_id}-mask.nii.gz"
    mask.write_text("mask")
    return Case(case_id, case_id, "right", "train", 2, path, mask)


def measured(folder):
    """Cases measured since the last time this was asked."""
    log = folder / "measured.log"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(names)


def finish(extraction, cases):
    """Make the parts here, without child processes, then run what is left: nothing."""
    for case in cases:
        extraction.extract(case)
    assert extraction.run(cases) == {}


def test_a_fault_and_a_killed_child_are_told_by_name_and_cost_only_their_knee(tmp_path, extraction):
    contents = {"k1": "sound", "k2": "damaged", "k3": "kill"}
    cases = [knee(tmp_path, name, content) for name, content in contents.items()]
    seen = []
    faults = extraction.run(
        cases, workers=2, keep_going=True, progress=lambda *done: seen.append(done)
    )
    assert sorted(faults) == ["k2", "k3"]
    assert re.match("case k2: .*a damaged scan", str(faults["k2"]))
    assert re.match("case k3: .*signal 9", str(faults["k3"]))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert extraction.part("k1").exists()
    assert not extraction.out.exists()
    assert measured(tmp_path) == ["k1", "k2", "k3"]


def test_what_is_missing_is_measured_and_the_table_is_that_of_one_go(tmp_path, extraction, here):
    contents = {"k1": "sound", "k2": "damaged", "k3": "four"}
    cases = [knee(tmp_path, name, content) for name, content in contents.items()]
    assert list(extraction.run(cases, keep_going=True)) == ["k2"]
    assert not extraction.out.exists()
    cases[1].image.write_text("repaired")
    measured(tmp_path)
    assert extraction.run(cases) == {}
    assert measured(tmp_path) == ["k2"]
    whole = dataclasses.replace(extraction, out=tmp_path / "whole" / "features.csv")
    whole.run(cases)
    assert extraction.out.read_bytes() == whole.out.read_bytes()


def test_children_at_work_are_ended_where_nobody_waits_for_them(tmp_path):
    cases = [knee(tmp_path, "k1", "sound"), knee(tmp_path, "k2", "sleep")]
    ended = outcomes(sleep_if_told, cases, 2)
    assert next(ended) == ("k1", None)
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    ended.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_first_fault_ends_an_extraction_that_is_not_to_keep_going(tmp_path, extraction, here):
    cases = [knee(tmp_path, name, "damaged") for name in ("k1", "k2", "k3")]
    with pytest.raises(InputError, match=r"case k1.*a damaged scan"):
        extraction.run(cases)
    assert measured(tmp_path) == ["k1"]
    assert not extraction.out.exists()


def test_a_knee_whose_files_changed_is_measured_again_and_no_other(tmp_path, extraction, here):
    cases = [knee(tmp_path, "k1", "sound"), knee(tmp_path, "k2", "sound")]
    finish(extraction, cases)
    measured(tmp_path)
    cases[1].segmentation.write_text("another mask")
    extraction.run(cases)
    assert measured(tmp_path) == ["k2"]


def test_the_table_holds_every_number_exactly_and_leaves_absent_regions_out(tmp_path, extraction):
    finish(extraction, [knee(tmp_path, "k2", "four"), knee(tmp_path, "k1", "no bone")])
    assert extraction.out.read_text().splitlines() == [
        "case_id,roi_name,original_a,original_b",
        "k1,roi_2,2.3333333333333335,",
        "k2,roi_1,0.1,1e+300",
        "k2,roi_2,1.3333333333333333,",
    ]
    table = FeatureTable.read([extraction.out])
    assert table.regions == ("roi_1", "roi_2")
    assert np.isnan(table.values[0, 0]).all()


@pytest.mark.parametrize("changed", [{"pool": "mr"}, {"labels": [2]}, {"threads": 2}])
def test_parts_of_other_settings_are_not_mixed(tmp_path, extraction, changed):
    cases = [knee(tmp_path, "k1", "sound")]
    finish(extraction, cases)
    other = dataclasses.replace(extraction, asked=ASKED | changed)
    with pytest.raises(InputError, match=f"other {next(iter(changed))}"):
        other.run(cases)
    extraction.sidecar.unlink()
    assert extraction.run(cases) == {}
    assert json.loads(extraction.sidecar.read_text())["asked"] == ASKED


def test_a_sidecar_that_is_none_is_refused_and_a_part_that_is_none_is_made_anew(
    tmp_path, extraction, here
):
    cases = [knee(tmp_path, "k1", "sound")]
    finish(extraction, cases)
    extraction.part("k1").write_text("")
    measured(tmp_path)
    extraction.run(cases)
    assert measured(tmp_path) == ["k1"]
    extraction.sidecar.write_text("[]")
    with pytest.raises(InputError, match="no record of an extraction"):
        extraction.run(cases)


def test_a_knee_without_masks_is_told_what_is_needed_before_any_is_measured(tmp_path, extraction):
    cases = [knee(tmp_path, "k1", "sound"), knee(tmp_path, "k2", "sound")]
    cases[1] = dataclasses.replace(cases[1], segmentation=None)
    with pytest.raises(InputError, match=r"case k2.*no segmentation.*4 medial.*CartiMorph"):
        extraction.run(cases)
    cases[0].image.unlink()
    with pytest.raises(InputError, match=r"case k1.*no such file"):
        extraction.run(cases)
    assert measured(tmp_path) == []


def test_only_a_csv_file_is_written(tmp_path, extraction):
    with pytest.raises(InputError, match=r"ends in \.csv"):
        dataclasses.replace(extraction, out=tmp_path / "features.json").run([])


def test_where_pyradiomics_is_absent_the_verb_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "radiomics", None)
    write_cohort(tmp_path / "cohort.csv", [knee(tmp_path, "k1", "sound")])
    with pytest.raises(InputError, match=r"no PyRadiomics.*kellgren\[radiomics\].*C compiler"):
        extract(tmp_path / "cohort.csv", tmp_path / "features.csv")


@pytest.mark.parametrize("labels", ["", "0,1", "2;3", "256"])
def test_labels_that_are_none_are_refused(tmp_path, labels):
    with pytest.raises(InputError, match="--labels"):
        extract(tmp_path / "cohort.csv", tmp_path / "features.csv", labels=labels)
