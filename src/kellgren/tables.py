"""What stands in a run folder, read into records: predictions, features, saliency overlaps."""

import logging
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.special import expit, softmax

from kellgren.faults import InputError
from kellgren.files import arrays_of, completed, readable
from kellgren.labels import KL_GRADES, grade_log_odds, oa_log_odds
from kellgren.sheets import is_formula

_log = logging.getLogger(__name__)
LOGIT_KL = [f"logit_kl_{k}" for k in range(KL_GRADES)]
PROB_KL = [f"prob_kl_{k}" for k in range(KL_GRADES)]


@dataclass(frozen=True)
class Predictions:
    """What one model said about each case, next to the reference grade.

    A *score* ranks the cases and is never rounded; a *probability* is thresholded and calibrated.
    Where logits are stored the score is the log-odds, so that saturated probabilities do not make
    ties; where only probabilities were given, they are the score as they stand.

    Attributes:
        case_id: Identifier of the knee.
        kl: Reference KL grade, 0 to 4.
        score_oa: Ranks the cases by how likely OA is.
        prob_oa: Probability of OA; 0.5 and above is called OA.
        oa_source: Where the OA prediction comes from: "head" (the OA head's logit), "column" (a
            probability that was given) or "kl" (implied by the KL head, Eq. (4)).
        score_kl: Ranks the cases by how likely each grade is; None for a Single-OA model.
        prob_kl: Probability of each grade; None for a Single-OA model.
    """

    case_id: Shaped[np.ndarray, " n"]
    kl: Int[np.ndarray, " n"]
    score_oa: Float[np.ndarray, " n"]
    prob_oa: Float[np.ndarray, " n"]
    oa_source: str
    score_kl: Float[np.ndarray, "n 5"] | None = None
    prob_kl: Float[np.ndarray, "n 5"] | None = None

    def __len__(self) -> int:
        return len(self.case_id)

    @classmethod
    def read(cls, path: Path, *, split: str = "test") -> "Predictions":
        """Read the rows of one split of `predictions.csv`, sorted by case id.

        The file has `case_id`, `kl` and `logit_oa`, `logit_kl_0..4`, or `prob_oa`,
        `prob_kl_0..4` in place of the logits; columns of a head that is absent are absent or
        empty. Without a `split` column every row counts as test.

        Raises:
            InputError: If a column is missing, a case is listed twice, a grade is not 0 to 4, a
                value is not a number, or a probability is outside [0, 1] or a row does not sum
                to 1.
        """
        table = _read_rows(path, split)
        logit_oa, logit_kl = _block(table, path, ["logit_oa"]), _block(table, path, LOGIT_KL)
        prob_oa, prob_kl = _block(table, path, ["prob_oa"]), _block(table, path, PROB_KL)
        case_id, kl = table["case_id"].to_numpy(dtype=object), _grades(table, path)
        for name, prob in (("prob_oa", prob_oa), ("prob_kl_0..4", prob_kl)):
            _check_probabilities(path, name, prob)
        score_kl = prob_kl
        if logit_kl is not None:
            score_kl, prob_kl = grade_log_odds(logit_kl), softmax(logit_kl, axis=1)
        if logit_oa is not None:
            score, prob, source = logit_oa[:, 0], expit(logit_oa[:, 0]), "head"
        elif prob_oa is not None:
            score, prob, source = prob_oa[:, 0], prob_oa[:, 0], "column"
        elif prob_kl is not None:
            score, source = _implied_oa(logit_kl, prob_kl), "kl"
            prob = expit(score)
        else:
            raise InputError(
                str(path),
                f"the columns {list(table.columns)}",
                "logit_oa or logit_kl_0..4, or prob_oa or prob_kl_0..4",
                "add the predictions of at least one head",
            )
        return cls(case_id, kl, score, prob, source, score_kl, prob_kl)

    def take(self, rows: Int[np.ndarray, " m"]) -> "Predictions":
        """The given rows, in the given order; repeats are allowed (bootstrap)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Predictions(
            **{k: v[rows] if isinstance(v, np.ndarray) else v for k, v in values.items()}
        )


@dataclass(frozen=True)
class Features:
    """Penultimate features of each case: the input of the heads, z of Eq. (2).

    Attributes:
        case_id: Identifier of the knee.
        split: "train" or "test".
        kl: Reference KL grade.
        z: Features.
    """

    case_id: Shaped[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]
    kl: Int[np.ndarray, " n"]
    z: Float[np.ndarray, "n f"]

    @classmethod
    def read(cls, path: Path) -> "Features":
        """Read `features.npz`.

        Raises:
            InputError: If the file is damaged, an array is missing or lengths differ.
        """
        with arrays_of(path, todo="predict with this run again") as file:
            missing = {"case_id", "split", "kl", "z"} - set(file.files)
            if missing:
                raise InputError(
                    str(path),
                    f"the arrays {file.files}",
                    "case_id, split, kl and z",
                    f"write {sorted(missing)} too",
                )
            arrays = {name: file[name] for name in ("case_id", "split", "kl", "z")}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or arrays["z"].ndim != 2:
            raise InputError(
                str(path),
                f"lengths {lengths}",
                "one row a case in each array",
                "write the features again",
            )
        return cls(
            arrays["case_id"].astype(object),
            arrays["split"].astype(object),
            arrays["kl"].astype(np.int64),
            arrays["z"].astype(np.float64),
        )

    def write(self, path: Path) -> None:
        """Write `features.npz`, with text as fixed-width Unicode so that no pickle is needed."""
        with completed(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                case_id=self.case_id.astype(str),
                split=self.split.astype(str),
                kl=self.kl.astype(np.int64),
                z=self.z.astype(np.float32),
            )

    def of_split(self, split: str) -> "Features":
        """The cases of one split, sorted by case id."""
        rows = np.flatnonzero(self.split == split)
        rows = rows[np.argsort(self.case_id[rows].astype(str), kind="stable")]
        return Features(self.case_id[rows], self.split[rows], self.kl[rows], self.z[rows])


def has_split(path: Path, split: str) -> bool:
    """Whether `predictions.csv` has a row of that split; a table without splits is all test."""
    table = _read_text(path)
    if "split" not in table.columns:
        return split == "test"
    return bool((table["split"] == split).any())


def read_overlaps(path: Path) -> pd.DataFrame:
    """Read `overlap.csv`: one row per case and head, measures as numbers.

    Raises:
        InputError: If it is no table, or `case_id`, `head` or one of the four measures of section
            3.5.3 is missing.
    """
    text = {"case_id": str, "head": str}
    with readable(path, todo="explain with this run again"):
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=["", "nan"])
    needed = ["case_id", "head", "mass_roi", "top1_roi", "dice_5", "dice_10"]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"the columns {list(table.columns)}", f"{needed}", f"add {missing}"
        )
    return table


def read_log(path: Path) -> pd.DataFrame:
    """Read `log.csv`; a last line that was cut off is left out, with a warning.

    Raises:
        InputError: If it is no table.
    """
    with readable(path, todo="remove it; the log is not needed, but for pictures of training"):
        text = path.read_text(encoding="utf-8")
        whole, end, rest = text.rpartition("\n")
        if rest:
            _log.warning("%s: its last line was cut off and is left out", path)
        return pd.read_csv(StringIO(whole + end))


def read_planted(path: Path) -> pd.DataFrame:
    """Read `planted.csv`: one row per case, head, map and sign, measures as numbers.

    Raises:
        InputError: If it is no table, or a column is missing.
    """
    text = {"case_id": str, "head": str, "map": str, "sign": str}
    with readable(path, todo="explain with this run again"):
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=["", "nan"])
    needed = [*text, "share", "mass", "enrichment", "over_cartilage"]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"the columns {list(table.columns)}", f"{needed}", f"add {missing}"
        )
    return table.fillna({"head": ""})


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole; numbers in full precision, missing values as empty cells.

    Text that a spreadsheet would compute gets an apostrophe in front, so that it is only shown.
    """
    texts = table.select_dtypes(exclude="number")
    inert = table.assign(**{str(name): texts[name].map(_inert) for name in texts.columns})
    with completed(path) as temporary:
        inert.to_csv(temporary, index=False, lineterminator="\n", errors="backslashreplace")


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and is_formula(cell) else cell


def _read_text(path: Path) -> pd.DataFrame:
    """Every cell as text."""
    with readable(path, todo="predict with this run, or write the table again"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(
            str(path), "rows longer than the header", "rows as long", "look for a surplus comma"
        )
    return table


def _read_rows(path: Path, split: str) -> pd.DataFrame:
    table = _read_text(path)
    missing = [name for name in ("case_id", "kl") if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"the columns {list(table.columns)}", "case_id and kl", f"add {missing}"
        )
    if "split" in table.columns:
        table = table[table["split"] == split]
    if table.empty:
        raise InputError(
            str(path), f"no row of the split '{split}'", "at least one", "predict that split"
        )
    twice = table["case_id"][table["case_id"].duplicated()].unique().tolist()
    if twice:
        raise InputError(
            str(path), f"case {twice[0]} more than once", "one row a case", "drop the other row"
        )
    return table.sort_values("case_id", kind="stable").reset_index(drop=True)


def _block(table: pd.DataFrame, path: Path, names: list[str]) -> Float[np.ndarray, "n k"] | None:
    """The named columns as numbers; None where all of them are absent or empty."""
    present = [name for name in names if name in table.columns and (table[name] != "").any()]
    if not present:
        return None
    if present != names:
        missing = [name for name in names if name not in present]
        raise InputError(str(path), f"{present} only", f"all of {names}", f"add {missing}")
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        row = table.iloc[bad[0]]
        raise InputError(
            f"{path}, case {row['case_id']}",
            f"{dict(row[names])}",
            "finite numbers",
            "predict this case again",
        )
    return values


def _grades(table: pd.DataFrame, path: Path) -> Int[np.ndarray, " n"]:
    known = {str(k): k for k in range(KL_GRADES)}
    bad = table[~table["kl"].isin(list(known))]
    if len(bad):
        raise InputError(
            f"{path}, case {bad.iloc[0]['case_id']}",
            f"kl '{bad.iloc[0]['kl']}'",
            "a grade from 0 to 4",
            "correct the grade or leave the case out",
        )
    return table["kl"].map(known).to_numpy(dtype=np.int64)


def _check_probabilities(path: Path, name: str, prob: Float[np.ndarray, "n k"] | None) -> None:
    if prob is None:
        return
    if prob.min() < 0 or prob.max() > 1:
        raise InputError(
            f"{path}, {name}",
            f"values from {prob.min():.4g} to {prob.max():.4g}",
            "probabilities in [0, 1]",
            "write logits into logit_ columns instead",
        )
    if prob.shape[1] > 1 and np.abs(prob.sum(axis=1) - 1).max() > 1e-3:
        worst = prob.sum(axis=1)[np.abs(prob.sum(axis=1) - 1).argmax()]
        raise InputError(
            f"{path}, {name}",
            f"a row that sums to {worst:.4g}",
            "rows that sum to 1",
            "normalise the probabilities",
        )


def _implied_oa(
    logit_kl: Float[np.ndarray, "n 5"] | None, prob_kl: Float[np.ndarray, "n 5"]
) -> Float[np.ndarray, " n"]:
    if logit_kl is not None:
        return oa_log_odds(logit_kl)
    with np.errstate(divide="ignore"):
        return oa_log_odds(np.log(prob_kl))


def family(feature: str) -> str:
    """Class of a feature, the second part of PyRadiomics' name.

    >>> family("original_glcm_Contrast"), family("age")
    ('glcm', 'age')
    """
    return feature.split("_")[1] if "_" in feature else feature
