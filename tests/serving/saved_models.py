"""Small SavedModels that tests serve, written by TensorFlow itself, TF1- and TF2-style."""

from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

v1 = tf.compat.v1


def write_half_plus_two(folder: Path) -> None:
    """TF1: y = x / 2 + 2 over tensors and over tf.Examples, with Regress and Classify signatures and an asset."""
    with tf.Graph().as_default(), v1.Session() as session:
        a, b = v1.get_variable("a", initializer=0.5), v1.get_variable("b", initializer=2.0)
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        feature = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        parsed = tf.io.parse_example(serialized, {"x": feature, "x2": feature})
        x, x2 = tf.identity(parsed["x"], name="x"), tf.identity(parsed["x2"], name="x2")
        y, y2 = tf.add(a * x, b, name="y"), tf.add(a * x, 3.0, name="y2")
        y3 = tf.add(a * x2, 3.0, name="y3")
        asset = folder.parent / "foo.txt"
        asset.parent.mkdir(parents=True, exist_ok=True)
        asset.write_text("asset-file-contents")
        file_name = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file_name)
        content = v1.get_variable("content", initializer="", trainable=False)
        read_asset = v1.assign(content, tf.io.read_file(file_name))
        session.run(v1.global_variables_initializer())
        signatures = {
            "serving_default": _predict({"x": x}, {"y": y}),
            "regress_x_to_y": _signature("regress", {"inputs": serialized}, {"outputs": y}),
            "regress_x_to_y2": _signature("regress", {"inputs": serialized}, {"outputs": y2}),
            "regress_x2_to_y3": _signature("regress", {"inputs": serialized}, {"outputs": y3}),
            "classify_x_to_y": _signature("classify", {"inputs": serialized}, {"scores": y}),
            "asset": _predict({"x": x}, {"content": content + v1.zeros_like(content)}),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map=signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=tf.group(read_asset),
        )
        builder.save()


def write_half_plus_three(folder: Path) -> None:
    """TF1: y = x / 2 + 3, as of 2016: what a signature says of a tensor is its name, and hardly more."""
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5)
        serialized = v1.placeholder(tf.string, name="tf_example")
        parsed = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        y = tf.identity(a * x + 3.0, name="y")
        session.run(v1.global_variables_initializer())
        string, of_float = tf.string.as_datatype_enum, tf.float32.as_datatype_enum
        output = TensorInfo(name=y.name, dtype=of_float)
        other = TensorInfo(name="tf_example:0", dtype=of_float)
        signatures = {
            "serving_default": _open({"x": TensorInfo(name=x.name, dtype=of_float)}, {"y": output}, "predict"),
            "regress_without_dtype": _open({"inputs": other}, {"outputs": output}, "regress"),
            "regress_of_another_dtype": _open({"inputs": other}, {"outputs": output}, "regress"),
            "regress_of_numbers": _open(
                {"inputs": TensorInfo(name=x.name, dtype=string)}, {"outputs": output}, "regress"
            ),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    file = folder / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    signature = saved.meta_graphs[0].signature_def["regress_without_dtype"]
    signature.inputs["inputs"].ClearField("dtype")  # which the builder of today refuses
    file.write_bytes(saved.SerializeToString())


def write_one_row(folder: Path) -> None:
    """Signatures that announce less than their graphs compute: one row, one value, a batch."""
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones([3, 3, 1, 4]))

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
    def half_plus_two(x):
        return {"y": x * 0.5 + 2.0}

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 1], tf.float32, name="images")])
    def convolve(images):
        features = tf.nn.relu(tf.nn.conv2d(images, module.kernel, 1, "SAME"))
        return {"y": tf.reduce_sum(tf.nn.max_pool2d(features, 2, 2, "SAME"), axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8], tf.float32, name="images")])
    def reshaped(images):
        return {"y": tf.nn.conv2d(tf.reshape(images, [-1, 8, 8, 1]), module.kernel, 1, "SAME")}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.float32, name="z")]
    )
    def add(x, z):
        return {"y": x + z}

    signatures = {"serving_default": half_plus_two, "convolve": convolve, "reshaped": reshaped, "add": add}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_python_function(folder: Path) -> None:
    """`serving_default` doubles x, float [n]; `python` calls a Python function, which is not in the file."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(x):
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def python(x):
        return {"y": tf.py_function(lambda value: value + 1, [x], tf.float32)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": double, "python": python})


def _open(inputs: dict[str, TensorInfo], outputs: dict[str, TensorInfo], method: str) -> SignatureDef:
    return v1.saved_model.build_signature_def(inputs, outputs, f"tensorflow/serving/{method}")


def write_table(folder: Path) -> None:
    """TF1: looks words up in a table that an initialiser fills from a vocabulary file."""
    with tf.Graph().as_default(), v1.Session() as session:
        vocabulary = folder.parent / "words.txt"
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        vocabulary.write_text("zero\none\ntwo\n")
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        table = tf.lookup.StaticHashTable(initializer, -1)
        words = v1.placeholder(tf.string, [None], name="words")
        signature = _predict({"words": words}, {"ids": table.lookup(words)})
        session.run(v1.tables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


def write_tagged(folder: Path) -> None:
    """Two graphs in one SavedModel: `serve` doubles x, float [n], and `serve,thrice` triples it."""
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("unused", initializer=0.0)
        session.run(variable.initializer)
        x = v1.placeholder(tf.float32, [None], name="x")
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"serving_default": _predict({"x": x}, {"y": 2 * x})}
        )
        builder.add_meta_graph(
            ["serve", "thrice"], signature_def_map={"serving_default": _predict({"x": x}, {"y": 3 * x})}
        )
        builder.save()


def write_sparse(folder: Path) -> None:
    """`serving_default` doubles x, float [n, 2]; `sparse` gives a sparse tensor."""
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("unused", initializer=0.0)
        session.run(variable.initializer)
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        builder = v1.saved_model.Builder(str(folder))
        signatures = {
            "serving_default": _predict({"x": x}, {"y": 2 * x}),
            "sparse": _predict({"x": x}, {"y": tf.sparse.from_dense(x)}),
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


def _predict(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]) -> SignatureDef:
    return _signature("predict", inputs, outputs)


def _signature(method: str, inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]) -> SignatureDef:
    return v1.saved_model.build_signature_def(
        {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in inputs.items()},
        {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in outputs.items()},
        f"tensorflow/serving/{method}",
    )


def write_words(folder: Path) -> None:
    """Words of `text`, string [n], by an operation of tensorflow-text."""
    import tensorflow_text

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def words(self, text):
            return {"words": tensorflow_text.WhitespaceTokenizer().tokenize(text).to_tensor(b"")}

    module = Words()
    tf.saved_model.save(module, str(folder), signatures=module.words)


class Scale(tf.Module):
    """y = factor * x, over float [n]."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scale(self, x):
        return {"y": self.factor * x}


class Several(tf.Module):
    """Signatures of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0)
        self.matrix = tf.Variable(tf.eye(2) * 2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def double(self, x):
        return {"y": tf.matmul(x, self.matrix), "sum": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def shout(self, text):
        return {"loud": tf.strings.upper(text), "picture_bytes": tf.strings.join([text, b"\xff"])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def counter(self, x):
        return {"count": self.count.assign_add(1) + 0 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def minus_mean(self, x):
        return {"y": x - tf.reduce_mean(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def pick(self, index):
        return {"value": tf.gather(tf.constant([10, 20, 30, 40]), index)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="z")])
    def add_scalars(self, x, z):
        return {"y": x + z}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def row_sum(self, x):
        return {"sum": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="rounds")])
    def slow(self, rounds):
        """About a millisecond for each of the largest of `rounds`."""
        matrix = tf.while_loop(
            lambda step, _: step < tf.reduce_max(rounds),
            lambda step, m: (step + 1, tf.linalg.l2_normalize(tf.matmul(m, m))),
            [0, tf.ones([256, 256])],
        )[1]
        return {"rounds": rounds + tf.cast(matrix[0, 0] * 0, tf.int32)}


DTYPES = (
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16,
    tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64, tf.complex128,
)  # fmt: skip


def write_dtypes(folder: Path) -> None:
    """A signature for every dtype, named after it: gives back what comes."""
    module = tf.Module()
    signatures = {}
    for dtype in DTYPES:
        function = tf.function(lambda x: {"y": tf.identity(x)})
        signatures[dtype.name] = function.get_concrete_function(tf.TensorSpec([None, 2], dtype, name="x"))
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_scale(folder: Path, factor: float) -> None:
    """`Scale` as its one signature."""
    module = Scale(factor)
    tf.saved_model.save(module, str(folder), signatures=module.scale)


def write_counter(folder: Path) -> None:
    """Counts to `steps`, int64 [n], of which the first one counts, in a loop that never leaves its thread."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="steps")])
    def count(steps):
        zero = tf.constant(0, tf.int64)
        counted = tf.while_loop(lambda i: i < steps[0], lambda i: [i + 1], [zero], parallel_iterations=1)[0]
        return {"counted": tf.fill(tf.shape(steps), counted)}

    module = tf.Module()
    module.count = count
    tf.saved_model.save(module, str(folder), signatures=count)


def write_several(folder: Path) -> None:
    """All of `Several`; `serving_default` is `double`."""
    module = Several()
    names = ("double", "shout", "counter", "minus_mean", "pick", "add_scalars", "row_sum", "slow")
    signatures = {name: getattr(module, name) for name in names} | {"serving_default": module.double}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_convolution(folder: Path, *, rank_known: bool = True) -> None:
    """A convolution over float images [n, 8, 8, 1]; with `rank_known` false the signature leaves the shape open."""
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones([3, 3, 1, 4]))
    module.scale = tf.Variable(tf.ones([4]))
    shape = [None, 8, 8, 1] if rank_known else None

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def convolve(images):
        features = tf.nn.relu(tf.nn.conv2d(images, module.kernel, 1, "SAME"))
        return {"y": tf.reduce_sum(tf.nn.max_pool2d(features, 2, 2, "SAME") * module.scale, axis=[1, 2])}

    tf.saved_model.save(module, str(folder), signatures=convolve)


def write_keras(folder: Path) -> None:
    """What `keras.Model.export` writes: a dense layer over float [n, 4]."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,), name="keras_tensor"), keras.layers.Dense(3, activation="softmax")])
    model.export(str(folder), verbose=False)


def write_wrapped_keras(folder: Path) -> None:
    """A tf.Module that holds a Keras model: its restore operation sets copies of the variables."""
    import keras

    keras.utils.set_random_seed(1)
    module = tf.Module()
    module.model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def predict(x):
        return {"y": module.model(x, training=False)}

    tf.saved_model.save(module, str(folder), signatures=predict)
