"""Sampled requests go to TFRecord files, rotated, that are warm-up files too, and never at a request's cost."""

import contextlib
import os

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from inkling.serving.monitoring.events import ServerEvents
from inkling.serving.monitoring.request_log import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    MAX_WARMUP_RECORDS,
    RequestLog,
    RotatedFiles,
)
from tests.patience import wait_until


class Told(ServerEvents):
    def __init__(self):
        self.codes = []

    def request_logged(self, *, model_name, code):
        self.codes.append((model_name, code))


def prediction(number):
    log = PredictionLog()
    log.log_metadata.model_spec.name = "m"
    log.predict_log.request.model_spec.name = "m"
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([number], tf.int64))
    return log


def numbers(path):
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [PredictionLog.FromString(record).predict_log.request.inputs["x"].int64_val[0] for record in records]


def open_log(path, events=None, **changes):
    settings = {"sampling_rate": 1.0, "max_bytes": 10**6, "max_files": 3} | changes
    sampling_rate = settings.pop("sampling_rate")
    return RequestLog(RotatedFiles(str(path), **settings), sampling_rate=sampling_rate, events=events or ServerEvents())


def test_requests_are_readable_at_once_and_in_order(tmp_path):
    told = Told()
    log = open_log(tmp_path / "new" / "log", told)
    for number in range(5):
        log.write(prediction(number))
    wait_until(lambda: len(told.codes) == 5)
    assert numbers(tmp_path / "new" / "log") == [0, 1, 2, 3, 4]
    log.close()
    assert told.codes == [("m", grpc.StatusCode.OK)] * 5


def test_large_files_are_rotated_and_old_ones_go(tmp_path):
    log = open_log(tmp_path / "log", max_bytes=2 * len(prediction(0).SerializeToString()) + 40)
    for number in range(9):
        log.write(prediction(number))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert numbers(tmp_path / "log") == [8] and numbers(tmp_path / "log.1") == [6, 7]
    assert numbers(tmp_path / "log.2") == [4, 5]


def test_no_file_is_longer_than_a_warm_up_file_may_be(tmp_path):
    told = Told()
    log = open_log(tmp_path / "log", told)
    for number in range(MAX_WARMUP_RECORDS + 1):
        log.write(prediction(number))
        wait_until(lambda number=number: len(told.codes) > number - 100)
    log.close()
    assert len(numbers(tmp_path / "log.1")) == MAX_WARMUP_RECORDS and numbers(tmp_path / "log") == [MAX_WARMUP_RECORDS]


def test_a_restart_keeps_the_file_of_before(tmp_path):
    for number in range(2):
        log = open_log(tmp_path / "log")
        log.write(prediction(number))
        log.close()
    assert numbers(tmp_path / "log.1") == [0] and numbers(tmp_path / "log") == [1]


@pytest.fixture
def stuck(tmp_path):
    """A path at which writing waits for a reader that does not come."""
    os.mkfifo(tmp_path / "fifo")
    yield tmp_path / "fifo"
    os.close(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))


def test_what_waits_for_the_disk_is_bounded_in_bytes(stuck):
    told = Told()
    log = open_log(stuck, told)
    large = prediction(0)
    large.predict_log.request.inputs["x"].tensor_content = bytes(MAX_WAITING_BYTES // 4)
    for _ in range(8):
        log.write(large)
    assert told.codes == [("m", grpc.StatusCode.RESOURCE_EXHAUSTED)] * 5
    log.write(prediction(1))
    assert len(told.codes) == 5


def test_closing_does_not_wait_for_ever(stuck, caplog):
    log = open_log(stuck)
    for number in range(2 * MAX_WAITING):
        log.write(prediction(number))
    log.close(timeout_s=0.1)
    assert f"{MAX_WAITING} requests did not get to {stuck} in 0.1 s" in caplog.text


def test_the_sampling_rate_is_the_share_that_is_written(tmp_path):
    assert not any(open_log(tmp_path / "a", sampling_rate=0.0).wants() for _ in range(100))
    log = open_log(tmp_path / "b", sampling_rate=0.25)
    assert 0.2 < sum(log.wants() for _ in range(4000)) / 4000 < 0.3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_costs_records_and_nothing_else(caplog):
    told = Told()
    log = open_log("/dev/full", told)
    for number in range(3):
        log.write(prediction(number))
    wait_until(lambda: len(told.codes) == 3)
    log.close()
    assert grpc.StatusCode.UNAVAILABLE in {code for _, code in told.codes}
    assert "requests are not logged to /dev/full" in caplog.text
    assert os.path.exists("/dev/full")


class FullDisk:
    """Has room for so many bytes, over all files; what does not fit is written in part."""

    def __init__(self, room):
        self.room = room

    def open(self, path):
        return FullDisk.Writer(self, path)

    class Writer:
        def __init__(self, disk, path):
            self.disk, self.file, self.waiting = disk, open(path, "wb", buffering=0), b""  # noqa: SIM115

        def write(self, record):
            self.waiting += record + bytes(16)

        def flush(self):
            content, self.waiting = self.waiting, b""
            self.file.write(content[: self.disk.room])
            self.disk.room -= len(content)
            if self.disk.room < 0:
                self.disk.room = 0
                raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

        def close(self):
            self.file.close()


def files_on(disk, path):
    return RotatedFiles(str(path), max_bytes=200, max_files=3, open_writer=disk.open)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("room", [0, 5, 30, 50, 100, 116, 130], ids=str)
def test_a_full_disk_erases_nothing_and_leaves_no_half_record(room, tmp_path, monkeypatch):
    monkeypatch.setattr("inkling.serving.monitoring.request_log.RETRY_S", 0.0)
    files = files_on(FullDisk(10**6), tmp_path / "log")
    for number in range(9):
        files.write(b"%02d" % number * 42)  # 100 bytes with what a record costs: two to a file
        files.flush()
    files.close()
    before = contents(tmp_path)
    assert before.keys() == {"log", "log.1", "log.2"}
    files = files_on(FullDisk(room), tmp_path / "log")
    for number in range(20):
        with contextlib.suppress(tf.errors.OpError):
            files.write(b"%02d" % (50 + number) * 42)
            files.flush()
    after = contents(tmp_path)
    if room < 100:
        assert after == before
    else:
        assert after == {"log": b"50" * 42 + bytes(16), "log.1": before["log"], "log.2": before["log.1"]}


def test_after_a_failure_the_disk_is_left_alone_for_a_while(tmp_path):
    disk = FullDisk(0)
    files = files_on(disk, tmp_path / "log")
    with pytest.raises(tf.errors.ResourceExhaustedError):
        files.write(b"first")
    disk.room = 10**6
    with pytest.raises(OSError, match="No space left on device"):
        files.write(b"second")
    assert contents(tmp_path) == {}


def test_what_callers_send_is_the_owners_to_read(tmp_path):
    (tmp_path / "log.new").write_text("left over")
    (tmp_path / "log.new").chmod(0o644)
    log = open_log(tmp_path / "log", max_bytes=1)
    for number in range(3):
        log.write(prediction(number))
    log.close()
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        name: 0o600 for name in ("log", "log.1", "log.2")
    }


def test_an_unwritable_folder_costs_records_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("no folder")
    told = Told()
    log = open_log(tmp_path / "file" / "log", told)
    log.write(prediction(1))
    log.close()
    assert told.codes == [("m", grpc.StatusCode.UNAVAILABLE)]
