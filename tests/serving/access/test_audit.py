"""The audit log: lines that are there, whole and private, whatever the disk does."""

import json
import stat

import grpc
import pytest

from inkling.serving.access import audit
from inkling.serving.access.audit import AuditLog, Entry
from inkling.serving.access.callers import Caller
from tests.patience import wait_until

OK = {"caller": "root", "kind": "key", "peer": "ipv4:127.0.0.1:1", "call": "HandleReloadConfigRequest"}


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(log, about, outcome="OK"):
    log.write(
        Entry(
            caller=Caller("root", "key"),
            peer=OK["peer"],
            call=OK["call"],
            about=about,
            outcome=grpc.StatusCode[outcome],
            message="",
        )
    )


def test_each_call_is_a_line_for_the_owner_only(tmp_path):
    file = tmp_path / "audit"
    file.write_text("")
    file.chmod(0o644)
    log = AuditLog(str(file))
    write(log, "a=/models/a")
    log.close(10)
    (line,) = lines_of(file)
    assert line.pop("time").endswith("+00:00")
    assert line == {**OK, "about": "a=/models/a", "outcome": "OK"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_server_and_a_moved_file_lose_nothing(tmp_path):
    file = tmp_path / "audit"
    for about in ("first", "second"):
        log = AuditLog(str(file))
        write(log, about)
        log.close(10)
    log = AuditLog(str(file))
    file.rename(tmp_path / "audit.1")
    write(log, "third")
    log.close(10)
    assert [line["about"] for line in lines_of(tmp_path / "audit.1")] == ["first", "second"]
    assert [line["about"] for line in lines_of(file)] == ["third"]


def test_a_full_disk_neither_stops_nor_erases(tmp_path, caplog):
    file = tmp_path / "audit"
    log = AuditLog(str(file), retry_s=0.05)
    write(log, "before")
    wait_until(lambda: file.stat().st_size)
    kept = file.rename(tmp_path / "kept")
    file.symlink_to("/dev/full")
    for number in range(3):
        write(log, f"meanwhile {number}")
    wait_until(lambda: sum("tried again" in record.getMessage() for record in caplog.records) >= 3)
    file.unlink()
    kept.rename(file)
    write(log, "after")
    log.close(10)
    expected = ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2", "after"]
    assert [line["about"] for line in lines_of(file)] == expected
    told = "".join(record.getMessage() for record in caplog.records)
    assert all(f"meanwhile {number}" in told for number in range(3))


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path, monkeypatch):
    file = tmp_path / "audit"
    log = AuditLog(str(file), retry_s=0.05)
    real, cuts = audit.os.write, [10]
    monkeypatch.setattr(audit.os, "write", lambda where, content: real(where, content[: cuts.pop() if cuts else None]))
    write(log, "whole")
    log.close(10)
    torn, whole = file.read_text().splitlines()
    assert len(torn) == 10 and json.loads(whole)["about"] == "whole"


def test_refusals_beyond_a_hundred_a_minute_are_counted_only(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(audit.time, "monotonic", lambda: clock[0])
    log = AuditLog(str(tmp_path / "audit"))
    for _ in range(150):
        write(log, "", outcome="UNAUTHENTICATED")
    write(log, "granted")
    clock[0] += 61
    write(log, "", outcome="PERMISSION_DENIED")
    log.close(10)
    lines = lines_of(tmp_path / "audit")
    assert [line["outcome"] for line in lines[99:]] == ["UNAUTHENTICATED", "OK", "PERMISSION_DENIED"]
    assert lines[-1]["refusals_left_out"] == 50


def test_a_file_that_cannot_be_opened_ends_the_start(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        AuditLog(str(tmp_path / "nowhere" / "audit"))
