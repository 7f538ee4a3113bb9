"""MNIST's form: the box of 20 pixels, the centre of mass in the middle, the slant taken out."""

import numpy as np
import pytest
from PIL import Image

from inkling.client.reading.mnist_form import BOX, MIDDLE, SIDE, mnist_form, single_digit_form, upright
from inkling.train import data


@pytest.fixture(scope="module")
def digits():
    """A thousand of MNIST's test images."""
    return data.load().test_images[:1000]


def test_an_image_in_mnist_form_stays_as_it_is(digits):
    for image in digits[:100]:
        np.testing.assert_array_equal(single_digit_form(image), image)


def test_dark_on_light_and_off_centre_is_brought_into_form(digits):
    differences = []
    for image in digits[:40]:
        form = single_digit_form(np.roll(255 - image, (3, -3), axis=(0, 1)))
        differences.append(np.abs(form.astype(int) - image).mean())
    assert np.median(differences) < 4


def test_the_form_is_mnists_own(digits):
    """An MNIST digit enlarged and brought into form again is nearly itself: the same box, the same centre of mass."""
    differences = []
    for image in digits[:50]:
        large = np.asarray(Image.fromarray(image).resize((168, 168), Image.Resampling.BICUBIC), np.float32) / 255
        form = mnist_form(large)
        rows, columns = (np.flatnonzero((form > 30).any(axis=axis)) for axis in (1, 0))
        assert max(len(rows), len(columns)) in (19, 20)
        mass = [form.sum(axis=axis) @ np.arange(28) / form.sum() for axis in (1, 0)]
        assert np.abs(np.array(mass) - 14).max() <= 0.51
        differences.append(np.abs(form.astype(int) - image).mean())
    assert np.median(differences) < 8


def test_upright_takes_the_slant_out():
    leaning = np.zeros((28, 28), np.uint8)
    for y in range(4, 24):
        leaning[y, 18 - y // 3] = leaning[y, 19 - y // 3] = 255
    straight = upright(leaning)
    assert np.count_nonzero(straight.max(axis=0) > 60) < np.count_nonzero(leaning.max(axis=0) > 60) / 2


def blot(seed, height, width):
    """Random soft ink that reaches all four edges."""
    ink = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    ink[[0, -1], width // 2] = ink[height // 2, [0, -1]] = 1
    return ink


@pytest.mark.parametrize(("height", "width"), [(90, 30), (31, 88), (60, 60), (12, 7), (20, 20), (300, 9)])
def test_the_longer_side_is_twenty_and_the_mass_is_in_the_middle(height, width):
    form = mnist_form(blot(1, height, width))
    assert form.shape == (SIDE, SIDE) and form.dtype == np.uint8 and form.max() == 255
    rows, columns = (np.flatnonzero(form.any(axis=axis)) for axis in (1, 0))
    extents = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    assert max(extents) == BOX
    assert min(extents) == pytest.approx(max(1, BOX * min(height, width) / max(height, width)), abs=1)
    mass = [form.sum(axis=axis) @ np.arange(SIDE) / form.sum() for axis in (1, 0)]
    np.testing.assert_allclose(mass, MIDDLE, atol=0.51)


def test_paper_around_the_ink_changes_nothing():
    ink = blot(2, 50, 30)
    np.testing.assert_array_equal(mnist_form(np.pad(ink, ((3, 40), (25, 0)))), mnist_form(ink))


def test_a_mass_far_off_the_boxs_middle_is_centred_as_far_as_there_is_room():
    ink = np.zeros((100, 100), np.float32)
    ink[:30, :30] = 1
    ink[:, 0] = ink[0] = 0.2
    form = mnist_form(ink)
    assert form[SIDE - BOX, SIDE - BOX] > 200 and not form[: SIDE - BOX].any()


@pytest.mark.parametrize("paper", [0, 255])
def test_a_single_digit_without_ink_is_black(paper):
    assert not single_digit_form(np.full((SIDE, SIDE), paper, np.uint8)).any()


@pytest.mark.parametrize("label", range(10))
def test_height_and_breadth_no_longer_vary_together_in_an_upright_digit(digits, label):
    def slant(form):
        weights = form.astype(np.float64)
        middle = [weights.sum(axis=axis) @ np.arange(SIDE) / weights.sum() for axis in (1, 0)]
        y, x = (np.arange(SIDE) - each for each in middle)
        return (y @ weights @ x) / (np.square(y) @ weights.sum(axis=1))

    before = [abs(slant(image)) for image in digits[label::10][:20]]
    after = [abs(slant(upright(image))) for image in digits[label::10][:20]]
    assert max(after) < 0.1 and np.mean(after) < 0.25 * np.mean(before)
