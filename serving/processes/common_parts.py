"""The parts of a server that depend on whether it has one process or several."""

from pathlib import Path

from ..access.limits import Accounts, OwnAccounts
from ..access.shared_accounts import SharedAccounts
from ..errors import invalid_argument
from ..grpc.profiler import Profiler
from ..lifecycle.manager import Manager
from ..load_shedding import Drain
from ..model_service import ModelService
from ..monitoring.metrics import Metrics
from ..monitoring.request_log import Files, RotatedFiles
from ..monitoring.shared_request_files import SharedFiles
from ..v2.repository import Repository
from .member import Member
from .services import SharedMetrics, SharedModelService, SharedRepository


class OwnParts:
    """Those of a server's only process: what it counts, keeps and changes is its own."""

    number = 1  # of processes

    def accounts(self) -> Accounts:
        """What callers have used of their limits."""
        return OwnAccounts()

    def metrics(self) -> Metrics:
        """What is counted."""
        return Metrics()

    def model_service(self, manager: Manager, *, drain: Drain, metrics: Metrics) -> ModelService:
        """What tells of the manager's models, and changes them."""
        return ModelService(manager, drain=drain, metrics=metrics)

    def repository(
        self, manager: Manager, *, models: ModelService, drain: Drain, may_change: bool, folder: Path | None
    ) -> Repository:
        """The models by name, as V2 has them; the arguments are those of `Repository`."""
        return Repository(manager, models=models, drain=drain, may_change=may_change, folder=folder)

    def request_files(self, path: str, *, max_bytes: int, max_files: int) -> Files:
        """The request log's files; the arguments are those of `RotatedFiles`."""
        return RotatedFiles(path, max_bytes=max_bytes, max_files=max_files)

    def profiler(self) -> Profiler:
        """What takes profiles of TensorFlow."""
        return Profiler()


class CommonParts(OwnParts):
    """Those of one process among several: a caller sees the same whichever of them it has reached."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.number = member.start.number

    def accounts(self) -> Accounts:
        start = self._member.start
        return SharedAccounts(start.shared_file, process=start.index, number=start.number)

    def metrics(self) -> Metrics:
        return SharedMetrics(self._member)

    def model_service(self, manager: Manager, *, drain: Drain, metrics: Metrics) -> ModelService:
        return SharedModelService(manager, drain=drain, metrics=metrics, member=self._member)

    def repository(
        self, manager: Manager, *, models: ModelService, drain: Drain, may_change: bool, folder: Path | None
    ) -> Repository:
        return SharedRepository(
            manager, models=models, drain=drain, may_change=may_change, folder=folder, member=self._member
        )

    def request_files(self, path: str, *, max_bytes: int, max_files: int) -> Files:
        """As in `OwnParts`; raises ServingError if `path` is not a file on this machine."""
        if "://" in path:
            raise invalid_argument(
                f"--request_log_file={path} cannot be written by several processes; name a file on this machine, or "
                "leave out --num_processes"
            )
        return SharedFiles(path, max_bytes=max_bytes, max_files=max_files, state_file=self._member.start.shared_file)

    def profiler(self) -> Profiler:
        async def end_everywhere(session_id: str) -> None:
            await self._member.ask("end trace", session_id.encode())

        async def end(content: bytes) -> bytes:
            await profiler.end(content.decode())
            return b""

        profiler = Profiler(end_everywhere)
        self._member.does("end trace", end)
        return profiler
