"""Training data: what is loaded, in which order it is trained on, and how it is moved on the way to a step.

sources         read a set from disk or from an object store, in any of the usual forms, and check it
idx, archive, parquet, tables, image_folder   the forms
labels          classes, from numbers, rows or names
colour          grey images, and those in colour
pixel_range     what the values mean: judged over the whole set
shards          sets that stay on a disk or in a bucket while a run reads them
memory          whether it fits
dataset         the set; holds images out for validation
rows            its examples by index, wherever they lie
example_order   which example comes when: a function of seed and epoch, and of nothing else
augment         random transforms, a function of seed, epoch and example
pixels          from stored pixels to what the network takes
pipeline        all of that as batches, ahead of the step
"""

from .dataset import Dataset
from .errors import DataError
from .sources import MNIST, load

__all__ = ["MNIST", "DataError", "Dataset", "load"]
