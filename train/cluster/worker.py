"""What runs on each of Ray's workers: the training loop, whose events go to the driver through a queue."""

from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import tensorflow as tf
from ray.util.queue import Queue

from .. import loop, strategy
from ..config import TrainConfig
from ..loop import Outcome, Paused, TrainingDiverged
from ..progress import Message
from ..storage import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """What each worker is told. It is pickled, so its class must be importable where the worker runs."""

    config: TrainConfig
    dataset: ray.ObjectRef  # of the whole Dataset
    storage: str  # of the run's folder
    name: str  # the run's
    num_threads: int  # CPUs that Ray granted
    num_gpus: int  # GPUs that Ray granted
    cpu_replicas: int
    on_device: bool | None
    queue: Queue  # takes events for the driver's display
    pause_step: Any = None  # the actor that knows at which step to pause, an elastic.PauseStep; None: nobody asks


@dataclass(frozen=True, slots=True)
class Diverged:
    """What a worker returns in place of an Outcome; raised, it would have Ray take the same steps again."""

    message: str


_MISSING_GPUS = (
    "Ray granted each worker {granted} GPUs, but TensorFlow finds {found}: without its CUDA libraries "
    "(pip install './train[gpu]') it trains on the CPUs; --gpus-per-worker 0 leaves the GPUs to others"
)


def train_worker(settings: WorkerSettings) -> Outcome | Paused | Diverged:
    """What Ray runs on every worker."""
    config, queue = settings.config, settings.queue
    place = ray.train.get_context()
    strategy.keep_to_own_cpus(
        place.get_local_rank(), local_workers=place.get_local_world_size(), num_cpus=settings.num_threads
    )
    strategy.configure_tensorflow(
        num_threads=settings.num_threads,
        cpu_replicas=settings.cpu_replicas,
        seed=config.seed,
        deterministic=config.deterministic,
        num_gpus=settings.num_gpus,
    )
    found = len(tf.config.get_visible_devices("GPU"))
    if found < settings.num_gpus and place.get_world_rank() == 0:
        queue.put(Message(_MISSING_GPUS.format(granted=settings.num_gpus, found=found)))
    folder = RunFolder(settings.storage, settings.name)

    def on_checkpoint(path: str | None, metrics: dict[str, float]) -> None:
        written = ray.train.Checkpoint(f"{folder.path}/{path}", folder.filesystem) if path else None
        ray.train.report(metrics, checkpoint=written, checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD)

    def pause_at(step: int) -> int | None:
        found: int | None = ray.get(settings.pause_step.ask.remote(step, config.log_every_steps))
        return found

    try:
        return loop.train(
            config,
            ray.get(settings.dataset),
            strategy.make_strategy(),
            folder,
            emit=queue.put,
            on_checkpoint=on_checkpoint,
            pause_at=pause_at if settings.pause_step else None,
            on_device=settings.on_device,
        )
    except TrainingDiverged as error:
        return Diverged(str(error))
