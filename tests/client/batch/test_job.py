"""A batch job: each page is a row once, whatever happens to the job, the pictures and the server."""

import csv
import io
import os
import time

import grpc
import pytest

pytest.importorskip("pyarrow", reason="the extra `batch` of the client is not installed")

import fsspec
import pyarrow.dataset as ds

from inkling.client.batch.places import Place
from inkling.client.batch.reader import JobStopped
from inkling.client.errors import InvalidInput
from tests.client.batch import jobs
from tests.client.batch.jobs import read_here
from tests.client.cli.command_line import seven


def nobody(progress):
    """Nobody watches."""


def rows(output):
    """The rows of both tables; they must have the same pages, each once."""
    found = ds.dataset(output / "parquet").to_table().to_pylist()
    texts = [path.read_text() for path in sorted((output / "csv").iterdir())]
    flat = [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert sorted(row["path"] for row in found) == sorted(row["path"] for row in flat)
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}, {row["path"]: row for row in flat}


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("part-*")}


def test_each_picture_is_a_row_with_its_lines(begin, output, pictures):
    report = begin().run(read_here, nobody)
    found, flat = rows(output)
    assert (report.pages, report.unreadable, report.read_now, len(found)) == (10, 0, 10, 10)
    page = found["below/page-0001.png"]
    assert (page["text"], page["model_version"], page["error"]) == ("7", 1, None)
    assert page["size"] == (pictures / "below/page-0001.png").stat().st_size
    [line] = page["lines"]
    assert (line["text"], [digit["label"] for digit in line["digits"]]) == ("7", ["7"])
    assert flat["page-0000.png"]["line_boxes"] == " ".join(str(side) for side in line["box"].values())


def test_pictures_and_tables_may_lie_in_a_bucket(pictures, sevens):
    store = fsspec.filesystem("memory")
    store.put(str(pictures), "/bucket/pictures", recursive=True)
    places = ("memory://bucket/pictures", "memory://bucket/read", sevens.address)
    jobs.begin(*places).run(read_here, nobody)
    assert jobs.begin(*places).run(read_here, nobody).pages == 10
    read = ds.dataset("/bucket/read/parquet", filesystem=store).to_table().to_pylist()
    assert sorted(row["path"] for row in read)[:2] == ["below/page-0001.png", "below/page-0003.png"]
    assert {row["text"] for row in read} == {"7"} and len(read) == 10


def test_a_picture_that_cannot_be_read_is_a_row_with_its_error(begin, output, pictures):
    (pictures / "broken.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("no picture either, and not called one")
    report = begin().run(read_here, nobody)
    found, flat = rows(output)
    assert (report.pages, report.unreadable) == (11, 1)
    assert "cannot be read as a picture" in found["broken.png"]["error"] == flat["broken.png"]["error"]
    assert found["broken.png"]["text"] is None and found["page-0000.png"]["error"] is None


def test_a_job_that_was_killed_goes_on_with_the_parts_that_are_not_there(begin, output):
    def killed(config, pictures, numbers):
        yield next(read_here(config, pictures, numbers))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin().run(killed, nobody)
    before = files(output)
    job = begin()
    assert str(job.progress) == "4 of 10 pages"
    report = job.run(read_here, nobody)
    assert (report.pages, report.read_now, len(rows(output)[0])) == (10, 6, 10)
    assert {path: files(output)[path] for path in before} == before  # what was there was not touched


def test_a_part_of_which_only_one_file_was_written_is_read_again(begin, output):
    begin().run(read_here, nobody)
    (output / "parquet/part-00001.parquet").unlink()
    (output / "csv/part-00001.csv").write_text("half a li")
    (output / "report.json").unlink()
    assert begin().run(read_here, nobody).read_now == 4
    assert len(rows(output)[0]) == 10


def test_a_job_that_is_done_asks_nobody(begin, sevens):
    begin().run(read_here, nobody)
    asked = len(sevens.requests)
    report = begin().run(read_here, nobody)
    assert (report.pages, report.read_now, len(sevens.requests)) == (10, 0, asked)


def test_two_jobs_of_one_place_harm_nothing(begin, output):
    first, second = begin(), begin()

    def after_the_other(config, pictures, numbers):
        for part in read_here(config, pictures, numbers):
            second.run(read_here, nobody)
            yield part

    assert first.run(after_the_other, nobody).pages == 10
    assert len(rows(output)[0]) == 10
    assert not (output / "_unfinished").exists() or not list((output / "_unfinished").iterdir())


def test_pictures_that_have_changed_gone_or_come_are_named(begin, output, pictures):
    begin()
    (pictures / "page-0000.png").write_bytes(b"another")
    (pictures / "page-0002.png").unlink()
    (pictures / "new.png").write_bytes(b"new")
    job = begin()
    text = "\n".join(job.told)
    assert "(page-0000.png) have changed" in text and "(page-0002.png) are gone" in text and "(new.png) have" in text
    job.run(read_here, nobody)
    found, _ = rows(output)
    assert "it has changed since the job began" in found["page-0000.png"]["error"]
    assert "not there any more" in found["page-0002.png"]["error"]
    assert "new.png" not in found and len(found) == 10


def test_a_picture_that_is_written_anew_with_the_same_size_has_changed(begin, output, pictures):
    job = begin()
    path = pictures / "page-0004.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    job.run(read_here, nobody)
    assert "another time" in rows(output)[0]["page-0004.png"]["error"]


def test_a_places_name_shows_no_credentials():
    assert str(Place("s3://KEY:SECRET@bucket/folder?endpoint_override=localhost:9000")) == "s3://bucket/folder"


def test_another_jobs_place_is_refused(begin, pictures):
    begin()
    with pytest.raises(InvalidInput, match=r"pages_per_part 4 there, 5 now; label None there, 'canary' now.*another"):
        begin(pages_per_part=5, label="canary")


def test_a_place_with_anything_else_in_it_is_refused(begin, output):
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInput, match=r"is not empty \(thesis.tex\); give OUTPUT a new folder"):
        begin()


def test_a_folder_without_pictures_says_what_pictures_are_called(begin, pictures):
    for path in pictures.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(InvalidInput, match=r"pictures has no pictures \(\.bmp, .*\.png"):
        begin()


def test_a_server_that_stays_away_stops_the_job_which_can_go_on(begin, output, sevens):
    def away(request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    sevens.behaviours["Predict"] = away
    with pytest.raises(JobStopped, match=r"draining.*; waited for 0\.1 s"):
        begin().run(read_here, nobody)
    sevens.behaviours["Predict"] = seven
    assert begin().run(read_here, nobody).unreadable == 0
    assert len(rows(output)[0]) == 10


def test_a_server_that_comes_back_costs_no_page(begin, output, sevens):
    failures = iter([True, True])

    def hiccup(request, context):
        if next(failures, False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return seven(request, context)

    sevens.behaviours["Predict"] = hiccup
    assert begin(patience_s=60).run(read_here, nobody).unreadable == 0


def test_a_model_that_is_not_there_stops_the_job_at_once(begin, sevens):
    def unknown(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(mnist)")

    sevens.behaviours["Predict"] = unknown
    with pytest.raises(JobStopped, match="Servable not found"):
        begin(patience_s=60).run(read_here, nobody)
    assert len(sevens.requests) == 2  # for the model's metadata, and for the first picture


def test_a_page_that_is_too_much_for_the_server_is_that_pages_error(begin, output, sevens):
    slow = iter([True] * 3)

    def sometimes_slow(request, context):
        if next(slow, False):
            time.sleep(0.4)
        return seven(request, context)

    sevens.behaviours["Predict"] = sometimes_slow
    assert begin(timeout_s=0.2).run(read_here, nobody).unreadable == 1
    [late] = [row for row in rows(output)[0].values() if row["error"]]
    assert "DEADLINE_EXCEEDED" in late["error"]
