"""Grade knee osteoarthritis from 3-D MRI, and prove what such a model has learned.

The system of arXiv 2605.00718 ("the paper" in every docstring): one shared encoder, a coarse OA
head, a fine KL head, or both, and the measurements that say what the supervision did.

Axis names used in every annotation of this package
---------------------------------------------------
n   cases (knees)                      k   KL grades, always 5
m   cases of another table             f   penultimate features (z in the paper)
c   channels                           b   bootstrap resamples
d h w   slices (toward the patient's right), rows (downward), columns (toward the back)
l   tokens of a sequence               s   states of a selective scan
p   points of a lattice, along each axis of a volume

Importing this package never imports torch; only `kellgren.learn` does.

Research use only: nothing here is a medical device.
"""

__version__ = "0.1.0"
