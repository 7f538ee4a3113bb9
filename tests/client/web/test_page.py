"""The web page in a real browser: strokes along real MNIST test digits are drawn, and must be read.

Needs Chromium (Debian: `apt-get install chromium`). With INKLING_SCREENSHOTS=<folder>, pictures of the page are kept.
"""

import base64
import contextlib
import csv
import io
import os
import re
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from inkling.client.protocol import rpc
from inkling.train import data
from tests.client.reading.test_reading import PICTURES, TRUTH
from tests.client.skeletons import strokes_of
from tests.client.stub_server import StubServer
from tests.client.web.web_process import WebProcess
from tests.patience import PATIENCE_S
from tools.compose_kinds import compose_kind

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is chromium"),
]

DESKTOP, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
WAIT_MS = 1000 * PATIENCE_S
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Containers have no user namespaces for Chromium's own sandbox; the page is ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def web(digit_server):
    with WebProcess("--server", digit_server) as web:
        yield web


@pytest.fixture
def open_page(browser):
    """A function that opens the page; at the end, no script may have failed and no rule of its policy been broken."""
    contexts, complaints = [], []

    def open_page(web, viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
        page.goto(web.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def digits_that_look_like(text):
    """MNIST test images, one for each digit of `text`, whose skeletons are clear."""
    dataset = data.load()
    clear = {4: 3, 0: 5, 7: 2, 1: 4, 2: 8}  # the n-th of its class
    return [dataset.test_images[np.flatnonzero(dataset.test_labels == int(d))[clear[int(d)]]] for d in text]


def draw(page, images):
    """Replay the images' outlines as strokes of a mouse, side by side."""
    surface = page.locator("#canvas").bounding_box()
    step = min(surface["width"] * 0.92 / len(images), surface["height"] * 0.6)
    height = min(surface["height"] * 0.6, step * 1.05)
    left = surface["x"] + (surface["width"] - step * len(images)) / 2
    for place, image in enumerate(images):
        middle = left + step * (place + 0.5), surface["y"] + surface["height"] / 2
        for stroke in strokes_of(image):
            points = [(middle[0] + (x - 14) / 20 * height, middle[1] + (y - 14) / 20 * height) for x, y in stroke]
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point)
            page.mouse.up()


def keep_screenshot(page, name):
    folder = os.environ.get("INKLING_SCREENSHOTS")
    if folder:
        page.locator(".digit").first.wait_for()
        page.screenshot(path=Path(folder) / name, full_page=True)


@pytest.mark.parametrize(
    ("viewport", "text", "options", "name"),
    [
        (DESKTOP, "40712", {}, "web_desktop.png"),
        (PHONE, "4071", {"has_touch": True, "is_mobile": True}, "web_phone.png"),
        (DESKTOP, "2", {"color_scheme": "dark"}, "web_dark.png"),
    ],
    ids=["desktop", "phone", "dark"],
)
def test_a_drawn_number_is_read(open_page, web, viewport, text, options, name):
    page = open_page(web, viewport, **options)
    expect(page.locator("#status-text")).to_contain_text("version 1")
    draw(page, digits_that_look_like(text))
    expect(page.locator("#text")).to_have_text(text)
    expect(page.locator(".digit")).to_have_count(len(text))
    expect(page.locator(".digit select")).to_have_count(len(text))
    described = f"Drawing surface, {_strokes(text)} strokes, read as {text}"
    expect(page.locator("#canvas")).to_have_attribute("aria-label", described)
    keep_screenshot(page, name)


def _strokes(text):
    return sum(len(strokes_of(image)) for image in digits_that_look_like(text))


def test_the_reading_appears_while_the_pen_is_down(open_page, web):
    page = open_page(web)
    surface = page.locator("#canvas").bounding_box()
    x, y = surface["x"] + surface["width"] / 2, surface["y"] + surface["height"] / 2
    page.mouse.move(x, y - 90)
    page.mouse.down()
    page.mouse.move(x, y + 90, steps=12)
    expect(page.locator("#text")).to_have_text("1")
    page.mouse.up()


def test_undo_and_clear_take_strokes_back(open_page, web):
    page = open_page(web)
    draw(page, digits_that_look_like("17"))
    expect(page.locator("#text")).to_have_text("17")
    for _ in strokes_of(digits_that_look_like("7")[0]):
        page.get_by_role("button", name="Undo").click()
    expect(page.locator("#text")).to_have_text("1")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#text")).to_have_text("Nothing to read yet")
    expect(page.get_by_role("button", name="Clear")).to_be_disabled()
    expect(page.locator(".digit")).to_have_count(0)


def test_a_picture_file_is_read(open_page, web):
    page = open_page(web)
    page.locator("#file").set_input_files(PICTURES / "two_lines.jpg")
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])
    boxes = page.locator("#boxes span")
    expect(boxes).to_have_count(len(TRUTH["two_lines.jpg"]) - 1)
    surface = page.locator("#surface").bounding_box()
    for place in range(boxes.count()):
        box = boxes.nth(place).bounding_box()
        assert surface["x"] <= box["x"] and box["x"] + box["width"] <= surface["x"] + surface["width"]


def test_a_finger_draws_and_a_second_one_does_not_disturb_it(open_page, web):
    page = open_page(web, PHONE, has_touch=True, is_mobile=True)
    surface = page.locator("#canvas").bounding_box()
    x, y = surface["x"] + surface["width"] / 2, surface["y"] + surface["height"] / 2
    session = page.context.new_cdp_session(page)  # Playwright's own touches only tap

    def touch(kind, *points):
        points = [{"x": x + dx, "y": y + dy, "id": number} for number, (dx, dy) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0, -70))
    touch("touchStart", (0, -60), (60, 0))
    for step in range(-50, 80, 10):
        touch("touchMove", (0, step), (60 + step / 5, 0))
    touch("touchEnd")
    expect(page.locator("#text")).to_have_text("1")
    expect(page.locator("#canvas")).to_have_attribute("aria-label", "Drawing surface, 1 strokes, read as 1")
    assert page.evaluate("scrollY") == 0  # the page did not scroll under the finger


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_read(open_page, web, way):
    page = open_page(web)
    content = base64.b64encode((PICTURES / "two_lines.jpg").read_bytes()).decode()
    transfer = page.evaluate_handle(
        """content => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "two_lines.jpg", { type: "image/jpeg" }));
            return transfer;
        }""",
        content,
    )
    if way == "drop":
        page.dispatch_event("#surface", "dragenter", {"dataTransfer": transfer})
        expect(page.locator("#surface")).to_have_class(re.compile("dragging"))
        page.dispatch_event("#surface", "drop", {"dataTransfer": transfer})
        expect(page.locator("#surface")).not_to_have_class(re.compile("dragging"))
    else:
        page.evaluate("data => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", transfer)
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])


def test_undo_and_redo_take_back_clear_example_and_pictures_too(open_page, web):
    page = open_page(web)
    text, undo, redo = page.locator("#text"), page.locator("#undo"), page.locator("#redo")
    draw(page, digits_that_look_like("1"))
    expect(text).to_have_text("1")
    page.get_by_role("button", name="Example").click()
    expect(text).to_have_text("4071")
    page.locator("#file").set_input_files(PICTURES / "two_lines.jpg")
    expect(text).to_have_text(TRUTH["two_lines.jpg"])
    page.get_by_role("button", name="Clear").click()
    expect(text).to_have_text("Nothing to read yet")
    expect(redo).to_be_disabled()
    for expected in (TRUTH["two_lines.jpg"], "4071", "1"):
        undo.click()
        expect(text).to_have_text(expected)
    for expected in ("4071", TRUTH["two_lines.jpg"]):
        redo.click()
        expect(text).to_have_text(expected)
    page.keyboard.press("Control+Shift+Z")
    expect(text).to_have_text("Nothing to read yet")
    page.keyboard.press("Control+z")
    expect(text).to_have_text(TRUTH["two_lines.jpg"])


def test_what_is_shown_is_dimmed_until_it_is_the_drawings_own_reading(open_page, web):
    page = open_page(web)
    held = []
    draw(page, digits_that_look_like("1"))
    expect(page.locator("#text")).to_have_text("1")
    expect(page.locator("#text")).not_to_have_class(re.compile("old"))
    page.route("**/read", lambda route: held.append(route))
    page.get_by_role("button", name="Example").click()
    for part in ("#text", "#boxes", "#digits"):
        expect(page.locator(part)).to_have_class(re.compile("old"))
    expect(page.locator("#progress")).to_have_text("Reading …")
    expect(page.locator("#progress")).to_contain_text("The server is slow")
    expect(page.get_by_role("alert")).to_be_hidden()
    held[0].continue_()
    expect(page.locator("#text")).to_have_text("4071")
    for part in ("#text", "#boxes", "#digits"):
        expect(page.locator(part)).not_to_have_class(re.compile("old"))
    expect(page.locator("#progress")).to_have_text("")


def test_a_picture_that_cannot_be_read_leaves_nothing_of_the_last_one(open_page, web):
    page = open_page(web)
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    page.route("**/read", lambda route: route.fulfill(status=422, json={"error": "too much in it"}))
    page.keyboard.press("Control+z")
    draw(page, digits_that_look_like("1"))
    expect(page.get_by_role("alert")).to_contain_text("This could not be read: too much in it")
    expect(page.locator("#text")).to_have_text("This was not read")
    expect(page.locator(".digit")).to_have_count(0)


def test_a_slow_model_server_is_slow_and_not_away(open_page, web):
    page = open_page(web)
    slow = {"available": None, "slow": True, "server": "s", "model": "mnist", "reason": "no response"}
    answers = iter([504, 504])

    def refuse_twice(route):
        if next(answers, None):
            route.fulfill(status=504, json={"error": "no response in time"})
        else:
            route.continue_()

    page.route("**/status", lambda route: route.fulfill(json=slow))
    page.route("**/read", refuse_twice)
    page.reload()
    expect(page.locator("#status-text")).to_have_text("server slow")
    draw(page, digits_that_look_like("1"))
    expect(page.locator("#text")).to_have_text("1")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_strokes_keep_their_shape_when_the_window_changes(open_page, web):
    page = open_page(web)
    draw(page, digits_that_look_like("71"))
    expect(page.locator("#text")).to_have_text("71")
    expect(page.locator("#text")).not_to_have_class(re.compile("old"))
    before = [box.bounding_box() for box in page.locator("#boxes span").all()]
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 500, "height": 800})
    smaller = "before => document.querySelector('#boxes span').getBoundingClientRect().height < before - 1"
    page.wait_for_function(smaller, arg=before[0]["height"])
    after = [box.bounding_box() for box in page.locator("#boxes span").all()]
    for one, other in zip(before, after, strict=True):
        assert one["width"] / one["height"] == pytest.approx(other["width"] / other["height"], rel=0.1)
        assert other["height"] < one["height"]
    assert not [url for url in asked if url.endswith("/read")]
    draw(page, digits_that_look_like("1"))  # where the pen is, whatever the size
    expect(page.locator("#boxes span")).not_to_have_count(2)
    page.keyboard.press("Control+z")
    page.set_viewport_size(DESKTOP)
    expect(page.locator("#text")).to_have_text("71")


def test_keys_alone_mean_something_only_with_the_drawing_in_focus(open_page, web):
    page = open_page(web)
    page.get_by_role("button", name="Picture").focus()
    page.keyboard.press("e")
    draw(page, digits_that_look_like("1"))
    expect(page.locator("#text")).to_have_text("1")
    page.locator("#text").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.locator("#canvas").focus()
    page.keyboard.press("E")
    expect(page.locator("#text")).to_have_text("4071")
    page.keyboard.press("Control+z")
    expect(page.locator("#text")).to_have_text("1")


def test_the_digits_are_downloaded_as_csv(open_page, web):
    page = open_page(web)
    expect(page.locator("#csv")).to_be_disabled()
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    with page.expect_download() as download:
        page.locator("#csv").click()
    assert download.value.suggested_filename == "reading.csv"
    with open(download.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["place"], row["text"]) for row in rows] == [
        ("1", str(place), label) for place, label in enumerate("4071", 1)
    ]
    assert all(float(row["probability"]) > 0.5 and int(row["right"]) > int(row["left"]) for row in rows)


def test_the_text_is_copied(open_page, web):
    page = open_page(web, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#progress")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "4071"


def test_light_writing_on_nothing_is_read_as_the_command_line_reads_it(open_page, web):
    page = open_page(web)
    page.locator("#file").set_input_files(PICTURES / "white_on_transparent.png")
    expect(page.locator("#text")).to_have_text(TRUTH["white_on_transparent.png"])


def test_a_picture_is_turned(open_page, web):
    page = open_page(web)
    turn = page.get_by_role("button", name="Turn")
    expect(turn).to_be_hidden()
    page.locator("#file").set_input_files(PICTURES / "two_lines.jpg")
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])
    with page.expect_response("**/read") as turned:
        turn.click()
    answer = turned.value.json()
    with Image.open(PICTURES / "two_lines.jpg") as given:
        assert (answer["height"], answer["width"]) == given.size
    for _ in range(3):
        expect(page.locator("#text")).not_to_have_class(re.compile("old"))
        turn.click()
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])
    page.get_by_role("button", name="Clear").click()
    draw(page, digits_that_look_like("1"))
    expect(turn).to_be_hidden()


def test_many_digits_scroll_in_their_list_and_light_up_in_the_picture(open_page, web):
    page = open_page(web, PHONE)
    page.locator("#file").set_input_files(PICTURES / "five_lines.jpg")
    cards = page.locator(".digit")
    expect(cards).to_have_count(len(TRUTH["five_lines.jpg"].replace("\n", "")))
    assert page.locator("#digits").evaluate("list => list.scrollHeight > list.clientHeight && list.tabIndex === 0")
    assert page.locator("html").evaluate("element => element.scrollHeight") < 2500
    cards.nth(3).hover()
    for part in ("#boxes span", "#text span", ".digit"):
        expect(page.locator(part).nth(3)).to_have_class(re.compile("lit"))
        expect(page.locator(f"{part}.lit")).to_have_count(1)
    page.locator("#digits select").nth(12).focus()
    expect(page.locator("#boxes span").nth(12)).to_have_class(re.compile("lit"))
    page.locator("#canvas").scroll_into_view_if_needed()  # the focus has the list in view
    place = page.locator("#boxes span").nth(18).bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(cards.nth(18)).to_have_class(re.compile("lit"))
    page.locator("#digits").evaluate("list => list.scrollIntoView()")  # on a phone it is below the drawing
    expect(cards.nth(18)).to_be_in_viewport()


def png_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": "page.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_signs_and_spaces_are_in_the_text(open_page, web):
    page = open_page(web)
    written = compose_kind("amount", 5)
    page.locator("#file").set_input_files(png_of(written.picture))
    expect(page.locator("#text")).to_have_text(written.text)
    assert "." in written.text
    with page.expect_download() as download:
        page.locator("#csv").click()
    with open(download.value.path(), newline="") as file:
        assert "".join(row["text"] for row in csv.DictReader(file)) == re.sub(r"\s", "", written.text)
    with page.expect_download() as download:
        page.locator("#save").click()
    with Image.open(download.value.path()) as drawn:
        assert drawn.size == written.picture.shape[1::-1] and len(drawn.convert("RGB").getcolors(2**24)) > 100


def test_a_page_on_its_side_is_read_and_said_to_be(open_page, web):
    page = open_page(web)
    written = compose_kind("turned 90", 12)
    page.locator("#file").set_input_files(png_of(written.picture))
    expect(page.locator("#text")).to_have_text(written.text)
    expect(page.locator("#marks")).to_have_text("Read with the page turned by 90 degrees")


def test_what_is_left_out_and_why_a_page_reads_badly_is_told(open_page, web):
    page = open_page(web)

    def with_remarks(route):
        answer = route.fetch().json()
        answer["notes"] = ["too dark to read: take it again with more light"]
        box = [5, 5, 40, 40]
        answer["left_out"] = [{"box": box, "why": "crossed out", "may_be_digit": True}] * 2
        route.fulfill(json=answer)

    page.route("**/read", with_remarks)
    page.get_by_role("button", name="Example").click()
    remarks = page.locator("#marks li")
    expect(remarks).to_have_text(
        [re.compile("^Too dark to read"), "Left out: 2 marks (crossed out), framed in the picture"]
    )
    expect(page.locator("#boxes .left-out")).to_have_count(2)
    remarks.nth(1).hover()
    expect(page.locator("#boxes .left-out.lit")).to_have_count(1)


def test_bars_are_shown_where_there_is_doubt_only(open_page, web):
    page = open_page(web)

    def with_doubt(route):
        answer = route.fetch().json()
        answer["lines"][0]["digits"][2] |= {"doubtful": True, "why": "looks like 7 or 1 (0.62 / 0.36)"}
        route.fulfill(json=answer)

    page.route("**/read", with_doubt)
    page.get_by_role("button", name="Example").click()
    expect(page.locator(".digit")).to_have_count(4)
    expect(page.locator(".bars")).to_have_count(1)
    expect(page.locator(".digit").nth(2)).to_contain_text("looks like 7 or 1")
    expect(page.locator("#marks")).to_have_text("Digit 3 looks like 7 or 1 (0.62 / 0.36)")


def test_a_digit_is_corrected_and_the_corrections_are_a_set_to_train_on(open_page, web, tmp_path):
    page = open_page(web)
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    page.get_by_label("Line 1, digit 1: read as 4").select_option("9")
    page.get_by_label("Line 1, digit 3: read as 7").select_option("2")
    page.locator(".digit select").nth(3).focus()
    page.get_by_label("Line 1, digit 4: read as 1").select_option("?")
    expect(page.locator("#text")).to_have_text("902?")
    expect(page.locator(".digit select").nth(3)).to_be_focused()
    page.reload()
    expect(page.locator("#kept")).to_contain_text("2 corrected digits are kept in this browser")
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("902?")
    with page.expect_download() as download:
        page.locator("#training").click()
    download.value.save_as(tmp_path / "corrections.npz")
    dataset = data.load(tmp_path / "corrections.npz")
    assert dataset.test_labels.tolist() == [9] and sorted(dataset.train_labels) == [*range(10)]
    assert dataset.notes == () and dataset.train_images.dtype == np.uint8
    assert dataset.train_images.reshape(len(dataset.train_images), -1).max(axis=1).min() > 150
    page.get_by_role("button", name="Forget them").click()
    expect(page.locator("#text")).to_have_text("4071")
    expect(page.locator("#kept")).to_be_hidden()


def erase(page, left, top, right, bottom):
    """Go over a part of the window with a narrow eraser, row by row."""
    page.locator("#pen").fill("8")  # an eraser of 20 px
    page.mouse.move(left + 10, top)
    page.mouse.down()
    for number, y in enumerate(range(round(top), round(bottom) + 14, 14)):
        ends = (left + 10, right - 10)
        page.mouse.move(ends[number % 2], y)
        page.mouse.move(ends[1 - number % 2], y)
    page.mouse.up()


def test_the_eraser_takes_away_what_it_goes_over(open_page, web):
    page = open_page(web)
    eraser = page.get_by_role("button", name="Eraser")
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    boxes = [box.bounding_box() for box in page.locator("#boxes span").all()]
    eraser.click()
    expect(eraser).to_have_attribute("aria-pressed", "true")
    erase(page, boxes[0]["x"] - 10, boxes[0]["y"] - 10, boxes[2]["x"] - 10, boxes[1]["y"] + boxes[1]["height"] + 10)
    expect(page.locator("#text")).to_have_text("71")
    page.keyboard.press("Control+z")
    expect(page.locator("#text")).to_have_text("4071")


def test_a_picture_is_erased_cropped_and_looked_at_closer(open_page, web):
    page = open_page(web)
    page.locator("#file").set_input_files(PICTURES / "two_lines.jpg")
    first, second = TRUTH["two_lines.jpg"].split("\n")
    expect(page.locator("#text")).to_have_text(f"{first}\n{second}")
    page.locator("#canvas").focus()
    page.keyboard.press("x")
    box = page.locator("#boxes span").first.bounding_box()
    erase(page, box["x"] - 6, box["y"] - 6, box["x"] + box["width"] + 6, box["y"] + box["height"] + 6)
    expect(page.locator("#text")).to_have_text(f"{first[1:]}\n{second}")
    page.get_by_role("button", name="Crop").click()
    surface = page.locator("#canvas").bounding_box()
    lower = page.locator("#boxes span").nth(len(first) - 1).bounding_box()
    page.mouse.move(surface["x"] + 2, lower["y"] - 6)
    page.mouse.down()
    page.mouse.move(surface["x"] + surface["width"] - 2, surface["y"] + surface["height"] - 2, steps=3)
    page.mouse.up()
    expect(page.locator("#text")).to_have_text(second)
    box = page.locator("#boxes span").first
    before = box.bounding_box()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    assert box.bounding_box()["width"] == pytest.approx(2.25 * before["width"], rel=0.05)
    page.mouse.move(surface["x"] + surface["width"] / 2, surface["y"] + surface["height"] / 2)
    near = box.bounding_box()
    page.mouse.wheel(-40, 0)  # moves what is close
    page.wait_for_timeout(100)
    assert box.bounding_box()["x"] >= near["x"]
    page.locator("#canvas").focus()
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert box.bounding_box()["width"] == pytest.approx(before["width"], rel=0.05)
    assert not [url for url in asked if url.endswith("/read")]
    for expected in (f"{first[1:]}\n{second}", f"{first}\n{second}"):
        page.keyboard.press("Control+z")
        expect(page.locator("#text")).to_have_text(expected)


def test_two_fingers_look_closer_at_a_picture(open_page, web):
    page = open_page(web, PHONE, has_touch=True, is_mobile=True)
    page.locator("#photo").set_input_files(PICTURES / "two_lines.jpg")
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])
    box, surface = page.locator("#boxes span").first, page.locator("#canvas").bounding_box()
    before = box.bounding_box()
    session = page.context.new_cdp_session(page)
    x, y = surface["x"] + surface["width"] / 2, surface["y"] + surface["height"] / 2

    def touch(kind, *offsets):
        points = [{"x": x + dx, "y": y, "id": number} for number, dx in enumerate(offsets)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -30)
    touch("touchStart", -30, 30)
    for apart in (40, 50, 60):
        touch("touchMove", -apart, apart)
    touch("touchEnd")
    assert box.bounding_box()["width"] == pytest.approx(2 * before["width"], rel=0.05)
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])  # nothing was drawn
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()


AXE = Path(__file__).parents[3] / "tools" / "javascript" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core here; `npm --prefix tools/javascript ci` fetches it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page, web, scheme):
    page = open_page(web, color_scheme=scheme)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    page.locator("#file").set_input_files(png_of(compose_kind("label", 5).picture))
    expect(page.locator(".nodigit").first).to_be_visible()
    page.locator("#digits select").first.select_option("3")
    page.get_by_role("button", name="Eraser").click()
    page.locator("summary").first.click()
    found["violations"] += page.evaluate("axe.run()")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []


def test_phones_have_a_camera(open_page, web):
    page = open_page(web, PHONE, has_touch=True, is_mobile=True)
    expect(page.get_by_role("button", name="Camera")).to_be_visible()
    assert page.locator("#photo").get_attribute("capture") == "environment"
    page.locator("#photo").set_input_files(PICTURES / "two_lines.jpg")
    expect(page.locator("#text")).to_have_text(TRUTH["two_lines.jpg"])
    expect(open_page(web).get_by_role("button", name="Camera")).to_be_hidden()


def test_undo_in_the_middle_of_a_stroke_ends_it(open_page, web):
    page = open_page(web)
    page.locator("#canvas").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+z")
    for _ in range(4):
        page.keyboard.press("ArrowUp")  # moves the pen, which is up
    expect(page.locator("#text")).to_have_text("Nothing to read yet")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    page.keyboard.press("Space")
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#text")).to_have_text("1")


def test_a_page_that_is_told_to_come_again_does(open_page, web):
    page = open_page(web)
    answers = iter([429, 429])

    def refuse_twice(route):
        if next(answers, None):
            route.fulfill(status=429, json={"error": "too many pictures at once; try again in a moment"})
        else:
            route.continue_()

    page.route("**/read", refuse_twice)
    draw(page, digits_that_look_like("7"))
    expect(page.locator("#text")).to_have_text("7")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_what_is_no_picture_is_said_to_be_none(open_page, web, tmp_path):
    page = open_page(web)
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    page.locator("#file").set_input_files(path)
    expect(page.get_by_role("alert")).to_contain_text("notes.txt is not a picture")


def test_all_can_be_done_from_the_keyboard(open_page, web):
    page = open_page(web)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#canvas")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#text")).to_have_text("1")
    page.keyboard.press("Control+z")
    expect(page.locator("#text")).to_have_text("Nothing to read yet")
    page.keyboard.press("e")
    expect(page.locator("#text")).to_have_text("4071")
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_have_text("Nothing to read yet")


def test_nothing_is_wider_than_a_phone(open_page, web):
    page = open_page(web, {"width": 320, "height": 640})
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")
    page.locator("#digits").wait_for()
    widths = page.locator("html").evaluate("element => [element.scrollWidth, element.clientWidth]")
    assert widths[0] <= widths[1]


@pytest.mark.parametrize("size", [(1180, 900), (1600, 1000), (768, 1024), (640, 560), (390, 844)], ids=str)
def test_the_example_is_read_at_every_size(open_page, web, size):
    page = open_page(web, dict(zip(("width", "height"), size, strict=True)))
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#text")).to_have_text("4071")


def test_everything_to_press_has_a_name(open_page, web):
    page = open_page(web)
    for control in page.locator("button, input:not([hidden]), canvas#canvas, summary").all():
        name = control.get_attribute("aria-label") or control.inner_text()
        assert name.strip()


def gateway_to(address, port=0):
    """A server that passes calls on to another one, and is gone and back at once."""
    channel = grpc.insecure_channel(address)
    known = {one.path.rpartition("/")[2]: one for one in rpc.ALL}

    def passing_on(name):
        asked = known[name]
        call = channel.unary_unary(asked.path, asked.request.SerializeToString, asked.response.FromString)
        return lambda request, context: call(request)

    return StubServer(port=port, **{name: passing_on(name) for name in ("Predict", "GetModelStatus")})


def test_a_server_that_goes_away_and_comes_back_is_told_and_the_drawing_is_kept(open_page, digit_server):
    server = gateway_to(digit_server)
    with contextlib.ExitStack() as stack:
        web = stack.enter_context(WebProcess("--server", server.address, "--timeout", "5"))
        page = open_page(web)
        draw(page, digits_that_look_like("4"))
        expect(page.locator("#text")).to_have_text("4")
        server.stop()
        draw(page, digits_that_look_like("47"))  # over the first: something new to ask about
        expect(page.get_by_role("alert")).to_contain_text("is away. What you draw is kept")
        expect(page.locator("#status-text")).to_have_text("server away")
        page.get_by_role("button", name="Clear").click()
        draw(page, digits_that_look_like("7"))
        page.evaluate(
            """() => {
                const alert = document.getElementById("alert");
                window.changes = [];
                const keep = () => changes.push([performance.now(), alert.hidden, alert.textContent]);
                new MutationObserver(keep).observe(alert, { attributes: true, childList: true });
            }"""
        )
        stack.enter_context(gateway_to(digit_server, port=server.port))
        expect(page.get_by_role("alert")).to_have_text("The server is back.")
        expect(page.locator("#text")).to_have_text("7")
        expect(page.get_by_role("alert")).to_be_hidden()
        changes = page.evaluate("changes")
        shown = next(time for time, hidden, text in changes if not hidden and text == "The server is back.")
        gone = next(time for time, hidden, _ in changes if hidden and time > shown)
        assert gone - shown > 3500  # ms: the reading leaves it there
        expect(page.locator("#status-text")).to_contain_text("version 1")
