import gzip
import hashlib
import struct

import numpy as np
import pytest
from PIL import Image

from inkling.train import data
from inkling.train.data.dataset import IDX_FILES
from inkling.train.mnist import pack


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_arrays():
    labels = np.arange(12, dtype=np.uint8) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 10, 9), dtype=np.uint8)
    return {"x_train": images, "y_train": labels, "x_test": images[:6], "y_test": labels[:6]}


def write_idx_folder(folder, arrays, suffix=""):
    for name, file in IDX_FILES.items():
        content = idx(arrays[name])
        (folder / (file + suffix)).write_bytes(gzip.compress(content) if suffix else content)


def test_mnist_ships_with_the_package_and_is_the_published_set(mnist):
    assert mnist.train_images.shape == (60000, 28, 28) and mnist.train_images.dtype == np.uint8
    assert mnist.test_images.shape == (10000, 28, 28)
    assert mnist.class_names == tuple("0123456789")
    arrays = {
        "x_train": mnist.train_images,
        "y_train": mnist.train_labels.astype(np.uint8),
        "x_test": mnist.test_images,
        "y_test": mnist.test_labels.astype(np.uint8),
    }
    for name, (_, sha256) in pack.FILES.items():
        assert hashlib.sha256(idx(arrays[name])).hexdigest() == sha256


def test_pack_refuses_files_that_are_not_the_originals(tmp_path):
    write_idx_folder(tmp_path, small_arrays())
    with pytest.raises(ValueError, match="has SHA-256 .*expected ba891046"):
        pack.pack(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gzip"])
def test_an_idx_folder_is_read(tmp_path, suffix):
    arrays = small_arrays()
    write_idx_folder(tmp_path, arrays, suffix)
    dataset = data.load(tmp_path)
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.test_labels, arrays["y_test"])
    assert dataset.image_size == (10, 9) and dataset.class_names == ("0", "1", "2")


@pytest.mark.parametrize("scale", [1.0, 1 / 255], ids=["0 to 255", "0 to 1"])
def test_an_npz_of_floats_is_read(tmp_path, scale):
    arrays = small_arrays()
    floats = {name: array * np.float32(scale) if name[0] == "x" else array for name, array in arrays.items()}
    np.savez(tmp_path / "set.npz", **floats)
    np.testing.assert_array_equal(data.load(tmp_path / "set.npz").train_images, arrays["x_train"])


def test_image_folders_are_read_with_their_class_names(tmp_path):
    arrays = small_arrays()
    for part in ("train", "test"):
        for number, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            folder = tmp_path / part / "abc"[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02d}.png")
    dataset = data.load(tmp_path)
    assert dataset.class_names == ("a", "b", "c")
    order = np.argsort(arrays["y_train"], kind="stable")
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"][order])


def broken_images(change):
    def make(folder):
        arrays = small_arrays() | change(small_arrays())
        np.savez(folder / "set.npz", **arrays)
        return folder / "set.npz"

    return make


def broken_idx(name, edit):
    def make(folder):
        write_idx_folder(folder, small_arrays())
        path = folder / IDX_FILES[name]
        path.write_bytes(edit(path.read_bytes()))
        return folder

    return make


def image_folder(prepare):
    def make(folder):
        for part in ("train", "test"):
            for name in "ab":
                (folder / part / name).mkdir(parents=True)
                Image.new("L", (9, 9)).save(folder / part / name / "1.png")
        prepare(folder)
        return folder

    return make


BROKEN = {
    "missing": (lambda folder: folder / "none", "no data at"),
    "empty folder": (lambda folder: folder, "has no train-images-idx3-ubyte"),
    "idx cut short": (broken_idx("x_train", lambda b: b[:-5]), "truncated: 1091 bytes, .* takes 1096"),
    "idx without header": (broken_idx("x_train", lambda b: b[:2]), "truncated: 2 bytes"),
    "idx too long": (broken_idx("y_test", lambda b: b + b"x"), "too long"),
    "idx magic": (broken_idx("x_test", lambda b: b"\x1f\x8b\x08\x00" + b[4:]), "magic number 0x1f8b0800, expected"),
    "lengths": (broken_images(lambda a: {"y_train": a["y_train"][:-1]}), "12 train images but 11 train labels"),
    "negative label": (broken_images(lambda a: {"y_train": a["y_train"].astype(int) - 1}), "label -1.*out of range"),
    "unseen label": (broken_images(lambda a: {"y_test": a["y_test"] + 1}), "test label 3 is out of range"),
    "empty class": (broken_images(lambda a: {"y_train": a["y_train"] * 2}), "class 1 is empty"),
    "one class": (broken_images(lambda a: {"y_train": a["y_train"] * 0, "y_test": a["y_test"] * 0}), "is empty"),
    "fractions": (broken_images(lambda a: {"y_train": a["y_train"] + 0.5}), "fractions"),
    "nan": (broken_images(lambda a: {"x_test": np.full((6, 10, 9), np.nan)}), "x_test has NaN"),
    "range": (broken_images(lambda a: {"x_train": a["x_train"] * 2.0}), "values from .* expected 0 to 255"),
    "text": (broken_images(lambda a: {"x_train": a["x_train"].astype(str)}), "expected uint8 or numbers"),
    "flat": (broken_images(lambda a: {"x_train": a["x_train"].reshape(12, -1)}), r"shape \(12, 90\), expected"),
    "tiny": (broken_images(lambda a: {"x_train": a["x_train"][:, :4, :4]}), "expected at least 8"),
    "sizes differ": (broken_images(lambda a: {"x_test": a["x_test"][:, :8, :8]}), "but test images"),
    "no examples": (broken_images(lambda a: {"x_test": a["x_test"][:0], "y_test": a["y_test"][:0]}), "set is empty"),
    "objects": (broken_images(lambda a: {"x_train": np.array([{}] * 12)}), "not a readable .npz"),
    "no npz": (broken_idx("x_train", lambda b: b), "not a readable .npz"),
    "gzip spoilt": (lambda folder: spoil(folder), "train-images-idx3-ubyte.gz cannot be read"),
    "npy": (lambda folder: numbers(folder / "x.npy"), "not a readable .npz"),
    "lacks arrays": (lambda folder: save(folder / "set.npz", x_train=np.zeros(3)), "lacks x_test, y_test, y_train"),
    "npz cut short": (lambda folder: cut(broken_images(lambda a: {})(folder)), "not a readable .npz"),
    "no test folder": (image_folder(lambda f: (f / "test").rename(f / "tset")), "has train/ but no test/"),
    "unknown class": (image_folder(lambda f: (f / "test" / "z").mkdir()), "is a class that"),
    "empty class folder": (image_folder(lambda f: (f / "train/a/1.png").unlink()), "class a is empty"),
    "image sizes": (image_folder(lambda f: Image.new("L", (8, 9)).save(f / "train/a/2.png")), "different sizes"),
    "16 bits": (image_folder(lambda f: sixteen_bits(f / "train/a/2.png")), "2.png has more than 8 bits a channel"),
    "transparent": (image_folder(lambda f: Image.new("RGBA", (9, 9)).save(f / "train/a/2.png")), "is transparent in"),
    "not an image": (image_folder(lambda f: (f / "train/a/2.png").write_text("?")), "2.png is not a readable image"),
}


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def numbers(path):
    np.save(path, np.zeros(3))
    return path


def sixteen_bits(path):
    Image.fromarray(np.full((9, 9), 1000, np.uint16)).save(path)


def spoil(folder):
    write_idx_folder(folder, small_arrays(), suffix=".gz")
    path = folder / f"{IDX_FILES['x_train']}.gz"
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xff" * 40 + content[60:])
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=BROKEN)
def test_bad_data_is_refused_with_what_was_found(tmp_path, make, message):
    path = make(tmp_path)
    if message == "not a readable .npz" and path.is_dir():
        path = path / IDX_FILES["x_train"]
    with pytest.raises(data.DataError, match=message):
        data.load(path)


def test_opaque_colour_images_are_read_as_grey(tmp_path):
    make = image_folder(lambda f: Image.new("RGBA", (9, 9), (200, 200, 200, 255)).save(f / "train/a/1.png"))
    np.testing.assert_array_equal(np.unique(data.load(make(tmp_path)).train_images[0]), 200)


def test_held_out_images_are_a_fixed_part_of_the_training_set(digits):
    rest, images, labels = digits.hold_out(100, seed=3)
    again, *_ = digits.hold_out(100, seed=3)
    assert len(rest.train_labels) == 900 and len(images) == len(labels) == 100
    np.testing.assert_array_equal(rest.train_images, again.train_images)
    together = np.sort(np.concatenate([rest.train_images, images]).reshape(1000, -1).sum(axis=1))
    np.testing.assert_array_equal(together, np.sort(digits.train_images.reshape(1000, -1).sum(axis=1)))


def test_holding_out_everything_is_refused(digits):
    with pytest.raises(data.DataError, match="validation_size=1000 leaves nothing"):
        digits.hold_out(1000, seed=0)


def test_the_checksum_follows_the_data_and_not_the_file(digits, digits_file):
    assert data.load(digits_file).checksum() == digits.checksum()
    assert digits.hold_out(1, seed=0)[0].checksum() != digits.checksum()
