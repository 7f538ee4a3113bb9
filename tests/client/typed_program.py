"""A program of a user, which takes public names of the client only: type checkers must find nothing in it.

`test_types.py` has mypy check it against the package as it is installed, and runs it.
"""

from typing import assert_type

import numpy as np

from inkling.client import (
    TLS,
    AsyncClient,
    Classification,
    ClassScore,
    Client,
    InklingError,
    InvalidInput,
    MessageTooLarge,
    ModelMetadata,
    ModelStatus,
    Outputs,
    Prediction,
    Retry,
    ServedModel,
    Settings,
)

IMAGES = np.zeros((2, 28, 28), np.uint8)


def ask(address: str) -> str:
    """What a server says about two images."""
    with Client(address, model="mnist", timeout_s=30, retry=Retry(attempts=2), tls=None, token=None) as client:
        assert_type(client.settings, Settings)
        assert_type(client.wait_until_ready(timeout_s=60), ModelStatus)
        assert_type(client.metadata("mnist", version=1, timeout_s=5), ModelMetadata)
        prediction = client.predict(IMAGES, version=1, label=None, check=True, timeout_s=5)
        assert_type(prediction, Prediction)
        assert_type((prediction.model_name, prediction.version), tuple[str, int])
        outputs = client.run(
            "mnist", {"images": IMAGES}, signature="serving_default", outputs=["classes"], batched=True
        )
        assert_type(outputs, Outputs)
        for number, probability in prediction:
            assert_type((number, probability), tuple[int, float])
        return str(prediction.classes.tolist())


def classify(client: Client, png: bytes) -> ClassScore:
    """The best class of an example."""
    found = client.classify({"image/encoded": png}, signature="classify", model="mnist", context={"source": "scan"})
    assert_type(found, list[Classification])
    return found[0].best


def reload(client: Client) -> dict[str, int]:
    """Have the server serve two versions of a model."""
    return client.reload([ServedModel(name="mnist", base_path="/models/mnist", latest=2)], metrics=["loads"])


async def ask_async(address: str) -> Prediction:
    """The same on asyncio, over TLS."""
    async with AsyncClient([address, "10.0.0.8:8500"], tls=TLS(ca="ca.pem"), token=lambda: "secret") as client:
        return await client.predict(IMAGES, model="mnist", label="stable")


def explain(error: InklingError) -> str:
    """What to tell a user."""
    match error:
        case MessageTooLarge(side=side):
            return f"over the {side}'s limit"
        case InvalidInput():
            return error.details
        case _:
            return f"{error.status.name if error.status else 'none'} at {error.address}: {error.hint}"
