"""Jobs that read in the test's own process."""

from inkling.client.batch.job import Job
from inkling.client.batch.places import Place
from inkling.client.batch.reader import PartReader, ReaderConfig
from inkling.client.settings import Retry


def read_here(config, pictures, numbers):
    """In place of Ray's readers, one in this process."""
    reader = PartReader(config, pictures)
    try:
        yield from (reader.read(number) for number in numbers)
    finally:
        reader.close()


def begin(pictures, output, server, *, pages_per_part=4, patience_s=0.1, label=None, timeout_s=10.0):
    """Begin a job, or go on with it; what it tells is in its `told`."""
    connection = {"address": server, "model": "mnist", "retry": Retry(attempts=1), "timeout_s": timeout_s}
    told = []
    config = ReaderConfig(
        pictures=str(pictures),
        pages_per_part=pages_per_part,
        connection=connection,
        version={"version": None, "label": label},
        patience_s=patience_s,
    )
    job = Job(Place(str(output)), config, told.append)
    job.told = told
    return job
