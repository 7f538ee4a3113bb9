"""Calls of the Open Inference Protocol, by gRPC's generic calls and by plain HTTP."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from inkling.serving.proto import open_inference_pb2 as messages
from inkling.serving.v2.contents import to_raw
from inkling.serving.v2.datatypes import datatype_of
from tests.patience import PATIENCE_S

SERVICE = "inference.GRPCInferenceService"


def ask_grpc(channel, rpc, **fields):
    """The response to one RPC of the protocol."""
    request, response = getattr(messages, f"{rpc}Request"), getattr(messages, f"{rpc}Response")
    call = channel.unary_unary(
        f"/{SERVICE}/{rpc}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    return call(request(**fields), timeout=PATIENCE_S)


def as_strings(values):
    """A NumPy array of bytes objects."""
    return np.array(values, object)


def infer_request(model, inputs, *, version="", signature="", label="", outputs=(), identifier=""):
    """A ModelInferRequest with raw contents."""
    request = messages.ModelInferRequest(model_name=model, model_version=version, id=identifier)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(name, array.dtype), shape=array.shape)
        request.raw_input_contents.append(to_raw(array))
    for name, value in (("signature_name", signature), ("version_label", label)):
        if value:
            request.parameters[name].string_param = value
    for name in outputs:
        request.outputs.add(name=name)
    return request


def send(channel, request):
    """The response to a ModelInferRequest."""
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelInferResponse.FromString,
    )
    return call(request, timeout=PATIENCE_S)


def ask_http(server, path, body=None, headers=None):
    """Status, headers and body of an answer; a body makes it a POST, and what is no bytes becomes JSON."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.rest_url + path, content, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture
def infer(server):
    """Send an inference in JSON: infer(model, [inputs], **members) gives status and document."""

    def post(model, inputs, *, version="", **members):
        choice = f"/versions/{version}" if version else ""
        status, _, body = ask_http(server, f"/v2/models/{model}{choice}/infer", {"inputs": inputs, **members})
        return status, json.loads(body)

    return post
