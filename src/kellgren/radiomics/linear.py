"""Linear systems: logistic and ordinal regression on features or on the person (row 3, ablations).

Each is fitted on the training knees. How strongly it is held back is chosen by five-fold cross-
validation among them: the strength with the lowest out-of-fold value of the very loss that is
fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import logsumexp

from kellgren.faults import InputError
from kellgren.radiomics.ordinal import balance, event_loss, fit_thresholds, grade_logits
from kellgren.radiomics.scaling import standardised
from kellgren.radiomics.systems import EVIDENCE, Fitted, Material, Watch
from kellgren.tables import family

CLASSES = {"oa": 2, "kl": 5}
FOLDS, FOLD_SEED = 5, 42
C_GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 1))  # 1e-4 to 1 in half decades
L2_GRID = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
STARTS = 10  # without a penalty there is no one minimum: scores are averaged over random starts
PERSON = ("age", "sex", "bmi")
CARTILAGE, BONE = {"roi_2", "roi_4", "roi_5"}, {"roi_1", "roi_3"}


@dataclass(frozen=True)
class Inputs:
    """What a linear system reads of every knee.

    Attributes:
        names: Region and feature of each column.
        x: The values; NaN where one is missing.
    """

    names: tuple[tuple[str, str], ...]
    x: Float[np.ndarray, "n f"]


View = Callable[[Material], Inputs]


@dataclass(frozen=True)
class Regression:
    """A kind of linear model.

    Attributes:
        name: "logistic" or "ordinal".
        grid: Strengths to choose from: C of scikit-learn, or the L2 penalty.
        fit: Weights at a strength, their last row the intercepts.
        loss: What is minimised, without the penalty, of scores and classes.
        logits: Logits of the five grades of scores.
        slope: How much each feature raises the severity, of its weights.
    """

    name: str
    grid: tuple[float, ...]
    fit: Callable[
        [Float[np.ndarray, "n f"], Int[np.ndarray, " n"], float], Float[np.ndarray, "f+1 c"]
    ]
    loss: Callable[[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]], float]
    logits: Callable[[Float[np.ndarray, "n c"]], Float[np.ndarray, "n 5"]]
    slope: Callable[[Float[np.ndarray, "f c"]], Float[np.ndarray, " f"]]


def fit_logistic(
    x: Float[np.ndarray, "n f"], y: Int[np.ndarray, " n"], strength: float
) -> Float[np.ndarray, "f+1 c"]:
    """Logistic regression, multinomial for more than two classes, each weighing the same."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000).fit(x, y)
    return np.vstack([model.coef_.T, model.intercept_])


def log_loss(scores: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> float:
    """Mean negative log-likelihood in nats, each class weighing the same; one score is a log-odds.

    >>> round(log_loss(np.zeros((3, 1)), np.array([0, 1, 1])), 4)   # log 2
    0.6931
    """
    logits = scores if scores.shape[1] > 1 else np.hstack([np.zeros_like(scores), scores])
    loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    return float(np.mean(balance(y) * loss))


def rise(weights: Float[np.ndarray, "f c"]) -> Float[np.ndarray, " f"]:
    """Log-odds of a class against the one below, averaged: the least-squares slope over classes.

    >>> rise(np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    if weights.shape[1] == 1:
        return weights[:, 0]
    step = np.arange(weights.shape[1]) - (weights.shape[1] - 1) / 2
    return weights @ step / (step**2).sum()


LOGISTIC = Regression("logistic", C_GRID, fit_logistic, log_loss, lambda scores: scores, rise)
ORDINAL = Regression(
    "ordinal",
    L2_GRID,
    lambda x, y, strength: fit_thresholds(x, y, l2=strength),
    event_loss,
    grade_logits,
    lambda weights: weights.mean(axis=1),
)


def person(material: Material) -> Inputs:
    """Age, sex (1 for women) and body-mass index of the cohort table.

    Raises:
        InputError: If no knee has any of them.
    """
    sexes = {"female": 1.0, "male": 0.0}
    rows = [(case.age, sexes.get(case.sex or ""), case.bmi) for case in material.cases]
    x = np.array(rows, dtype=np.float64)
    if np.isnan(x).all():
        raise InputError(
            "the cohort table", "no age, sex or bmi", "one of them", "leave out 'demographics'"
        )
    return Inputs(tuple(("person", name) for name in PERSON), x)


def features(material: Material) -> Inputs:
    """Every feature of every region."""
    return _chosen(material, "features", lambda _region, _feature: True)


def shape(material: Material) -> Inputs:
    """Size and form of every region."""
    return _chosen(material, "shape features", lambda _, feature: family(feature) == "shape")


def texture(material: Material) -> Inputs:
    """Grey values and their texture in every region: all that is not shape."""
    return _chosen(material, "texture features", lambda _, feature: family(feature) != "shape")


def cartilage(material: Material) -> Inputs:
    """Femoral, medial and lateral tibial cartilage: the regions 2, 4 and 5."""
    return _chosen(material, "cartilage roi_2, roi_4 or roi_5", lambda name, _: name in CARTILAGE)


def bone(material: Material) -> Inputs:
    """Femur and tibia: the regions 1 and 3."""
    return _chosen(material, "bone roi_1 or roi_3", lambda name, _: name in BONE)


def tuned(
    regression: Regression, view: View, material: Material, task: str, *, seed: int, watch: Watch
) -> Fitted:
    """A system whose strength is chosen among the training knees; the seed changes nothing.

    `z` are the standardised features, which the linear model reads: the severity axis is theirs,
    and no fit has bent it.

    Raises:
        InputError: If the view is empty, or a class has fewer than five training knees.
    """
    inputs, train = view(material), material.rows("train")
    y = material.target(task)[train]
    losses = fold_losses(regression, inputs.x[train], y, task, watch=watch)
    strength = regression.grid[int(np.argmin(losses))]
    z = standardised(inputs.x, train)
    weights = regression.fit(z[train], y, strength)
    record = {"model": regression.name, "strength": strength, "features": len(inputs.names)}
    record |= {"grid": list(regression.grid), "fold_loss": losses, "folds": FOLDS}
    return _fitted(regression, inputs, task, z, weights, record)


def fold_losses(
    regression: Regression,
    x: Float[np.ndarray, "n f"],
    y: Int[np.ndarray, " n"],
    task: str,
    *,
    watch: Watch,
) -> list[float]:
    """Out-of-fold loss of each strength of the grid; each fold is scaled by the knees it fits.

    Raises:
        InputError: If a class has fewer than five knees.
    """
    parts = folds(y, task, "the training knees")
    scaled = [standardised(x, fitted_on) for fitted_on, _ in parts]
    losses = []
    for done, strength in enumerate(regression.grid):
        watch(100 * done // len(regression.grid), f"strength {strength:.3g}")
        scores = [
            scores_of(z[held], regression.fit(z[fitted_on], y[fitted_on], strength))
            for z, (fitted_on, held) in zip(scaled, parts, strict=True)
        ]
        order = np.concatenate([held for _, held in parts])
        losses.append(regression.loss(np.concatenate(scores), y[order]))
    return losses


def refit(material: Material, task: str, *, seed: int, watch: Watch) -> Fitted:
    """The published protocol: fitted inside the test set, on four fifths to grade the last fifth.

    What Chen et al. print as "all radiomics": OA by logistic regression at C = 1, the grade by the
    ordinal model without a penalty, averaged over ten random starts. Each test knee is graded by the model that
    did not see it, and about 78 others did; the training knees, which the protocol does not know,
    by the mean of the five.

    Raises:
        InputError: If there is no feature, or a class has fewer than five test knees.
    """
    inputs, rng = features(material), np.random.default_rng(seed)
    names = np.array([case.case_id for case in material.cases])
    test = material.rows("test")
    test = test[np.argsort(names[test], kind="stable")]  # the folds depend on the order
    y = material.target(task)[test]
    parts, fits = folds(y, task, "the test knees"), []
    for done, (rows, _) in enumerate(parts):
        watch(100 * done // FOLDS, f"fold {done + 1} of {FOLDS}")
        fits.append(_fit_as_published(inputs, task, test[rows], y[rows], rng))
    logits = np.mean([fit.logits for fit in fits], axis=0)
    for fit, (_, held) in zip(fits, parts, strict=True):
        logits[test[held]] = fit.logits[test[held]]
    weight = np.mean([fit.evidence["weight"] for fit in fits], axis=0)
    record = {"model": "as published", "fitted_in": "test", "features": len(inputs.names)}
    z = standardised(inputs.x, test)
    return Fitted(logits, z, fits[0].evidence.assign(weight=weight), {**record, "folds": FOLDS})


def folds(
    y: Int[np.ndarray, " n"], task: str, where: str
) -> list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """Five stratified folds, shuffled by the seed 42: the places that are fitted, and the rest.

    Raises:
        InputError: If a class has fewer than five knees.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(y, minlength=CLASSES[task])
    if counts.min() < FOLDS:
        name = {"oa": ["no OA", "OA"], "kl": [f"KL {k}" for k in range(5)]}[task][counts.argmin()]
        raise InputError(
            where,
            f"{counts.min()} of {name}",
            f"{FOLDS} of each class, one a fold",
            "add knees, or leave out this system",
        )
    split = StratifiedKFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(y, y)
    return [(fitted_on, held) for fitted_on, held in split]


def scores_of(
    x: Float[np.ndarray, "n f"], weights: Float[np.ndarray, "f+1 c"]
) -> Float[np.ndarray, "n c"]:
    """Features times weights, plus the intercepts of the last row."""
    return x @ weights[:-1] + weights[-1]


def _fit_as_published(
    inputs: Inputs,
    task: str,
    rows: Int[np.ndarray, " m"],
    y: Int[np.ndarray, " m"],
    rng: np.random.Generator,
) -> Fitted:
    z = standardised(inputs.x, rows)
    if task == "oa":
        return _fitted(LOGISTIC, inputs, task, z, fit_logistic(z[rows], y, 1.0), {})
    bound = 1 / np.sqrt(z.shape[1])
    starts = rng.uniform(-bound, bound, (STARTS, z.shape[1] + 1, CLASSES[task] - 1))
    weights = [fit_thresholds(z[rows], y, l2=0.0, start=start) for start in starts]
    return _fitted(ORDINAL, inputs, task, z, np.mean(weights, axis=0), {})


def _fitted(
    regression: Regression,
    inputs: Inputs,
    task: str,
    z: Float[np.ndarray, "n f"],
    weights: Float[np.ndarray, "f+1 c"],
    record: dict[str, Any],  # any JSON object
) -> Fitted:
    scores = scores_of(z, weights)
    evidence = pd.DataFrame(inputs.names, columns=EVIDENCE[:2])
    return Fitted(
        logits=scores if task == "oa" else regression.logits(scores),
        z=z,
        evidence=evidence.assign(weight=regression.slope(weights[:-1])),
        record=record,
    )


def _chosen(material: Material, what: str, wanted: Callable[[str, str], bool]) -> Inputs:
    names = material.table.columns
    chosen = np.array([wanted(*name) for name in names], dtype=bool)
    if not chosen.any():
        raise InputError(
            "the table of features",
            f"no {what} among {len(names)} columns",
            "at least one",
            "extract them, or leave out the system that reads them",
        )
    kept = tuple(name for name, keep in zip(names, chosen, strict=True) if keep)
    return Inputs(kept, material.table.flat(chosen))
