"""The report of a study: one HTML page that needs nothing but itself, and the files beside it."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

import kellgren
from kellgren.files import write_text
from kellgren.report import facts, provenance
from kellgren.report.captions import caption
from kellgren.report.figures import FIGURES, NEEDS, TITLES, save_figure
from kellgren.report.figures.style import RASTER_DPI, STYLE, UNDATED
from kellgren.report.findings import CAVEATS, caveat_number, key_findings
from kellgren.report.markup import style_sheet, templates, to_html, to_latex, to_markdown
from kellgren.report.methods import REFERENCES, methods
from kellgren.report.sections import TOPICS, Topic
from kellgren.report.table import Omitted, Table
from kellgren.report.tables import TABLES
from kellgren.study import StudyResult

MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}
RASTER = ("fig3",)  # pictures of scans; as SVG they would be many times larger

# Rows above which a table is folded away until a reader opens it, beyond the paper and elsewhere.
FOLDED_ABOVE: dict[bool, int] = {True: 12, False: 20}


@dataclass(frozen=True)
class Section:
    """A section of results: its tables and figures as HTML, and what had to be left out."""

    topic: Topic
    items: tuple[Markup, ...]
    omitted: tuple[Omitted, ...]


def page(
    result: StudyResult,
    *,
    tables: Mapping[str, Table | Omitted],
    figures: Mapping[str, Figure | None],
) -> str:
    """The whole report as one HTML document; it loads nothing and runs no script.

    Args:
        result: The study.
        tables: Tables by name, see `kellgren.report.tables.TABLES`.
        figures: Figures by name, see `kellgren.report.figures.FIGURES`; None for one that cannot
            be made from this study.
    """
    style = style_sheet()
    cited = _citation_order(result)
    return (
        templates()
        .get_template("page.html.jinja")
        .render(
            title=_title(result),
            policy=content_policy(style),
            style=Markup(style),
            version=kellgren.__version__,
            notice=provenance.notice(result),
            measured_on=facts.measured_on(result),
            findings=[
                (f.text, [(caveat_number(key), key) for key in f.caveats])
                for f in key_findings(result)
            ],
            cohort=_table_or_reason(provenance.cohort_table(result)),
            runs=_table_or_reason(provenance.runs_table(result)),
            protocol=provenance.protocol_rows(result),
            sections=[_section(topic, result, tables, figures) for topic in TOPICS],
            methods=[
                (text, [cited.index(key) + 1 for key in keys]) for text, keys in methods(result)
            ],
            references=[REFERENCES[key] for key in cited],
            caveats=list(CAVEATS.items()),
        )
    )


def content_policy(style: str) -> str:
    """Content security policy that allows this style sheet and pictures inside the page."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}';"
        " base-uri 'none'; form-action 'none'"
    )


def write_report(result: StudyResult, folder: Path) -> Path:
    """Write every table, every figure and `report.html` into a folder.

    Tables are written as `<name>.html`, `.md` and `.tex`, figures as `<name>.svg`, `.pdf` and
    `.png`. Each file appears only when it is whole, the page last. What cannot be made from this
    study is not written, and the page says why; files of that name from an earlier report are
    removed.

    Returns:
        Path of the page.
    """
    tables = {name: make(result) for name, make in TABLES.items()}
    figures = {name: make(result) for name, make in FIGURES.items()}
    for name, table in tables.items():
        write_table(table, folder, name)
    for name, figure in figures.items():
        if figure is None:
            _remove(folder, name, tuple(UNDATED))
        else:
            save_figure(figure, folder, name)
    path = folder / "report.html"
    write_text(path, page(result, tables=tables, figures=figures))
    return path


def write_table(table: Table | Omitted, folder: Path, name: str) -> None:
    """Write a table as HTML, Markdown and LaTeX; remove those of an omitted one."""
    if isinstance(table, Omitted):
        _remove(folder, name, (".html", ".md", ".tex"))
        return
    style = style_sheet()
    template = templates().get_template("alone.html.jinja")
    alone = template.render(
        title=table.title, policy=content_policy(style), style=Markup(style), body=to_html(table)
    )
    write_text(folder / f"{name}.html", alone)
    write_text(folder / f"{name}.md", to_markdown(table))
    write_text(folder / f"{name}.tex", to_latex(table))


def _remove(folder: Path, name: str, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _title(result: StudyResult) -> str:
    return str(result.protocol.get("title") or result.name)


def _citation_order(result: StudyResult) -> list[str]:
    """Works in the order in which the methods first cite them."""
    return list(dict.fromkeys(key for _, keys in methods(result) for key in keys))


def _table_or_reason(table: Table | Omitted) -> Markup:
    if isinstance(table, Omitted):
        return Markup('<p class="omitted">{}: {}.</p>').format(table.title, table.reason)
    return Markup(to_html(table))


def _section(
    topic: Topic,
    result: StudyResult,
    tables: Mapping[str, Table | Omitted],
    figures: Mapping[str, Figure | None],
) -> Section:
    items, omitted = [], []
    for name in topic.names:
        made = tables.get(name) or figures.get(name)
        if isinstance(made, Table):
            items.append(_table_html(made, most=FOLDED_ABOVE[topic.beyond]))
        elif isinstance(made, Figure):
            items.append(_figure_html(name, made, caption(name, result)))
        else:
            omitted.append(made or Omitted(name, TITLES[name], NEEDS[name]))
    return Section(topic, tuple(items), tuple(omitted))


def _table_html(table: Table, *, most: int) -> Markup:
    """The table, folded away where it has more rows than that."""
    rows = sum(len(group.rows) for group in table.groups)
    if rows <= most:
        return Markup(to_html(table))
    return Markup(
        templates()
        .get_template("folded.html.jinja")
        .render(title=table.title, rows=rows, body=to_html(table))
    )


def _figure_html(name: str, figure: Figure, words: str) -> Markup:
    return Markup(
        templates()
        .get_template("figure.html.jinja")
        .render(name=name, title=TITLES[name], caption=words, source=_data_uri(name, figure))
    )


def _data_uri(name: str, figure: Figure) -> str:
    """The figure as a picture inside the page; ids and styles of an SVG stay inside it."""
    suffix = ".png" if name in RASTER else ".svg"
    file = BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            file, format=suffix.removeprefix("."), dpi=RASTER_DPI, metadata=UNDATED[suffix]
        )
    return f"data:{MEDIA[suffix]};base64,{base64.b64encode(file.getvalue()).decode()}"
