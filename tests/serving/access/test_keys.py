"""API keys, the file that knows them, and the command that makes them."""

import stat

import pytest

from inkling.serving import cli
from inkling.serving.access.callers import Limits
from inkling.serving.access.keys import KeyFileError, line_of, make_key, parse


def test_a_key_is_found_by_its_line_and_another_is_not():
    key, other = make_key("alice"), make_key("alice")
    file = parse(f"# predictors\n\n{line_of(key)}\n", is_admin=False)
    assert file.find(key).name == "alice" and not file.find(key).is_admin
    for wrong in (other, key[:-1], f"{key}x", "ink_bob_x", "ink_alice_", "ink_", "", "ink_alice_\udc80"):
        assert file.find(wrong) is None


def test_a_file_of_administrators_makes_administrators():
    key = make_key("root")
    assert parse(line_of(key), is_admin=True).find(key).is_admin


def test_a_caller_may_have_two_keys_while_one_takes_the_others_place():
    old, new = make_key("alice"), make_key("alice")
    file = parse(f"{line_of(old)}\n{line_of(new)}", is_admin=False)
    assert file.find(old) == file.find(new) is not None


def test_a_line_holds_neither_the_key_nor_the_same_hash_twice():
    key = make_key("alice")
    secret = key.rpartition("alice_")[2]
    assert secret not in line_of(key) and line_of(key) != line_of(key)


def test_limits_are_read_as_they_are_written():
    key, limits = make_key("a"), Limits(0.5, 3)
    line = line_of(key, limits)
    assert line.endswith(" requests_per_second=0.5 concurrent_requests=3")
    assert parse(line, is_admin=False).find(key).limits == limits


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("alice", "line 2: expected NAME sha256:SALT:HASH"),
        ("alice secret", "line 2: expected NAME sha256:SALT:HASH"),
        ("al_ice {hash}", "line 2: 'al_ice' is no name"),
        ("alice {hash} rate=1", "line 2: 'rate' is no limit; expected requests_per_second or concurrent_requests"),
        ("alice {hash} concurrent_requests=1.5", "concurrent_requests=1.5 is not usable"),
        ("alice {hash} requests_per_second=nan", "requests_per_second=nan is not usable"),
        ("bob {hash} requests_per_second=1", "line 2: bob has other limits in a line above"),
    ],
    ids=["no hash", "no hash but a word", "name", "option", "count", "nan", "two sets of limits"],
)
def test_a_line_that_cannot_be_read_is_named_without_its_hash(line, text):
    first = line_of(make_key("bob"))
    salted = first.split()[1]
    with pytest.raises(KeyFileError) as caught:
        parse(f"{first}\n{line.format(hash=salted)}", is_admin=False)
    assert text in str(caught.value) and salted[10:] not in str(caught.value)


def test_the_command_appends_to_a_file_of_the_owners_and_prints_the_key(tmp_path, capsys):
    file = tmp_path / "keys.txt"
    assert cli.main(["keys", "new", "alice", "--file", str(file)]) == 0
    file.write_text(file.read_text().rstrip())  # as an editor may leave it
    assert cli.main(["keys", "new", "bob", "--file", str(file), "--concurrent_requests", "2"]) == 0
    alice, bob = capsys.readouterr().out.split()
    known = parse(file.read_text(), is_admin=False)
    assert known.find(alice).name == "alice" and known.find(bob).limits == Limits(0, 2)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_command_prints_key_and_line_without_a_file(capsys):
    assert cli.main(["keys", "new", "alice"]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert parse(line.removeprefix("line: "), is_admin=False).find(key.removeprefix("key:  ")) is not None


@pytest.mark.parametrize("name", ["", "a_b", "-a", "x" * 65, "a b"])
def test_the_command_refuses_a_name_that_a_key_cannot_have(name, capsys):
    assert cli.main(["keys", "new", "--", name]) == 1
    assert "is no name: expected up to 64 letters" in capsys.readouterr().err


def test_the_command_leaves_a_file_that_it_cannot_read_as_it_is(tmp_path, capsys):
    file = tmp_path / "keys.txt"
    file.write_text("what is this\n")
    assert cli.main(["keys", "new", "alice", "--file", str(file)]) == 1
    assert "line 1: expected NAME" in capsys.readouterr().err and file.read_text() == "what is this\n"
