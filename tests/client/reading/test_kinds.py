"""Pages of the kinds that people take are composed alike by the same seed, and read for what stands on them."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from inkling.client.reading.page import find_digits
from tools.compose_kinds import KINDS, can_write, compose_kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_follows_from_its_seed(kind):
    one, same, other = (compose_kind(kind, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.picture, same.picture)
    assert one.text == same.text != other.text
    assert one.picture.dtype == np.uint8 and one.picture.ndim == 3


@pytest.mark.parametrize(
    "kind", ["desk", "note", "perspective", "form", "table", "columns", "mixed sizes", "askew", "label"]
)
def test_every_line_of_a_kind_is_found(kind):
    page = compose_kind(kind, 7)
    assert len(find_digits(page.picture).lines) == page.text.count("\n") + 1


@pytest.mark.parametrize("kind", ["plain", "amount", "touching", "form"])
def test_a_font_writes_what_the_page_says(kind):
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    written, same = (compose_kind(kind, 5, font=font) for _ in range(2))
    np.testing.assert_array_equal(written.picture, same.picture)
    assert len(find_digits(written.picture).lines) == written.text.count("\n") + 1


def test_a_font_can_write_what_it_has():
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert can_write(fonts / "DejaVuSans.ttf", "0%$") and can_write(fonts / "DejaVuSans.ttf", "")
    assert not can_write(fonts / "STIXSizOneSymReg.ttf", "0%$")
