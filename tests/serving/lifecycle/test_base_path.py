"""Which versions are there, which are whole, which are wanted: from files alone, without a server."""

import os
import time

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from inkling.serving.lifecycle import versions
from inkling.serving.lifecycle.base_path import BasePath, Known, Listing

POLICY = FileSystemStoragePathSourceConfig.ServableVersionPolicy


@pytest.mark.parametrize(
    "policy, expected",
    [
        (POLICY(), [3]),
        (POLICY(latest=POLICY.Latest(num_versions=2)), [3, 2]),
        (POLICY(all=POLICY.All()), [3, 2, 1]),
        (POLICY(specific=POLICY.Specific(versions=[1, 9])), [1]),
    ],
    ids=["default", "latest", "all", "specific"],
)
def test_policies_choose(policy, expected):
    assert versions.aspired_versions(policy, [1, 3, 2]) == expected


def test_only_folders_named_by_a_number_are_versions(tmp_path):
    for name in ("1", "002", "x", "3.unfinished", ".4", "-5", str(2**63)):
        (tmp_path / name).mkdir()
    assert versions.list_versions(str(tmp_path)) == {1: f"{tmp_path}/1", 2: f"{tmp_path}/002"}


@pytest.mark.parametrize("number", [0, 1_795_567_251_870_148_123, 2**63 - 1], ids=["zero", "nanoseconds", "largest"])
def test_a_version_may_be_any_number_of_63_bits(number, tmp_path):
    (tmp_path / str(number)).mkdir()
    assert versions.list_versions(str(tmp_path)) == {number: f"{tmp_path}/{number}"}


LONG_AGO = time.time() - 3600


def write_version(folder, *, written=LONG_AGO):
    """A version that is whole: a graph without variables."""
    folder.mkdir(parents=True)
    saved = SavedModel()
    saved.meta_graphs.add().meta_info_def.tags.append("serve")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    os.utime(folder / "saved_model.pb", (written, written))


def look(root, before=None, policy=None, **known):
    base_path = BasePath(model_name="m", path=str(root), policy=policy or POLICY(all=POLICY.All()))
    return base_path.look(before or Listing(), Known(**known))


def test_whole_versions_are_usable_newest_first(tmp_path):
    for number in (1, 3, 2):
        write_version(tmp_path / str(number))
    listing = look(tmp_path)
    assert listing.listed == {number: f"{tmp_path}/{number}" for number in (1, 2, 3)}
    assert listing.usable == (3, 2, 1) and listing.snapshots.keys() == {1, 2, 3}
    assert not listing.is_settling and not listing.lacks and not listing.notice


def test_versions_that_the_policy_does_not_want_are_not_looked_into(tmp_path):
    for number in (1, 2, 3):
        write_version(tmp_path / str(number))
    listing = look(tmp_path, policy=POLICY(specific=POLICY.Specific(versions=[1])))
    assert listing.listed.keys() == {1, 2, 3} and listing.usable == (1,) and listing.snapshots.keys() == {1}


def test_a_version_older_than_a_usable_one_is_not_looked_into(tmp_path):
    for number in (1, 2):
        write_version(tmp_path / str(number))
    assert look(tmp_path, policy=POLICY()).snapshots.keys() == {2}


def test_a_live_version_is_usable_whatever_its_folder_holds(tmp_path):
    (tmp_path / "1").mkdir()
    listing = look(tmp_path, live={1})
    assert listing.usable == (1,) and not listing.snapshots


@pytest.mark.parametrize(
    "files, lacks",
    [
        ([], "saved_model.pb"),
        (["variables/variables.index"], "saved_model.pb"),
        (["saved_model.pb", "variables/variables.index"], "variables/variables.data-*"),
        (["saved_model.pb", "variables/variables.data-00000-of-00001"], "variables/variables.index"),
        (
            ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00002"],
            "variables/variables.data-00001-of-00002",
        ),
    ],
    ids=["nothing", "no graph", "no data", "no index", "one of two shards"],
)
def test_what_half_a_version_lacks_is_named(tmp_path, files, lacks):
    (tmp_path / "1" / "variables").mkdir(parents=True)
    for file in files:
        (tmp_path / "1" / file).touch()
    listing = look(tmp_path)
    assert listing.lacks == {1: lacks} and listing.usable == ()


def test_an_asset_that_the_graph_names_is_waited_for(tmp_path):
    write_version(tmp_path / "1")
    saved = SavedModel()
    saved.meta_graphs.add().asset_file_def.add(filename="words.txt")
    (tmp_path / "1" / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert look(tmp_path).lacks == {1: "assets/words.txt"}
    (tmp_path / "1" / "assets").mkdir()
    (tmp_path / "1" / "assets" / "words.txt").touch()
    assert not look(tmp_path).lacks


def test_a_version_that_is_just_being_written_settles_between_two_looks(tmp_path):
    write_version(tmp_path / "1", written=time.time() + 3600)  # newer than any clock that the test may run by
    first = look(tmp_path)
    assert first.is_settling and first.usable == ()
    second = look(tmp_path, first)
    assert not second.is_settling and second.usable == (1,)


def test_a_version_that_failed_waits_for_its_time_or_for_other_files(tmp_path):
    write_version(tmp_path / "1")
    files = versions.snapshot(str(tmp_path / "1"))
    assert look(tmp_path, failed={1: files}).usable == ()
    assert look(tmp_path, failed={1: files}, due={1}).usable == (1,)
    (tmp_path / "1" / "mended").touch()
    os.utime(tmp_path / "1" / "mended", (LONG_AGO, LONG_AGO))
    assert look(tmp_path, failed={1: files}).usable == (1,)


def test_only_known_versions_are_seen_when_asked(tmp_path):
    for number in (1, 2):
        write_version(tmp_path / str(number))
    base_path = BasePath(model_name="m", path=str(tmp_path), policy=POLICY())
    assert base_path.look(Listing(), Known(), only={1}).usable == (1,)


def test_looking_changes_nothing(tmp_path):
    write_version(tmp_path / "1", written=time.time() + 3600)
    before = look(tmp_path)
    assert look(tmp_path) == before


def test_a_path_without_versions_says_so(tmp_path):
    listing = look(tmp_path)
    assert listing.listed == {} and "No versions of servable m found under base path" in listing.notice


def test_a_path_that_cannot_be_listed_keeps_what_was_seen(tmp_path):
    write_version(tmp_path / "1")
    before = look(tmp_path)
    tf.io.gfile.rmtree(str(tmp_path))
    listing = look(tmp_path, before)
    assert listing.listed is None and listing.snapshots == before.snapshots
    assert listing.notice.startswith(f"Could not find base path {tmp_path} for servable m with error ")


def test_a_graph_that_is_too_large_to_read_is_left_to_the_load(tmp_path):
    write_version(tmp_path / "1")
    os.truncate(tmp_path / "1" / "saved_model.pb", 40 * 10**9)
    os.utime(tmp_path / "1" / "saved_model.pb", (LONG_AGO, LONG_AGO))
    assert look(tmp_path).usable == (1,)


def test_a_version_that_consists_of_pipes_and_circles_is_not_whole(tmp_path):
    write_version(tmp_path / "1")
    (tmp_path / "2").mkdir()
    os.mkfifo(tmp_path / "2" / "saved_model.pb")
    for name in "ab":
        (tmp_path / "2" / name).symlink_to(".")
    listing = look(tmp_path)
    assert listing.usable == (1,) and listing.lacks == {2: "saved_model.pb"}


def test_a_tflite_file_is_a_whole_version_where_it_is_preferred(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.tflite").touch()
    os.utime(tmp_path / "1" / "model.tflite", (LONG_AGO, LONG_AGO))
    assert look(tmp_path).lacks == {1: "saved_model.pb"}
    base_path = BasePath(model_name="m", path=str(tmp_path), policy=POLICY(), prefer_lite=True)
    assert base_path.look(Listing(), Known()).usable == (1,)
