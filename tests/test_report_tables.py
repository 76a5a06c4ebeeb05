import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import pandas as pd
import pytest

from kellgren.config import SystemName
from kellgren.radiomics.benchmark import SYSTEMS as FITTED
from kellgren.report.benchmark_tables import INPUT
from kellgren.report.markup import to_html, to_latex, to_markdown
from kellgren.report.paper_tables import table1, table2, table3
from kellgren.report.table import Cell, Column, Group, Omitted, Row, Table, mark_best
from kellgren.report.tables import TABLES
from kellgren.report.terms import SYSTEMS
from kellgren.results import COLUMNS
from tests.made_study import empty_result, made_benchmark, made_result

HOSTILE = "<script>alert(1)</script> & 50% of_$x$ {~^\\#} | *b*"


OF_PAIRS = ("table_s1", "table_s2", "table_s11", "table_s16", "table_s17")  # of runs or seeds
OF_SYSTEMS = ("table_s17", "table_s18")


def made_for(name: str, seeds: tuple[int, ...] = (0,)):
    """A made study that has what a table needs."""
    if name in OF_SYSTEMS:
        return made_benchmark(seeds)
    over_seeds = name in ("table_s3", "table_s16", "table_s20")
    return made_result((0, 1)) if over_seeds else made_result(seeds)


def rows_of(table: Table, group: str) -> dict[str, Row]:
    return {row.labels[0]: row for g in table.groups if g.name == group for row in g.rows}


class Balance(HTMLParser):
    """Depth of open elements, and how many cells each table row has room for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def hostile_table() -> Table:
    row = Row((HOSTILE,), (Cell(HOSTILE, 1.0, True, HOSTILE, (HOSTILE,)),))
    return Table(
        "t",
        HOSTILE,
        HOSTILE,
        ("a", "b"),
        (Column(HOSTILE, "a"),),
        (Group(HOSTILE, (row,)),),
        ((HOSTILE, 1),),
        (HOSTILE,),
    )


def test_the_best_of_a_column_is_marked_and_ties_are_all_marked():
    rows = [Row((str(v),), (Cell(str(v), v),)) for v in (0.5, 0.7, 0.7)]
    assert [row.cells[0].best for row in mark_best(rows, [0])] == [False, True, True]


def test_a_column_with_one_value_has_no_best():
    rows = [Row(("a",), (Cell("1", 1.0),)), Row(("b",), (Cell("–"),))]
    assert not any(row.cells[0].best for row in mark_best(rows, [0]))


def test_best_in_group_of_table_1_is_the_maximum_of_its_backbone():
    result = made_result()
    table = table1(result)
    scores = result.performance
    scores = scores[(scores.backbone == "m3t") & (scores.task == "oa") & (scores.metric == "auc")]
    cells = [row.cells[0] for row in rows_of(table, "M3T").values()]
    assert [cell.best for cell in cells] == (scores.value == scores.value.max()).tolist()
    assert sum(cell.best for cell in cells) >= 1


def test_an_accuracy_carries_its_count_and_the_papers_value():
    result = made_result()
    cell = rows_of(table1(result), "ResNet3D")["Dual"].cells[1]
    k = round(cell.value * 40)
    assert cell.notes[0].startswith(f"{k}/40 [")
    assert cell.published == ".8163"


def test_chance_rows_stand_at_the_foot_of_table_1():
    table = table1(made_result())
    assert table.groups[-1].name == "Chance"
    rows = rows_of(table, "Chance")
    assert rows["All called OA"].cells[2].text == "0.7500"  # 24 of 40: 2 x 24 / (2 x 24 + 16)
    assert rows["One score for all"].cells[0].text == "0.5000"


def test_several_seeds_give_a_mean_and_a_standard_deviation():
    result = made_result((0, 1))
    table = table1(result)
    cell = rows_of(table, "ResNet3D")["Dual"].cells[0]
    rows = result.performance
    rows = rows[(rows.backbone == "resnet3d") & (rows.supervision == "dual")]
    values = rows[(rows.task == "oa") & (rows.metric == "auc")].value
    assert cell.text == f"{values.mean():.4f} ± {values.std():.4f}"
    assert cell.notes == ()
    assert "2 seeds (0, 1)" in table.caption


def test_every_table_can_be_made_of_several_seeds():
    several = made_result((0, 1))
    for name, make in TABLES.items():
        assert isinstance(make(made_for(name, (0, 1))), Table)
    rows = [row for group in TABLES["table_s1"](several).groups for row in group.rows]
    assert len(rows) == 108
    assert {row.labels[0].rsplit(", ", 1)[1] for row in rows} == {"seed 0", "seed 1"}


def test_an_unknown_chance_level_is_a_dash():
    overlap = made_result().overlap.assign(chance=None)
    table = table3(replace(made_result(), overlap=overlap))
    assert [cell.text for cell in table.groups[1].rows[0].cells] == ["–"] * 4


def test_table_2_headlines_the_magnitude_and_keeps_the_sign_below():
    result = made_result()
    flipped = replace(
        result, geometry=result.geometry.assign(rho_kl=-result.geometry["abs_rho_kl"])
    )
    cell = rows_of(table2(flipped), "nnMamba")["Dual"].cells[1]
    assert cell.value > 0
    assert any(note.startswith("signed −") for note in cell.notes)
    assert cell.published == "−.687"


def test_in_sample_auroc_obeys_the_identity_that_table_2_states():
    result = made_result()
    factor = (3 * 16 * 24 / (40**2 - 1)) ** 0.5
    for row in rows_of(table2(result), "M3T").values():
        assert row.cells[2].value == pytest.approx((2 * row.cells[3].value - 1) * factor)
    assert f"{factor:.4f}" in " ".join(table2(result).footnotes)


def test_table_3_lists_four_branches_with_chance_and_ceiling():
    table = table3(made_result())
    assert list(rows_of(table, "ResNet3D")) == ["Single-OA", "Single-KL", "Dual-KL", "Dual-OA"]
    bounds = table.groups[1]
    assert bounds.reference
    assert [cell.text for cell in bounds.rows[0].cells] == ["0.0080", "0.0080", "0.0138", "0.0148"]
    assert [cell.text for cell in bounds.rows[1].cells] == ["1.0000", "0.8000", "0.2760", "0.1480"]


def test_contextual_tables_mark_nothing_as_best_and_say_that_they_are_not_controlled():
    for name, ours in (("table4", 9), ("table5", 6)):
        table = TABLES[name](made_result())
        assert not any(c.best for g in table.groups for row in g.rows for c in row.cells)
        assert [len(group.rows) for group in table.groups] == [5, ours]
        assert "not controlled" in table.footnotes[0]


def test_every_declared_comparison_has_its_line():
    result = made_result()
    table = TABLES["table_s1"](result)
    assert sum(len(group.rows) for group in table.groups) == len(result.comparisons) == 54
    first = rows_of(table, "ResNet3D")
    assert set(first) == {"Dual − Single-OA", "Dual − Single-KL"}
    bold = sum(row.cells[0].best for group in table.groups for row in group.rows)
    assert bold == (result.comparisons["p_holm"] < 0.05).sum()


def test_the_table_of_a_phantom_says_that_values_are_not_comparable():
    for name in ("table1", "table2", "table3", "table4", "table5", "table_s1"):
        assert "not comparable" in " ".join(TABLES[name](made_result()).footnotes)


def test_the_papers_own_cohort_is_recognised_by_its_grades():
    grades = dict(zip([f"kl{k}" for k in range(5)], (21, 12, 22, 28, 15), strict=True))
    cohort = pd.DataFrame([{"split": "test", "cases": 98, **grades}])
    table = table1(replace(made_result(), protocol={}, cohort=cohort))
    assert "same counts of grades" in " ".join(table.footnotes)


@pytest.mark.parametrize("name", TABLES)
def test_what_was_not_measured_is_left_out_with_a_reason(name):
    omitted = TABLES[name](empty_result())
    assert isinstance(omitted, Omitted)
    assert omitted.reason


@pytest.mark.parametrize("name", TABLES)
def test_every_table_prints_in_three_forms_with_the_same_numbers(name):
    table = TABLES[name](made_for(name))
    Balance().feed(re.sub(r"<(img|meta)[^>]*>", "", to_html(table)))
    columns = len(table.stub) + len(table.columns)
    markdown, latex = to_markdown(table), to_latex(table)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {columns + 1}
    body = latex.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    counts = {
        len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith(r"\\")
    }
    assert counts == {columns - 1}
    text = table.groups[0].rows[0].cells[0].text.replace("−", "")
    assert all(text.split(" ")[0].lstrip("+") in form for form in (to_html(table), markdown, latex))


def test_hostile_text_is_escaped_in_every_form():
    table = hostile_table()
    assert "<script" not in to_html(table)
    markdown = to_markdown(table)
    assert "<script" not in markdown
    assert r"\|" in markdown
    latex = re.sub(r"^%.*$", "", to_latex(table), flags=re.M)
    assert not re.search(r"(?<!\\)[%$#_&~^](?!\s)", latex.replace(" & ", " "))
    assert r"\textbackslash{}" in latex


def test_latex_braces_are_balanced():
    for name, make in TABLES.items():
        latex = to_latex(make(made_for(name, (0, 1))))
        assert len(re.findall(r"(?<!\\)\{", latex)) == len(re.findall(r"(?<!\\)\}", latex))
        assert all(ord(c) < 128 or c in "é" for c in latex), {c for c in latex if ord(c) > 127}


def test_an_error_is_best_where_it_is_lowest():
    rows = [Row((str(v),), (Cell(str(v), v), Cell(str(v), v))) for v in (0.5, 0.7)]
    marked = mark_best(rows, [0], lowest=[1])
    assert [[cell.best for cell in row.cells] for row in marked] == [[False, True], [True, False]]


def test_what_could_have_been_found_stands_beside_every_result_that_is_not_significant():
    result = made_result()
    rows = [row for group in TABLES["table_s1"](result).groups for row in group.rows]
    titles = [column.title for column in TABLES["table_s1"](result).columns]
    place, holm = titles.index("Detectable Δ"), titles.index("p, Holm")
    for row in rows:
        assert (row.cells[place].text == "–") == (row.cells[holm].value < 0.05)
    assert any(row.cells[place].text != "–" for row in rows)


def test_with_fewer_than_five_seeds_the_seeds_are_listed_without_an_interval():
    table = TABLES["table_s3"](made_result((0, 1)))
    assert sum(len(group.rows) for group in table.groups) == 54
    for row in (row for group in table.groups for row in group.rows):
        texts = [cell.text for cell in row.cells]
        assert "–" not in (texts[2], texts[3])
        assert texts[4:8] == ["–"] * 4
        assert row.cells[0].notes[0] == "2 seeds"


def test_over_seeds_every_network_stands_against_every_system_by_the_means_of_both():
    result = made_benchmark((0, 1))
    table = TABLES["table_s3"](result)
    groups = [group for group in table.groups if group.name in SYSTEMS.values()]
    assert sum(len(group.rows) for group in groups) == 6 * (4 + 4) * 3
    (row,) = (
        row
        for group in groups
        for row in group.rows
        if (group.name, *row.labels) == ("Top-k selection", "M3T Dual − system", "KL Macro-AUC")
    )
    pair = result.comparisons[
        result.comparisons["model"].str.startswith("m3t-dual-")
        & result.comparisons["reference"].str.startswith("top_k-single_kl-")
        & (result.comparisons["metric"] == "macro_auc")
    ]
    assert len(pair) == 2
    assert row.cells[2].value == pytest.approx(pair["difference"].mean())


def test_methods_that_were_trained_once_are_not_listed_over_seeds():
    result = made_benchmark((0, 1))
    of_systems = result.seeds["family"] == "network-vs-radiomics"
    once = result.seeds.assign(model_seeds=1)
    once.loc[~of_systems, "reference_seeds"] = 1
    table = TABLES["table_s3"](replace(result, seeds=once))
    assert {group.name for group in table.groups} <= set(SYSTEMS.values())
    assert "1 seed" in table.groups[0].rows[0].cells[0].notes
    nothing = TABLES["table_s3"](replace(result, seeds=once.assign(reference_seeds=1)))
    assert isinstance(nothing, Omitted)


def test_a_share_of_the_ceiling_is_the_score_over_the_ceiling():
    result = made_result()
    table = TABLES["table_s5"](result)
    cell = rows_of(table, "M3T")["Dual"].cells[0]
    score = rows_of(table1(result), "M3T")["Dual"].cells[0].value
    ceiling = rows_of(table, "Ceiling")["Reader, 70 %"].cells[0].value
    assert cell.value == pytest.approx(score / ceiling)


def test_saliency_is_bold_only_beside_controls_that_the_whole_interval_exceeds():
    table = TABLES["table_s13"](made_result())
    for row in (row for group in table.groups for row in group.rows):
        assert [c.best for c in row.cells] == [False, True, True, False, False, False, False]
    assert "edge detector" in " ".join(table.footnotes)


def test_deletion_is_read_against_as_much_deleted_elsewhere():
    cells = rows_of(TABLES["table_s14"](made_result()), "M3T")["Dual-KL"].cells
    assert [cell.text for cell in cells] == ["1.200", "0.400", "3.0"]


def test_every_stratum_says_how_many_knees_it_has():
    table = TABLES["table_s8"](made_result())
    assert [group.name for group in table.groups] == ["Sex: female", "Sex: male"]
    assert all(row.cells[0].text == "20 (12)" for group in table.groups for row in group.rows)


@pytest.mark.parametrize("name", ["table_s9", "table_s10", "table_s11"])
def test_every_measure_of_the_features_of_one_seed_carries_its_interval(name):
    counts = ("Features", "Pairs")
    table = TABLES[name](made_result())
    for row in (row for group in table.groups for row in group.rows):
        for column, cell in zip(table.columns, row.cells, strict=True):
            assert column.title in counts or cell.notes[0].startswith("["), (row, column)


def test_the_likeness_of_two_settings_needs_that_of_two_seeds():
    alone = TABLES["table_s11"](made_result())
    assert "cannot be told from one between trainings" in " ".join(alone.footnotes)
    both = TABLES["table_s11"](made_result((0, 1)))
    assert [group.name for group in both.groups] == ["Seed", "Supervision"]
    assert "yardstick" in " ".join(both.footnotes)


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("table_s")])
def test_every_further_table_of_several_seeds_states_mean_and_spread(name):
    table = TABLES[name](made_for(name, (0, 1)))
    texts = [cell.text for group in table.groups for row in group.rows for cell in row.cells]
    if name not in OF_PAIRS:
        assert any("±" in text for text in texts)


def test_tables_4_and_5_of_a_study_with_systems_hold_three_kinds_of_numbers():
    result = made_benchmark()
    for name, task, measured in (("table4", "oa", "f1"), ("table5", "kl", "macro_f1")):
        table = TABLES[name](result)
        assert [count for _, count in table.spans] == [3, 3, 3]
        assert [len(group.rows) for group in table.groups] == [5, 3, 6 if task == "oa" else 4]
        row = rows_of(table, "Chen et al.")["All radiomics"]
        keys = ["backbone", "supervision", "task", "metric"]
        of_run = ("all_radiomics", f"single_{task}", task)
        value = result.performance.set_index(keys).loc[(*of_run, measured)]
        form = result.published_form.set_index(keys).loc[(*of_run, "macro_f1")]
        assert row.cells[1].text == {"oa": "0.67 ± 0.08", "kl": "0.40 ± 0.11"}[task]
        assert row.cells[4].text == f"{form['mean']:.2f} ± {form['sd']:.2f}"
        assert row.cells[7].text == f"{value['value']:.3f}"
        assert row.cells[7].notes == (f"[{value['ci_low']:.3f}, {value['ci_high']:.3f}]",)


def test_macro_f1_and_the_f1_of_oa_stand_in_columns_of_their_own():
    titles = [column.title for column in TABLES["table4"](made_benchmark()).columns]
    assert titles == [*["Accuracy", "Macro-F1", "AUC"] * 2, "Accuracy", "F1 (OA)", "AUC"]


def test_every_system_that_a_study_may_name_is_fitted_printed_and_said_what_it_reads():
    names = set(get_args(SystemName))
    assert names == set(FITTED) == set(SYSTEMS)
    assert names <= set(INPUT)


def test_a_system_that_was_not_fitted_keeps_its_published_row_and_dashes():
    row = rows_of(TABLES["table4"](made_benchmark()), "Chen et al.")["E2E image baseline"]
    assert [cell.text for cell in row.cells] == ["0.76 ± 0.08", "0.71 ± 0.10", "0.83 ± 0.04"] + (
        ["–"] * 6
    )


def test_what_was_refitted_inside_the_test_set_has_no_controlled_number():
    table = TABLES["table4"](made_benchmark())
    row = rows_of(table, "Variants and parts")["All radiomics, refitted in test"]
    assert [cell.text == "–" for cell in row.cells] == [True] * 3 + [False] * 3 + [True] * 3
    assert "never seen a training knee" in " ".join(" ".join(table.footnotes).split())


def test_only_the_published_columns_are_called_not_controlled():
    table = TABLES["table5"](made_benchmark())
    assert table.footnotes[0].startswith("Not controlled")
    assert [column.marks for column in table.columns] == ["a"] * 3 + ["b"] * 3 + ["c", "c,d", "c"]
    assert not any(c.best for g in table.groups for row in g.rows for c in row.cells)


def test_tables_of_the_paper_and_the_further_ones_show_networks_only():
    result = made_benchmark()
    for name in ("table1", "table2", "table_s5", "table_s8", "table_s9"):
        table = TABLES[name](result)
        if isinstance(table, Table):
            assert not {group.name for group in table.groups} & set(SYSTEMS.values())
    assert "All radiomics" in {group.name for group in TABLES["table_s4"](result).groups}
    assert "Top-k selection" in {group.name for group in TABLES["table_s6"](result).groups}


def test_every_network_stands_against_every_system_once_for_each_metric():
    result = made_benchmark()
    table = TABLES["table_s17"](result)
    assert sum(len(group.rows) for group in table.groups) == 6 * (4 + 4) * 3
    for row in (row for group in table.groups for row in group.rows):
        network, system, difference = (float(c.text.replace("−", "-")) for c in row.cells[:3])
        assert difference == pytest.approx(network - system, abs=2e-3)


def test_the_shares_of_the_weight_add_up_to_a_hundred():
    for group in TABLES["table_s18"](made_benchmark()).groups:
        for task in ("OA", "KL"):
            total = sum(row.cells[-1].value for row in group.rows if row.labels[0] == task)
            assert total == pytest.approx(100)


def test_a_study_of_systems_alone_still_has_its_tables_4_and_5():
    result = made_benchmark()
    alone = {
        name: table[table["backbone"].isin(list(SYSTEMS))]
        for name in COLUMNS
        if "backbone" in (table := getattr(result, name)).columns and name != "comparisons"
    }
    only = replace(result, **alone, comparisons=result.comparisons[:0])
    assert isinstance(TABLES["table1"](only), Omitted)
    assert [len(group.rows) for group in TABLES["table4"](only).groups] == [5, 3]
    assert isinstance(TABLES["table_s17"](only), Omitted)


def test_the_truth_stands_above_the_reading_it_was_read_as():
    result = made_result()
    table = TABLES["table_s19"](result)
    rows = {row.labels: row for g in table.groups if g.name == "M3T" for row in g.rows}
    assert [against for _, against in rows] == ["truth", "reading"] * 3
    place = [column.title for column in table.columns].index("Macro-AUC")
    own = result.truth.query("backbone == 'm3t' and supervision == 'dual' and task == 'kl'")
    for against in ("truth", "reading"):
        value = own.query("metric == 'macro_auc' and against == @against")["value"].item()
        assert rows["Dual", against].cells[place].value == value
    scores = result.performance.query("backbone == 'm3t' and metric == 'macro_auc'")
    assert value == scores.query("supervision == 'dual'")["value"].item()
    assert rows["Single-OA", "truth"].cells[place].text == "–"
    assert "80 % of the knees of grades 1 to 3" in table.caption


def test_a_difference_against_the_truth_says_what_it_would_have_been_against_the_reading():
    table = TABLES["table_s20"](made_result((0, 1)))
    rows = {row.labels: row for g in table.groups if g.name == "M3T" for row in g.rows}
    assert ("Dual − Single-KL", "ρ of E[k] and severity") in rows
    first, second, gap, reading, *_ = rows["Dual − Single-KL", "KL Macro-AUC"].cells
    assert gap.value == pytest.approx(first.value - second.value)
    read = made_result((0, 1)).truth_methods.query("against == 'reading' and metric == 'macro_auc'")
    means = read.set_index("model")["mean"]
    assert reading.value == pytest.approx(means["m3t-dual"] - means["m3t-single_kl"])
    lines = sum(len(group.rows) for group in table.groups)
    assert f"not adjusted for the {lines} lines" in table.caption


def test_saliency_on_planted_signs_stands_beside_two_maps_that_know_less():
    table = TABLES["table_s21"](made_result())
    assert "thinned cartilage 50, osteophytes 50, marrow spots 50" in table.caption
    row = rows_of(table, "ResNet3D")["Dual"]
    assert [cell.text for cell in row.cells[:3]] == ["3.00", "+1.80", "+0.10"]
    assert len(row.cells) == 9


def test_a_study_of_patients_has_no_table_of_planted_signs():
    result = made_result()
    none = replace(result, truth=result.truth[result.truth["against"] == "reading"])
    assert isinstance(TABLES["table_s21"](none), Omitted)
