import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kellgren.config import AugmentationSettings
from kellgren.report import page, write_report
from kellgren.report.figures import FIGURES
from kellgren.report.findings import CAVEATS, key_findings
from kellgren.report.methods import REFERENCES, methods
from kellgren.report.sections import TOPICS
from kellgren.report.tables import TABLES
from tests.made_study import empty_result, made_benchmark, made_result

VOID = {"meta", "img", "br", "hr", "link"}
OF_SYSTEMS = ("table_s17", "table_s18", "fig_s10", "fig_s11")
LEFT_OUT = (
    "table_s3",
    "table_s16",
    "table_s20",
    "fig_s1",
    *OF_SYSTEMS,
)  # of one seed and networks alone
HOSTILE = "<script>alert(1)</script>"


class Document(HTMLParser):
    """Ids, internal links, tags and loaded addresses; fails where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.add(tag)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.loaded += [named["src"]] if "src" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def printed(result, *, figures=None):
    tables = {name: make(result) for name, make in TABLES.items()}
    return page(result, tables=tables, figures=figures or dict.fromkeys(FIGURES))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_report(made_result(), tmp_path_factory.mktemp("report"))


def test_the_page_loads_nothing_and_runs_nothing(written):
    text = written.read_text(encoding="utf-8")
    document = Document(text)
    assert "script" not in document.tags
    assert not document.tags & {"link", "iframe", "object", "embed", "form"}
    assert all(address.startswith("data:image/") for address in document.loaded)
    assert len(document.loaded) == len([name for name in FIGURES if name not in LEFT_OUT])
    assert all(link.startswith("#") for link in document.links)
    assert not re.search(r"\son\w+=|@import|url\(", text)


def test_every_link_leads_somewhere_and_every_id_is_alone(written):
    document = Document(written.read_text(encoding="utf-8"))
    assert {link.removeprefix("#") for link in document.links} <= set(document.ids)
    assert len(document.ids) == len(set(document.ids))
    assert document.open == []


def test_the_policy_allows_exactly_the_style_sheet_of_the_page(written):
    text = written.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*)</style>", text, flags=re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")
    assert f"&#39;sha256-{digest}&#39;" in policy
    assert "unsafe" not in policy
    assert text.count("<style") == 1
    assert " style=" not in text


def test_all_files_stand_beside_the_page(written):
    names = {path.name for path in written.parent.iterdir()}
    tables = [name for name in TABLES if name not in LEFT_OUT]
    figures = [name for name in FIGURES if name not in LEFT_OUT]
    wanted = {f"{name}.{suffix}" for name in tables for suffix in ("html", "md", "tex")}
    wanted |= {f"{name}.{suffix}" for name in figures for suffix in ("svg", "pdf", "png")}
    assert names == wanted | {"report.html"}


def test_the_page_of_a_phantom_says_so_with_its_contrast(written):
    text = written.read_text(encoding="utf-8")
    assert "synthetic" in text
    assert "contrast setting “real”" in text
    other = replace(made_result(), protocol={})
    assert "Synthetic knees" not in printed(other)


def test_hostile_text_comes_out_escaped():
    result = made_result()
    hostile = replace(
        result,
        name=HOSTILE,
        protocol={**result.protocol, "title": HOSTILE, HOSTILE: HOSTILE},
        runs=result.runs.assign(device=HOSTILE, backbone=HOSTILE),
        performance=result.performance.assign(backbone=HOSTILE),
        comparisons=result.comparisons.assign(warning=HOSTILE, backbone=HOSTILE),
        exemplars=tuple(replace(e, case_id=HOSTILE) for e in result.exemplars),
        strata=result.strata.assign(level=HOSTILE),
        controls=result.controls.assign(control=HOSTILE),
        randomisation=result.randomisation.assign(stage=HOSTILE),
        similarity=result.similarity.assign(model=HOSTILE, differ_in=HOSTILE),
    )
    text = printed(hostile, figures={**dict.fromkeys(FIGURES), "fig3": FIGURES["fig3"](hostile)})
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "script" not in Document(text).tags


def test_what_cannot_be_made_is_listed_with_its_reason(tmp_path):
    for name in ("fig3.svg", "table1.md"):
        (tmp_path / name).write_text("of an earlier report")
    text = write_report(empty_result(), tmp_path).read_text(encoding="utf-8")
    assert "Figure 3. Saliency and cartilage is left out: no run has exemplars" in text
    assert "Table 1. Predictive performance is left out: no run has predictions" in text
    assert {path.stem for path in tmp_path.iterdir()} == {"fig1", "report"}


def test_a_study_without_any_result_still_has_a_page():
    text = printed(empty_result())
    assert Document(text).open == []
    assert text.count("is left out") == len(TABLES) + len(FIGURES)


def test_the_same_study_gives_the_same_page():
    assert printed(made_result()) == printed(made_result())


def test_findings_count_what_survives_holm():
    result = made_result()
    rows = result.comparisons.assign(p_holm=1.0, p=0.2)
    none = key_findings(replace(result, comparisons=rows))[0].text
    assert "Of 18 differences" in none
    assert "none survives" in none
    rows.loc[rows.index[1], ["difference", "p", "p_holm"]] = [-0.25, 0.001, 0.018]
    one = key_findings(replace(result, comparisons=rows))[0].text
    assert "1 survives" in one
    assert "Lower with Dual: ResNet3D OA Accuracy −0.250" in one
    assert "two trained networks of one seed" in one


def test_scores_inside_chance_are_named():
    result = made_result()
    weak = result.performance.assign(value=0.99)
    weak.loc[weak.index[0], "value"] = 0.5
    text = key_findings(replace(result, performance=weak))[1].text
    assert text.startswith("1 of 45 scores of Table 1 is not above")
    assert "ResNet3D Single-OA OA AUC (0.500)" in text


def test_every_caveat_that_a_finding_names_exists_and_every_work_is_known():
    assert all(key in CAVEATS for f in key_findings(made_result()) for key in f.caveats)
    for result in (made_result(), empty_result()):
        assert all(key in REFERENCES for _, keys in methods(result) for key in keys)


def test_augmentation_is_among_the_methods_where_there_was_some():
    result = made_result()
    assert not any("at random" in text for text, _ in methods(result))
    table = dict.fromkeys(AugmentationSettings.model_fields, 0.0) | {
        "rotation_deg": 5.0,
        "bias": 0.3,
    }
    training = {**result.protocol["training"], "augmentation": table}
    augmented = replace(result, protocol={**result.protocol, "training": training})
    (said,) = [text for text, _ in methods(augmented) if "at random" in text]
    assert "changed at random, by at most rotation 5 deg and bias 0.3)" in said


def test_importing_the_report_imports_neither_torch_nor_scikit_learn():
    code = "import sys, kellgren.report; print({'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_table_and_figure_stands_in_exactly_one_section():
    names = [name for topic in TOPICS for name in topic.names]
    assert sorted(names) == sorted([*TABLES, *FIGURES])


def test_every_section_beyond_the_paper_says_in_words_what_it_does_not_show():
    beyond = [topic for topic in TOPICS if topic.beyond]
    assert len(beyond) == 9
    for topic in beyond:
        assert 2 <= len(topic.words) <= 3
        assert any(word in " ".join(topic.words) for word in (" not ", "Neither")), topic.title


def test_long_tables_are_folded_and_short_ones_are_not():
    text = printed(made_result())
    folded = re.findall(r"<summary>(Table [^<]*)</summary>", text)
    assert any(title.startswith("Table S1. All comparisons (54 rows)") for title in folded)
    assert not any(title.startswith("Table 1.") for title in folded)


def test_a_study_of_one_seed_says_that_its_tests_are_about_networks():
    text = printed(made_result())
    assert "about two trained networks and not about two methods" in text
    several = printed(made_result((0, 1)))
    assert "about two trained networks and not about two methods" not in several
    assert "not two methods: see Table S3" in several


def test_an_edge_detector_that_is_not_exceeded_is_named_among_the_findings():
    texts = [finding.text for finding in key_findings(made_result())]
    assert any("Uniform in 12 of 12" in t and "Image gradient in 0 of 12" in t for t in texts)


def test_a_study_without_the_further_tables_still_has_its_page():
    empty = empty_result()
    further = ("seeds", "ordinal", "noise", "calibration", "reliability", "hierarchy", "decision")
    further += ("strata", "order", "representation", "similarity", "controls", "deletion")
    further += ("randomisation", "repeatability")
    bare = replace(made_result(), **{name: getattr(empty, name) for name in further})
    text = printed(bare)
    assert Document(text).open == []
    assert "Table S13. Saliency beside its controls is left out: no run has controls" in text
    assert "Table 1. Predictive performance is left out" not in text


def test_the_page_of_a_study_with_systems_counts_their_differences_from_the_networks():
    result = made_benchmark()
    assert Document(printed(result)).open == []
    assert "Of 144 differences between a network and a radiomics" in key_findings(result)[-1].text
    assert "6 of their systems" in methods(result)[-1][0]
