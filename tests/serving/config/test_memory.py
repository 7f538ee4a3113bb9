"""Limits of requests follow the memory of the container, where nobody has set them."""

import pytest

from inkling.serving.config.memory import memory_limit, within_memory
from inkling.serving.flags import ServerConfig


@pytest.fixture
def cgroups(tmp_path):
    """Write a process's groups and their files, and read its limit."""

    def limit(groups, **files):
        (tmp_path / "cgroup").write_text(groups)
        for name, text in files.items():
            file = tmp_path / "sys" / name.replace("__", "/").replace("_max", ".max").replace("_in", ".limit_in_bytes")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return memory_limit(tmp_path / "sys", tmp_path / "cgroup")

    return limit


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"memory_max": "1073741824\n"}, 2**30),
        ("0::/\n", {"memory_max": "max\n"}, None),
        ("0::/a/b\n", {"a__b__memory_max": "max\n", "a__memory_max": "4000\n"}, 4000),
        ("0::/a/b\n", {"a__b__memory_max": "3000\n", "a__memory_max": "4000\n"}, 3000),
        ("0::/not/to/be/seen\n", {"memory_max": "5000\n"}, 5000),
        ("7:cpu:/x\n4:memory:/x\n", {"memory__x__memory_in": "6000\n"}, 6000),
        ("4:memory:/\n", {"memory__memory_in": "9223372036854771712\n"}, None),
        ("", {}, None),
    ],
    ids=["own", "none", "parent's", "smallest", "namespace", "version 1", "version 1, none", "no groups"],
)
def test_the_smallest_limit_of_the_groups_holds(cgroups, groups, files, expected):
    assert cgroups(groups, **files) == expected


def test_where_there_are_no_cgroups_there_is_no_limit(tmp_path):
    assert memory_limit(tmp_path, tmp_path / "nowhere") is None


def test_defaults_follow_the_limit_and_what_is_given_stays():
    config = within_memory(ServerConfig(), {}, 2**30)
    assert (config.grpc_max_pending_mb, config.rest_api_max_body_mb) == (134, 16)
    assert within_memory(ServerConfig(), {}, None) == within_memory(ServerConfig(), {}, 10**12) == ServerConfig()
    given = {"grpc_max_pending_mb": 2048}
    config = within_memory(ServerConfig(**given), given, 2**30)
    assert (config.grpc_max_pending_mb, config.rest_api_max_body_mb) == (2048, 16)
