"""What is wrong with a cohort, as records: how grave, which case, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kellgren.cohort import Case
from kellgren.faults import InputError, printable

SEVERITIES = ("error", "warning", "note")
PATH_COLUMNS = (", image", ", segmentation")  # the end of `where` where such a cell is at fault


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: "error" (the case or cohort cannot be used), "warning" (a person should look) or
            "note" (worth knowing).
        kind: Short name of the test that spoke, such as "mask-shifted".
        case_id: The case; empty where the cohort as a whole is meant.
        where: The file, row or cohort at fault.
        found: What is there.
        needed: What should be there.
        todo: What to do about it.
    """

    severity: str
    kind: str
    case_id: str
    where: str
    found: str
    needed: str
    todo: str

    @classmethod
    def of(cls, fault: InputError, kind: str, *, case_id: str = "") -> "Finding":
        """The error that a refusal is."""
        return cls("error", kind, case_id, fault.where, fault.found, fault.needed, fault.todo)

    def handed_on(self, table: Path, case: Case | None) -> "Finding":
        """The same without paths, which may hold names of patients: a file is called by its column.

        Args:
            table: The cohort table, of which the name stays.
            case: The row that is meant; None for the cohort as a whole.
        """
        where, found = self.where, self.found
        if case is None:
            for folder in (str(table), printable(str(table))):  # a refusal has it written out
                where = where.replace(folder, table.name)
            if where.endswith(PATH_COLUMNS):
                found = "a path of another kind"
        else:
            of_mask = self.kind == "mask" or where == str(case.segmentation)
            where = "segmentation" if of_mask else "image"
            for name, path in (("image", case.image), ("segmentation", case.segmentation)):
                found = found.replace(f"'{path}'", name)
        return replace(self, where=where, found=found)

    def __str__(self) -> str:
        case = f"case {self.case_id}: " if self.case_id else ""
        said = InputError(case + self.where, self.found, self.needed, self.todo)
        return f"{self.severity}: {said}"


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where nothing but notes was found, 1 for warnings, 2 for errors.

    >>> exit_code([])
    0
    """
    severities = {finding.severity for finding in findings}
    return 2 if "error" in severities else 1 if "warning" in severities else 0


def grouped(findings: Sequence[Finding], *, listed: int = 5) -> list[str]:
    """Lines for a person: gravest first, and cases with the same trouble on one line.

    Args:
        findings: In any order.
        listed: Errors are told one by one up to this many of a kind; warnings and notes of one
            kind are told once, with the cases counted.
    """
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        key = (SEVERITIES.index(finding.severity), finding.kind)
        groups.setdefault(key, []).append(finding)
    lines = []
    for (rank, kind), members in sorted(groups.items(), key=lambda item: item[0][0]):
        shown = listed if SEVERITIES[rank] == "error" else 1
        lines += [str(finding) for finding in members[:shown]]
        rest = members[shown:]
        if rest:
            names = ", ".join(dict.fromkeys(f.case_id or f.where for f in rest[:listed]))
            more = ", ..." if len(rest) > listed else ""
            lines.append(f"  and {len(rest)} more of this kind ({kind}): {names}{more}")
    return lines
