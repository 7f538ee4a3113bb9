"""The parts of a server of several processes, without the processes: shares, states, counts, accounts, ports."""

import os
import socket

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from inkling.serving.access.callers import Caller, Limits, Refusal
from inkling.serving.access.limits import Limiter
from inkling.serving.access.shared_accounts import SharedAccounts
from inkling.serving.batching.parameters import BatchingParameters
from inkling.serving.errors import ServingError
from inkling.serving.flags import FlagError, ServerConfig
from inkling.serving.monitoring import series
from inkling.serving.monitoring.metrics import Metrics
from inkling.serving.monitoring.series import Counted, SharedSeries
from inkling.serving.monitoring.shared_request_files import SharedFiles
from inkling.serving.processes.children import Pauses
from inkling.serving.processes.messages import Outcome
from inkling.serving.processes.number import choose, fitting, num_cpus
from inkling.serving.processes.ports import UnixSocket, reserve
from inkling.serving.processes.share import of_batching, share_of
from inkling.serving.processes.states import merged_state, merged_status
from tests.ports import free_port

START, LOADING, AVAILABLE, UNLOADING, END = (
    ModelVersionStatus.START,
    ModelVersionStatus.LOADING,
    ModelVersionStatus.AVAILABLE,
    ModelVersionStatus.UNLOADING,
    ModelVersionStatus.END,
)
OK = grpc.StatusCode.OK


@pytest.fixture
def memory():
    """Makes files in memory."""
    files = []

    def make():
        files.append(os.memfd_create("test"))
        return files[-1]

    yield make
    for file in files:
        os.close(file)


def test_limits_are_split_and_those_of_one_message_are_not():
    own = share_of(ServerConfig(max_queued_requests=100, grpc_max_pending_mb=7), 3, num_cpus=2)
    assert own.max_queued_requests == 34 and own.grpc_max_pending_mb == 7 and own.tensorflow_intra_op_parallelism == 2
    own = share_of(ServerConfig(tensorflow_intra_op_parallelism=5), 3, num_cpus=2)
    assert own.tensorflow_intra_op_parallelism == 5
    assert share_of(ServerConfig(), 1, num_cpus=2) == ServerConfig()
    shared = of_batching(BatchingParameters(max_enqueued_batches=10, num_batch_threads=4), 4)
    assert shared is not None and (shared.max_enqueued_batches, shared.num_batch_threads) == (3, 1)


@pytest.mark.parametrize(
    "states, is_everywhere, expected",
    [
        ({AVAILABLE}, True, AVAILABLE),
        ({AVAILABLE}, False, LOADING),
        ({AVAILABLE, LOADING}, True, LOADING),
        ({AVAILABLE, UNLOADING}, True, UNLOADING),
        ({AVAILABLE, END}, True, UNLOADING),
        ({UNLOADING, END}, True, UNLOADING),
        ({END}, False, END),
        ({LOADING, END}, True, LOADING),
        ({START}, True, START),
    ],
)
def test_a_version_is_available_when_all_have_it(states, is_everywhere, expected):
    assert merged_state(states, is_everywhere=is_everywhere) == expected


def answer(*statuses):
    response = GetModelStatusResponse()
    for version, state, error in statuses:
        status = response.model_version_status.add(version=version, state=state)
        status.status.error_code = error
    return Outcome(response.SerializeToString())


def test_statuses_are_merged_by_version():
    merged = merged_status(
        [answer((2, LOADING, 0), (1, AVAILABLE, 0)), answer((3, END, 2), (1, AVAILABLE, 0)), answer((1, AVAILABLE, 0))]
    )
    found = {each.version: (each.state, each.status.error_code) for each in merged.model_version_status}
    assert found == {3: (END, 2), 2: (LOADING, 0), 1: (AVAILABLE, 0)}
    assert [each.version for each in merged.model_version_status] == [3, 2, 1]


def test_a_model_that_no_process_knows_is_not_found():
    unknown = Outcome.of(ServingError(grpc.StatusCode.NOT_FOUND, "no such model"))
    with pytest.raises(ServingError, match="no such model"):
        merged_status([unknown, unknown])
    assert merged_status([unknown, answer((1, AVAILABLE, 0))]).model_version_status[0].state == LOADING


def finish(metrics, code=OK, latency_s=0.001):
    metrics.request_finished(model_name="m", api="Predict", entrypoint="GRPC", code=code, latency_s=latency_s)


def test_counts_of_all_processes_are_added_up_also_of_those_that_have_ended(memory):
    files = [memory(), memory(), memory()]
    one, other, ended = (Metrics(SharedSeries(file)) for file in files)
    finish(one)
    finish(other)
    finish(other, grpc.StatusCode.NOT_FOUND)
    finish(ended)
    for metrics, depth in ((one, 3), (other, 4), (ended, 100)):
        metrics.queue_depth(model_name="m", version=1, signature_name="s", num_requests=depth)
    serving = tuple(series.read(file) for file in files[:2])
    counted = Counted(serving, series.merge(b"", series.read(files[2])), (os.getpid(),), 5.0)
    page = one.exposition_of(counted).decode()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 3\n' in page
    assert ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1\n' in page
    assert 'request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 3\n' in page
    assert 'inkling_serving_queue_depth{model_name="m",version="1",signature_name="s"} 7\n' in page
    assert "process_cpu_seconds_total" in page and "python_gc" not in page
    assert one.value_of(":tensorflow:serving:request_count", counted) == 3


def test_the_page_of_one_process_is_the_same_wherever_it_counts(memory):
    alone, shared = Metrics(), Metrics(SharedSeries(memory()))
    for metrics in (alone, shared):
        for latency_s in (0.001, 0.2, 0.2):
            finish(metrics, latency_s=latency_s)

    def counts(metrics):
        return [line for line in metrics.exposition().decode().splitlines() if line.startswith((":", "# TYPE :"))]

    assert counts(alone) == counts(shared)


def test_the_room_of_forgotten_series_is_used_again(memory):
    file = memory()
    shared = SharedSeries(file)
    for number in range(1000):
        numbers = shared.make("family", (f"{number:04}",), 10)
        numbers[3] = 7.0
        shared.drop(numbers)
    shared.make("family", ("last",), 10)
    assert list(series.parse(series.read(file))) == [("family", ("last",), (0.0,) * 10)]
    assert len(series.read(file)) < 500


def test_a_caller_has_one_share_whichever_process_it_reaches(memory):
    file, now = memory(), [100.0]
    one, other = (Limiter(lambda: now[0], SharedAccounts(file, process=process, number=2)) for process in (0, 1))
    who = Caller("alice", "key", limits=Limits(4, 2))
    for limiter in (one, other, one, other):
        limiter.spend(who)
    for limiter in (one, other):
        with pytest.raises(Refusal, match="4 requests a second"):
            limiter.spend(who)
    now[0] += 0.25
    other.spend(who)
    one.begin(who)
    other.begin(who)
    with pytest.raises(Refusal, match="2 requests in hand"):
        one.begin(who)
    SharedAccounts(file, process=0, number=2).forget_process(1)
    one.begin(who)


def test_more_callers_than_there_are_places(memory, monkeypatch):
    monkeypatch.setattr("inkling.serving.access.shared_accounts.MAX_CALLERS", 3)
    limiter = Limiter(lambda: 0.0, SharedAccounts(memory(), process=0, number=1))
    callers = [Caller(str(number), "key", limits=Limits(1, 1)) for number in range(4)]
    limiter.begin(callers[0])
    for caller in callers[1:]:
        limiter.spend(caller)
    with pytest.raises(Refusal, match="1 requests in hand"):
        limiter.begin(callers[0])


def records(path):
    return [bytes(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]


def test_several_processes_write_one_set_of_files(tmp_path, memory):
    state, path = memory(), tmp_path / "log"
    path.write_bytes(b"of a server before")
    files = [SharedFiles(str(path), max_bytes=100, max_files=3, state_file=state) for _ in range(2)]
    for number in range(7):
        files[number % 2].write(f"record {number:02}".encode())  # 25 bytes with its frame
    assert records(path) == [b"record 04", b"record 05", b"record 06"]
    assert records(f"{path}.1") == [b"record 00", b"record 01", b"record 02", b"record 03"]
    assert (tmp_path / "log.2").read_bytes() == b"of a server before"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_has_left_of_a_record_is_taken_away(tmp_path, memory):
    path = tmp_path / "log"
    files = SharedFiles(str(path), max_bytes=1000, max_files=3, state_file=memory())
    files.write(b"one")
    with path.open("ab") as file:
        file.write(b"half of a record")
    files.write(b"two")
    assert records(path) == [b"one", b"two"]
    path.rename(tmp_path / "taken away")
    files.write(b"three")
    assert records(path) == [b"three"]


def test_a_process_that_ends_again_and_again_is_replaced_ever_later():
    pauses = Pauses()
    assert [pauses.next(3.0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses.next(3600.0) == 0 and pauses.next(3.0) == 1


def test_a_number_is_refused_where_tensorflow_sees_a_gpu():
    with pytest.raises(FlagError, match=r"--num_processes=2 .* sees 1 GPU.* CUDA_VISIBLE_DEVICES=-1"):
        choose(ServerConfig(num_processes="2"), None, num_gpus=lambda: 1)
    assert choose(ServerConfig(num_processes="auto"), None, num_gpus=lambda: 1) == 1
    assert choose(ServerConfig(num_processes="2"), None, num_gpus=lambda: 0) == 2
    assert choose(ServerConfig(), None, num_gpus=lambda: 1) == 1


def test_auto_goes_by_processors_and_memory(tmp_path):
    assert fitting(16, 128 * 10**9, 0) == 16
    assert fitting(16, 4 * 10**9, 0) == 4
    assert fitting(16, 16 * 10**9, 10**9) == 3
    assert fitting(16, 10**9, 10**10) == 1
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert num_cpus(quota) == 1
    quota.write_text("max 100000\n")
    assert num_cpus(quota) == num_cpus(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_ports_are_kept_for_the_server_s_own_processes():
    config = ServerConfig(port=free_port(), rest_api_port=free_port())
    kept = reserve(config)
    with pytest.raises(OSError, match=f"gRPC cannot listen on 0.0.0.0:{config.port}: it is in use"):
        reserve(config)
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("0.0.0.0", config.port))
        own.listen()
        with pytest.raises(OSError, match="it is in use"):
            reserve(config)
    for sock in kept:
        sock.close()


def test_the_link_of_a_unix_socket_goes_from_one_process_to_the_next(tmp_path):
    path = tmp_path / "socket"
    unix = UnixSocket(str(path))
    unix.point_to_next([0, 1])
    assert not path.is_symlink()
    for index in (0, 1):
        (tmp_path / f"socket.{index}").touch()
    chosen = []
    for there in ([0, 1], [0, 1], [0, 1], [1], [1]):
        unix.point_to_next(there)
        chosen.append(path.readlink().name)
    assert chosen == ["socket.0", "socket.1", "socket.0", "socket.1", "socket.1"]
    unix.remove([0, 1], link=True)
    assert list(tmp_path.iterdir()) == []
