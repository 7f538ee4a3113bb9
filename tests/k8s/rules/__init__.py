"""What no schema says about the manifests: each rule takes the objects of an overlay and returns what breaks it.

`broken.py` has a variant that breaks each of them.
"""

from collections.abc import Callable

from tests.k8s.manifests import Object
from tests.k8s.rules import access, applied, batch, canary, flags, network, pods, queues, ray, references, scaling

Rule = Callable[[list[Object]], list[str]]

MODULES = (pods, references, scaling, flags, ray, network, applied, queues, canary, batch, access)
RULES: dict[str, Rule] = {rule.__name__: rule for module in MODULES for rule in module.RULES}
