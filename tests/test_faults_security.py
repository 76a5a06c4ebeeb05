"""Faults S and K04: files of strangers that would run code, fill the memory or lead elsewhere."""

import ast
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

import kellgren
from kellgren.cohort import check_case_id
from kellgren.faults import InputError
from kellgren.importers import Options, import_bids, import_nnunet, import_oaizib_cm, import_table
from kellgren.learn.weight_file import SIZE_LIMIT
from kellgren.learn.weights import read_checkpoint, residual_size
from kellgren.report.figures import FIGURES, save_figure
from kellgren.report.markup import to_html, to_latex, to_markdown
from kellgren.report.table import Cell, Column, Group, Row, Table
from kellgren.report.tables import TABLES
from kellgren.results import TEXT, StudyResult
from kellgren.tables import LOGIT_KL, Predictions
from kellgren.volume import read_scan
from kellgren.volume.series import read_series
from tests.faults import ended
from tests.made_study import made_result
from tests.test_dicom import made_series
from tests.test_page import Document, printed
from tests.test_volume import made_nrrd

SOURCES = sorted(Path(kellgren.__file__).parent.rglob("*.py"))
# Modules that run what they read, talk to the network, or unpack archives onto the disk.
MODULES = {
    *["pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "imp"],
    *["socket", "ssl", "http", "urllib", "urllib3", "requests", "ftplib", "smtplib", "xmlrpc"],
    *["tarfile", "webbrowser"],
}
CALLS = {"eval", "exec", "compile", "__import__", "import_module"}
METHODS = {"read_pickle", "to_pickle", "extractall", "extract", "unpack_archive", "read_hdf"}
# Function of a library -> argument that keeps it from running what it reads.
GUARDS = {
    ("np", "load"): ("allow_pickle", False),
    ("np", "savez"): ("allow_pickle", False),
    ("np", "savez_compressed"): ("allow_pickle", False),
    ("torch", "load"): ("weights_only", True),
}


def offences(source: str) -> Iterator[str]:
    """What a source imports or calls of the above, one line each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (name for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield f"{node.func.id} in line {node.lineno}"
    if given.get("shell"):
        yield f"a shell in line {node.lineno}"
    if not isinstance(node.func, ast.Attribute):
        return
    owner, name = ast.unparse(node.func.value), node.func.attr
    wanted = GUARDS.get((owner, name))
    if name in METHODS or (owner, name) in {("os", "system"), ("os", "popen"), ("torch", "save")}:
        yield f"{owner}.{name} in line {node.lineno}"
    if wanted is not None and given.get(wanted[0]) != wanted[1]:
        yield f"{owner}.{name} without {wanted} in line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_here_runs_what_it_reads_asks_a_shell_or_opens_a_connection(path):
    assert list(offences(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        *["import pickle", "from joblib import load", "import urllib.request", "import os, yaml"],
        *["eval('1')", "exec(x)", "np.load(p)", "np.load(p, allow_pickle=True)", "torch.load(p)"],
        *["torch.load(p, weights_only=False)", "subprocess.run(c, shell=True)", "os.system(c)"],
        *["z.extractall()", "pd.read_pickle(p)", "torch.save(m, p)", "np.savez(p, a=a)"],
    ],
)
def test_this_fence_can_fail(source):
    assert list(offences(source)) != []


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def saved(content, path, **about):
    torch.save(content, path, **about)
    return path


def repacked(path):
    """The archive of torch, packed: 16 MB of zeros in 16 kB."""
    torch.save({"conv1.weight": torch.zeros(4_000_000)}, path.with_suffix(".plain"))
    with (
        zipfile.ZipFile(path.with_suffix(".plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for member in plain.infolist():
            archive.writestr(member.filename, plain.read(member))
    return path


def scripted(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    return path


def holding(content, path):
    path.write_bytes(content)
    return path


def sparse_file(path, size):
    path.touch()
    os.truncate(path, size)
    return path


def pipe(path):
    os.mkfifo(path)
    return path


HEADER_2_63 = (2**63).to_bytes(8, "little") + b"{}"
RUN = b"cos\nmkdir\n(S'ran'\ntR."
WEIGHTS = [
    ("K04 a payload", lambda d: saved({"a": Payload(d / "ran")}, d / "w.pth"), "hold code"),
    ("K04 a payload in an older file",
     lambda d: saved(Payload(d / "ran"), d / "w.pth", _use_new_zipfile_serialization=False),
     "hold code"),
    ("K04 a bare pickle", lambda d: holding(RUN, d / "w.pth"), "hold code"),
    ("K04 a scripted network", lambda d: scripted(d / "w.pth"), "hold code"),
    ("K12 a bomb", lambda d: repacked(d / "w.pth"), "unpacks to 160"),
    ("K12 a torn archive", lambda d: holding(b"PK\x03\x04 torn", d / "w.pth"), "damaged archive"),
    ("larger than weights",
     lambda d: sparse_file(d / "w.pth", SIZE_LIMIT + 1), "at most 4294967296"),
    ("a view that repeats one number",
     lambda d: saved({"a.b": torch.zeros(1).expand(10**11)}, d / "w.pth"), "a.b, not plain"),
    ("a sparse tensor",
     lambda d: saved({"a.b": torch.eye(3).to_sparse()}, d / "w.pth"), "a.b, not plain"),
    ("a tensor without values",
     lambda d: saved({"a.b": torch.empty(10**12, device="meta")}, d / "w.pth"), "a.b, not plain"),
    ("complex numbers",
     lambda d: saved({"a.b": torch.zeros(3).to(torch.complex64)}, d / "w.pth"), "a.b, not plain"),
    ("a name that is none", lambda d: saved({7: torch.zeros(3)}, d / "w.pth"), "int, not plain"),
    ("a name without end",
     lambda d: saved({"x" * 10**6: torch.zeros(3), 1: 2}, d / "w.pth"), "not plain"),
    ("K05 a header of 2^63 bytes",
     lambda d: holding(HEADER_2_63, d / "w.safetensors"), "cannot be read"),
    ("a pipe", lambda d: pipe(d / "w.pth"), "no plain file"),
    ("a folder", lambda d: d, "no plain file"),
    ("nothing", lambda d: d / "w.pth", "No such file"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), [pytest.param(m, s, id=n) for n, m, s in WEIGHTS])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which only makes a file
def test_weights_of_strangers_are_refused_in_one_line_and_run_nothing(
    tmp_path, monkeypatch, make, said
):
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: found ")
    assert said in line
    assert "\n" not in line
    assert len(line) < 800
    assert not (tmp_path / "ran").exists()


def test_a_tensor_without_axes_is_no_residual_network():
    assert residual_size({"conv1.weight": torch.tensor(1.0)} | {
        f"layer{i}.{j}.x": torch.ones(1) for i in (1, 2, 3, 4) for j in (0, 1)
    }) is None  # fmt: skip


OUTSIDE = ["../../outside", "/tmp/outside", "a/../../outside", "..\\outside", "CON", "\x1b[2J"]


def test_names_in_an_archive_lead_nowhere(tmp_path):
    """S: members are read and never written, links among them are not followed."""
    folder = made_series(tmp_path / "in" / "s") if (tmp_path / "in").mkdir() is None else None
    with zipfile.ZipFile(tmp_path / "in" / "s.zip", "w") as archive:
        for name, file in zip(OUTSIDE, sorted(folder.iterdir()), strict=False):
            archive.writestr(name, file.read_bytes())
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(
        read_series(tmp_path / "in" / "s.zip").values, read_series(folder).values
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_cannot_be_unpacked_is_refused_without_the_names_in_it(tmp_path):
    path = tmp_path / "s.zip"
    for packing in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED):
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("Doe^Jane.dcm", bytes(range(256)) * 40)
        content = bytearray(path.read_bytes())
        content[60:90] = bytes(30)
        path.write_bytes(content)
        with pytest.raises(InputError, match="a damaged archive") as caught:
            read_series(path)
        assert "Doe" not in str(caught.value)


def test_the_voxels_of_an_nrrd_header_are_not_read_through_a_link(tmp_path):
    path = made_nrrd(tmp_path / "a.nhdr")
    assert read_scan(path).voxels.size
    (tmp_path / "a.raw.gz").rename(tmp_path / "elsewhere")
    (tmp_path / "a.raw.gz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="behind a link"):
        read_scan(path)


BAD_IDS = ["../x", "a/b", "/x", "", ".x", "-x", "=1+1", "@x", "x\n", "x" * 65, "é", "<b>", "a b"]
BAD_IDS += ["CON", "con.txt", "aux", "Nul", "COM1", "lpt9.nii", "~x", "a\\b", "x\0"]


@pytest.mark.parametrize("case_id", BAD_IDS, ids=ascii)
def test_T13_no_importer_takes_an_id_that_cannot_name_a_file(tmp_path, case_id):
    with pytest.raises(InputError, match="the case id"):
        check_case_id(case_id, "here")
    columns = pd.DataFrame(
        {"case_id": [case_id], "participant_id": [case_id], "image": ["a.nii"], "kl": ["1"]}
        | {"side": ["right"], "split": ["train"]}
    )
    if case_id in ("", "x\n", "x\0"):  # blank at the end is cut off, and the file is no table
        return
    columns.to_csv(tmp_path / "t.csv", index=False)
    columns.to_csv(tmp_path / "participants.tsv", index=False, sep="\t")
    for importer, root in ((import_table, tmp_path / "t.csv"), (import_bids, tmp_path)):
        with pytest.raises(InputError, match="the case id"):
            importer(root, tables_only=True)


def test_T13_nor_out_of_the_names_of_files_nor_out_of_numbers(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    (tmp_path / "imagesTr" / "=1+1_0000.nii.gz").touch()
    (tmp_path / "grades.csv").write_text("case_id,side,kl\n=1+1,right,1\n")
    with pytest.raises(InputError, match="the case id"):
        import_nnunet(tmp_path, options=Options(grades=tmp_path / "grades.csv"))
    head = "SubjectID,CMT-ID,KneeSide,KLGrade,Gender,Age,BMI\n"
    for split in ("train", "test"):
        row = f"1,{'9' * 5000},1,1,1,60,25\n"
        (tmp_path / f"subInfo_{split}.csv").write_text(head + row)
    with pytest.raises(InputError, match="CMT-ID"):
        import_oaizib_cm(tmp_path, tables_only=True)


HOSTILE = (
    '"><img src=x onerror=alert(1)><script>alert(1)</script><svg/onload=alert(1)> javascript:x '
    "$\\frac{ $ {{7*7}} {% x %} --> ]]> \\input{/etc/passwd} _%&#~^ a|b\n\nc\u202e"
)
FREE = TEXT & {"device", "size", "grid", "torch", "weights_digest", "warning", "level", "stage"}


def hostile(result):
    """The study with such text wherever a name is free: of devices, sites, layers and cases."""
    tables = {
        field: table.assign(**{name: table[name] + HOSTILE for name in FREE & set(table.columns)})
        for field, table in vars(result).items()
        if isinstance(table, pd.DataFrame)
    }
    tables["embedding"] = result.embedding.assign(case_id=HOSTILE)
    tables["runs"] = tables["runs"].assign(backbone=tables["runs"]["backbone"] + HOSTILE)
    return replace(
        result,
        **tables,
        name=HOSTILE,
        protocol={**result.protocol, "title": HOSTILE, HOSTILE: HOSTILE},
        exemplars=tuple(replace(e, case_id=HOSTILE) for e in result.exemplars),
    )


def test_S01_S08_hostile_text_in_every_free_field_stays_text(tmp_path):
    result = hostile(made_result())
    figures = {name: make(result) for name, make in FIGURES.items()}
    for figure in figures.values():
        if figure is not None:
            figure.draw_without_rendering()
    save_figure(figures["fig3"], tmp_path, "fig3")
    tree = ElementTree.parse(tmp_path / "fig3.svg")
    assert not [e for e in tree.iter() if e.tag.endswith(("script", "foreignObject"))]
    assert not [a for e in tree.iter() for a in e.attrib if a.lower().startswith("on")]
    text = printed(result)
    assert "&lt;script&gt;" in text
    assert "{{7*7}}" in text
    document = Document(text)
    assert not document.tags & {"script", "iframe", "object", "embed", "form", "link", "base"}
    assert document.loaded == []
    assert document.open == []
    for table in (make(result) for make in TABLES.values()):
        plain = re.sub(r"\\[{}]", "", to_latex(table)) if isinstance(table, Table) else ""
        assert plain.count("{") == plain.count("}")
        assert not re.search(r"\\(input|frac)", plain)


def test_S01_hostile_names_of_strangers_files_come_through_analysis_as_text(tmp_path):
    """Case ids, columns and devices out of run folders that somebody else made."""
    rng, names = np.random.default_rng(0), [f"=cmd()|'{HOSTILE}{i}" for i in range(20)]
    for seed in (0, 1):
        folder = tmp_path / "runs" / f"resnet3d-dual-s{seed}"
        folder.mkdir(parents=True)
        logits = {f"logit_kl_{k}": rng.normal(size=20) for k in range(5)}
        table = {"case_id": names, "kl": np.arange(20) % 5, "logit_oa": rng.normal(size=20)}
        pd.DataFrame(table | logits | {HOSTILE: HOSTILE}).to_csv(
            folder / "predictions.csv", index=False
        )
        (folder / "run.json").write_text('{"made_with": {"device": "<script>alert(1)</script>"}}')
    assert len(Predictions.read(folder / "predictions.csv")) == 20
    code, lines = ended("analyze", tmp_path / "runs", "--out", tmp_path / "o", "--resamples", "100")
    assert (code, lines) == (0, [])
    for path in (tmp_path / "o").glob("*.csv"):  # S07
        cells = pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().ravel()
        assert not [c for c in cells if c.startswith(("=", "+", "@", "\t"))], path


def test_S02_what_is_not_defined_is_never_printed_as_nan():
    result = made_result()
    bare = result.performance.assign(value=np.nan, ci_low=np.nan, ci_high=np.nan)
    text = printed(replace(result, performance=bare))
    assert not re.search(r">\s*(nan|None|inf|NaN)\s*<", text)


def study_of(folder, n):
    """Exit code, last lines and tables of a study of one run that predicted so many knees."""
    rng, run = np.random.default_rng(0), folder / "runs" / "resnet3d-dual-s0"
    run.mkdir(parents=True)
    table = {"case_id": [f"k{i}" for i in range(n)], "kl": np.arange(n) % 5}
    table |= {name: rng.normal(size=n) for name in ("logit_oa", *LOGIT_KL)}
    pd.DataFrame(table).to_csv(run / "predictions.csv", index=False)
    return ended("analyze", run.parent, "--out", folder / "o", "--resamples", "100")


@pytest.mark.parametrize("n", [1, 2, 500])
def test_S03_a_study_of_one_knee_of_two_and_of_many_has_its_page(tmp_path, n):
    assert study_of(tmp_path, n) == (0, [])
    document = Document(printed(StudyResult.read(tmp_path / "o")))
    assert document.open == []


def test_S03_a_study_of_no_knee_is_refused_in_one_line(tmp_path):
    code, lines = study_of(tmp_path, 0)
    assert (code, len(lines)) == (2, 1)
    assert "predictions.csv" in lines[0]


def test_S04_S05_the_page_needs_no_script_no_canvas_and_no_other_file():
    """Pictures are plain, so there is no WebGL to be absent; the policy loads nothing."""
    result = made_result()
    text = printed(result, figures={**dict.fromkeys(FIGURES), "fig1": FIGURES["fig1"](result)})
    document = Document(text)
    assert not document.tags & {"script", "canvas", "video", "audio", "link", "iframe"}
    assert len(document.loaded) == 1
    assert document.loaded[0].startswith("data:image/")
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"(?:src|href|action|data)=[\"']?(?:https?:|//|file:)", text)


SPECIALS = "_ % & # $ { } ~ ^ \\"


def test_S08_every_special_of_latex_is_written_as_a_letter():
    text = f"a{SPECIALS}b\nc"
    table = Table(
        name="t",
        title=f"Table 1. {text}",
        caption=text,
        stub=(text, text),
        columns=(Column(text),),
        groups=(Group(text, (Row((text,), (Cell(text),)),)),),
    )
    body = to_latex(table)
    plain = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}", "", body)
    plain = re.sub(r"\\[_%&#${}]", "", plain)
    cells = [line for line in plain.splitlines() if line.startswith("a ")]
    assert cells
    assert not any(set("_%#$~^") & set(line) for line in cells)
    assert plain.count("{") == plain.count("}")
    assert "\n\n" not in body.strip()
    assert "<b" not in to_html(table)
    assert len([line for line in to_markdown(table).splitlines() if line.startswith("|")]) == 3
