"""The command line of batch jobs, as far as it comes without Ray."""

import pytest

pytest.importorskip("pyarrow", reason="the extra `batch` of the client is not installed")

from inkling.client.batch import command
from tests.client.batch.jobs import read_here


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = capsys.readouterr().out
    assert "s3://post/2026 s3://post/read" in text and "go on with a job" in text and "left_out" in text


def test_a_wrong_number_is_named(capsys, pictures, output):
    with pytest.raises(SystemExit) as stopped:
        command.main([str(pictures), str(output), "--readers", "0"])
    assert stopped.value.code == 2 and "expected a finite number above 0, got 0" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(capsys, tmp_path):
    assert command.main([str(tmp_path / "nowhere"), str(tmp_path / "output")]) == 2
    assert f"there is no folder {tmp_path}/nowhere; is it written rightly" in capsys.readouterr().err


def test_a_file_is_no_folder_of_pictures(capsys, pictures, output):
    assert command.main([str(pictures / "page-0000.png"), str(output)]) == 2
    assert "is a file; give the folder, or read one picture by `inkling read" in capsys.readouterr().err


def test_a_scheme_that_nobody_knows_is_named(capsys, output):
    assert command.main(["gopher://pictures", str(output)]) == 2
    assert "'gopher://pictures' cannot be opened" in capsys.readouterr().err


def test_an_address_that_cannot_be_is_refused_before_anything_is_written(capsys, pictures, output):
    assert command.main([str(pictures), str(output), "--server", "localhost:99999"]) == 2
    assert "there is no port 99999" in capsys.readouterr().err
    assert not output.exists()


def test_a_cluster_that_is_not_there_is_said_with_the_way_to_go_on(capsys, pictures, output):
    arguments = [str(pictures), str(output), "--address", "127.0.0.1:1"]
    assert command.main(arguments) == 3
    text = capsys.readouterr().err
    assert "no Ray cluster answers at 127.0.0.1:1" in text
    assert f"0 of 10 pages are written; go on by the same command: python -m inkling.client.batch {pictures}" in text


def test_a_job_that_is_done_needs_no_ray(capsys, begin, pictures, output):
    job = begin(pages_per_part=64)
    job.run(read_here, lambda progress: None)
    assert command.main([str(pictures), str(output)]) == 0
    assert f"10 pages read, 10 of them before, 0 of them unreadable: {output}" in capsys.readouterr().out
