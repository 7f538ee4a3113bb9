"""Sets of shards: what is written is what is read, wherever it lies, and nothing else is trained on."""

import dataclasses
import json
import pickle
import tempfile

import numpy as np
import pytest

from inkling.train import data, runs
from inkling.train.config import JobConfig, ReadOptions, ShardConfig
from inkling.train.data import DataError, shards
from inkling.train.sharding import making, writing

SMALL = ShardConfig(shard_mb=0.2)  # 255 images of MNIST in a shard
WITH_COPIES = dataclasses.replace(SMALL, copies=2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Where shards of buckets are kept."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture(params=["folder", "file://", "memory://"])
def target(request, tmp_path):
    return f"{'' if request.param == 'folder' else request.param}{tmp_path}/set"


def write(digits, target, config=SMALL, **options):
    writing.write_set([digits], writing.folder_of(str(target)), config, **options)
    return data.load(str(target))


@pytest.fixture(scope="module")
def with_copies(digits, tmp_path_factory):
    """A folder: 1,000 originals and two augmented versions of each."""
    folder = tmp_path_factory.mktemp("shards") / "set"
    writing.write_set([digits], writing.folder_of(str(folder)), WITH_COPIES)
    return folder


def test_what_is_written_is_what_is_read(digits, target):
    dataset = write(digits, target)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        array = np.asarray(getattr(dataset, name))
        np.testing.assert_array_equal(array, getattr(digits, name))
        assert array.dtype == getattr(digits, name).dtype
    assert (dataset.class_names, dataset.background, dataset.copies) == (digits.class_names, 0, 0)
    shards.check_training_part(dataset)


def test_images_in_colour_are_written_and_read_with_their_copies(digits, tmp_path):
    images = digits.train_images[:100]
    colour = dataclasses.replace(
        digits,
        train_images=np.stack([images, images // 2, images // 4 + 9], axis=-1),
        train_labels=digits.train_labels[:100],
        test_images=np.stack([digits.test_images] * 3, axis=-1),
        background=(0, 0, 9),
    )
    dataset = write(colour, tmp_path / "set", WITH_COPIES)
    assert (dataset.image_shape, dataset.channels, dataset.background) == ((28, 28, 3), 3, (0, 0, 9))
    rows = dataset.train_images[np.arange(300)]
    np.testing.assert_array_equal(rows[:100], colour.train_images)
    assert (rows[100:, 0, 0] == (0, 0, 9)).all(axis=1).mean() > 0.8
    with pytest.raises(DataError, match="the same --channels"):
        writing.write_set([colour, digits], writing.folder_of(str(tmp_path / "both")), SMALL)


def test_rows_come_in_the_order_that_they_are_asked_for(digits, target):
    rows = write(digits, target).train_images
    index = np.random.default_rng(0).integers(0, 1000, 500)
    index[100:140] = np.arange(240, 280)  # over the end of a shard
    np.testing.assert_array_equal(rows[index], digits.train_images[index])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows))[index], digits.train_images[index])
    assert rows[index[:0]].shape == (0, 28, 28) and rows.shape == (1000, 28, 28)
    rows.expect(0, 1000)


def test_the_same_images_are_held_out_as_of_a_set_in_memory(digits, target):
    rest, images, labels = write(digits, target).hold_out(100, seed=3)
    expected, *held_out = digits.hold_out(100, seed=3)
    np.testing.assert_array_equal(images, held_out[0])
    np.testing.assert_array_equal(labels, held_out[1])
    every = np.arange(900)
    np.testing.assert_array_equal(rest.train_images[every], expected.train_images)
    np.testing.assert_array_equal(rest.train_labels[every], expected.train_labels)
    rest.train_images.expect(0, 900)


def test_copies_leave_with_the_original_that_is_held_out(digits, with_copies):
    dataset = data.load(with_copies)
    held = dataset.held_out(100, seed=3)
    rest, images, _ = dataset.hold_out(100, seed=3)
    np.testing.assert_array_equal(images, digits.train_images[held])  # originals, all of them
    assert len(rest.train_labels) == 3 * 900 and rest.originals == 900
    kept = np.delete(np.arange(1000), held)
    whole = np.asarray(dataset.train_images).reshape(3, 1000, 28, 28)
    np.testing.assert_array_equal(rest.train_images[np.arange(2700)], whole[:, kept].reshape(-1, 28, 28))


def test_originals_come_first_and_statistics_are_taken_of_them(digits, with_copies):
    dataset = data.load(with_copies)
    assert (dataset.originals, dataset.copies, len(dataset.train_labels)) == (1000, 2, 3000)
    np.testing.assert_array_equal(dataset.some_originals(4000), digits.train_images)
    np.testing.assert_array_equal(dataset.some_originals(10), digits.train_images[::100])
    np.testing.assert_array_equal(np.asarray(dataset.train_labels), np.tile(digits.train_labels, 3))
    manifest = json.loads((with_copies / shards.MANIFEST).read_text())
    assert [shard["copy"] for shard in manifest["shards"]["train"]] == [0] * 4 + [1] * 4 + [2] * 4
    assert sum(manifest["counts"]["train"]) == 3000 and manifest["augmentation"]["policy"] == "digits"
    assert "1,000 training images in 12 shards, with 2 augmented versions of each" in dataset.notes[-1]


def test_a_copy_does_not_depend_on_the_size_of_its_shard(digits, with_copies, tmp_path):
    other = write(digits, tmp_path / "other", dataclasses.replace(WITH_COPIES, shard_mb=0.5))
    copies = np.asarray(data.load(with_copies).train_images)
    np.testing.assert_array_equal(np.asarray(other.train_images), copies)
    assert (copies[1000:2000] != copies[2000:]).any(axis=(1, 2)).mean() > 0.99
    assert (copies[1000:2000] != copies[:1000]).any(axis=(1, 2)).mean() > 0.99
    seed = write(digits, tmp_path / "seed", dataclasses.replace(WITH_COPIES, seed=1))
    assert (np.asarray(seed.train_images)[1000:] != copies[1000:]).any(axis=(1, 2)).mean() > 0.99


def test_several_sources_become_one_set(digits, tmp_path):
    sources = [dataclasses.replace(digits, train_images=255 - digits.train_images), digits]
    writing.write_set(sources, writing.folder_of(str(tmp_path / "both")), SMALL)
    both = data.load(tmp_path / "both")
    images = np.concatenate([source.train_images for source in sources])
    np.testing.assert_array_equal(np.asarray(both.train_images), images)
    assert len(both.test_labels) == 406


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"class_names": tuple("abcdefghij")}, "classes of other names"),
        ({"background": 255}, "ink and paper the other way round"),
        ({"copies": 1}, "has augmented versions in it"),
    ],
)
def test_sources_that_do_not_go_together_are_refused(digits, tmp_path, change, told):
    with pytest.raises(DataError, match=told):
        folder = writing.folder_of(str(tmp_path / "set"))
        writing.write_set([digits, dataclasses.replace(digits, **change)], folder, SMALL)
    assert not (tmp_path / "set").exists()


class Killed(Exception):
    pass


def killed_after(number):
    def each(make, tasks):
        for count, (chunk, shard) in enumerate(tasks):
            if count == number:
                raise Killed
            yield shard.name, make(chunk, shard)

    return each


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_job_that_was_killed_leaves_no_set_and_goes_on(digits, with_copies, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    with pytest.raises(Killed):
        write(digits, folder, WITH_COPIES, each=killed_after(9))
    with pytest.raises(DataError, match="is not a whole set: it has no manifest.json, so the job .* was stopped or"):
        data.load(folder)
    damaged = folder / "train-00001.images.npy"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    made, make = [], making.augmented
    monkeypatch.setattr(
        making, "augmented", lambda images, shard, of: made.append(shard.name) or make(images, shard, of)
    )
    (folder / "train-00003.images.npy.1234.unfinished").touch()  # of a worker that was killed while it wrote
    write(digits, folder, WITH_COPIES)
    assert 0 < len(made) < 8  # the others were there
    assert contents(folder) == contents(with_copies)


def test_a_second_job_with_other_settings_is_refused_while_the_first_writes(digits, tmp_path):
    with pytest.raises(Killed):
        write(digits, tmp_path / "set", each=killed_after(2))
    with pytest.raises(DataError, match=r"from other data or with other settings \(copies 0 there, 2 now; aug"):
        write(digits, tmp_path / "set", WITH_COPIES)
    write(digits, tmp_path / "set")


def test_two_jobs_with_the_same_settings_write_one_set(digits, with_copies, tmp_path):
    def each(make, tasks):
        for number, task in enumerate(tasks):
            if number == 5:
                write(digits, tmp_path / "set", WITH_COPIES)
            yield from writing.one_by_one(make, [task])

    write(digits, tmp_path / "set", WITH_COPIES, each=each)
    assert contents(tmp_path / "set") == contents(with_copies)


def test_a_second_job_that_has_taken_a_bucket_over_is_noticed(digits):
    folder = writing.folder_of("memory://bucket/taken")

    def each(make, tasks):
        yield from writing.one_by_one(make, tasks)
        folder.write_json(writing.JOB, folder.read_json(writing.JOB) | {"copies": 7})

    with pytest.raises(DataError, match="copies 7 there, 0 now"):
        writing.write_set([digits], folder, SMALL, each=each)
    assert not folder.exists(shards.MANIFEST)


def test_a_set_that_is_whole_is_not_written_again(digits, tmp_path):
    write(digits, tmp_path / "set")
    told = []
    write(digits, tmp_path / "set", each=killed_after(0), tell=told.append)
    assert told == [f"{tmp_path}/set is written already"]
    with pytest.raises(DataError, match="copies 0 there, 2 now"):
        write(digits, tmp_path / "set", WITH_COPIES)


def test_a_place_that_holds_anything_else_is_refused(digits, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.tex").touch()
    with pytest.raises(DataError, match=r"is not empty \(thesis.tex\); give --output a new folder"):
        write(digits, tmp_path / "set")


def cut_short(folder):
    path = folder / "train-00002.images.npy"
    path.write_bytes(path.read_bytes()[:-1])


def swapped(folder):
    one, two = folder / "train-00001.images.npy", folder / "train-00002.images.npy"
    one.rename(folder / "third")
    two.rename(one)
    (folder / "third").rename(two)


def of_other_labels(folder):
    path = folder / "train-00002.labels.npy"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))


def missing(folder):
    (folder / "train-00002.images.npy").unlink()


@pytest.mark.parametrize("place", ["folder", "bucket"])
@pytest.mark.parametrize("harm", [cut_short, swapped, of_other_labels, missing])
def test_a_damaged_shard_is_named_before_anything_is_trained_on(digits, tmp_path, small_config, harm, place):
    write(digits, tmp_path / "set")
    harm(tmp_path / "set")
    job = JobConfig(name="run", storage=str(tmp_path / "runs"), data=str(tmp_path / "set"))
    told = r"train-0000[12]\.\w+\.npy (does not match its checksum|cannot be read|is missing)"
    if place == "folder":
        with pytest.raises(DataError, match=told):
            runs.begin(small_config, job, lambda message: None)
        assert not (tmp_path / "runs").exists()
        return
    uri = f"memory://bucket/{tmp_path.name}"
    bucket = writing.folder_of(uri)
    for path in (tmp_path / "set").iterdir():
        bucket.write(path.name, path.read_bytes())
    run = runs.begin(small_config, dataclasses.replace(job, data=uri), lambda event: None)
    with pytest.raises(DataError, match=told):
        shards.check_training_part(run.dataset)


def test_a_shard_that_is_cut_short_while_a_run_reads_it_is_named(digits, tmp_path):
    rows = write(digits, tmp_path / "set").train_images
    np.testing.assert_array_equal(rows[np.array([700])], digits.train_images[[700]])
    cut_short(tmp_path / "set")
    with pytest.raises(DataError, match="train-00002.images.npy has been cut short"):
        rows[np.arange(600, 765)]


def test_shards_of_a_bucket_are_fetched_once(digits, tmp_path, monkeypatch):
    dataset = write(digits, f"memory://{tmp_path}/set")
    told = []
    shards.check_training_part(dataset, told.append)
    assert "fetching 4 shards of memory://" in told[0]
    monkeypatch.setattr(shards, "_download", lambda uri, target: pytest.fail(f"{uri} is fetched again"))
    shards.check_training_part(dataset)
    cached = shards.cache_folder() / f"{dataset.train_images.files[0].sha256}.npy"
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(pytest.fail.Exception, match="train-00000.images.npy is fetched again"):
        shards.check_training_part(dataset)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text[:-20], "manifest.json is damaged"),
        (lambda text: text.replace('"class_names"', '"classes"'), "manifest.json is damaged"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2, and this version of Inkling reads 1"),
        (lambda text: text.replace('"rows": 203', '"rows": 204'), r"uint8 \[203, 28, 28\], but the manifest says"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(digits, tmp_path, edit, told):
    write(digits, tmp_path / "set")
    path = tmp_path / "set/manifest.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(DataError, match=told):
        data.load(tmp_path / "set")


def test_what_was_settled_when_a_set_was_written_cannot_be_asked_for_again(digits, tmp_path):
    write(digits, tmp_path / "set")
    with pytest.raises(
        DataError, match=r"leave out --invert, --pixel-max here, and give it to `python -m train shard`"
    ):
        data.load(tmp_path / "set", ReadOptions(invert=True, pixel_max=3))
