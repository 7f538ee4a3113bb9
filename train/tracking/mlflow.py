"""A run in MLflow, by MLflow's own client: parameters, figures, pictures, and the published version in its registry.

`tracking.json` in the run's folder says which tracked run it is, so that a run that goes on stays one.
"""

import dataclasses
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..progress import Drawn, Published
from ..runs import Run
from ..storage import RunFolder
from .secrets import has_user, without_secrets
from .tracker import Measured, Status

FILE = "tracking.json"
METRICS = "metrics.jsonl"
MOST_LINES = 200  # of metrics.jsonl in one call: MLflow takes 1,000 figures
EXPERIMENT = "inkling"
ALIAS = "published"  # of the registered version that was published last
STATUSES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# What is not set otherwise: answers are waited for in a thread, but the run's end waits for that thread.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow would tell its makers what it is used for
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|databricks$")


def known_uri(folder: RunFolder) -> str | None:
    """The URI of the store that a run was begun to be tracked in, "" for MLflow's default, None if in none."""
    return _known(folder).get("uri")


def remember(folder: RunFolder, uri: str) -> None:
    """Write down at once where a run is tracked: it may be stopped before MLflow has answered."""
    known = known_uri(folder)
    if known is None or (uri and known != _whole(uri)):
        folder.write_json(FILE, {"mlflow": {"uri": uri and _whole(uri)}})


def _known(folder: RunFolder) -> dict[str, Any]:
    return dict(folder.read_json(FILE).get("mlflow", {})) if folder.exists(FILE) else {}


class MLflow:
    """The tracker of `--track mlflow`."""

    name = "mlflow"

    def __init__(self, uri: str, run: Run, origin: Mapping[str, str]) -> None:
        """Nothing is imported or asked before `open`.

        Args:
            uri: of a server or a store; "" leaves it to MLflow: MLFLOW_TRACKING_URI, or a file `mlflow.db` here.
            origin: what the run was started from: names and values.
        """
        self._uri, self._run, self._origin = uri, run, origin
        self._last_steps: dict[str, int] = {}

    def open(self) -> str:
        """Begin a tracked run, or go on with the one of this run's folder."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self._uri and (not _SCHEME.match(self._uri) or self._uri.startswith("file:")):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder, which MLflow only maintains
        import mlflow

        for chatty in ("alembic", "urllib3.connectionpool"):  # each table of a new store, each call that failed
            logging.getLogger(chatty).setLevel(logging.ERROR)
        uri = _whole(self._uri or mlflow.get_tracking_uri())
        if has_user(uri):
            raise ValueError("MLFLOW_TRACKING_URI has a user in it; use MLFLOW_TRACKING_USERNAME and …_PASSWORD")
        self._client = mlflow.MlflowClient(uri)
        self._tracked = self._known_run(uri) or self._new_run(uri)
        self._client.log_batch(self._tracked.info.run_id, params=self._parameters())
        self._fill_in()
        return f"run {self._run.folder.name} of experiment {self._experiment_name()} at {uri}"

    @staticmethod
    def _experiment_name() -> str:
        return os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)

    def _known_run(self, uri: str) -> Any:
        from mlflow.exceptions import MlflowException

        known = _known(self._run.folder)
        if known.get("uri") != uri or "run_id" not in known:
            return None
        try:
            found = self._client.get_run(known["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # deleted, and its store emptied
        if found.info.lifecycle_stage != "active":
            return None
        self._client.update_run(known["run_id"], status="RUNNING")
        for name in found.data.metrics:
            history = self._client.get_metric_history(known["run_id"], name)
            self._last_steps[name] = max(figure.step for figure in history)
        return found

    def _new_run(self, uri: str) -> Any:
        name = self._run.folder.name
        tags = {f"inkling.{key}": value for key, value in self._origin.items()}
        tags["mlflow.source.git.commit"] = self._origin.get("git_revision", "")
        created = self._client.create_run(self._experiment(), run_name=name, tags=tags)
        self._run.folder.write_json(FILE, {"mlflow": {"uri": uri, "run_id": created.info.run_id}})
        return created

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self._experiment_name()
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:  # another run was faster
            if found := self._client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def _parameters(self) -> list[Any]:
        from mlflow.entities import Param

        values = dataclasses.asdict(self._run.config)
        augmentation = values.pop("augmentation")
        return [Param(name, str(value)) for name, value in {**augmentation, **values}.items()]

    def _fill_in(self) -> None:
        """Send what the run's folder has, and the tracked run has not: it was stopped before that was told."""
        if not self._run.folder.exists(METRICS):
            return
        lines = [json.loads(line) for line in self._run.folder.read(METRICS).splitlines()]
        for start in range(0, len(lines), MOST_LINES):
            self._send((line["step"], _without_place(line)) for line in lines[start : start + MOST_LINES])

    def log(self, events: Sequence[Measured]) -> None:
        """Send figures, but for those of steps that the tracked run has already."""
        self._send((event.step, event.figures) for event in events)

    def _send(self, measured: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        figures, reached = [], dict(self._last_steps)
        for step, values in measured:
            for name, value in values.items():
                if step > reached.get(name, -1):
                    figures.append(Metric(name, value, now, step))
                    reached[name] = step
        if figures:
            self._client.log_batch(self._tracked.info.run_id, metrics=figures)
        self._last_steps = reached

    def picture(self, event: Drawn) -> None:
        """Send a picture."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, event.name)
            path.write_bytes(event.content)
            self._client.log_artifact(self._tracked.info.run_id, str(path), "pictures")

    def published(self, event: Published) -> None:
        """Register the version, and put the alias `published` on it.

        A version on this machine's disk is sent along, since a server does not see that disk.
        """
        self._register(event.model_name)
        found = self._registered(event) or self._create_version(event)
        self._client.set_registered_model_alias(event.model_name, ALIAS, found.version)

    def _register(self, model_name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _registered(self, event: Published) -> Any:
        """The registered version of this published one, if an earlier call came so far."""
        versions = self._client.search_model_versions(f"run_id = '{self._tracked.info.run_id}'")
        ours = [
            version
            for version in versions
            if version.name == event.model_name and version.tags.get("inkling.version") == str(event.version)
        ]
        return ours[0] if ours else None

    def _create_version(self, event: Published) -> Any:
        run_id, source = self._tracked.info.run_id, without_secrets(event.place)
        if "://" not in event.place:
            inside = f"models/{event.model_name}/{event.version}"
            self._client.log_artifacts(run_id, event.place, inside)
            source = f"{self._tracked.info.artifact_uri}/{inside}"
        tags = {"inkling.version": str(event.version), "inkling.run": self._run.folder.name}
        return self._client.create_model_version(event.model_name, source, run_id, tags, await_creation_for=0)

    def close(self, status: Status) -> None:
        """End the tracked run."""
        self._client.set_terminated(self._tracked.info.run_id, STATUSES[status])


def _without_place(line: Mapping[str, float]) -> dict[str, float]:
    """The figures of a line of metrics.jsonl."""
    return {name: value for name, value in line.items() if name not in ("step", "epoch")}


def _whole(uri: str) -> str:
    """A URI that means the same from every folder."""
    if not _SCHEME.match(uri):
        return str(Path(uri).expanduser().absolute())
    scheme, _, path = uri.partition(":///")
    if scheme == "sqlite" and path and not path.startswith("/"):
        return f"sqlite:///{Path(path).absolute()}"
    return uri
