"""Synthetic knee DESS volumes whose true severity is known, graded by a noisy reader.

They stand in for the OAIZIB-CM release where that cannot be shared, in its own layout. The grade
is a noisy reading of a continuous severity, so what a model could know at best is known here.
"""

from kellgren.phantom.release import write_release
from kellgren.phantom.scan import Knee, make_knee

__all__ = ["Knee", "make_knee", "write_release"]
