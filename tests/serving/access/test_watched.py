"""Key files as people and tools write them while a server runs."""

import os

import pytest

from inkling.serving.access.keys import line_of, make_key, parse
from inkling.serving.access.watched import WatchedFile
from inkling.serving.errors import ServingError


@pytest.fixture
def keys():
    return {name: make_key(name) for name in ("alice", "bob")}


@pytest.fixture
def file(tmp_path, keys):
    path = tmp_path / "keys.txt"
    path.write_text(line_of(keys["alice"]))
    return path


@pytest.fixture
def watched(file):
    return WatchedFile(str(file), lambda text: parse(text, is_admin=False))


def known(watched, keys):
    """Whose keys count."""
    return {name for name, key in keys.items() if watched.value.find(key) is not None}


def put(file, content):
    """A new file in the place of the old one, as `mv` and Kubernetes do it."""
    other = file.with_suffix(".new")
    other.write_bytes(content if isinstance(content, bytes) else content.encode())
    other.replace(file)


@pytest.mark.parametrize(
    "form", ["{}\r\n{}\r\n", "\ufeff{}\n{}\n", "\n \t\n{}\n\n# \u00fc\n{}"], ids=["crlf", "bom", "blanks"]
)
def test_lines_may_end_and_begin_as_editors_write_them(watched, file, keys, form):
    put(file, form.format(*map(line_of, keys.values())))
    assert watched.look() and known(watched, keys) == {"alice", "bob"}


@pytest.mark.parametrize("content", ["", "\n", "# nobody\n"])
def test_a_file_without_keys_lets_nobody_in(watched, file, keys, content):
    assert known(watched, keys) == {"alice"}
    put(file, content)
    assert watched.look() and known(watched, keys) == set()


@pytest.mark.parametrize("content", ["nonsense", b"\xff\xfea\0", None], ids=["nonsense", "utf-16", "gone"])
def test_what_cannot_be_read_leaves_what_was_there_and_lets_nobody_else_in(watched, file, keys, content, caplog):
    file.unlink() if content is None else put(file, content)
    assert not watched.look() and not watched.look()
    assert known(watched, keys) == {"alice"}
    assert caplog.text.count("what it said before still counts") == 1
    put(file, line_of(keys["bob"]))
    assert watched.look() and known(watched, keys) == {"bob"}


def test_a_change_in_place_that_keeps_size_and_time_is_seen(watched, file, keys):
    before = file.stat()
    file.write_text(line_of(make_key("alice")))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert watched.look() and known(watched, keys) == set()


def test_a_pipe_is_not_waited_for(watched, file, keys):
    file.unlink()
    os.mkfifo(file)
    assert not watched.look() and known(watched, keys) == {"alice"}
    with pytest.raises(ServingError, match="it is no regular file"):
        WatchedFile(str(file), str)
