"""Training data: what is loaded, in which order it is trained on, and how it is moved on the way to a step.

dataset         loads a labelled set; holds images out for validation
example_order   which example comes when: a function of seed and epoch, and of nothing else
augment         random transforms, a function of seed, epoch and example
pixels          from stored pixels to what the network takes
pipeline        all of that as batches, ahead of the step
"""

from .dataset import DataError, Dataset, load

__all__ = ["DataError", "Dataset", "load"]
