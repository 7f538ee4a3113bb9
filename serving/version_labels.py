"""Which version a label stands for: changes of a model server's configuration, as values.

A label is a name that callers use in place of a number: `stable` for all, `canary` for the few who try the next
version. The version that `stable` pointed at before has a label too, `previous`, so that the way back needs no other
memory than the configuration. The versions that labels point at are the ones that are served.
"""

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from .errors import failed_precondition, not_found

STABLE = "stable"
CANARY = "canary"
PREVIOUS = "previous"


def find_model(config: ModelServerConfig, name: str) -> ModelConfig:
    """The model's part of the configuration.

    Raises: ServingError.
    """
    for model in config.model_config_list.config:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in config.model_config_list.config) or "none"
    raise not_found(f"there is no model {name!r} in the configuration; it has: {known}")


def promoted(config: ModelServerConfig, *, model_name: str, version: int, label: str) -> ModelServerConfig:
    """The configuration with `label` on `version`; with `stable`, `previous` goes to where that was.

    A canary that is not on trial, being where `stable` is, moves with it.

    Raises: ServingError if there is no such model.
    """
    after = _copy(config)
    labels = find_model(after, model_name).version_labels
    if label == STABLE and labels.get(STABLE, version) != version:
        labels[PREVIOUS] = labels[STABLE]
        if labels.get(CANARY) == labels[STABLE]:
            labels[CANARY] = version
    labels[label] = version
    _serve_what_is_labelled(find_model(after, model_name))
    return after


def rolled_back(config: ModelServerConfig, *, model_name: str) -> ModelServerConfig:
    """The configuration with `stable` where it was before the last promotion, and `canary`, where there is one, too.

    Raises: ServingError if there is no such model, or no version before.
    """
    after = _copy(config)
    labels = find_model(after, model_name).version_labels
    if PREVIOUS not in labels:
        has = ", ".join(f"{label} {version}" for label, version in sorted(labels.items())) or "no labels"
        raise failed_precondition(
            f"model {model_name!r} has no version to go back to ({has}); name one with `promote --version N`"
        )
    labels[STABLE], labels[PREVIOUS] = labels[PREVIOUS], labels[STABLE]
    if CANARY in labels:
        labels[CANARY] = labels[STABLE]  # whatever was on trial, its callers want to be safe now as well
    _serve_what_is_labelled(find_model(after, model_name))
    return after


def with_versions_of(config: ModelServerConfig, after: ModelServerConfig, *, model_name: str) -> ModelServerConfig:
    """`config` with its labels, serving the versions of `after` besides: the step before the labels move.

    A label must point at a version that is loaded, and one that moves away must find its old version still there.
    """
    between = _copy(config)
    model = find_model(between, model_name)
    target = find_model(after, model_name).model_version_policy.specific.versions
    versions = {*model.version_labels.values(), *model.model_version_policy.specific.versions, *target}
    _serve(model, versions)
    return between


def _copy(config: ModelServerConfig) -> ModelServerConfig:
    copy = ModelServerConfig()
    copy.CopyFrom(config)
    return copy


def _serve_what_is_labelled(model: ModelConfig) -> None:
    _serve(model, set(model.version_labels.values()))


def _serve(model: ModelConfig, versions: set[int]) -> None:
    model.model_version_policy.Clear()
    model.model_version_policy.specific.versions.extend(sorted(versions))
