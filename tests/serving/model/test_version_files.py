"""Which files of a version may be opened: regular ones below its folder, whatever else somebody has put there."""

import os

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.model.version_files import MAX_GRAPH_BYTES, check_graph_files, files_below, size_of


@pytest.fixture(params=["", "file://"], ids=["path", "URI"])
def scheme(request):
    return request.param


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "m" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def names(version, scheme=""):
    path = f"{scheme}{version}"
    return sorted(file.removeprefix(path + "/") for file, _, _ in files_below(path))


WHOLE = ["saved_model.pb", "variables/variables.index"]


def test_all_regular_files_are_found_with_size_and_time(version, scheme):
    assert names(version, scheme) == WHOLE
    found = {file: (size, changed) for file, size, changed in files_below(f"{scheme}{version}")}
    stat = (version / "saved_model.pb").stat()
    assert found[f"{scheme}{version}/saved_model.pb"] == (5, stat.st_mtime_ns)


def test_a_versions_folder_may_be_a_link(version, tmp_path):
    (tmp_path / "2").symlink_to(version)
    assert names(tmp_path / "2") == WHOLE and size_of(str(tmp_path / "2"), "saved_model.pb") == 5


def test_links_in_circles_have_an_end(version, scheme):
    for name in "abcdefgh":
        (version / name).symlink_to(".")
    (version / "up").symlink_to("../..")
    (version / "itself").symlink_to("itself")
    (version / "variables" / "parent").symlink_to("..")
    assert names(version, scheme) == WHOLE


def test_links_inside_the_folder_are_followed(version):
    (version / "saved_model.pb").rename(version / "graph")
    (version / "saved_model.pb").symlink_to("graph")
    (version / "variables").rename(version / "weights")
    (version / "variables").symlink_to("weights")
    assert set(WHOLE) < set(names(version)) and size_of(str(version), "variables/variables.index") == 5


def put_link_out(file):
    (file.parent.parent / "secret").write_bytes(b"secret")
    file.symlink_to("../secret")


def put_directory(file):
    file.mkdir()


KINDS = {"a pipe": os.mkfifo, "a link out": put_link_out, "a folder": put_directory}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_of_the_version_is_none_of_its_files(version, scheme, kind):
    (version / "saved_model.pb").unlink()
    KINDS[kind](version / "saved_model.pb")
    assert names(version, scheme) == WHOLE[1:] and size_of(f"{scheme}{version}", "saved_model.pb") is None
    with pytest.raises(ServingError, match="is no regular file in the version's folder"):
        check_graph_files(f"{scheme}{version}")


def test_a_graph_beyond_what_a_message_may_be_is_not_read(version):
    check_graph_files(str(version))
    os.truncate(version / "saved_model.pb", MAX_GRAPH_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(ServingError, match=f"has {MAX_GRAPH_BYTES + 1} bytes; a graph has at most {MAX_GRAPH_BYTES}"):
        check_graph_files(str(version))


def test_a_folder_that_is_not_there_has_no_files(tmp_path, scheme):
    assert (
        names(tmp_path / "nowhere", scheme) == [] and size_of(f"{scheme}{tmp_path}/nowhere", "saved_model.pb") is None
    )
