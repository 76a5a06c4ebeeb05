"""Which rows of a study are of networks, and which of radiomics systems: told apart here alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, get_args

import pandas as pd

from kellgren.config import SystemName
from kellgren.report.terms import SYSTEMS, in_order
from kellgren.results import COLUMNS
from kellgren.runs import RUN_NAME
from kellgren.study import NETWORK_VS_RADIOMICS, StudyResult

Made = TypeVar("Made")
OF_SYSTEMS = frozenset(get_args(SystemName))


def systems_of(result: StudyResult) -> list[str]:
    """Radiomics systems of a study, in the order in which they are printed."""
    found = result.performance["backbone"]
    return in_order(found[found.isin(OF_SYSTEMS)], SYSTEMS)


def networks(result: StudyResult) -> StudyResult:
    """The study as it were without radiomics systems."""
    if not systems_of(result):
        return result
    tables = {name: getattr(result, name) for name in COLUMNS}
    return replace(
        result, **{name: table[_of_networks(table)] for name, table in tables.items() if len(table)}
    )


def of_networks(make: Callable[[StudyResult], Made]) -> Callable[[StudyResult], Made]:
    """The same table or figure, of the networks only."""
    return lambda result: make(networks(result))


def _of_networks(table: pd.DataFrame) -> "pd.Series[bool]":
    keep = pd.Series(True, index=table.index)
    if "backbone" in table.columns:
        keep &= ~table["backbone"].isin(OF_SYSTEMS)
    if "family" in table.columns:
        keep &= table["family"] != NETWORK_VS_RADIOMICS
    if "differ_in" in table.columns:
        for side in ("model", "reference"):
            keep &= ~table[side].map(_backbone).isin(OF_SYSTEMS)
    return keep


def _backbone(run: object) -> str:
    match = RUN_NAME.fullmatch(str(run))
    return match["backbone"] if match else ""
