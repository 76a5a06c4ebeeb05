"""A table as HTML, Markdown or LaTeX; whatever a cell holds is escaped."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kellgren.report.table import Cell, Column, Row, Table

LATEX_SPECIALS = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\ensuremath{<}",
        ">": r"\ensuremath{>}",
        "|": r"\ensuremath{|}",
        "±": r"\ensuremath{\pm}",
        "−": r"\ensuremath{-}",
        "×": r"\ensuremath{\times}",
        "·": r"\ensuremath{\cdot}",
        "≥": r"\ensuremath{\geq}",
        "≤": r"\ensuremath{\leq}",
        "ρ": r"\ensuremath{\rho}",
        "κ": r"\ensuremath{\kappa}",
        "τ": r"\ensuremath{\tau}",
        "η": r"\ensuremath{\eta}",
        "→": r"\ensuremath{\rightarrow}",
        "Δ": r"\ensuremath{\Delta}",
        "√": r"\ensuremath{\surd}",
        "²": r"\ensuremath{^2}",
        "₀": r"\ensuremath{_0}",
        "₁": r"\ensuremath{_1}",
        "–": "--",
        "“": "``",
        "”": "''",
        "’": "'",
        "\u00a0": "~",
        "\n": " ",
        "\r": " ",
    }
)
MARKDOWN_SPECIALS = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_[]|~#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)
LATEX_NEEDS = "% needs \\usepackage{booktabs,graphicx,xcolor}"


@cache
def templates() -> Environment:
    """The templates of this package; everything put into one is escaped."""
    return Environment(
        loader=PackageLoader("kellgren", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style_sheet() -> str:
    """The one style sheet of page and tables."""
    environment = templates()
    if environment.loader is None:
        raise RuntimeError("the environment of templates() always has a loader")
    return environment.loader.get_source(environment, "page.css")[0]


def to_html(table: Table) -> str:
    """A `<figure>` that holds the table, its caption and its footnotes."""
    return Markup(templates().get_template("table.html.jinja").render(table=table))


def to_markdown(table: Table) -> str:
    """A pipe table; the best values are bold, the paper's stand in brackets."""
    columns = [_md(c.title) + (f"<sup>{c.marks}</sup>" if c.marks else "") for c in table.columns]
    columns = [f"{_md(over)} {c}".strip() for over, c in zip(_over(table), columns, strict=True)]
    mark = f"<sup>{table.title_marks}</sup>" if table.title_marks else ""
    lines = [f"**{_md(table.title)}.**{mark} {_md(table.caption)}", ""]
    lines.append(_md_line([*map(_md, table.stub), *columns]))
    lines.append(_md_line(["---"] * len(table.stub) + ["---:"] * len(columns)))
    for group in table.groups:
        for position, row in enumerate(group.rows):
            name = group.name if position == 0 else ""
            lines.append(_md_line([_md(name), *map(_md, row.labels), *map(_md_cell, row.cells)]))
    notes = [f"<sup>{mark}</sup> {_md(text)}" for mark, text in table.lettered()]
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + ("\n" if notes else "")


def to_latex(table: Table) -> str:
    """A `table` environment with booktabs rules; counts and the paper's values stand below."""
    lines = [LATEX_NEEDS, r"\begin{table}[t]", r"\centering", r"\small"]
    lines.append(_tex_caption(table))
    lines.append(rf"\label{{tab:{table.name}}}")
    lines.append(r"\resizebox{\linewidth}{!}{%")
    lines.append(rf"\begin{{tabular}}{{{'l' * len(table.stub)}{'r' * len(table.columns)}}}")
    lines += [r"\toprule", *_tex_spans(table)]
    lines.append(_tex_line([*map(_tex, table.stub), *map(_tex_column, table.columns)]))
    for group in table.groups:
        lines.append(r"\midrule")
        for position, row in enumerate(group.rows):
            lines += _tex_row(group.name if position == 0 else "", row)
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [_tex_note(mark, text) for mark, text in table.lettered()]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _over(table: Table) -> list[str]:
    """Heading above each column; empty ones where there is none."""
    above = [title for title, span in table.spans for _ in range(span)]
    return above or [""] * len(table.columns)


def _md(text: str) -> str:
    return text.translate(MARKDOWN_SPECIALS)


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.best else _md(cell.text)
    aside = [*cell.notes, *([f"paper {cell.published}"] if cell.published else [])]
    return f"{text} ({_md('; '.join(aside))})" if aside else text


def _tex(text: str) -> str:
    return text.translate(LATEX_SPECIALS)


def _tex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex_column(column: Column) -> str:
    mark = rf"\textsuperscript{{{column.marks}}}" if column.marks else ""
    return _tex(column.title) + mark


def _tex_caption(table: Table) -> str:
    """Caption without the number, which LaTeX counts itself."""
    title = table.title.split(". ", 1)[-1]
    mark = rf"\textsuperscript{{{table.title_marks}}}" if table.title_marks else ""
    return rf"\caption{{{_tex(title)}.{mark} {_tex(table.caption)}}}"


def _tex_spans(table: Table) -> list[str]:
    if not table.spans:
        return []
    cells, rules, at = [""] * len(table.stub), [], len(table.stub) + 1
    for title, span in table.spans:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{_tex(title)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}" if title else "")
        at += span
    return [_tex_line(cells), "".join(rules)]


def _tex_row(name: str, row: Row) -> list[str]:
    texts = [rf"\textbf{{{_tex(c.text)}}}" if c.best else _tex(c.text) for c in row.cells]
    lines = [_tex_line([_tex(name), *map(_tex, row.labels), *texts])]
    below = [_tex_aside(cell) for cell in row.cells]
    if any(below):
        lines.append(_tex_line([""] * (1 + len(row.labels)) + below))
    return lines


def _tex_aside(cell: Cell) -> str:
    parts = [_tex("; ".join(cell.notes))] if cell.notes else []
    parts += [f"(paper {_tex(cell.published)})"] if cell.published else []
    return rf"\textcolor{{gray}}{{\scriptsize {' '.join(parts)}}}" if parts else ""


def _tex_note(mark: str, text: str) -> str:
    return (
        rf"\par\smallskip\parbox{{\linewidth}}"
        rf"{{\footnotesize\textsuperscript{{{mark}}} {_tex(text)}}}"
    )
