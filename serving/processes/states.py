"""One answer of what several processes say about their models' versions."""

from collections.abc import Sequence

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from ..errors import ServingError
from .messages import Outcome

START, LOADING, AVAILABLE, UNLOADING, END = (
    ModelVersionStatus.START,
    ModelVersionStatus.LOADING,
    ModelVersionStatus.AVAILABLE,
    ModelVersionStatus.UNLOADING,
    ModelVersionStatus.END,
)


def merged_status(outcomes: Sequence[Outcome]) -> GetModelStatusResponse:
    """What GetModelStatus answers, of the answers of all processes.

    Raises: ServingError if no process knows the version, or one has failed otherwise.
    """
    found: dict[int, list[ModelVersionStatus]] = {}
    answers = []
    unknown: ServingError | None = None
    for outcome in outcomes:
        try:
            answers.append(GetModelStatusResponse.FromString(outcome.result()))
        except ServingError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            unknown = error
    if not answers and unknown is not None:
        raise unknown
    for answer in answers:
        for status in answer.model_version_status:
            found.setdefault(status.version, []).append(status)
    response = GetModelStatusResponse()
    for number in sorted(found, reverse=True):
        _fill(response.model_version_status.add(), found[number], is_everywhere=len(found[number]) == len(outcomes))
    return response


def _fill(merged: ModelVersionStatus, statuses: Sequence[ModelVersionStatus], *, is_everywhere: bool) -> None:
    merged.CopyFrom(next((status for status in statuses if status.status.error_code), statuses[0]))
    merged.state = merged_state({status.state for status in statuses}, is_everywhere=is_everywhere)
    if merged.state != END:
        merged.ClearField("status")
        merged.status.error_code = 0


def merged_state(states: set[int], *, is_everywhere: bool) -> int:
    """The state of a version over all processes: it is available when all have it.

    Args:
        states: its states in the processes that know it.
        is_everywhere: whether all know it; one that does not has not looked at the base path yet.
    """
    if states == {AVAILABLE}:
        return AVAILABLE if is_everywhere else LOADING
    if UNLOADING in states or {AVAILABLE, END} <= states:
        return UNLOADING
    if states == {END}:
        return END
    return START if states == {START} else LOADING
