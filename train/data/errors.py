"""The error of data that cannot be trained on."""

LFS = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched yet


class DataError(ValueError):
    """The data cannot be trained on; the message says what was found, what was expected and what to do."""


_SAVE = "save its arrays with np.savez('set.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
# What files are by the ends of their names, that hold sets and cannot be read, and what to do.
ADVICE = {
    **dict.fromkeys((".pkl", ".pickle", ".p"), f"a pickle, which could run anything when it is opened; {_SAVE}"),
    **dict.fromkeys((".pt", ".pth"), f"PyTorch's; {_SAVE}, each as tensor.numpy()"),
    **dict.fromkeys((".h5", ".hdf5"), f"HDF5; read it with h5py and {_SAVE}"),
    ".mat": f"MATLAB's; read it with scipy.io.loadmat and {_SAVE} (EMNIST comes as IDX files too: take those)",
    **dict.fromkeys((".tfrecord", ".tfrecords"), f"TFRecords; read them with tf.data and {_SAVE}"),
    ".arff": f"ARFF; read it with scipy.io.arff and {_SAVE}",
    ".parquet": "one file of Parquet; give the folder that holds train*.parquet and test*.parquet",
}
