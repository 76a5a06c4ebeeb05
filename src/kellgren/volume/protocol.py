"""Whether a scan looks like the 3-D DESS of a knee that the models are trained on."""

from kellgren.volume.frame import Geometry, Scan

# Sagittal 3-D DESS of the OAI: slice distance, pixel and field of view in mm (Peterfy 2008).
DESS_SPACING_MM = (0.7, 0.365, 0.365)
DESS_FIELD_MM = (112.0, 140.0, 140.0)

_AXIS_NAMES = ("right to left", "top to bottom", "front to back")


def dess_warnings(scan: Scan) -> list[str]:
    """Plain sentences on how the scan differs from the 3-D DESS of the OAI; empty if it does not.

    None repeats the description, into which a person may have typed a name.

    Spacing may be up to twice or down to half the protocol's, and the field of view 0.6 to 1.5
    times; these bounds are our choice.
    """
    return geometry_warnings(scan.geometry) + _of_series(scan)


def geometry_warnings(geometry: Geometry) -> list[str]:
    """The part of `dess_warnings` that needs no voxels."""
    return _of_spacing(geometry) + _of_field(geometry)


def _of_spacing(geometry: Geometry) -> list[str]:
    return [
        f"Voxels are {found:.2f} mm apart from {name}, not about {usual:g} mm:"
        " this is not a DESS scan of the OAI's protocol, and predictions are unfounded."
        for name, found, usual in zip(
            _AXIS_NAMES, geometry.spacing_mm, DESS_SPACING_MM, strict=True
        )
        if not usual / 2 <= found <= usual * 2
    ]


def _of_field(geometry: Geometry) -> list[str]:
    fields = (n * mm for n, mm in zip(geometry.shape, geometry.spacing_mm, strict=True))
    return [
        f"The field of view is {found:.0f} mm from {name}, not about {usual:g} mm:"
        " this may not be one whole knee."
        for name, found, usual in zip(_AXIS_NAMES, fields, DESS_FIELD_MM, strict=True)
        if not 0.6 * usual <= found <= 1.5 * usual
    ]


def _of_series(scan: Scan) -> list[str]:
    warnings = []
    if scan.modality not in (None, "MR"):
        warnings.append(f"The modality is '{scan.modality}', not 'MR': this is not a DESS scan.")
    if scan.description == "":
        warnings.append("The series has no description, so nothing says that it is a DESS scan.")
    elif scan.description is not None and "dess" not in scan.description.lower():
        warnings.append("The description says nothing of 'DESS': this is not a DESS scan.")
    if scan.burned_in:
        warnings.append("The series says that text is burned into its pixels: look at it first.")
    return warnings
