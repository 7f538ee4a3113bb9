"""`Client` and `AsyncClient` say and understand the same: every test here runs with both."""

import asyncio
import inspect
import threading

import grpc
import numpy as np
import pytest
from PIL import Image

from inkling.client import (
    AsyncClient,
    Client,
    InklingError,
    InvalidInput,
    InvalidResponse,
    ModelNotFound,
    NotSupported,
    ServedModel,
    ServerError,
    SignatureNotFound,
    VersionNotFound,
)
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_tensor
from tests.client.stub_server import (
    StubServer,
    answered,
    echo,
    failing,
    metadata,
    metadata_response,
    predict,
    predict_response,
    status_response,
)
from tests.patience import PATIENCE_S

IMAGES = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)


class Blocking:
    """`AsyncClient` with the calls of `Client`."""

    def __init__(self, *arguments, **settings):
        self._client = AsyncClient(*arguments, **settings)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._loop.run_until_complete(method(*arguments, **named))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self._loop.close()


@pytest.fixture(params=[Client, Blocking], ids=["blocking", "async"])
def make_client(request):
    clients = []

    def make(server, **settings):
        clients.append(request.param(server.address, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def start():
    servers = []

    def start(**behaviours):
        servers.append(StubServer(**behaviours))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_both_clients_have_the_same_methods():
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(AsyncClient, name)) == inspect.signature(method), name
            assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name


def test_predict_gives_classes_and_probabilities(start, make_client):
    prediction = make_client(start()).predict(IMAGES)
    assert prediction.classes.tolist() == (IMAGES[:, 0, 0] % 10).tolist() and prediction.classes.dtype == np.int64
    assert prediction.probabilities.shape == (6, 10) and prediction.probabilities.dtype == np.float32
    assert (prediction.model_name, prediction.version, len(prediction)) == ("mnist", 1, 6)
    assert list(prediction)[1] == (6, pytest.approx(0.91))
    assert str(prediction).splitlines()[2] == "    1      6        91.0%"


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[1],
        [IMAGES[1]],
        IMAGES[1].tolist(),
        IMAGES[1:2, :, :, None],
        IMAGES[1].astype(np.int64),
        Image.fromarray(IMAGES[1]),
        [Image.fromarray(IMAGES[1])],
        np.asfortranarray(IMAGES[1:2]),
    ],
    ids=["one", "list of one", "plain lists", "with a channel", "int64", "pillow", "list of pillow", "fortran"],
)
def test_images_come_in_many_forms(start, make_client, images):
    server = start()
    prediction = make_client(server).predict(images)
    assert str(prediction) == "6 (91.0%)"
    assert server.requests[0].inputs["images"] == to_tensor(IMAGES[1:2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES / 255, r"dtype float64; expected uint8, 0 \(paper\) to 255 \(ink\)"),
        (IMAGES > 0, "dtype bool; expected uint8"),
        (IMAGES.astype(int) - 1, "values from -1 to 254"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"shape \[2, 28, 28, 3\]; expected \[n, 28, 28\]"),
        (np.zeros(784, np.uint8), r"shape \[784\]"),
        ([IMAGES[0], IMAGES[0, 1:]], "not all of one size"),
    ],
    ids=["float", "bool", "negative", "colour", "flat", "uneven"],
)
def test_what_is_no_image_is_refused_before_sending(start, make_client, images, message):
    server = start()
    with pytest.raises(InvalidInput, match=message):
        make_client(server).predict(images)
    assert not server.requests


def test_no_images_give_no_classes(start, make_client):
    prediction = make_client(start()).predict(np.zeros((0, 28, 28), np.uint8))
    assert len(prediction) == 0 and prediction.probabilities.shape == (0, 10)


def test_a_large_batch_goes_in_parts_and_comes_back_in_order(start, make_client):
    server = start(Predict=in_reverse(5))
    images = np.random.default_rng(0).integers(0, 256, (5000, 28, 28), np.uint8)
    prediction = make_client(server, max_rows=1000, split_bytes=1 << 30, max_in_flight=5).predict(images)
    assert prediction.classes.tolist() == (images[:, 0, 0] % 10).tolist()
    assert [len(request.inputs["images"].tensor_content) // 784 for request in server.requests] == [1000] * 5
    assert server.most_in_flight == 5


def in_reverse(count):
    """Holds `count` requests, and answers the last one first."""
    turn, arrived, answered_ones = threading.Condition(), [], []

    def behave(request, context):
        with turn:
            arrived.append(request)
            place = len(arrived)
            turn.notify_all()
            assert turn.wait_for(lambda: len(arrived) == count == place + len(answered_ones), timeout=PATIENCE_S)
            answered_ones.append(place)
            turn.notify_all()
        return predict(request, context)

    return behave


def test_parts_are_as_large_as_the_limits_allow(start, make_client):
    server = start()
    client = make_client(server, split_bytes=10 * 784, max_rows=100)
    client.predict(np.zeros((25, 28, 28), np.uint8))
    assert sorted(request.inputs["images"].tensor_shape.dim[0].size for request in server.requests) == [8, 8, 9]
    client.predict(np.zeros((10, 28, 28), np.uint8))
    assert len(server.requests) == 4


def test_no_more_parts_are_under_way_than_allowed(start, make_client):
    server = start()
    make_client(server, max_rows=1, max_in_flight=2).predict(np.zeros((40, 28, 28), np.uint8))
    assert len(server.requests) == 40 and server.most_in_flight <= 2


def test_the_servers_own_limit_is_learnt(start, make_client):
    def behave(request, context):
        size = request.inputs["images"].tensor_shape.dim[0].size
        if size > 64:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"Task size {size} is larger than maximum input batch size 64"
            )
        return predict(request, context)

    server = start(Predict=behave)
    client = make_client(server)
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
    assert client.predict(images).classes.tolist() == (images[:, 0, 0] % 10).tolist()
    assert client.predict(np.concatenate([images] * 20)).classes.shape == (2000,)
    sizes = [request.inputs["images"].tensor_shape.dim[0].size for request in server.requests]
    assert sizes[0] == 100 and max(sizes[1:]) <= 64


def test_one_answer_comes_from_one_version(start, make_client):
    """A new version appears while the parts of a batch are under way."""
    count = iter(range(100))

    def behave(request, context):
        pinned = request.model_spec.version.value if request.model_spec.HasField("version") else None
        version = pinned or (2 if next(count) >= 2 else 1)
        rows = request.inputs["images"].tensor_shape.dim[0].size
        answer = predict_response(
            request, classes=np.full(rows, version), probabilities=np.full((rows, 10), 0.1, np.float32)
        )
        answer.model_spec.version.value = version
        return answer

    server = start(Predict=behave)
    prediction = make_client(server, max_rows=10, max_in_flight=1).predict(np.zeros((40, 28, 28), np.uint8))
    assert prediction.version == 2 and prediction.classes.tolist() == [2] * 40
    assert [request.model_spec.version.value for request in server.requests] == [0, 0, 0, 0, 2, 2]


def test_so_it_does_when_the_newer_version_is_taken_back(start, make_client):
    count = iter(range(100))

    def behave(request, context):
        pinned = request.model_spec.version.value if request.model_spec.HasField("version") else None
        if pinned == 2:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(mnist, 2)")
        answer = predict(request, context)
        answer.model_spec.version.value = pinned or (1 if next(count) >= 2 else 2)
        return answer

    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    prediction = make_client(start(Predict=behave), max_rows=10, max_in_flight=1).predict(images)
    assert prediction.version == 1 and prediction.classes.tolist() == (images[:, 0, 0] % 10).tolist()


def test_one_failing_part_fails_the_call_and_names_its_rows(start, make_client):
    def behave(request, context):
        if 7 in request.inputs["images"].tensor_content:
            context.abort(grpc.StatusCode.INTERNAL, "seven")
        return predict(request, context)

    images = np.zeros((40, 28, 28), np.uint8)
    images[25] = 7
    with pytest.raises(ServerError, match=r"model mnist \(rows 20 to 29\) at 127.0.0.1:\d+: seven \(INTERNAL\)"):
        make_client(start(Predict=behave), max_rows=10).predict(images)


def test_run_takes_and_gives_any_tensors(start, make_client):
    inputs = {
        "text": np.array([["a", "ä"]]),
        "scalar": 2.5,
        "empty": np.zeros((0, 3), np.int64),
        "complex": np.array([1j], np.complex64),
        "half": np.array([0.5], np.float16),
        "given": to_tensor([1, 2], "qint8"),
    }
    server = start(Predict=echo)
    outputs = make_client(server).run("anything", inputs, signature="other", version=7, outputs=["text", "scalar"])
    assert outputs["text"].tolist() == [[b"a", "ä".encode()]]
    assert outputs["scalar"].shape == () and outputs["scalar"].dtype == np.float32
    assert outputs["empty"].shape == (0, 3) and outputs["half"].dtype == np.float16
    assert outputs["given"].tolist() == [1, 2]
    assert (outputs.model_name, outputs.version, outputs.signature) == ("anything", 7, "other")
    assert "scalar: float32 []\n2.5" in str(outputs)
    (request,) = server.requests
    assert list(request.output_filter) == ["text", "scalar"] and request.model_spec.version.value == 7


def test_run_splits_what_is_called_a_batch(start, make_client):
    server = start(Predict=echo)
    client = make_client(server, max_rows=3)
    inputs = {"x": np.arange(10.0), "names": [str(number) for number in range(10)]}
    outputs = client.run("m", inputs, batched=True)
    assert outputs["x"].tolist() == list(range(10)) and outputs["names"].tolist() == [b"%d" % n for n in range(10)]
    assert len(server.requests) == 4
    assert client.run("m", inputs)["x"].tolist() == list(range(10)) and len(server.requests) == 5
    with pytest.raises(InvalidInput, match=r"inputs x \[2\], y \[3\] are not a batch; expected the same first"):
        client.run("m", {"x": np.zeros(2), "y": np.zeros(3)}, batched=True)


@pytest.mark.parametrize("dtype", ["qint8", "bfloat16", "string", "int64"])
def test_tensors_keep_their_type_in_the_parts_of_a_batch(start, make_client, dtype):
    given = to_tensor(
        ["a", "b", "c"] if dtype == "string" else np.array([1, 2, 3], np.float32 if dtype == "bfloat16" else np.int8),
        dtype,
    )
    server = start(Predict=echo)
    outputs = make_client(server, max_rows=1).run("m", {"x": given}, batched=True)
    assert {request.inputs["x"].dtype for request in server.requests} == {given.dtype} and len(server.requests) == 3
    assert outputs["x"].tolist() == ([b"a", b"b", b"c"] if dtype == "string" else [1, 2, 3])


def test_a_broken_tensor_is_the_callers_mistake(start, make_client):
    broken = to_tensor(np.zeros(4, np.float32))
    broken.tensor_content = b"short"
    server = start()
    with pytest.raises(InvalidInput, match=r"input 'x': a tensor of float32 \[4\] has 5 bytes of content"):
        make_client(server, max_rows=2).run("m", {"x": broken}, batched=True)
    assert not server.requests


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.predict(IMAGES, model="\udcff"),
        lambda client: client.predict(IMAGES, label="\udcff"),
        lambda client: client.run("m", {"\udcff": IMAGES}),
        lambda client: client.run("m", {"x": ["\udcff"]}),
        lambda client: client.run("m", {"x": IMAGES}, outputs=["\udcff"]),
        lambda client: client.classify({"\udcff": 1}),
        lambda client: client.classify({"text": "\udcff"}),
        lambda client: client.reload([ServedModel(name="\udcff", base_path="/models")]),
        lambda client: client.health("\udcff"),
    ],
    ids=["model", "label", "input", "text", "output", "feature", "text of a feature", "served model", "service"],
)
def test_what_is_no_text_is_refused_before_sending(start, make_client, ask):
    server = start()
    with pytest.raises(InvalidInput, match=r"'\\udcff' cannot be sent: not valid Unicode"):
        ask(make_client(server))
    assert not server.requests


@pytest.mark.parametrize("version", [2**63, -(2**70)])
def test_a_version_beyond_64_bits_is_refused(start, make_client, version):
    with pytest.raises(InvalidInput, match=f"version={version}; expected an integer of 64 bits"):
        make_client(start()).predict(IMAGES, version=version)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"probabilities": np.full((6, 10), "x")}, "probabilities of dtype object; expected integers and real"),
        ({"classes": np.zeros(6, np.float32)}, "classes of dtype float32"),
    ],
    ids=["text", "float classes"],
)
def test_probabilities_that_are_none_are_bad_answers(start, make_client, outputs, message):
    good = {"classes": np.zeros(6, np.int64), "probabilities": np.full((6, 10), 0.1, np.float32)}
    server = start(Predict=lambda request, context: predict_response(request, **good | outputs))
    with pytest.raises(InvalidResponse, match=message):
        make_client(server).predict(IMAGES)


def test_a_picture_is_not_read_by_probabilities_that_are_no_numbers(start, make_client):
    def behave(request, context):
        rows = request.inputs["images"].tensor_shape.dim[0].size
        nan = np.full((rows, 10), np.nan, np.float32)
        return predict_response(request, classes=np.zeros(rows, np.int64), probabilities=nan)

    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:15] = 255
    with pytest.raises(InvalidResponse, match="model mnist at .*: some probabilities are NaN or infinite"):
        make_client(start(Predict=behave)).read(picture)


def test_outputs_that_are_no_batch_are_not_joined(start, make_client):
    server = start(Predict=lambda request, context: predict_response(request, mean=np.float32(1)))
    with pytest.raises(InvalidResponse, match=r"output 'mean' is not a batch.*call run\(\) with batched=False"):
        make_client(server, max_rows=2).run("m", {"x": np.zeros(4)}, batched=True)


def test_a_label_goes_out_as_a_label(start, make_client):
    server = start()
    client = make_client(server, model="other")
    client.predict(IMAGES, label="stable")
    assert server.requests[0].model_spec.version_label == "stable" and server.requests[0].model_spec.name == "other"
    with pytest.raises(InvalidInput, match="version=1 and label='stable' were given; give one of them"):
        client.predict(IMAGES, version=1, label="stable")


def test_classify_gives_labels_in_the_models_order(start, make_client):
    def behave(request, context):
        response = wire.ClassificationResponse(model_spec=answered(request, version=3))
        for example in request.input.example_list.examples:
            found = response.result.classifications.add()
            found.classes.add(label="zero", score=0.2)
            found.classes.add(label=example.features.feature["text"].bytes_list.value[0].decode(), score=0.8)
        return response

    server = start(Classify=behave)
    client = make_client(server)
    first, second = client.classify([{"text": "one"}, {"text": "two"}])
    assert [one.name for one in first.classes] == ["zero", "one"] and second.best.name == "two"
    assert str(second) == "two (0.8), zero (0.2)" and first.version == 3
    assert client.classify({"text": "x"})[0].best.name == "x"
    assert server.requests[0].model_spec.signature_name == "classify"
    with pytest.raises(InvalidInput, match="no examples to classify"):
        client.classify([])
    with pytest.raises(InvalidInput, match="feature 'x' holds 9223372036854775808; expected 9223372036854775807"):
        client.classify({"x": np.array([2**63], np.uint64)})
    with pytest.raises(InvalidInput, match="feature 'x' is not a list of values"):
        client.classify({"x": [[1], [2, 3]]})


def test_metadata_prints_as_a_table(start, make_client):
    found = make_client(start()).metadata()
    assert str(found).splitlines()[1] == "serving_default  in   images         uint8 [-1, 28, 28]"
    assert found.signatures["serving_default"].outputs["classes"].dtype == "int64"


def test_status_lists_versions_newest_first(start, make_client):
    answer = status_response((1, "END", "no such op"), (3, "LOADING", ""), (2, "AVAILABLE", ""))
    status = make_client(start(GetModelStatus=lambda request, context: answer)).status()
    assert [one.version for one in status.versions] == [3, 2, 1] and status.available == (2,)
    assert str(status).splitlines()[3] == "mnist  1        END        no such op"


def test_waiting_ends_when_a_version_is_available(start, make_client):
    loading = failing(
        (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model mnist"),
        (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model mnist"),
        then=lambda request, context: answers.pop(0),
    )
    answers = [status_response((1, "LOADING", "")), status_response((1, "AVAILABLE", ""))]
    assert make_client(start(GetModelStatus=loading)).wait_until_ready().available == (1,)


def test_waiting_ends_when_no_version_can_load(start, make_client):
    answer = status_response((1, "END", "no such op"))
    with pytest.raises(ServerError, match=r"version 1: END \(no such op\); the version does not load"):
        make_client(start(GetModelStatus=lambda request, context: answer)).wait_until_ready()


def test_waiting_for_what_never_comes_says_what_it_saw(start, make_client):
    answer = status_response((1, "LOADING", ""))
    with pytest.raises(TimeoutError, match=r"not ready after 0.3 s: version 1: LOADING"):
        make_client(start(GetModelStatus=lambda request, context: answer)).wait_until_ready(timeout_s=0.3)


def test_waiting_for_a_server_that_is_not_there_says_so(start, make_client):
    server = start()
    server.stop()
    with pytest.raises(TimeoutError, match=r"not ready after 0.5 s: .*; are address and name right"):
        make_client(server).wait_until_ready(timeout_s=0.5)


def test_a_state_of_a_newer_server_is_shown_by_its_number(start, make_client):
    answer = wire.GetModelStatusResponse()
    answer.model_version_status.add(version=1, state=77)
    server = start(GetModelStatus=lambda request, _: answer, Check=lambda *_: wire.HealthCheckResponse(status=9))
    assert str(make_client(server).status().versions[0]) == "version 1: 77"
    assert make_client(server).health() == "9"


def test_reload_sends_a_configuration(start, make_client):
    def behave(request, context):
        response = wire.ReloadConfigResponse()
        response.metric.add(name="loads", int64_value_increase=1)
        return response

    server = start(HandleReloadConfigRequest=behave)
    models = [ServedModel(name="a", base_path="/models/a", versions=(1, 2), labels={"stable": 1})]
    assert make_client(server).reload(models, metrics=["loads"]) == {"loads": 1}
    (config,) = server.requests[0].config.model_config_list.config
    assert (config.name, config.base_path, dict(config.version_labels)) == ("a", "/models/a", {"stable": 1})


def test_reload_reads_the_status_in_the_answer(start, make_client):
    answer = wire.ReloadConfigResponse()
    answer.status.error_code, answer.status.error_message = wire.INVALID_ARGUMENT, "Illegal to list model a"
    with pytest.raises(ServerError, match=r"Illegal to list model a; .*refused \(INVALID_ARGUMENT\)"):
        make_client(start(HandleReloadConfigRequest=lambda request, context: answer)).reload([])


def test_health_is_what_the_health_service_says(start, make_client):
    server = start(Check=lambda request, context: wire.HealthCheckResponse(status="NOT_SERVING"))
    assert make_client(server).health("PredictionService") == "NOT_SERVING"
    assert server.requests[0].service == "PredictionService"


def test_health_that_is_switched_off_names_the_switch(start, make_client):
    with pytest.raises(NotSupported, match="--enable_grpc_healthcheck_service=true"):
        make_client(start()).health()


CODES = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "words", "kind", "hint"),
    [
        (CODES.NOT_FOUND, "Servable not found for request: Latest(mnist)", ModelNotFound, "--model_name"),
        (CODES.NOT_FOUND, "Servable not found for request: Specific(mnist, 7)", VersionNotFound, "inkling status"),
        (CODES.INVALID_ARGUMENT, "Unrecognized servable version label: x", VersionNotFound, "version_labels"),
        (CODES.FAILED_PRECONDITION, 'Serving signature key "x" not found.', SignatureNotFound, "inkling metadata"),
        (CODES.INVALID_ARGUMENT, "input size does not match signature: 0!=1", InvalidInput, "inkling metadata"),
        (CODES.INTERNAL, "kernel\nfailed", ServerError, "server's log"),
        (CODES.UNKNOWN, "", ServerError, "server's log"),
    ],
)
def test_a_status_becomes_an_error_of_the_tree(start, make_client, code, words, kind, hint):
    server = start(Predict=failing((code, words)))
    with pytest.raises(kind) as caught:
        make_client(server).predict(IMAGES)
    error = caught.value
    assert type(error) is kind and error.status is code and hint in error.hint
    assert error.details == " ".join(words.split()) or "no details from" in error.details
    assert str(error).startswith(f"model mnist at {server.address}: ") and "\n" not in str(error)
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\xff\xff\xff", "3 bytes that are not a PredictResponse"),
        (b"", "the model gave no outputs; expected classes and probabilities"),
        (wire.PredictResponse(outputs={"y": to_tensor([1.0])}), "the model gave y; expected classes and probabilities"),
        (
            wire.PredictResponse(outputs={"classes": to_tensor([1]), "probabilities": to_tensor([[1.0]])}),
            r"classes \[1\] and probabilities \[1, 1\] for 6 images; expected \[6\]",
        ),
        (
            wire.PredictResponse(outputs={"classes": wire.TensorProto(dtype=1, tensor_content=b"abc")}),
            "output 'classes': a tensor of float32 .* has 3 bytes of content; expected 4",
        ),
    ],
    ids=["garbage", "empty", "other outputs", "too few rows", "broken tensor"],
)
def test_wrong_messages_are_bad_answers(start, make_client, caplog, answer, message):
    server = start(Predict=lambda request, context: answer)
    with pytest.raises(InvalidResponse, match=message) as caught:
        make_client(server).predict(IMAGES)
    assert caught.value.address == server.address and "another kind or version" in str(caught.value)
    assert not caplog.records


@pytest.mark.parametrize("any_value", [b"\xff\xff", b""], ids=["garbage", "another type"])
def test_wrong_metadata_is_a_bad_answer(start, make_client, any_value):
    answer = wire.GetModelMetadataResponse()
    if any_value:
        answer.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    answer.metadata["signature_def"].value = any_value
    with pytest.raises(InvalidResponse):
        make_client(start(GetModelMetadata=lambda request, context: answer)).metadata()


SIGNATURE = {
    "inputs": {"x": (wire.DT_FLOAT, (-1, 2)), "names": (wire.DT_STRING, (-1,))},
    "outputs": {"y": (wire.DT_FLOAT, None)},
}
GOOD = {"x": np.zeros((1, 2), np.float32), "names": ["a"]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"x": GOOD["x"], "name": ["a"]}, [], "there is no input 'name'; there are: names, x; did you mean 'names'?"),
        ({"x": GOOD["x"]}, [], r"an input is missing: 'names' \(string \[-1\]\)"),
        (GOOD | {"x": np.zeros((1, 2))}, [], r"input 'x' is float64, expected float32 .*\.astype\('float32'\)"),
        (GOOD | {"x": np.zeros((1, 3), np.float32)}, [], r"input 'x' has shape \[1, 3\], expected \[-1, 2\]"),
        (GOOD | {"x": np.zeros(2, np.float32)}, [], r"input 'x' has shape \[2\], expected \[-1, 2\]"),
        (GOOD, ["z"], "there is no output 'z'; there are: y"),
    ],
    ids=["unknown", "missing", "dtype", "dimension", "rank", "output"],
)
def test_inputs_are_checked_before_sending_when_asked(start, make_client, inputs, outputs, message):
    server = start(
        Predict=echo, GetModelMetadata=lambda request, _: metadata_response(request, serving_default=SIGNATURE)
    )
    client = make_client(server, check_inputs=True)
    client.run("m", GOOD)
    with pytest.raises(InvalidInput, match=message):
        client.run("m", inputs, outputs=outputs)
    with pytest.raises(SignatureNotFound, match="no signature 'serve_default'; .*did you mean 'serving_default'"):
        client.run("m", GOOD, signature="serve_default")
    assert [type(request) for request in server.requests].count(wire.PredictRequest) == 1
    client.run("m", inputs, outputs=outputs, check=False)


def test_metadata_for_checks_is_fetched_once_for_each_version(start, make_client):
    versions = [1]

    def describe(request, context):
        answer = metadata(request, context)
        answer.model_spec.version.value = versions[-1]
        return answer

    def behave(request, context):
        answer = predict(request, context)
        answer.model_spec.version.value = versions[-1]
        return answer

    server = start(Predict=behave, GetModelMetadata=describe)
    client = make_client(server, check_inputs=True)

    def fetched():
        return [type(request) for request in server.requests].count(wire.GetModelMetadataRequest)

    for _ in range(3):
        client.predict(IMAGES)
    assert fetched() == 1
    versions.append(2)
    client.predict(IMAGES)  # its answer tells that version 2 is served by now
    client.predict(IMAGES)
    client.predict(IMAGES)
    assert fetched() == 2


def test_a_check_that_fails_asks_the_server_again_first(start, make_client):
    signatures = [SIGNATURE]
    server = start(
        Predict=echo, GetModelMetadata=lambda request, _: metadata_response(request, serving_default=signatures[-1])
    )
    client = make_client(server, check_inputs=True)
    client.run("m", GOOD)
    signatures.append({"inputs": {"z": (wire.DT_INT32, None)}, "outputs": {"y": (wire.DT_FLOAT, None)}})
    assert client.run("m", {"z": 3})["z"] == 3


def test_a_closed_client_says_so(start, make_client):
    client = make_client(start())
    client.predict(IMAGES)
    client.close()
    with pytest.raises(InklingError, match="closed"):
        client.predict(IMAGES)
    with pytest.raises(InklingError, match="closed"):
        client.predict(np.zeros((5000, 28, 28), np.uint8))


def test_one_client_serves_many_threads(start):
    with Client(start().address) as client:
        found = [None] * 16

        def ask(number):
            image = np.full((28, 28), number, np.uint8)
            found[number] = {int(client.predict(image).classes[0]) for _ in range(20)}

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [{number % 10} for number in range(16)]


def test_one_async_client_serves_many_tasks(start):
    async def ask_all():
        async with AsyncClient(start().address) as client:
            images = [np.full((28, 28), number, np.uint8) for number in range(100)]
            return await asyncio.gather(*(client.predict(image) for image in images))

    predictions = asyncio.run(ask_all())
    assert [int(prediction.classes[0]) for prediction in predictions] == [number % 10 for number in range(100)]
