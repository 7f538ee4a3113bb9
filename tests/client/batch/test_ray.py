"""Batch jobs as they are run: real Ray, a real server, killed in the middle and started again.

A few minutes; `INKLING_TEST_PAGES=10000 make test-slow ARGS=tests/client/batch` reads ten thousand pages.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra `batch` of the client is not installed")
pytest.importorskip("ray", reason="the extra `batch` of the client is not installed")

from tests.client.batch.sevens import draw_sevens
from tests.client.batch.test_job import rows
from tests.patience import wait_until
from tests.train.ray_processes import Job

pytestmark = [pytest.mark.process, pytest.mark.slow]

PICTURES = Path(__file__).parents[1] / "reading" / "pictures"
PAGES = int(os.environ.get("INKLING_TEST_PAGES", "1000"))


def start(folder, server, *flags):
    command = (sys.executable, "-m", "client.batch")
    return Job(folder, folder / "pictures", folder / "output", "--server", server, *flags, command=command)


def parts(folder):
    return len(list(folder.glob("output/parquet/*.parquet")))


def wait_for_parts(job, folder, number):
    wait_until(lambda: parts(folder) >= number or job.process.poll() is not None, job.output)
    assert job.process.poll() is None, job.output()


def test_a_job_that_is_killed_and_one_that_is_stopped_go_on_to_each_page_once(tmp_path, digit_server):
    (tmp_path / "pictures").mkdir()
    pages = [path for path in sorted(PICTURES.iterdir()) if path.suffix in (".jpg", ".png", ".webp")]
    for number in range(40):
        page = pages[number % len(pages)]
        shutil.copy(page, tmp_path / "pictures" / f"{number:02d}{page.suffix}")
    (tmp_path / "pictures/broken.png").write_bytes(b"no picture")
    flags = ("--pages-per-part", "1", "--readers", "2")

    killed = start(tmp_path, digit_server, *flags)
    wait_for_parts(killed, tmp_path, 2)
    killed.kill()
    before = parts(tmp_path)

    stopped = start(tmp_path, digit_server, *flags)
    wait_for_parts(stopped, tmp_path, before + 2)
    stopped.process.send_signal(signal.SIGTERM)
    status, text = stopped.wait()
    assert status == 130 and "go on by the same command: python -m client.batch" in text, text
    assert "Traceback" not in text

    status, text = start(tmp_path, digit_server, *flags).wait()
    assert status == 0 and "41 pages read" in text and "1 of them unreadable" in text and "pages/s" in text, text
    found, _ = rows(tmp_path / "output")
    assert sorted(found) == sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert found["08.jpg"]["error"] is None and "cannot be read" in found["broken.png"]["error"]


def test_many_pages_are_there_once_each_though_the_job_was_killed(tmp_path, digit_server):
    draw_sevens(tmp_path / "pictures", PAGES)
    killed = start(tmp_path, digit_server)
    wait_for_parts(killed, tmp_path, 2)
    killed.kill()
    status, text = start(tmp_path, digit_server).wait()
    assert status == 0 and f"{PAGES:,} pages read" in text and "0 of them unreadable" in text, text
    found, _ = rows(tmp_path / "output")
    assert len(found) == PAGES and {row["text"] for row in found.values()} == {"7"}
