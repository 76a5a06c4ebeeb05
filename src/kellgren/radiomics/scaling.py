"""Features on one scale: what every radiomics system reads."""

import numpy as np
from jaxtyping import Float, Int

CLIP = 8.0


def standardised(
    x: Float[np.ndarray, "n f"], rows: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "n f"]:
    """Features in standard deviations from the mean of the given rows, cut off at 8.

    A few features have heavy tails, and one knee of 50 standard deviations would rule a linear
    model. A missing value is the mean of the rows, 0; so is a feature that they all lack or share.

    >>> standardised(np.array([[1.0], [3.0], [99.0], [np.nan]]), np.array([0, 1]))[:, 0]
    array([-1.,  1.,  8.,  0.])
    """
    from sklearn.preprocessing import StandardScaler

    with np.errstate(invalid="ignore"):  # a feature without any value has no mean
        scaled = StandardScaler().fit(x[rows]).transform(x)
    return np.nan_to_num(np.clip(scaled, -CLIP, CLIP))
