"""What to train and where, each in one frozen dataclass, and the named recipes.

`TrainConfig` has every number of the mathematics and nothing of the machine, so two runs with equal ones and equal data
are the same run. `JobConfig` has the rest: Ray, devices, folders.
"""

import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

Precision = Literal["float32", "bfloat16", "float16"]
Recipe = Literal["quick", "best", "small", "fast"]
Policy = Literal["none", "digits", "robust", "original"]

# Settings of an augmentation that change how an image looks, and not where its ink is.
LOOKS = ("thickness_px", "blur_px", "contrast", "lines", "occlusion", "noise")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a run, and of a model in the repository


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How far a training image may be moved, drawn anew for each example in each epoch. Zero turns a part off."""

    policy: Policy = "digits"  # what the strengths below start from; original adds flips, which cost digits 3 points
    rotation_degrees: float = 0.0  # rotated by up to this angle, either way
    scale: float = 0.0  # enlarged or reduced by up to this fraction, height and width independently
    shear: float = 0.0  # slanted by up to this tangent, either way
    shift_px: float = 0.0  # moved by up to this many pixels, in both directions
    elastic_px: float = 0.0  # standard deviation of the elastic displacement, in pixels
    look_share: float = 0.0  # share of the images whose look the following settings change, each by its own strength
    thickness_px: float = 0.0  # strokes made thicker or thinner by up to this many pixels on each side
    blur_px: float = 0.0  # blurred by a Gaussian of up to this standard deviation, in pixels
    contrast: float = 0.0  # paper made up to this much darker, unevenly, and ink half as much lighter; 1 is all
    lines: float = 0.0  # probability of a straight stroke across the image
    occlusion: float = 0.0  # half of the images are covered by a rectangle of up to this share of the sides
    noise: float = 0.0  # standard deviation of noise added to each pixel, at most; 1 is from black to white
    horizontal_flip: bool = False  # mirrored left to right with probability 1/2
    vertical_flip: bool = False  # mirrored top to bottom with probability 1/2

    def __post_init__(self) -> None:
        limits = {"rotation_degrees": 180, "scale": 0.9, "shear": 2, "shift_px": 1000, "elastic_px": 100}
        limits |= {"look_share": 1} | dict.fromkeys(LOOKS, 1) | {"blur_px": 3}
        for name, most in limits.items():
            check(self, name, 0 <= getattr(self, name) <= most, f"from 0 to {most}")
        looks = [name for name in LOOKS if getattr(self, name)]
        if bool(looks) != bool(self.look_share):
            what = f"{looks[0]}={getattr(self, looks[0])!r} changes nothing" if looks else "there is no look to change"
            raise ValueError(
                f"{what} with look_share={self.look_share!r}: give --look-share, the share of the images that change, "
                "together with what changes (--thickness-px, --blur-px, --contrast, --lines, --occlusion, --noise)"
            )

    @property
    def is_identity(self) -> bool:
        """Whether images stay as they are."""
        return all(not getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "policy")


def program() -> str:
    """What this process was started as, for help and hints: the installed command, or the module."""
    return "inkling-train" if Path(sys.argv[0]).stem == "inkling-train" else "python -m train"


def check(config: Any, name: str, holds: bool, expected: str) -> None:
    """Raise ValueError unless the field `name` of `config` holds what it must."""
    if not holds:
        flag = "--" + name.replace("_", "-")
        raise ValueError(f"{name}={getattr(config, name)!r} is out of range: {flag} takes {expected}")


POLICIES: Mapping[Policy, Augmentation] = {
    "none": Augmentation(policy="none"),
    "digits": Augmentation(policy="digits", rotation_degrees=11, scale=0.1, shear=0.12, shift_px=2),
    # Strokes, light and dirt of other pens, papers and cameras (docs/training.md has what each part is good for).
    "robust": Augmentation(
        policy="robust",
        rotation_degrees=20,
        scale=0.2,
        shear=0.25,
        shift_px=3,
        elastic_px=0.6,
        look_share=0.7,
        thickness_px=0.7,
        blur_px=1.2,
        contrast=0.5,
        lines=0.3,
        occlusion=0.3,
        noise=0.2,
    ),
    # A flipped 2 or 5 is another character: these flips cost 3 points of accuracy on MNIST.
    "original": Augmentation(
        policy="original",
        rotation_degrees=15,
        scale=0.1,
        shift_px=2,
        horizontal_flip=True,
        vertical_flip=True,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run, complete: same config, same data, same weights."""

    recipe: Recipe = (
        "quick"  # what all settings start from: quick, of minutes; best; small, with few weights; fast, for a GPU
    )
    epochs: int = 6  # passes over the training set
    global_batch_size: int = 128  # images per optimizer step, summed over all replicas
    validation_size: int = 2000  # training images held out for the learning curve and for choosing the best checkpoint
    learning_rate: float = 3e-3  # Adam's, at the end of the warm-up; it falls to 0 along a cosine
    warmup_epochs: float = 0.5  # the learning rate rises from 0 over these
    average_decay: float = 0.998  # of the weights' moving average, per step; 0 publishes the last weights
    label_smoothing: float = 0.0  # share of each label spread evenly over all classes
    widths: tuple[int, int, int, int] = (32, 32, 64, 64)  # filters of the four convolutions
    l2: float = 1e-4  # weight decay on the convolutions' kernels
    dropout: tuple[float, float] = (0.2, 0.3)  # after the second and the fourth convolution
    augmentation: Augmentation = field(default_factory=lambda: POLICIES["digits"])
    plain_epochs: int = 0  # the last epochs, which take the images unaugmented
    precision: Precision = "float32"  # what convolutions compute in; variables stay float32
    onednn: bool | None = True  # compute convolutions on CPUs by oneDNN; None leaves it to TensorFlow
    jit_compile: bool | None = None  # compile the step with XLA; None: on one GPU (on CPUs it is slower)
    deterministic: bool = False  # use only ops that give the same bits each time
    seed: int = 0  # of the initial weights, the order, the augmentation and the dropout
    checkpoint_every_steps: int = 500  # in addition to the one at each epoch's end
    keep_checkpoints: int = 2  # how many of the last to keep, in addition to the best
    log_every_steps: int = 20  # steps that run inside one call, and between two lines of metrics.jsonl
    min_accuracy: float = 0.99  # a model less accurate on the test set is not published

    def __post_init__(self) -> None:
        check(self, "epochs", self.epochs >= 1, "at least 1")
        check(self, "global_batch_size", self.global_batch_size >= 1, "at least 1")
        check(self, "validation_size", self.validation_size >= 0, "0 or more")
        check(self, "plain_epochs", 0 <= self.plain_epochs <= self.epochs, f"from 0 to epochs={self.epochs}")
        check(self, "learning_rate", self.learning_rate > 0, "a positive number")
        check(self, "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, f"from 0 to less than epochs={self.epochs}")
        check(self, "average_decay", 0 <= self.average_decay < 1, "from 0 to less than 1")
        check(self, "label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to less than 1")
        check(self, "widths", len(self.widths) == 4 and min(self.widths) >= 1, "four positive numbers")
        check(self, "l2", self.l2 >= 0, "0 or more")
        check(
            self, "dropout", len(self.dropout) == 2 and 0 <= min(self.dropout) <= max(self.dropout) < 1, "two in [0, 1)"
        )
        check(self, "precision", self.precision in ("float32", "bfloat16", "float16"), "float32, bfloat16 or float16")
        check(self, "seed", 0 <= self.seed < 2**31, "from 0 to 2147483647")
        check(self, "checkpoint_every_steps", self.checkpoint_every_steps >= 1, "at least 1")
        check(self, "keep_checkpoints", self.keep_checkpoints >= 1, "at least 1")
        check(self, "log_every_steps", self.log_every_steps >= 1, "at least 1")
        check(self, "min_accuracy", 0 <= self.min_accuracy <= 1, "from 0 to 1")

    def per_replica_batch_size(self, num_replicas: int) -> int:
        """Images a replica takes of each step; raises ValueError if they do not divide evenly."""
        size, rest = divmod(self.global_batch_size, num_replicas)
        if rest:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} does not split evenly over {num_replicas} replicas; "
                f"use a multiple of {num_replicas}, such as --global-batch-size {num_replicas * (size + 1)}"
            )
        return size

    def is_plain(self, epoch: Any) -> Any:
        """Whether examples of these epochs, an integer array or tensor, are taken unaugmented; bool, in its shape.

        Training ends on what the model will be asked: He et al., "Data augmentation revisited: rethinking the
        distribution gap between clean and augmented data", 2019.
        """
        return (epoch >= self.epochs - self.plain_epochs) & (self.plain_epochs > 0)

    def check_jit_compile(self, *, num_gpus: int, num_replicas: int) -> None:
        """Raise ValueError if XLA was asked for and cannot compile the step for these devices."""
        if self.jit_compile and not num_gpus:
            raise ValueError(
                "--jit-compile compiles the step with XLA for a GPU, and there are none here; leave it out"
            )
        if self.jit_compile and num_replicas > 1:
            raise ValueError(
                f"--jit-compile compiles the step of a single replica with XLA, and there would be {num_replicas}; "
                "leave it out"
            )

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values; `from_json` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config that `to_json` wrote; raises ValueError if another version wrote it, with other fields."""
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        left_to_tensorflow = {"onednn": None}  # by version 0.1, which had no such field
        try:
            return cls(
                **{**left_to_tensorflow, **values, **lists, "augmentation": Augmentation(**values["augmentation"])}
            )
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"the run was begun by another version of Inkling ({error}); go on with that one"
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How a labelled set is read, where it leaves a choice."""

    channels: Literal[1, 3] | None = None  # 1 makes images grey, 3 keeps colour; if not given, as the images are
    invert: bool = False  # exchange black and white: for dark ink on light paper, of which MNIST is the opposite
    pixel_max: float | None = None  # the pixel value that means white; if not given, judged by the whole set
    test_size: float | None = None  # share of the images to split off for the test set, if the set comes without one

    def __post_init__(self) -> None:
        check(self, "channels", self.channels in (None, 1, 3), "1 for grey or 3 for colour")
        check(self, "pixel_max", self.pixel_max is None or self.pixel_max > 0, "a positive number")
        check(self, "test_size", self.test_size is None or 0 < self.test_size < 1, "a share between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig(ReadOptions):
    """How a set is written as shards: all that decides about their content, beside the source."""

    copies: int = 0  # augmented versions of each training image, written beside the image itself
    shard_mb: float = 64.0  # of images in a shard, in MB, about
    seed: int = 0  # of the augmentation
    augmentation: Augmentation = field(default_factory=lambda: POLICIES["digits"])

    def __post_init__(self) -> None:
        ReadOptions.__post_init__(self)
        check(self, "copies", 0 <= self.copies <= 100_000, "from 0 to 100000")
        check(self, "shard_mb", 0 < self.shard_mb <= 2000, "a positive number, 2000 at most")
        check(self, "seed", 0 <= self.seed < 2**31, "from 0 to 2147483647")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig(ReadOptions):
    """Which data a job reads, where it runs and where its files go."""

    name: str = ""  # the run's name; its files go to <storage>/<name>/; recipe and time if not given
    storage: str = "runs"  # folder or URI (s3://, gs://, ...) for checkpoints and results
    data: str | None = None  # IDX folder, .npz or image folder, or a URI of one; MNIST if not given
    model_dir: str = "models"  # model repository to publish into: a folder or URI (s3://, oci://REGISTRY/FOLDER, ...)
    model_name: str = "mnist"  # the model's name in the repository
    publish: bool = True  # publish the trained model
    track: str = ""  # tell the run to MLflow too: mlflow, or mlflow:URI of a server or a store; never a password in it
    begin_anew: bool = False  # forget what was begun under --name and has no checkpoint yet
    resume: str = ""  # name of an unfinished run to go on with, with its own settings
    address: str = "local"  # Ray cluster: local starts one here; auto, HOST:PORT or ray://HOST:PORT join one
    num_workers: str | None = (
        None  # Ray workers: 4, or 1:8 for as many of these as the cluster holds, more and fewer while it trains; if not
        # given, one on each node, or as many as fit with --cpus-per-worker
    )
    cpus_per_worker: int | None = None  # CPUs for each worker; if not given, its node's CPUs, shared out
    gpus_per_worker: int | None = None  # GPUs for each worker; if not given, its node's GPUs, shared out
    cpu_replicas: int = 1  # replicas in each worker without GPUs, to try multi-GPU code on a CPU
    on_device: bool | None = None  # keep the training set on the device and augment it there; None: on GPUs
    max_failures: int = 3  # worker failures after which the run gives up
    wait: bool = False  # wait until the cluster can hold the workers
    in_process: bool = False  # train in this process, without Ray
    verbose: bool = False  # show the logs of Ray and TensorFlow, and whole tracebacks

    def __post_init__(self) -> None:
        ReadOptions.__post_init__(self)
        limits = {"cpus_per_worker": 1, "gpus_per_worker": 0, "cpu_replicas": 1, "max_failures": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            check(self, name, value is None or value >= least, f"{least} or more")
        bounds = self.worker_bounds
        expected = "a number from 1, or a range such as 1:8"
        check(self, "num_workers", bounds is None or 1 <= bounds[0] <= bounds[1], expected)
        check_track(self.track)
        if self.in_process:
            for name in ("num_workers", "gpus_per_worker", "address", "wait"):
                given = getattr(self, name) != JobConfig.__dataclass_fields__[name].default
                check(self, name, not given, "no value together with --in-process, which trains without Ray")
        named = NAME.fullmatch(self.model_name) is not None
        check(self, "model_name", named, "letters, digits, '.', '_' and '-', 100 at most")

    @property
    def worker_bounds(self) -> tuple[int, int] | None:
        """The least and the most workers that were asked for, equal if it was a number; None leaves it to the cluster.

        (0, 0) for what is neither.
        """
        if self.num_workers is None:
            return None
        parts = str(self.num_workers).split(":")
        if len(parts) > 2 or not all(part.isdecimal() for part in parts):
            return 0, 0
        return int(parts[0]), int(parts[-1])

    def resume_command(self) -> str:
        """What to type to go on with the run."""
        default = JobConfig()
        places = (
            "storage",
            "track",
            "address",
            "num_workers",
            "cpus_per_worker",
            "gpus_per_worker",
            "cpu_replicas",
            "on_device",
            "in_process",
        )
        changed = {name: getattr(self, name) for name in places if getattr(self, name) != getattr(default, name)}
        flags = [
            "--" + name.replace("_", "-") + ("" if name == "in_process" else f" {shlex.quote(str(value))}")
            for name, value in changed.items()
        ]
        return " ".join([f"{program()} --resume {self.name}", *flags])

    def publish_command(self) -> str:
        """What to type to publish the finished run again."""
        elsewhere = f" --storage {shlex.quote(self.storage)}" if self.storage != JobConfig().storage else ""
        return f"{program()} publish {self.name}{elsewhere}"


def check_track(track: str) -> None:
    """Raise ValueError unless `--track` names a tracker that there is, and no secret."""
    kind, _, uri = track.partition(":")
    if "@" in urlsplit(uri).netloc:  # not shown: what stands there is a password or a token
        raise ValueError(
            f"--track {kind} has a user in its URI, and the URI is shown and written down; leave it out, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if kind not in ("", "mlflow") or (uri and not kind):
        raise ValueError(
            f"track={track!r} is no tracker: --track takes mlflow, or mlflow:URI such as mlflow:http://localhost:5000 "
            "or mlflow:sqlite:///mlflow.db"
        )


def quick() -> TrainConfig:
    """The default: a good model while you wait. `python -m train` reaches 99.58 % on MNIST in 4 minutes on 2 cores."""
    return TrainConfig(recipe="quick", min_accuracy=0.993)


def best() -> TrainConfig:
    """The most accurate model that the five layers give: 99.66 % (mean of three seeds), 41 to 44 minutes on 2 cores."""
    return TrainConfig(
        recipe="best",
        epochs=36,
        validation_size=1000,
        learning_rate=4e-3,
        widths=(48, 48, 96, 96),
        augmentation=dataclasses.replace(
            POLICIES["digits"], rotation_degrees=13, scale=0.12, shear=0.15, elastic_px=0.6
        ),
        plain_epochs=4,
        min_accuracy=0.995,
    )


def small() -> TrainConfig:
    """`best` in the network of `quick`, of 97,130 parameters, and for as long."""
    return dataclasses.replace(best(), recipe="small", epochs=44, widths=quick().widths)


def fast() -> TrainConfig:
    """As accurate as `quick`, on one GPU in seconds: large batches, and convolutions in bfloat16."""
    return dataclasses.replace(
        quick(),
        recipe="fast",
        epochs=16,
        global_batch_size=1024,
        learning_rate=8e-3,
        warmup_epochs=1.0,
        plain_epochs=2,
        average_decay=0.985,
        precision="bfloat16",
        checkpoint_every_steps=10_000,
    )


RECIPES: Mapping[Recipe, Callable[[], TrainConfig]] = {"quick": quick, "best": best, "small": small, "fast": fast}
