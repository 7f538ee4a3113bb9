"""KServe's Python SDK at work: one inference by each of its ways, in a process of its own.

    python -m tests.serving.v2.kserve_client ASKED.npz MODEL SIGNATURE OUTPUT,… GRPC_ADDRESS REST_URL

ASKED holds the inputs by name. By each way, `grpc`, `rest binary`, `rest json`, `WAY.npz` beside it gets the outputs.
The SDK registers its messages under the names of Triton's, so that one process cannot have both.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype


def request_of(model, signature, outputs, arrays, *, binary):
    """An inference of `arrays` by their names."""
    inputs = []
    for name, array in arrays.items():
        inputs.append(InferInput(name, list(array.shape), from_np_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    wanted = [RequestedOutput(name, {"binary_data": True} if binary else None) for name in outputs]
    parameters = {"signature_name": signature}
    return InferRequest(model, inputs, request_id="7", parameters=parameters, request_outputs=wanted)


async def ask(what, address, url):
    """The responses, by the way of asking."""
    async with InferenceGRPCClient(address) as over_grpc:
        over_rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            model = what[0]
            for client, place in ((over_grpc, ()), (over_rest, (url,))):
                assert await client.is_server_live(*place) and await client.is_server_ready(*place)
                assert await client.is_model_ready(*place, model_name=model)
            return {
                "grpc": await over_grpc.infer(request_of(*what, binary=True)),
                "rest binary": await over_rest.infer(url, request_of(*what, binary=True), model_name=model),
                "rest json": await over_rest.infer(url, request_of(*what, binary=False), model_name=model),
            }
        finally:
            await over_rest.close()


def main():
    """Ask, and write down what was answered."""
    file, model, signature, outputs, *places = sys.argv[1:]
    what = model, signature, outputs.split(","), dict(np.load(file, allow_pickle=True))
    responses = asyncio.run(ask(what, *places))
    for way, response in responses.items():
        assert response.id == "7" and response.model_name == model
        np.savez(Path(file).parent / f"{way}.npz", **{output.name: output.as_numpy() for output in response.outputs})


if __name__ == "__main__":
    main()
