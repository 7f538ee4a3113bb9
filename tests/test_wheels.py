"""Each distribution ships its own package, whole, and nothing else."""

import zipfile

import pytest

from tests.wheels import ROOT, build, tracked

pytestmark = pytest.mark.process

AT_THE_ROOT = {"LICENSE", "README.md", "pyproject.toml"}  # of a folder: what makes a distribution of it


@pytest.mark.parametrize(
    ("package", "data", "licences"),
    [
        (
            "client",
            [
                "py.typed",
                "protocol/wire_pb2.pyi",
                "reading/digit_subspaces.npz",
                "reading/second_opinion.npz",
                "web/page/index.html",
            ],
            ["LICENSE", "reading/LICENSE.md"],
        ),
        ("serving", ["py.typed"], ["LICENSE"]),
        ("train", ["py.typed", "mnist/mnist.npz"], ["LICENSE", "mnist/LICENSE.md"]),
    ],
    ids=["client", "serving", "train"],
)
def test_a_wheel_has_its_package_and_nothing_else(package, data, licences, tmp_path):
    with zipfile.ZipFile(build(package, tmp_path)) as wheel:
        names = set(wheel.namelist())
    about = f"inkling_{package}-{(ROOT / 'VERSION').read_text().strip()}.dist-info"
    shipped = {name for name in names if not name.startswith(f"{about}/")}
    assert shipped == {f"inkling/{package}/{name}" for name in tracked(package) if name not in AT_THE_ROOT}
    assert {f"inkling/{package}/{name}" for name in data} <= shipped
    described = {name.removeprefix(f"{about}/") for name in names - shipped}
    assert {name.removeprefix("licenses/") for name in described if name.startswith("licenses/")} == set(licences)
    assert "entry_points.txt" in described
