"""The page in Firefox: strokes, a picture, a correction and the keyboard.

Needs Firefox (Debian: `apt-get install firefox-esr`).
"""

import pytest

from tests.client.reading.test_reading import PICTURES, TRUTH
from tests.client.web.firefox import FIREFOX, Firefox
from tests.client.web.web_process import WebProcess
from tests.patience import wait_until

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox here; Debian's package is firefox-esr"),
]


@pytest.fixture(scope="module")
def firefox(digit_server):
    with WebProcess("--server", digit_server) as web, Firefox(web.url) as firefox:
        yield firefox


def wait_for(firefox, text):
    is_current = "return document.querySelector('#text').getAttribute('aria-busy') !== 'true'"
    wait_until(lambda: firefox.text("#text") == text and firefox.run(is_current), lambda: firefox.text("#text"))


def test_strokes_are_read_and_taken_back(firefox):
    left, top, width, height = firefox.run(
        "const b = document.querySelector('#canvas').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    x = left + width / 2
    firefox.draw([(x, top + height * (0.2 + 0.05 * step)) for step in range(13)])
    wait_for(firefox, "1")
    firefox.click("#example")
    wait_for(firefox, "4071")
    firefox.type("#canvas", "\ue009z\ue000")  # Control and z
    wait_for(firefox, "1")


def test_a_picture_is_read_turned_and_corrected(firefox):
    firefox.type("#file", str(PICTURES / "two_lines.jpg"))
    wait_for(firefox, TRUTH["two_lines.jpg"])
    for _ in range(4):
        firefox.click("#turn")
        wait_until(lambda: firefox.run("return document.querySelector('#text').getAttribute('aria-busy')") == "false")
    wait_for(firefox, TRUTH["two_lines.jpg"])
    first = TRUTH["two_lines.jpg"][0]
    other = "8" if first != "8" else "9"
    firefox.run(
        "const s = document.querySelector('#digits select'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        other,
    )
    wait_for(firefox, other + TRUTH["two_lines.jpg"][1:])
    assert "1 corrected digit" in firefox.text("#kept")
