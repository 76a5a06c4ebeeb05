"""Every table of a study by the name of its files, in the order in which they are numbered."""

from collections.abc import Callable

from kellgren.report.attribution_table import attribution
from kellgren.report.benchmark_tables import against_radiomics
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
from kellgren.report.networks import of_networks
from kellgren.report.paper_tables import table1, table2, table3
from kellgren.report.probability_tables import calibration, hierarchy
from kellgren.report.score_tables import noise, ordinal, strata
from kellgren.report.seed_table import seeds
from kellgren.report.table import Omitted, Table
from kellgren.report.truth_tables import differences, on_signs, truth
from kellgren.study import StudyResult

TABLES: dict[str, Callable[[StudyResult], Table | Omitted]] = {
    "table1": of_networks(table1),
    "table2": of_networks(table2),
    "table3": of_networks(table3),
    "table4": table4,
    "table5": table5,
    "table_s1": of_networks(comparisons),
    "table_s2": of_networks(overlap_comparisons),
    "table_s3": seeds,
    "table_s4": ordinal,
    "table_s5": of_networks(noise),
    "table_s6": calibration,
    "table_s7": of_networks(hierarchy),
    "table_s8": of_networks(strata),
    "table_s9": of_networks(order),
    "table_s10": of_networks(representation),
    "table_s11": of_networks(similarity),
    "table_s12": of_networks(further_overlap),
    "table_s13": of_networks(controls),
    "table_s14": of_networks(deletion),
    "table_s15": of_networks(randomisation),
    "table_s16": of_networks(repeatability),
    "table_s17": against_radiomics,
    "table_s18": attribution,
    "table_s19": truth,
    "table_s20": differences,
    "table_s21": on_signs,
}
