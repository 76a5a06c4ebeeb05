"""The page on supervision under noisy grades, made from the kept tables of its studies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kellgren.analysis.noise import noise_ceiling, oa_noise, reader
from kellgren.phantom.reader import GRADE_MIX, true_grades

TEST_KNEES = 120
NOISE_KNEES = 120  # training knees of the study of noise
SIZE_AGREEMENT = 0.65  # agreement in the study of training size
CEILINGS = (("oa", "auc"), ("oa", "accuracy"), ("kl", "macro_auc"), ("kl", "accuracy"))
SHOWN = {
    ("oa", "auc"): "OA AUC",
    ("oa", "accuracy"): "OA accuracy",
    ("kl", "macro_auc"): "KL macro-AUC",
    ("kl", "accuracy"): "KL accuracy",
    ("severity", "rho_expected"): "rho of E[k] and severity",
    ("severity", "rho_pc1"): "rho of PC1 and severity",
}
# What the page asks: supervision, task and metric; the reference is the single model of the task.
QUESTIONS = (
    ("dual", "kl", "macro_auc"),
    ("dual", "kl", "accuracy"),
    ("dual", "severity", "rho_expected"),
    ("dual", "severity", "rho_pc1"),
    ("dual", "oa", "auc"),
    ("dual", "oa", "accuracy"),
    ("single_kl", "oa", "auc"),
    ("single_kl", "oa", "accuracy"),
)
OF_SIZE = (
    ("dual", "kl", "macro_auc"),
    ("dual", "severity", "rho_expected"),
    ("dual", "severity", "rho_pc1"),
    ("dual_forward", "kl", "macro_auc"),
    ("dual_forward", "severity", "rho_expected"),
    ("dual", "oa", "auc"),
    ("single_kl", "oa", "auc"),
)
# Weight of the OA loss of each supervision of the study of lambda.
LAMBDAS = {"single_kl": 0.0, "lambda_10": 0.1, "lambda_50": 0.5, "lambda_90": 0.9, "single_oa": 1.0}
OF_LAMBDA = tuple(
    (name, *key)
    for key in (
        ("oa", "auc"),
        ("kl", "macro_auc"),
        ("severity", "rho_expected"),
        ("severity", "rho_pc1"),
    )
    for name in LAMBDAS
)
OF_SIGNS = tuple(
    (name, head, f"{measure}_thinned_cartilage")
    for measure in ("enrichment", "over_cartilage")
    for head in ("oa", "kl")
    for name in ("lambda_10", "lambda_50", "lambda_90")
)
SIGNS = {
    "thinned_cartilage": "thinned cartilage",
    "osteophyte": "osteophytes",
    "marrow_spot": "bright spots of the marrow",
    "any_sign": "any of them",
}


def noise_page(text: str, studies: Mapping[str, pd.DataFrame]) -> str:
    """The page: a text with the places `{{name}}`, each filled with a table of that name.

    Args:
        text: Markdown with the places.
        studies: `truth_methods` of the studies "noise", "supervision", "size" and "lambda", with
            what they sweep over as columns: `agreement`, and of "size" `train`.
    """
    noise, weight = studies["noise"], studies["lambda"]
    size = with_middle(studies["size"], noise)
    tables = {
        "ceilings": ceilings(sorted(noise["agreement"].unique(), reverse=True)),
        "questions": questions(noise, QUESTIONS, by=["agreement"]),
        "found": told_apart(noise, by=["agreement"]),
        "readings": readings(noise),
        "supervisions": supervisions(studies["supervision"]),
        "size questions": questions(size, OF_SIZE, by=["train"]),
        "size found": told_apart(size, by=["train"]),
        "lambda": by_lambda(weight),
        "lambda questions": questions(weight, OF_LAMBDA, by=[]),
        "lambda found": told_apart(weight, by=[]),
        "signs": on_signs(weight),
        "signs questions": questions(weight, OF_SIGNS, by=[]),
        **{f"{task} {metric}": by_agreement(noise, task, metric) for task, metric in SHOWN},
        **{f"size {task} {metric}": by_size(size, task, metric) for task, metric in SHOWN},
    }
    for name, table in tables.items():
        text = text.replace("{{" + name + "}}", table)
    return text


def ceilings(agreements: Sequence[float]) -> str:
    """What one who knows the true grade would score against the reading, and the noise of OA."""
    grades = true_grades(TEST_KNEES, GRADE_MIX["test"])
    rows = []
    for agreement in agreements:
        found = noise_ceiling(grades, agreement=agreement, rng=np.random.default_rng(42))
        of = found.set_index(["task", "metric"])["ceiling"]
        wrong = oa_noise(reader(agreement), np.bincount(grades))
        rows.append(
            [
                f"{agreement:g}",
                *(f"{of[key]:.3f}" for key in CEILINGS),
                *(f"{share:.3f}" for share in (wrong[0, 1], wrong[1, 0])),
            ]
        )
    titles = [SHOWN[key] for key in CEILINGS]
    return markdown(["agreement", *titles, "read OA, has none", "read none, has OA"], rows)


def by_agreement(noise: pd.DataFrame, task: str, metric: str) -> str:
    """Mean over seeds of each supervision against the truth, one column an agreement."""
    found = _of(noise, "truth", task, metric)
    agreements = sorted(found["agreement"].unique(), reverse=True)
    rows = [
        [str(method), *(_mean(of[of["agreement"] == a].iloc[0]) for a in agreements)]
        for method, of in found.groupby("model", sort=False)
    ]
    return markdown(["supervision", *(f"agreement {a:g}" for a in agreements)], rows)


def with_middle(size: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """The study of training size with the same models at the size of the study of noise."""
    same = noise["model"].isin(size["model"]) & (noise["agreement"] == SIZE_AGREEMENT)
    both = pd.concat([size, noise[same].assign(train=NOISE_KNEES)])
    return both.sort_values("train", kind="stable")


def by_size(size: pd.DataFrame, task: str, metric: str) -> str:
    """Mean over seeds of each supervision against the truth, one column a number of knees."""
    found = _of(size, "truth", task, metric)
    sizes = sorted(found["train"].unique())
    rows = [
        [str(model), *(_mean(of[of["train"] == n].iloc[0]) for n in sizes)]
        for model, of in found.groupby("model", sort=False)
    ]
    return markdown(["supervision", *(f"{n:g} training knees" for n in sizes)], rows)


def by_lambda(table: pd.DataFrame) -> str:
    """Mean over seeds of each mixture of the losses against the truth."""
    keys = [key for key in SHOWN if key[1] != "accuracy"]
    parts = [_by_model(_of(table, "truth", *key)) for key in keys]
    rows = [
        [f"{weight:g}", name] + [_mean(part[name]) if name in part else "" for part in parts]
        for name, weight in LAMBDAS.items()
    ]
    return markdown(["lambda", "supervision", *(SHOWN[key] for key in keys)], rows)


def on_signs(table: pd.DataFrame) -> str:
    """How saliency lies on each planted sign, and how much more so than two maps that know less."""
    rows = []
    for sign, title in SIGNS.items():
        for head in ("oa", "kl"):
            of = {
                (against, name): _by_model(_of(table, against, head, f"{name}_{sign}"))
                for against in ("planted", "untrained", "image_gradient")
                for name in ("mass", "enrichment", "over_cartilage")
            }
            for model, row in of["planted", "mass"].items():
                knees = f"{row['n']:g} ({row['left_out']:g} without)"
                shown = [f"{row['mean']:.4f}", f"{row['chance']:.4f}"]
                shown += [
                    _mean(of["planted", name][model], digits=2)
                    for name in ("enrichment", "over_cartilage")
                ]
                shown += [
                    _mean(of[against, "enrichment"][model], digits=2)
                    for against in ("untrained", "image_gradient")
                ]
                rows.append([title, model, head, knees, *shown])
    titles = ["sign", "supervision", "head", "knees", "mass", "share of the voxels", "enrichment"]
    titles += ["over sound cartilage", "enrichment minus untrained", "minus edges of the scan"]
    return markdown(titles, rows)


def questions(
    table: pd.DataFrame, asked: Sequence[tuple[str, str, str]], *, by: Sequence[str]
) -> str:
    """Differences from the single model, against the truth, each with what it shows."""
    rows = []
    for supervision, task, metric in asked:
        found = _against_truth(table, task, metric)
        for _, row in found[found["model"] == supervision].iterrows():
            if row["reference"]:
                rows.append([*_pair(row, task, metric, by), *_difference(row)])
    return markdown(["pair", "measure", *by, "difference", "verdict"], rows)


def told_apart(table: pd.DataFrame, *, by: Sequence[str]) -> str:
    """Every difference against the truth, of any supervision, whose interval leaves out 0."""
    rows, asked = [], 0
    for task, metric in SHOWN:
        found = _of(table, "truth", task, metric)
        for _, row in found[found["difference_low"].notna()].iterrows():
            asked += 1
            difference, what = _difference(row)
            if what in ("better", "worse"):
                rows.append([*_pair(row, task, metric, by), difference, what])
    counted = f"{len(rows)} of {asked} differences of the six measures"
    titles = ["pair", "measure", *by, "difference", "verdict"]
    return f"{counted}:\n\n{markdown(titles, rows)}" if rows else f"{counted}."


def readings(noise: pd.DataFrame) -> str:
    """How much of what a model knows its noisy reference hides: Dual against truth and reading."""
    rows = []
    for key, title in SHOWN.items():
        sides = [_of(noise, against, *key) for against in ("truth", "reading")]
        true, read = (
            side[side["model"] == "dual"].set_index("agreement")["mean"] for side in sides
        )
        rows += [
            [title, f"{a:g}", f"{true[a]:.3f}", f"{read[a]:.3f}", f"{true[a] - read[a]:+.3f}"]
            for a in true.index
        ]
    return markdown(["measure of Dual", "agreement", "truth", "reading", "hidden"], rows)


def supervisions(table: pd.DataFrame) -> str:
    """Each supervision against the truth, and its difference from the single model of the task."""
    parts = {key: _of(table, "truth", *key).set_index("model") for key in SHOWN}
    titles = []
    for key in (("oa", "auc"), ("kl", "macro_auc"), ("severity", "rho_expected")):
        titles += [SHOWN[key], "difference"]
    rows = []
    for model in parts["oa", "auc"].index:
        cells = [model]
        for key in (("oa", "auc"), ("kl", "macro_auc"), ("severity", "rho_expected")):
            known = model in parts[key].index
            row = parts[key].loc[model] if known else None
            cells += ["", ""] if row is None else [f"{row['mean']:.3f}", _difference(row)[0]]
        rows.append(cells)
    return markdown(["supervision", *titles], rows)


def verdict(low: float, high: float) -> str:
    """What a 95 % interval of a difference shows.

    >>> verdict(0.01, 0.05), verdict(-0.02, 0.05)
    ('better', 'not told apart')
    """
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not told apart"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of(table: pd.DataFrame, against: str, task: str, metric: str) -> pd.DataFrame:
    rows = (table["against"] == against) & (table["task"] == task) & (table["metric"] == metric)
    short = {c: table[c].str.partition("-")[2] for c in ("model", "reference")}
    return table.assign(**short)[rows]


def _by_model(table: pd.DataFrame) -> "dict[str, pd.Series[float]]":
    return {str(row["model"]): row for _, row in table.iterrows()}


def _against_truth(table: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Rows of a measure; for one of saliency the truth is what was planted."""
    return _of(table, "truth" if (task, metric) in SHOWN else "planted", task, metric)


def _pair(row: "pd.Series[float]", task: str, metric: str, by: Sequence[str]) -> list[str]:
    title = SHOWN.get((task, metric), f"{metric.replace('_', ' ')}, {task} head")
    return [f"{row['model']} minus {row['reference']}", title, *(f"{row[key]:g}" for key in by)]


def _mean(row: "pd.Series[float]", digits: int = 3) -> str:
    mean, low, high = (f"{row[key]:.{digits}f}" for key in ("mean", "ci_low", "ci_high"))
    return f"{mean} ({low} to {high})"


def _difference(row: "pd.Series[float]") -> tuple[str, str]:
    low, high = row["difference_low"], row["difference_high"]
    if np.isnan(low):
        return "", ""
    return f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})", verdict(low, high)
