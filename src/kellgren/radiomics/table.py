"""A table of radiomic features: one row a knee and region, one column a feature."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from kellgren.faults import InputError
from kellgren.tables import write_csv

KEYS = ["case_id", "roi_name"]


@dataclass(frozen=True)
class FeatureTable:
    """Features of each region of each knee.

    The unit of exchange is a wide table `case_id, roi_name, <features>`, as Chen et al. released.

    Attributes:
        case_id: Identifier of each knee.
        regions: Names of the regions, such as "roi_2".
        features: Names of the features, such as "original_shape_Sphericity".
        values: NaN where a region is absent or a feature undefined.
    """

    case_id: Shaped[np.ndarray, " n"]
    regions: tuple[str, ...]
    features: tuple[str, ...]
    values: Float[np.ndarray, "n r f"]

    def __len__(self) -> int:
        return len(self.case_id)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "FeatureTable":
        """Read wide tables (.csv or .csv.gz) as one, sorted by case and region.

        Raises:
            InputError: If a file is missing or lacks a column, a case and region stands twice, a
                cell is no number, or the features of two files differ.
        """
        table = pd.concat([_read_wide(path) for path in paths], ignore_index=True)
        where = ", ".join(path.name for path in paths)
        features = [name for name in table.columns if name not in KEYS]
        if table[features].isna().all(axis=0).any() or table.columns.duplicated().any():
            raise InputError(
                where, "features that differ between the files", "the same", "extract them alike"
            )
        twice = table[table.duplicated(KEYS)]
        if len(twice):
            row = twice.iloc[0]
            raise InputError(
                f"{where}, case {row['case_id']}",
                f"the region {row['roi_name']} twice",
                "one row a case and region",
                "drop the other row",
            )
        cases, regions = sorted(table["case_id"].unique()), sorted(table["roi_name"].unique())
        every = pd.MultiIndex.from_product([cases, regions], names=KEYS)
        values = table.set_index(KEYS)[features].reindex(every).to_numpy(dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        shape = (len(cases), len(regions), len(features))
        return cls(
            np.array(cases, dtype=object), tuple(regions), tuple(features), values.reshape(shape)
        )

    def write(self, path: Path) -> None:
        """Write the wide table whole."""
        keys = pd.MultiIndex.from_product([self.case_id, self.regions], names=KEYS)
        flat = self.values.reshape(len(keys), len(self.features))
        table = pd.DataFrame(flat, index=keys, columns=list(self.features))
        write_csv(path, table.dropna(how="all").reset_index())

    def of(self, case_ids: Sequence[str]) -> "FeatureTable":
        """The given knees, in the given order.

        Raises:
            InputError: Naming the first knee that has no row.
        """
        place = {case_id: i for i, case_id in enumerate(self.case_id)}
        for case_id in case_ids:
            if case_id not in place:
                raise InputError(
                    f"case {case_id}",
                    "no features of it",
                    "a row for each knee of the cohort",
                    "extract its features, or leave the knee out",
                )
        rows = [place[case_id] for case_id in case_ids]
        return replace(self, case_id=self.case_id[rows], values=self.values[rows])

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Region and feature of each column of `flat`."""
        return [(region, feature) for region in self.regions for feature in self.features]

    def flat(self, chosen: Bool[np.ndarray, " m"] | None = None) -> Float[np.ndarray, "n _"]:
        """All features of a knee side by side, or the chosen ones, in the order of `columns`."""
        values = self.values.reshape(len(self), -1)
        return values if chosen is None else values[:, chosen]


def _read_wide(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(KEYS, str),
            keep_default_na=False,
            na_values=["", "nan", "NaN"],
        )
    except FileNotFoundError:
        raise InputError(
            str(path),
            "no such file",
            "a table of features",
            "run `kellgren radiomics extract`, or correct radiomics.features",
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(str(path), str(error), "a CSV table", "write it again") from error
    missing = [name for name in KEYS if name not in table.columns]
    if missing:
        raise InputError(
            str(path), f"the columns {list(table.columns)[:6]} ...", f"{KEYS}", f"add {missing}"
        )
    numbers = table.select_dtypes("number").columns
    text = [name for name in table.columns if name not in KEYS and name not in numbers]
    if text:
        raise InputError(str(path), f"text in the column {text[0]}", "numbers", "correct it")
    return table
