"""The command line: `python -m train` trains; `preview`, `evaluate`, `publish`, `verify`, `shard` and `sweep` are
subcommands.

Every flag is a field of a config dataclass, and the comment beside the field is the flag's help.
"""

import argparse
import dataclasses
import functools
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import tyro

from . import config as configs
from . import data, quiet, runs, speed
from .config import Augmentation, JobConfig, Policy, TrainConfig
from .progress import Display, Message
from .publishing import oci, signing
from .storage import check_writable
from .tracking.trackers import check_installed

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

RUN_HELP = """Train the digit CNN on Ray, write a report, publish a SavedModel.

    python -m train                        the quick recipe on this machine
    python -m train --recipe best          the most accurate model
    python -m train --address auto --num-workers 4 --storage s3://bucket/runs
    python -m train --resume NAME          go on with a run that was stopped
    python -m train preview -o sheet.png   look at the augmentation
    python -m train evaluate models/mnist  measure a published model
    python -m train publish NAME           publish an earlier run
    python -m train shard -o DIR --copies 9    write a set, and augmented versions of its images, as shards
    python -m train publish NAME --oci registry.example.com/models/mnist
    python -m train sweep --help           compare many settings
    python -m train verify models/mnist/3 --key key.pub
                                           check a published version's signature

Each subcommand has its own --help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFlags:
    """All flags of a training job."""

    train: TrainConfig
    job: JobConfig
    max_minutes: float | None = None  # take fewer epochs, as many as this machine manages in so many minutes


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewFlags(configs.ReadOptions):
    """Draw a contact sheet: training images beside augmented versions of them."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("preview.png")  # PNG file to write
    data: str | None = None  # IDX folder, .npz or image folder, or a URI of one; MNIST if not given
    seed: int = 0  # of the augmentation
    augmentation: Augmentation = dataclasses.field(default_factory=lambda: configs.POLICIES["digits"])


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateFlags(configs.ReadOptions):
    """Measure a SavedModel, a folder of its versions (the highest is taken), or an .h5 or .keras file on a test set."""

    model: tyro.conf.Positional[str]  # what to measure: a path, or a URI such as s3://bucket/models/mnist
    data: str | None = None  # IDX folder, .npz or image folder, or a URI of one: its test part; MNIST if not given
    suite: Literal["plain", "robust"] = "plain"  # robust: the test set as fifteen corruptions leave it, too
    pictures: Path | None = None  # folder to draw confusion_matrix.png, mistakes.png and robustness.png into
    json: bool = False  # print the figures as JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishFlags:
    """Publish the model of an earlier run."""

    run: tyro.conf.Positional[str]  # the run's name
    storage: str = "runs"  # folder or URI that holds the run
    checkpoint: str = "last"  # last, best (by validation accuracy) or a step
    model_dir: str = "models"  # model repository to publish into: a folder or URI (s3://, oci://REGISTRY/FOLDER, ...)
    oci: str = (
        ""  # publish there instead, as an OCI image: REGISTRY/REPOSITORY or oci-layout:FOLDER, with or without :TAG
    )
    model_name: str | None = None  # the model's name in the repository; the run's if not given
    min_accuracy: float | None = None  # a model less accurate on the test set is not published; the run's if not given
    sign: Path | None = None  # private key of an elliptic curve, as PEM, to sign the version with


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyFlags:
    """Check that a published version is what the holder of a key has signed."""

    version: tyro.conf.Positional[Path]  # the version's folder, such as models/mnist/3
    key: Path  # the public key, as PEM


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFlags(configs.ShardConfig):
    """Write sets as shards, on disk or in a bucket, for runs on more images than fit into memory: --data takes them."""

    sources: tyro.conf.Positional[tuple[str, ...]] = ()  # what --data takes, one or more of a kind; MNIST if not given
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])]  # folder or URI to write: new, or one that was begun
    address: str = "local"  # Ray cluster: local starts one here; auto, HOST:PORT or ray://HOST:PORT join one
    verbose: bool = False  # show the logs of Ray and TensorFlow, and whole tracebacks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 usage, 130 interrupted, 141 output closed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int]] = {
        "preview": preview,
        "evaluate": evaluate,
        "publish": publish,
        "sweep": sweep,
        "verify": verify,
        "shard": shard,
    }
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _interrupt)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if arguments and arguments[0] in commands:
        command, arguments = commands[arguments[0]], arguments[1:]
    else:
        command = run
    try:
        return command(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer cannot be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (ValueError, RuntimeError, OSError) as error:
        if "--verbose" in arguments:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ValueError) else FAILED  # ValueError: wrong settings or data


def _run_flags(arguments: list[str]) -> tuple[RunFlags, frozenset[str]]:
    """The flags of a training job, with the run's name filled in, and which settings this machine chose."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--recipe", choices=configs.RECIPES)
    early.add_argument("--policy", choices=configs.POLICIES)
    early.add_argument("--precision")
    early.add_argument("--onednn")
    early.add_argument("--address")
    early.add_argument("--in-process", action="store_true")
    known, _ = early.parse_known_args(arguments)
    # Set in a Ray job, where --in-process must work too.
    address = known.address or ("local" if known.in_process else os.environ.get("RAY_ADDRESS", "local"))
    base = configs.RECIPES[known.recipe or "quick"]()
    base = dataclasses.replace(base, onednn=quiet.trains_by_onednn())
    if address == "local" and quiet.trains_in_bfloat16():
        base = dataclasses.replace(base, precision="bfloat16")
    if known.policy:
        base = dataclasses.replace(base, augmentation=configs.POLICIES[known.policy])
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[RunFlags],
        args=arguments,
        default=RunFlags(train=base, job=JobConfig(address=address)),
        prog=configs.program(),
        description=RUN_HELP.replace("python -m train", configs.program()),
    )
    settings = flags.job
    if settings.resume and settings.name not in ("", settings.resume):
        raise ValueError(f"--resume {settings.resume} and --name {settings.name} differ; give one of them")
    given = known.recipe or known.policy or settings.data or settings.model_name != JobConfig().model_name
    if settings.resume and (given or flags.max_minutes or flags.train != base):
        raise ValueError("--resume goes on with the run's own settings and data; leave the flags for these out")
    _check_max_minutes(flags)
    check_installed(settings.track)
    name = settings.resume or settings.name or f"{flags.train.recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    of_minutes = {"epochs", "plain_epochs", "warmup_epochs"} if flags.max_minutes else set()
    by_machine = {name for name in ("precision", "onednn") if getattr(known, name) is None} | of_minutes
    return dataclasses.replace(flags, job=dataclasses.replace(settings, name=name)), frozenset(by_machine)


def _check_max_minutes(flags: RunFlags) -> None:
    if flags.max_minutes is None:
        return
    configs.check(flags, "max_minutes", flags.max_minutes > 0, "a positive number of minutes")
    if flags.job.address != "local":
        raise ValueError(
            f"--max-minutes {flags.max_minutes:g} measures this machine, and --address {flags.job.address} trains on "
            "others; give --epochs instead"
        )


def run(arguments: list[str]) -> int:
    """Train."""
    flags, by_machine = _run_flags(arguments)
    settings = flags.job

    def fit(config: TrainConfig, dataset: data.Dataset) -> TrainConfig:
        if flags.max_minutes is None:
            return config
        display.show(Message("measuring how fast this machine trains"))
        measured = speed.images_per_s(config, dataset, num_threads=settings.cpus_per_worker or os.cpu_count() or 1)
        examples = (dataset.originals - config.validation_size) * (dataset.copies + 1)
        fitted, why = speed.fitted(config, minutes=flags.max_minutes, speed=measured, num_examples=examples)
        display.show(Message(why))
        return fitted

    _check_repository(settings)
    if settings.verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        logging.getLogger().setLevel(logging.INFO)
    begun = None
    with Display() as display:
        try:
            begun = runs.begin(flags.train, settings, display.show, by_machine=by_machine, fit=fit)
            quiet.import_tensorflow(onednn=begun.config.onednn, verbose=settings.verbose)
            from . import job  # with TensorFlow, seconds that --help and a mistake need not cost

            result = job.run_job(begun, display.show)
        except KeyboardInterrupt:
            can_resume = begun or settings.resume
            display.show(Message(f"stopped; go on with: {settings.resume_command()}" if can_resume else _NOT_BEGUN))
            raise
        except OSError as error:
            hint = f"; when that is mended, go on with: {settings.resume_command()}" if begun else ""
            raise OSError(f"{error}{hint}") from error
    evaluation = result.evaluation
    print(f"test accuracy   {evaluation.accuracy:.2%} ({evaluation.num_examples:,} images)")
    print(f"test loss       {evaluation.loss:.4f} nats")
    print(f"report          {result.folder}/")
    print(f"published       {result.published or 'no (--no-publish)'}")
    return OK


_NOT_BEGUN = "stopped before the run began"


def _check_repository(settings: JobConfig) -> None:
    """Raise an error, before an hour of training, if its model could not be published to where it is to go."""
    if place := oci.place_of(settings.model_dir, settings.model_name):
        oci.check(place)
    elif settings.publish and not settings.resume:
        check_writable(settings.model_dir, "--model-dir")


def _check_registry(place: str) -> None:
    """Raise ValueError, before an hour of training, if nothing could be published to that place in a registry."""
    if place:
        oci.check(place)


def preview(arguments: list[str]) -> int:
    """Draw the contact sheet of a policy."""
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[PreviewFlags],
        args=arguments,
        default=PreviewFlags(augmentation=configs.POLICIES[_policy(arguments)]),
        prog=f"{configs.program()} preview",
    )
    quiet.import_tensorflow(onednn=quiet.trains_by_onednn())
    from . import plots

    dataset = _load(flags.data, flags)
    sheet = plots.contact_sheet(dataset, flags.augmentation, seed=flags.seed)
    flags.output.write_bytes(sheet)
    print(flags.output)
    return OK


def _load(source: str | None, how: configs.ReadOptions, *, on_disk: bool = False) -> data.Dataset:
    dataset = data.load(source, how, on_disk=on_disk)
    for note in dataset.notes:
        print(f"{dataset.source}: {note}", file=sys.stderr)
    return dataset


def evaluate(arguments: list[str]) -> int:
    """Measure a model."""
    flags = tyro.cli(EvaluateFlags, args=arguments, prog=f"{configs.program()} evaluate")
    quiet.import_tensorflow(onednn=quiet.trains_by_onednn())
    from . import plots
    from .corruptions import Robustness
    from .evaluate import Evaluation
    from .predictor import load_predictor

    dataset = _load(flags.data, flags)
    predict, told = load_predictor(flags.model).in_order_of(dataset.class_names)
    if told:
        print(f"{flags.model}: {told}", file=sys.stderr)
    probabilities = predict(dataset.test_images)
    if probabilities.shape[1] != len(dataset.class_names):
        raise data.DataError(
            f"{flags.model} tells {probabilities.shape[1]} classes apart, but {dataset.source} has "
            f"{len(dataset.class_names)}; give the --data it was trained on"
        )
    evaluation = Evaluation.of(probabilities, dataset.test_labels)
    robustness = Robustness.of(predict, dataset) if flags.suite == "robust" else None
    if flags.json:
        more = {"robustness": dataclasses.asdict(robustness)} if robustness else {}
        print(json.dumps(dataclasses.asdict(evaluation) | more))
    else:
        print(evaluation.table(dataset.class_names))
        print(f"\n{robustness.table()}" if robustness else "", end="\n" if robustness else "")
    if flags.pictures:
        flags.pictures.mkdir(parents=True, exist_ok=True)
        matrix = plots.confusion_matrix(evaluation, dataset.class_names)
        (flags.pictures / "confusion_matrix.png").write_bytes(matrix)
        (flags.pictures / "mistakes.png").write_bytes(plots.mistakes(dataset, probabilities))
        if robustness:
            (flags.pictures / "robustness.png").write_bytes(plots.robustness(robustness, dataset))
    return OK


def publish(arguments: list[str]) -> int:
    """Publish an earlier run."""
    flags = tyro.cli(PublishFlags, args=arguments, prog=f"{configs.program()} publish")
    _check_registry(flags.oci or oci.place_of(flags.model_dir, flags.model_name or JobConfig().model_name))
    key = flags.sign
    if key is not None:
        signing.check_key(key)
    run = runs.reopen(flags.run, flags.storage)
    where = dataclasses.replace(run.job, model_dir=flags.model_dir, model_name=flags.model_name or run.job.model_name)
    least = run.config.min_accuracy if flags.min_accuracy is None else flags.min_accuracy
    run = dataclasses.replace(run, job=where, config=dataclasses.replace(run.config, min_accuracy=least))
    quiet.import_tensorflow(onednn=run.config.onednn)
    from . import job

    sign = None if key is None else functools.partial(signing.sign, key=key)
    with Display(bar=False) as display:
        place = job.publish_run(run, display.show, which=flags.checkpoint, oci=flags.oci, sign=sign)
    print(place)
    return OK


def verify(arguments: list[str]) -> int:
    """Check a version's signature."""
    flags = tyro.cli(VerifyFlags, args=arguments, prog=f"{configs.program()} verify")
    signing.verify(flags.version, flags.key)
    print(f"{flags.version} is as it was signed")
    return OK


def sweep(arguments: list[str]) -> int:
    """Train many settings, and compare them."""
    from .tuning import command

    if "--verbose" in arguments:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        logging.getLogger().setLevel(logging.INFO)
    command.run(arguments)
    return OK


def shard(arguments: list[str]) -> int:
    """Write a set of shards."""
    policy = configs.POLICIES[_policy(arguments)]
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[ShardFlags],
        args=arguments,
        default=ShardFlags(output=tyro.MISSING, address=os.environ.get("RAY_ADDRESS", "local"), augmentation=policy),
        prog=f"{configs.program()} shard",
    )
    from .sharding import writing

    folder = writing.folder_of(flags.output)
    sources = [_load(source, flags, on_disk=True) for source in flags.sources or (None,)]
    quiet.import_tensorflow(onednn=None, verbose=flags.verbose)
    from .sharding import job  # with Ray, seconds that a mistake need not cost

    with Display() as display:

        def tell(text: str) -> None:
            display.show(Message(text))

        try:
            manifest = job.run_job(sources, folder, flags, address=flags.address, verbose=flags.verbose, tell=tell)
        except KeyboardInterrupt:
            tell("stopped; the same command goes on")
            raise
    counts = {part: sum(numbers) for part, numbers in manifest["counts"].items()}
    print(f"{folder}  {counts['train']:,} training and {counts['test']:,} test images")
    return OK


def _policy(arguments: list[str]) -> Policy:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--policy", choices=configs.POLICIES, default="digits")
    policy: Policy = early.parse_known_args(arguments)[0].policy
    return policy


def _interrupt(number: int, frame: FrameType | None) -> None:
    # `kubectl delete` and `ray job stop` send SIGTERM: the same clean stop as Ctrl-C.
    raise KeyboardInterrupt
