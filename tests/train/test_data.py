import errno
import gzip
import hashlib
import io
import json
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from inkling.train import data
from inkling.train.config import ReadOptions
from inkling.train.data import memory
from inkling.train.data.idx import FILES as IDX_FILES
from inkling.train.mnist import pack


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_arrays():
    labels = np.arange(12, dtype=np.uint8) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 10, 9), dtype=np.uint8)
    images[:, [0, -1]] = images[:, :, [0, -1]] = 0  # paper, along the rims
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


def as_npz(folder, arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def as_classes(folder, arrays):
    for number, (image, label) in enumerate(zip(arrays["x_train"], arrays["y_train"], strict=True)):
        (folder / "abc"[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "abc"[label] / f"{number:02d}.png")
    return folder


def as_parquet(folder, arrays):
    """As Hugging Face's datasets are: images of a column `image` with their bytes, class names in the metadata."""
    (folder / "data").mkdir()
    names = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    for part in ("train", "test"):
        rows = [{"bytes": png(image), "path": f"{n}.png"} for n, image in enumerate(arrays[f"x_{part}"])]
        table = pyarrow.table({"image": rows, "label": arrays[f"y_{part}"].astype(np.int64)})
        for number, start in enumerate((0, 5)):
            piece = table.slice(start, 5 if start == 0 else None)
            piece = piece.replace_schema_metadata({"huggingface": json.dumps(names)})
            pyarrow.parquet.write_table(piece, folder / f"data/{part}-{number:05d}-of-00002.parquet")
    return folder


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_parquet_is_read_as_hugging_face_keeps_it(tmp_path):
    arrays = small_arrays()
    dataset = data.load(as_parquet(tmp_path, arrays))
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.test_labels, arrays["y_test"])
    assert dataset.class_names == ("a", "b", "c")


def test_parquet_of_one_part_is_split(tmp_path):
    for path in as_parquet(tmp_path, small_arrays()).glob("data/test*"):
        path.unlink()
    dataset = data.load(tmp_path, ReadOptions(test_size=0.25))
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (9, 3) and dataset.class_names == ("a", "b", "c")
    with pytest.raises(data.DataError, match="has no test set: give --test-size"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda table: table.rename_columns(["picture", "label"]),
            "picture, label; expected one called image or",
        ),
        (lambda table: table.set_column(0, "image", [[b"no image"] * 5]), "parquet row 0 is not a readable image"),
        (lambda table: table.set_column(1, "label", [[1, 2, None, 1, 2]]), "no label, in row 2; repair it"),
        (lambda table: table.set_column(0, "image", [[png(np.zeros((8, 9), np.uint8))] * 5]), "of different sizes"),
    ],
)
def test_parquet_that_is_no_set_of_images_is_refused(tmp_path, change, told):
    as_parquet(tmp_path, small_arrays())
    path = tmp_path / f"data/train-0000{int('sizes' in told)}-of-00002.parquet"
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(path).slice(0, 5)), path)
    with pytest.raises(data.DataError, match=told):
        data.load(tmp_path)


def as_idx(folder, arrays, suffix=""):
    write_idx_folder(folder, arrays, suffix)
    return folder


@pytest.mark.parametrize(
    ("make", "how"),
    [
        pytest.param(as_idx, {}, id="IDX"),
        pytest.param(lambda *of: as_idx(*of, ".gz"), {}, id="gzip"),
        pytest.param(as_idx, {"invert": True}, id="inverted"),
        pytest.param(as_npz, {"pixel_max": 300.0}, id="scaled"),
        pytest.param(as_parquet, {}, id="Parquet"),
        pytest.param(as_classes, {"test_size": 0.25}, id="images"),
    ],
)
def test_a_set_is_the_same_where_it_is_kept_on_disk(tmp_path, make, how, monkeypatch):
    path = make(tmp_path, small_arrays())
    in_memory = data.load(path, ReadOptions(**how))
    monkeypatch.setattr(memory, "PIECE_BYTES", 200)  # two images
    on_disk = data.load(path, ReadOptions(**how), on_disk=True)
    assert on_disk.checksum() == in_memory.checksum()
    assert (on_disk.notes, on_disk.background) == (in_memory.notes, in_memory.background)
    assert isinstance(on_disk.train_images, np.memmap)
    assert not np.array_equal(on_disk.train_images[0], on_disk.train_images[1])


def test_a_set_larger_than_memory_is_read_where_it_lies(tmp_path, monkeypatch):
    write_idx_folder(tmp_path, small_arrays())
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(data.DataError, match="of memory, .* write it as shards with `python -m train shard`"):
        data.load(tmp_path)
    assert len(data.load(tmp_path, on_disk=True).train_images) == 12


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
    "idx header cut": (broken_idx("x_test", lambda b: b[:9]), "truncated: 9 bytes, too short for its header"),
    "idx that boasts": (broken_idx("x_test", lambda b: b[:4] + b"\xff" * 12 + b[16:]), "of memory, of which"),
    "git lfs": (broken_idx("x_train", lambda b: b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "lengths": (broken_images(lambda a: {"y_train": a["y_train"][:-1]}), "12 train images but 11 train labels"),
    "negative label": (broken_images(lambda a: {"y_train": a["y_train"].astype(int) - 1}), "label -1.*out of range"),
    "unseen label": (broken_images(lambda a: {"y_test": a["y_test"] + 1}), "test label 3 is out of range"),
    "empty class": (broken_images(lambda a: {"y_train": a["y_train"] * 2}), "class 1 is empty"),
    "one class": (broken_images(lambda a: {"y_train": a["y_train"] * 0, "y_test": a["y_test"] * 0}), "is empty"),
    "fractions": (broken_images(lambda a: {"y_train": a["y_train"] + 0.5}), "fractions"),
    "nan": (broken_images(lambda a: {"x_test": np.full((6, 10, 9), np.nan)}), "x_test has NaN"),
    "above white": (broken_images(lambda a: {"x_train": a["x_train"] * 2.0}), "run above white: .*--pixel-max 65535"),
    "below black": (
        broken_images(lambda a: {name: a[name] / 127.5 - 1 for name in ("x_train", "x_test")}),
        "run below black: x_train from -1",
    ),
    "scaled apart": (broken_images(lambda a: {"x_test": a["x_test"] / 255}), "scaled differently: .*--pixel-max"),
    "scores": (broken_images(lambda a: {f"y_{p}": np.eye(3)[a[f"y_{p}"]] / 2 for p in ("train", "test")}), r"argmax\("),
    "names apart": (
        broken_images(lambda a: {"y_train": a["y_train"].astype(str)}),
        "y_train is <U.*, expected integers",
    ),
    "unknown name": (
        broken_images(lambda a: {"y_train": np.array(["a", "b", "c"] * 4), "y_test": np.array(["a", "d", "c"] * 2)}),
        "y_test has the label 'd', which y_train does not have",
    ),
    "text": (broken_images(lambda a: {"x_train": a["x_train"].astype(str)}), "expected uint8 or numbers"),
    "flat": (broken_images(lambda a: {"x_train": a["x_train"].reshape(12, -1)}), r"shape \(12, 90\), expected"),
    "square rows": (
        broken_images(lambda a: {"x_train": np.ones((12, 81))}),
        r"images.reshape\(-1, 9, 9\) makes images",
    ),
    "transparent arrays": (broken_images(lambda a: {"x_train": np.ones((12, 9, 9, 4))}), r"images\[..., :3\]"),
    "pickle": (lambda folder: content(folder / "set.pkl", b"\x80\4."), "set.pkl is a pickle, which could run anything"),
    "MATLAB's": (lambda folder: content(folder / "emnist-letters.mat", b"MATLAB"), "scipy.io.loadmat"),
    "a picture": (lambda folder: content(folder / "a.png", b"?"), "a single picture; give the folder that holds"),
    "lfs npz": (lambda folder: content(folder / "set.npz", LFS), "set.npz is a pointer of Git LFS"),
    "lfs png": (image_folder(lambda f: content(f / "train/a/2.png", LFS)), "2.png .*`git lfs pull` fetches images"),
    "empty png": (image_folder(lambda f: content(f / "train/a/2.png", b"")), "2.png .*it is empty, of 0 bytes"),
    "no images": (image_folder(lambda f: [(f / "test" / n / "1.png").unlink() for n in "ab"]), "test has no images in"),
    "twice by Unicode": (
        image_folder(lambda f: [(f / "train" / n).mkdir() for n in ("\u00e9", "e\u0301")]),
        "'é' twice",
    ),
    "validation": (image_folder(lambda f: (f / "test").rename(f / "val")), r"no test/; .*\(or rename val/, if"),
    "zip cut short": (lambda folder: cut(zipped(folder)), "zip cannot be unpacked"),
    "table of words": (lambda folder: content(folder / "t.csv", b"label,p0\n1,a\n"), "not a readable table .*'a'"),
    "table without labels": (
        lambda folder: content(folder / "t.csv", b"p0,p1\n1,2\n"),
        "no column of labels .*--test-size",
    ),
    "uneven table": (lambda folder: content(folder / "t.csv", b"1,2,3\n1,2\n"), "is not a readable table"),
    "table of no square": (lambda folder: content(folder / "t.csv", b"1,2,3\n1,2,3\n"), "has 2 pixels in a row"),
    "tiny": (broken_images(lambda a: {"x_train": a["x_train"][:, :4, :4]}), "expected at least 8"),
    "sizes differ": (broken_images(lambda a: {"x_test": a["x_test"][:, :8, :8]}), "but test images"),
    "no examples": (broken_images(lambda a: {"x_test": a["x_test"][:0], "y_test": a["y_test"][:0]}), "set is empty"),
    "objects": (broken_images(lambda a: {"x_train": np.array([{}] * 12)}), "not a readable .npz"),
    "no npz": (broken_idx("x_train", lambda b: b), "not a readable .npz"),
    "gzip spoilt": (lambda folder: spoil(folder), "train-images-idx3-ubyte.gz cannot be read"),
    "npy": (lambda folder: numbers(folder / "x.npy"), "is a single array; save the four"),
    "lacks arrays": (lambda folder: save(folder / "set.npz", x_train=np.zeros(3)), "lacks x_test, y_test, y_train"),
    "npz cut short": (lambda folder: cut(broken_images(lambda a: {})(folder)), "not a readable .npz"),
    "no test folder": (image_folder(lambda f: (f / "test").rename(f / "tset")), "has train/ but no test/"),
    "unknown class": (image_folder(lambda f: (f / "test" / "z").mkdir()), "is a class that"),
    "empty class folder": (image_folder(lambda f: (f / "train/a/1.png").unlink()), "class a is empty"),
    "image sizes": (image_folder(lambda f: Image.new("L", (8, 9)).save(f / "train/a/2.png")), "different sizes"),
    "16 bits": (image_folder(lambda f: sixteen_bits(f / "train/a/2.tif")), "2.tif has more than 8 bits a channel"),
    "transparent": (image_folder(lambda f: Image.new("RGBA", (9, 9)).save(f / "train/a/2.png")), "is transparent in"),
    "two pages": (image_folder(lambda f: pages(f / "train/a/2.tif")), "2.tif has 2 pages or frames"),
    "no test set": (lambda folder: flat_folder(folder), "no test set: give --test-size"),
    "not an image": (image_folder(lambda f: (f / "train/a/2.png").write_text("?")), "2.png is not a readable image"),
}


LFS = b"version https://git-lfs.github.com/spec/v1\n"


def content(path, of):
    path.write_bytes(of)
    return path


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def numbers(path):
    np.save(path, np.zeros(3))
    return path


def pages(path):
    Image.new("L", (9, 9)).save(path, save_all=True, append_images=[Image.new("L", (9, 9), 9)])


def flat_folder(folder):
    for name in ("0", "1", "2", "10"):
        (folder / name).mkdir()
        for number in range(5):
            Image.new("L", (9, 9), 100 + 10 * int(name) + number).save(folder / name / f"{number}.png")
    return folder


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
    how = ReadOptions(test_size=0.5 if path.suffix == ".csv" else None)
    with pytest.raises(data.DataError, match=message):
        data.load(path, how)


def test_opaque_colour_images_are_read_as_grey(tmp_path):
    make = image_folder(lambda f: Image.new("RGBA", (9, 9), (200, 200, 200, 255)).save(f / "train/a/1.png"))
    np.testing.assert_array_equal(np.unique(data.load(make(tmp_path)).train_images[0]), 200)


SPANS = {  # how values are kept -> what is said of it
    "0 to 1, overshot by a pixel": (lambda x, first: x / 255 + first * 2e-7, "cut off at 0 and at 1"),
    "bicubic overshoot": (lambda x, first: x * 1.0 - 9 * first, "cut off at 0 and at 255"),
    "0 to 16": (lambda x, first: np.rint(x / 16).astype(float), "multiplied by 15.9375, so that 16 is white"),
    "0 to 1 at most 0.25": (lambda x, first: x / 1020, "multiplied by 1020, so that 0.25 is white"),
    "ones": (lambda x, first: (x > 99).astype(np.uint8), ""),
    "ones of 64 bits": (lambda x, first: (x > 99).astype(int), ""),
    "truth values": (lambda x, first: x > 99, ""),
    "0 to 255": (lambda x, first: x, ""),
}


@pytest.mark.parametrize(("keep", "said"), SPANS.values(), ids=SPANS)
def test_one_factor_makes_bytes_of_a_whole_set(tmp_path, keep, said):
    arrays = small_arrays()
    for part in ("train", "test"):
        arrays[f"x_{part}"][0, 4, 4], arrays[f"x_{part}"][0, 5, 5] = 255, 0
        first = np.zeros(arrays[f"x_{part}"].shape)
        first[0, 4, 4] = -1 if said.endswith("255") else 1
        first[0, 5, 5] = 1 if said.endswith("255") else 0
        arrays[f"x_{part}"] = keep(arrays[f"x_{part}"], first)
    np.savez(tmp_path / "set.npz", **arrays)
    dataset = data.load(tmp_path / "set.npz")
    for images in (dataset.train_images, dataset.test_images):
        assert images.dtype == np.uint8 and images.max() == 255 and len(np.unique(images)) > 1
    notes = " ".join(dataset.notes)
    assert (said in notes) if said else not notes


def test_what_means_white_can_be_said(tmp_path):
    arrays = small_arrays()
    wide = {name: array.astype(np.uint16) * 257 if name[0] == "x" else array for name, array in arrays.items()}
    np.savez(tmp_path / "wide.npz", **wide)
    dataset = data.load(tmp_path / "wide.npz", ReadOptions(pixel_max=65535))
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    with pytest.raises(data.DataError, match="--pixel-max 100 does not suit the values, x_train from 0"):
        data.load(tmp_path / "wide.npz", ReadOptions(pixel_max=100))


def test_dark_ink_on_light_paper_is_noticed_and_can_be_turned(tmp_path, digits):
    arrays = {"y_train": digits.train_labels, "y_test": digits.test_labels}
    arrays |= {"x_train": 255 - digits.train_images, "x_test": 255 - digits.test_images}
    np.savez(tmp_path / "paper.npz", **arrays)
    dataset = data.load(tmp_path / "paper.npz")
    assert dataset.is_dark_on_light and dataset.background == 255
    assert "dark on light" in dataset.notes[0] and "--invert" in dataset.notes[0]
    turned = data.load(tmp_path / "paper.npz", ReadOptions(invert=True))
    assert not turned.is_dark_on_light and turned.background == 0
    assert turned.checksum() == digits.checksum()


def test_what_programs_leave_in_a_folder_is_no_class(tmp_path):
    def litter(folder):
        for part in ("train", "test"):
            for name in (".ipynb_checkpoints", "__MACOSX"):
                (folder / part / name).mkdir()
                Image.new("L", (9, 9)).save(folder / part / name / "1.png")
            (folder / part / "a" / "._1.png").write_bytes(b"\0\5\x16\7")
            (folder / part / "a" / "Thumbs.db").write_bytes(b"?")

    dataset = data.load(image_folder(litter)(tmp_path))
    assert dataset.class_names == ("a", "b") and len(dataset.train_labels) == 2
    assert "left out .ipynb_checkpoints, __MACOSX" in dataset.notes[0]


def test_a_folder_without_a_test_set_is_split_in_the_natural_order_of_its_classes(tmp_path):
    dataset = data.load(flat_folder(tmp_path), ReadOptions(test_size=0.2))
    assert dataset.class_names == ("0", "1", "2", "10")
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (16, 4)
    again = data.load(tmp_path, ReadOptions(test_size=0.2))
    assert dataset.checksum() == again.checksum() and "4 of 20 images were split off" in " ".join(dataset.notes)


def as_table(path, images, labels, names=True):
    head = "label," + ",".join(f"pixel{i}" for i in range(images[0].size)) + "\n" if names else ""
    rows = (",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True))
    text = (head + "\n".join(rows)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def square_arrays():
    arrays = small_arrays()
    return arrays | {name: arrays[name][:, :9] for name in ("x_train", "x_test")}


@pytest.mark.parametrize("names", [True, False], ids=["with names", "without"])
def test_tables_of_text_are_read_as_kaggle_has_them(tmp_path, names):
    arrays = square_arrays()
    for part in ("train", "test"):
        as_table(tmp_path / f"mnist_{part}.csv", arrays[f"x_{part}"], arrays[f"y_{part}"], names)
    dataset = data.load(tmp_path)
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.test_labels, arrays["y_test"])
    one = data.load(tmp_path / "mnist_train.csv", ReadOptions(test_size=0.25))
    assert (len(one.train_labels), len(one.test_labels)) == (9, 3)
    with pytest.raises(data.DataError, match="has no test set: give --test-size 0.2"):
        data.load(tmp_path / "mnist_train.csv")


def test_a_table_may_have_colour_compression_and_emnists_form(tmp_path):
    arrays = square_arrays()
    colour = np.stack([arrays["x_train"], arrays["x_train"] // 2, arrays["x_train"]], axis=-1)
    as_table(tmp_path / "hues.csv.gz", colour, arrays["y_train"])
    assert data.load(tmp_path / "hues.csv.gz", ReadOptions(test_size=0.25)).image_shape == (9, 9, 3)
    for part in ("train", "test"):
        turned = arrays[f"x_{part}"].swapaxes(1, 2)
        as_table(tmp_path / f"emnist-abc-{part}.csv", turned, arrays[f"y_{part}"] + 1, names=False)
    (tmp_path / "emnist-abc-mapping.txt").write_text("1 65\n2 66\n3 67\n")
    dataset = data.load(tmp_path / "emnist-abc")
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    assert dataset.class_names == ("A", "B", "C")


def zipped(folder):
    (folder / "digits").mkdir()
    as_classes(folder / "digits", small_arrays())
    return Path(shutil.make_archive(str(folder / "digits"), "zip", folder, "digits"))


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_an_archive_of_a_folder_is_read(tmp_path, on_disk):
    how = ReadOptions(test_size=0.25)
    archive = zipped(tmp_path)
    tar = shutil.make_archive(str(tmp_path / "set"), "gztar", tmp_path / "digits")
    for path in (archive, tar, tmp_path / "digits", f"file://{archive}"):
        dataset = data.load(path, how, on_disk=on_disk)
        assert dataset.class_names == ("a", "b", "c") and dataset.source == str(path)
        assert len(dataset.train_labels) == 9 and dataset.train_images.any()
    with pytest.raises(data.DataError, match="digits has no test set: give --test-size 0.2"):
        data.load(tmp_path / "digits")


LABELS = {
    "floats": (lambda y: y.astype(float), ("0", "1", "2"), ""),
    "names": (lambda y: np.array(["b10", "b9", "a"])[y], ("a", "b9", "b10"), ""),
    "bytes": (lambda y: np.array([b"x", b"y", b"z"])[y], ("x", "y", "z"), ""),
    "one-hot": (lambda y: np.eye(3)[y], ("0", "1", "2"), "labels were one-hot rows"),
    "from 1": (lambda y: y + 1, ("1", "2", "3"), "labels count from 1: moved"),
    "letters": (lambda y: y + 65, ("65", "66", "67"), "labels count from 65: moved"),
}


@pytest.mark.parametrize(("change", "names", "note"), LABELS.values(), ids=LABELS)
def test_labels_come_in_many_forms(tmp_path, change, names, note):
    arrays = small_arrays()
    changed = {name: change(array) if name[0] == "y" else array for name, array in arrays.items()}
    dataset = data.load(as_npz(tmp_path, changed))
    assert dataset.class_names == names and note in " ".join(dataset.notes)
    order = [names.index(str(name)) for name in ("b10", "b9", "a")] if "a" in names else range(3)
    np.testing.assert_array_equal(dataset.train_labels, np.array(order)[arrays["y_train"]])


def test_a_set_in_one_part_is_split_and_arrays_may_lie_apart(tmp_path):
    arrays = small_arrays()
    split = []
    for name, images in (("bytes", arrays["x_train"]), ("floats", arrays["x_train"] / 255)):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=arrays["y_train"])
        split.append(data.load(tmp_path / f"{name}.npz", ReadOptions(test_size=0.25)))
        assert (len(split[-1].train_labels), len(split[-1].test_labels)) == (9, 3)
    assert split[0].checksum() == split[1].checksum()
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    for on_disk in (False, True):
        apart = data.load(tmp_path, ReadOptions(test_size=0.25), on_disk=on_disk)
        np.testing.assert_array_equal(apart.train_images, arrays["x_train"])
        assert isinstance(apart.train_images, np.memmap) == on_disk


def test_a_png_of_16_bits_is_read_by_its_own_white(tmp_path):
    dataset = data.load(image_folder(lambda f: sixteen_bits(f / "train/a/1.png"))(tmp_path))
    assert np.unique(dataset.train_images[0]).tolist() == [4]
    assert "1 images were of 16 bits: made 8" in " ".join(dataset.notes)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_idx_folder(tmp_path, small_arrays(), suffix=".gz")
    monkeypatch.setattr(memory.os, "posix_fallocate", full)
    with pytest.raises(data.DataError, match=f"put into {tempfile.gettempdir()} .*No space left.*; set TMPDIR to"):
        data.load(tmp_path, on_disk=True)


def test_parts_go_by_their_usual_names_and_others_are_told(tmp_path):
    def renamed(folder):
        shutil.copytree(folder / "test", folder / "val")
        (folder / "train").rename(folder / "Training")
        (folder / "test").rename(folder / "Testing")

    assert "val/ was left out" in data.load(image_folder(renamed)(tmp_path)).notes[0]
    dataset = data.load(tmp_path, ReadOptions(test_size=0.5))
    assert "has a test set of its own" in " ".join(dataset.notes)


def test_a_class_is_the_same_however_its_name_is_written_in_unicode(tmp_path):
    def accents(folder):
        for part, name in (("train", "\u00e9"), ("test", "e\u0301")):
            (folder / part / "a").rename(folder / part / name)

    dataset = data.load(image_folder(accents)(tmp_path))
    assert dataset.class_names == ("b", "\u00e9") and sorted(dataset.test_labels) == [0, 1]


def in_colour():
    """The small arrays with three channels that differ."""
    arrays = small_arrays()
    of = {name: arrays[name] for name in ("x_train", "x_test")}
    return arrays | {name: np.stack([array, array // 2, array // 3], axis=-1) for name, array in of.items()}


def channels_first(folder, arrays):
    return as_npz(
        folder, {name: array.transpose(0, 3, 1, 2) / 255 if name[0] == "x" else array for name, array in arrays.items()}
    )


@pytest.mark.parametrize(
    ("make", "how"),
    [
        pytest.param(as_npz, {}, id="npz"),
        pytest.param(channels_first, {}, id="channels first, 0 to 1"),
        pytest.param(as_idx, {}, id="IDX"),
        pytest.param(as_parquet, {}, id="Parquet"),
        pytest.param(as_classes, {"test_size": 0.25}, id="images"),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_channels_follow_the_data(tmp_path, make, how, on_disk):
    path = make(tmp_path, in_colour())
    dataset = data.load(path, ReadOptions(**how), on_disk=on_disk)
    assert (dataset.channels, dataset.image_shape, dataset.image_size) == (3, (10, 9, 3), (10, 9))
    assert dataset.background == (0, 0, 0) and "--channels 1 makes them grey" in " ".join(dataset.notes)
    expected = {image.tobytes() for image in in_colour()["x_train"]}
    assert {np.ascontiguousarray(image).tobytes() for image in dataset.train_images} <= expected
    grey = data.load(path, ReadOptions(**how, channels=1), on_disk=on_disk)
    as_pillow = [
        np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L")) for image in dataset.train_images
    ]
    np.testing.assert_array_equal(grey.train_images, np.stack(as_pillow))
    assert "grey, which drops their colour" in " ".join(grey.notes)


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_grey_in_three_channels_is_grey_unless_told(tmp_path, on_disk):
    arrays = small_arrays()
    path = as_npz(tmp_path, arrays | {name: np.stack([arrays[name]] * 3, axis=-1) for name in ("x_train", "x_test")})
    dataset = data.load(path, on_disk=on_disk)
    np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
    assert "read as grey; --channels 3 keeps the three" in dataset.notes[0]
    kept = data.load(as_npz(tmp_path, arrays), ReadOptions(channels=3), on_disk=on_disk)
    assert kept.channels == 3 and kept.train_images.shape == (12, 10, 9, 3) and not kept.notes


def test_a_colour_set_is_inverted_channel_by_channel(tmp_path):
    path = as_npz(tmp_path, {n: 255 - a if n[0] == "x" else a for n, a in in_colour().items()})
    dataset = data.load(path)
    assert dataset.is_dark_on_light and dataset.background == (255, 255, 255)
    turned = data.load(path, ReadOptions(invert=True))
    np.testing.assert_array_equal(turned.train_images, in_colour()["x_train"])
    assert turned.background == (0, 0, 0)


def test_photographs_are_turned_upright_and_their_colour_is_dropped_with_a_word(tmp_path):
    def photographs(folder):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned by 90 degrees
        picture = Image.new("RGB", (9, 9), (200, 0, 0))
        picture.paste((0, 0, 0), (0, 0, 9, 3))
        picture.save(folder / "train/a/1.png", exif=exif)

    dataset = data.load(image_folder(photographs)(tmp_path), ReadOptions(channels=1))
    image = dataset.train_images[0]
    assert image[:, -3:].max() == 0 and image[:, :6].min() > 50
    notes = " ".join(dataset.notes)
    assert "1 images were turned upright" in notes and "1 images were made grey, which drops their colour" in notes


def emnist(folder, name, first):
    arrays = small_arrays()
    mapping = "".join(f"{label + first} {code}\n" for label, code in enumerate(b"ABC"))
    (folder / f"emnist-{name}-mapping.txt").write_text(mapping)
    for array, file in IDX_FILES.items():
        values = arrays[array].swapaxes(-1, -2) if array[0] == "x" else arrays[array] + first
        path = folder / f"emnist-{name}-{file.replace('t10k', 'test')}.gz"
        path.write_bytes(gzip.compress(idx(np.ascontiguousarray(values).astype(np.uint8))))
    return arrays


def test_emnist_is_read_as_it_is_published(tmp_path):
    arrays = emnist(tmp_path, "letters", first=1)
    for path in (tmp_path, tmp_path / "emnist-letters"):
        dataset = data.load(path)
        np.testing.assert_array_equal(dataset.train_images, arrays["x_train"])
        np.testing.assert_array_equal(dataset.train_labels, arrays["y_train"])
        assert dataset.class_names == ("A", "B", "C")
    emnist(tmp_path, "digits", first=0)
    with pytest.raises(
        data.DataError, match="holds 2 sets; choose one: --data .*emnist-digits, --data .*emnist-letters"
    ):
        data.load(tmp_path)


def test_other_usual_names_are_known(tmp_path):
    arrays = small_arrays()
    for file in IDX_FILES.values():
        write_idx_folder(tmp_path, arrays)
        (tmp_path / file).rename(tmp_path / file.replace("-idx", ".idx"))
    column = {name: array[:, None] if name[0] == "y" else array for name, array in arrays.items()}
    names = {"x_train": "train_images", "y_train": "train_labels", "x_test": "test_images", "y_test": "test_labels"}
    np.savez(tmp_path / "medmnist.npz", **{names[name]: array for name, array in column.items()})
    (tmp_path / "kmnist").mkdir()
    for name, file in {
        "x_train": "train-imgs",
        "y_train": "train-labels",
        "x_test": "test-imgs",
        "y_test": "test-labels",
    }.items():
        np.savez(tmp_path / "kmnist" / f"kmnist-{file}.npz", arrays[name])
    for path in (tmp_path, tmp_path / "medmnist.npz", tmp_path / "kmnist", f"file://{tmp_path}/medmnist.npz"):
        np.testing.assert_array_equal(data.load(path).train_images, arrays["x_train"])


def test_a_set_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    for name, file in IDX_FILES.items():
        shape = (10**9, 28, 28) if name == "x_train" else (10, 28, 28) if name[0] == "x" else (10,)
        with (tmp_path / file).open("wb") as stream:  # a sparse file
            stream.write(struct.pack(f">I{len(shape)}I", 0x800 | len(shape), *shape))
            stream.truncate(4 + 4 * len(shape) + int(np.prod(shape, dtype=np.int64)))
    with pytest.raises(data.DataError, match=r"takes 784.0 GB and, with its copies, 2,352.0 GB of memory, of which"):
        data.load(tmp_path)


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
