import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from kellgren.report.captions import caption
from kellgren.report.figures import FIGURES, NEEDS, TITLES, save_figure
from kellgren.report.figures.confusion import matrix
from kellgren.report.figures.saliency import View, crop_box, display, overlays, typical_case
from kellgren.report.table import p_value
from tests.made_study import empty_result, made_benchmark, made_exemplars, made_result

SUPPLEMENT = [name for name in FIGURES if name.startswith("fig_s")]
OF_ONE_SEED = [name for name in FIGURES if name != "fig_s1"]  # it takes several


def made_for(name: str):
    """A made study that has what a figure needs."""
    if name in ("fig_s10", "fig_s11"):
        return made_benchmark()
    return made_result() if name in OF_ONE_SEED else made_result((0, 1))


@cache
def laid_out(name: str) -> Figure:
    """A figure whose texts have their places."""
    figure = FIGURES[name](made_for(name))
    figure.draw_without_rendering()
    return figure


def words(figure: Figure) -> list[str]:
    """Every text that is drawn."""
    texts = [t.get_text() for axis in figure.axes for t in axis.texts]
    return texts + [t.get_text() for t in figure.texts]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_made_at_full_width(name):
    figure = laid_out(name)
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[0] == pytest.approx(7.2)


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "fig1"])
def test_a_figure_without_data_is_none_and_its_need_is_stated(name):
    assert FIGURES[name](empty_result()) is None
    assert NEEDS[name]


def test_of_several_seeds_the_first_is_drawn_and_the_caption_says_so():
    several = made_result((0, 1))
    for name in ("fig2", "fig3", "fig4", "fig5"):
        assert isinstance(FIGURES[name](several), Figure)
        assert "seed 0 of 2" in caption(name, several)
        assert "seed 0 of" not in caption(name, made_result())


def test_every_figure_has_a_title_and_a_need():
    assert list(FIGURES) == list(TITLES) == list(NEEDS)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_leaves_the_page_or_is_smaller_than_six_points(name):
    figure = laid_out(name)
    width, height = figure.bbox.width, figure.bbox.height
    drawn = [t for axis in figure.axes for t in [*axis.texts, axis.title]] + list(figure.texts)
    drawn += [t for axis in figure.axes if name in SUPPLEMENT for t in labels_of(axis)]
    for text in (t for t in drawn if t.get_text() and t.get_visible()):
        box = text.get_window_extent()
        assert box.x0 >= -1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.x1 <= width + 1, text.get_text()
        assert box.y1 <= height + 1, text.get_text()
        assert text.get_fontsize() >= 6


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "fig1"])
def test_texts_do_not_overlap(name):
    figure = laid_out(name)
    texts = [t for axis in figure.axes for t in axis.texts if t.get_text()] + list(figure.texts)
    texts += [t for legend in figure.legends for t in legend.get_texts()]
    texts += [t for axis in figure.axes if name in SUPPLEMENT for t in labels_of(axis)]
    boxes = [(t.get_text(), t.get_tightbbox() or t.get_window_extent()) for t in texts]
    for i, (first, box) in enumerate(boxes):
        for second, other in boxes[i + 1 :]:
            assert not box.overlaps(other) or tilted(texts[i]), (first, second)


def labels_of(axis):
    """Titles, axis labels and tick labels that are drawn."""
    found = [axis.title, axis.xaxis.label, axis.yaxis.label]
    for ticks in (axis.xaxis, axis.yaxis):
        low, high = sorted(ticks.get_view_interval())
        shown = [t for t in ticks.get_major_ticks() if low <= t.get_loc() <= high]
        found += [t.label1 for t in shown]
    return [t for t in found if axis.get_visible() and t.get_visible() and t.get_text()]


def tilted(text) -> bool:
    """Whether a text runs askew, so that boxes say nothing about overlaps."""
    return text.get_rotation() not in (0.0, 90.0)


def test_the_same_study_gives_the_same_bytes_without_a_date(tmp_path):
    for attempt in ("a", "b"):
        paths = save_figure(FIGURES["fig2"](made_result()), tmp_path / attempt, "fig2")
    for path in paths:
        again = (tmp_path / "a" / path.name).read_bytes()
        assert path.read_bytes() == again
        assert not re.search(rb"CreationDate|dc:date", again)
    assert [path.suffix for path in paths] == [".svg", ".pdf", ".png"]


def test_the_forest_prints_every_difference_and_both_p_values():
    result = made_result()
    drawn = " ".join(words(FIGURES["fig2"](result)))
    rows = result.comparisons[result.comparisons["family"] == "dual-vs-single"]
    assert len(rows) == 18
    for _, row in rows.iterrows():
        assert f"{abs(row['difference']):.3f} [" in drawn
        assert f"{row['p_holm']:.4f}" in drawn


def test_only_what_survives_holm_is_filled():
    result = made_result()
    rows = result.comparisons.assign(p_holm=1.0)
    rows.loc[rows.index[0], "p_holm"] = 0.01
    figure = FIGURES["fig2"](replace(result, comparisons=rows))
    points = [line for a in figure.axes for line in a.lines if line.get_marker() == "o"]
    assert sum(line.get_markerfacecolor() != "white" for line in points) == 1


def test_the_drawn_confusion_matrix_gives_back_the_accuracy_of_table_1():
    result = made_result()
    for backbone in ("resnet3d", "m3t", "nnmamba"):
        for supervision, head in (("single_oa", "oa"), ("single_kl", "kl"), ("dual", "kl")):
            rows = result.confusion
            rows = rows[(rows.backbone == backbone) & (rows.supervision == supervision)]
            counts = matrix(rows, head)
            scores = result.performance
            scores = scores[(scores.backbone == backbone) & (scores.supervision == supervision)]
            accuracy = scores[(scores.task == head) & (scores.metric == "accuracy")].value.item()
            assert counts.sum() == 40
            assert np.trace(counts) / 40 == pytest.approx(accuracy)


def test_the_knee_of_figure_3_is_chosen_by_grade_and_not_by_any_map():
    pictures = made_exemplars()
    mild = tuple(replace(p, case_id="knee_000", kl=0) for p in pictures)
    worst = tuple(replace(p, case_id="knee_004", kl=4) for p in pictures)
    assert typical_case([*worst, *pictures, *mild]) == "knee_003"
    assert typical_case([*worst, *pictures, *mild[:5]]) == "knee_003"


def test_a_missing_map_is_said_to_be_missing():
    figure = overlays(made_exemplars()[:3])
    assert words(figure).count("no map") == 1


def test_a_case_id_is_never_read_as_mathematics():
    pictures = [replace(p, case_id="$\\broken{$ <b>") for p in made_exemplars()]
    figure = overlays(pictures)
    figure.draw_without_rendering()
    assert any("$\\broken{$ <b>" in text for text in words(figure))


def test_every_map_is_shown_on_the_same_rule():
    saliency = np.array([[0.0, 0.1], [0.2, 0.9]])
    blank, mask = np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)
    shown = display(View(blank, mask, saliency, (1.0, 1.0), 0.1))
    assert shown.tolist() == [[0.0, 0.5], [1.0, 1.0]]
    louder = display(View(blank, mask, saliency / 2, (1.0, 1.0), 0.05))
    assert louder == pytest.approx(shown)


def test_the_enlarged_view_is_a_square_in_millimetres_that_holds_the_cartilage():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:14, 20:50] = True
    view = View(np.zeros((40, 60)), mask, np.zeros((40, 60)), (1.0, 0.5), 0.0)
    top, left, down, across = crop_box(view)
    assert down * 1.0 == pytest.approx(across * 0.5)
    assert top <= 10
    assert left <= 20
    assert top + down >= 14
    assert left + across >= 50
    assert crop_box(view._replace(cartilage=np.zeros((40, 60), dtype=bool))) is None


def test_a_study_of_one_seed_has_no_forest_over_seeds():
    assert FIGURES["fig_s1"](made_result()) is None
    assert "several seeds" in NEEDS["fig_s1"]


def test_the_forest_over_seeds_draws_each_seed_and_every_interval_that_is_known():
    result = made_result((0, 1))
    each = [line for a in FIGURES["fig_s1"](result).axes for line in a.lines]
    circles = [line for line in each if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in circles) == 18 * 2
    assert len(circles) == 18


def test_every_ceiling_stands_above_the_scores_that_it_bounds_and_every_score_is_drawn():
    result = made_result()
    figure = FIGURES["fig_s2"](result)
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_visible()}
    assert len(panels) == 7
    rows = result.noise[(result.noise.task == "kl") & (result.noise.metric == "accuracy")]
    heights = [float(line.get_ydata()[0]) for line in panels["KL Accuracy"].lines]
    assert set(rows["value"].round(6)) <= {round(height, 6) for height in heights}


def test_a_reliability_diagram_stands_for_every_knee_once():
    result = made_result()
    raw = result.reliability[result.reliability["scaling"] == "none"]
    assert (raw.groupby(["backbone", "supervision", "head"])["count"].sum() == 40).all()
    figure = FIGURES["fig_s3"](result)
    assert all(axis.get_title().startswith("ECE") for axis in figure.axes)


def test_only_controls_that_saliency_does_not_exceed_are_filled():
    figure = FIGURES["fig_s8"](made_result())
    for axis in figure.axes:
        squares = [line for line in axis.lines if line.get_marker() == "s"]
        hollow = [line.get_markerfacecolor() == "white" for line in squares]
        assert hollow == [True, True, False, False, False, False]


def test_each_backbone_names_its_own_stages_below_its_randomised_maps():
    result = made_result()
    rows = result.randomisation
    deeper = rows[rows["backbone"] != "m3t"]
    figure = FIGURES["fig_s9"](replace(result, randomisation=deeper))
    assert len(figure.axes) == 2
    stages = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert stages == ["trained", "heads", "layer2", "layer1", "whole network"]


def test_captions_of_the_supplement_say_what_the_figure_does_not_show():
    for name in SUPPLEMENT:
        words_of = caption(name, made_result())
        assert any(word in words_of for word in ("not", "Only", "No ", "no evidence", "wrong")), (
            name
        )


def test_figures_of_the_paper_show_networks_only():
    drawn = FIGURES["fig5"](made_benchmark())
    assert {axis.get_ylabel() for axis in drawn.axes if "reference" in axis.get_ylabel()} == {
        "ResNet3D\nreference",
        "M3T\nreference",
    }


def test_the_benchmark_draws_every_network_against_every_system_with_its_p():
    result = made_benchmark()
    rows = result.comparisons[result.comparisons["family"] == "network-vs-radiomics"]
    rows = rows[rows["metric"].isin(["auc", "macro_auc"])]
    drawn = [text for text in words(FIGURES["fig_s10"](result)) if text != "p, Holm"]
    assert sorted(drawn) == sorted(p_value(p) for p in rows["p_holm"])


def test_the_weights_of_a_panel_add_up_to_a_hundred_but_for_rounding():
    figure = FIGURES["fig_s11"](made_benchmark())
    panels = [axis for axis in figure.axes if len(axis.texts) == 35]
    assert len(panels) == 2 * 3
    for panel in panels:
        assert abs(sum(int(text.get_text()) for text in panel.texts) - 100) <= 35 / 2
