"""Every table of a study by the name of its files, in the order in which they are numbered."""

from collections.abc import Callable

from kellgren.report.comparison_tables import comparisons, overlap_comparisons
from kellgren.report.context import table4, table5
from kellgren.report.control_tables import (
    controls,
    deletion,
    further_overlap,
    randomisation,
    repeatability,
)
from kellgren.report.feature_tables import order, representation, similarity
from kellgren.report.paper_tables import table1, table2, table3
from kellgren.report.probability_tables import calibration, hierarchy
from kellgren.report.score_tables import noise, ordinal, strata
from kellgren.report.seed_table import seeds
from kellgren.report.table import Omitted, Table
from kellgren.study import StudyResult

TABLES: dict[str, Callable[[StudyResult], Table | Omitted]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table_s1": comparisons,
    "table_s2": overlap_comparisons,
    "table_s3": seeds,
    "table_s4": ordinal,
    "table_s5": noise,
    "table_s6": calibration,
    "table_s7": hierarchy,
    "table_s8": strata,
    "table_s9": order,
    "table_s10": representation,
    "table_s11": similarity,
    "table_s12": further_overlap,
    "table_s13": controls,
    "table_s14": deletion,
    "table_s15": randomisation,
    "table_s16": repeatability,
}
