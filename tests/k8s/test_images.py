"""The real Dockerfiles, built, and run as the manifests run them: train, publish, serve, read, drain."""

import contextlib
import json
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inkling.train.mnist
from inkling.client import Client
from tests.k8s import manifests
from tests.k8s.engine import Engine, find_engine, wait_for
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.process, pytest.mark.release, pytest.mark.timeout(7200)]

UID = 10001
VERSION = (manifests.ROOT / "VERSION").read_text().strip()
IMAGES = {"train": "train", "serving": "serving", "client": "client", "batch": "client"}  # and the program in each
EXAMPLES = 20_000  # of MNIST: enough for 96 % after one epoch, in a third of the time


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    found = find_engine()
    found.build(tmp_path_factory.mktemp("pip"))
    return found


@pytest.fixture(scope="module")
def local() -> list[manifests.Object]:
    return manifests.overlay("local")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A folder for models and runs that the images' user may write, as the volume is."""
    folder = tmp_path_factory.mktemp("repository")
    for path in (folder, *(folder / name for name in ("models", "runs"))):
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    for parent in folder.parents:  # pytest closes its folders to others
        if os.stat(parent).st_uid == os.geteuid() and not os.stat(parent).st_mode & 0o001:
            parent.chmod(os.stat(parent).st_mode | 0o011)
    return folder


@pytest.fixture(scope="module")
def some_of_mnist(repository) -> Path:
    with np.load(Path(inkling.train.mnist.__file__).parent / "mnist.npz") as data:
        some = {name: data[name][:EXAMPLES] for name in data.files}
    np.savez(repository / "mnist.npz", **some)
    return repository / "mnist.npz"


def _template(objects: list[manifests.Object], name: str) -> tuple[manifests.Object, manifests.Object]:
    """(the main container, its pod template) by the name that rules give it."""
    [template] = [template for item in objects for found, template in manifests.pod_templates(item) if found == name]
    return template["spec"]["containers"][0], template


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_what_it_is_and_runs_as_a_number(engine, name):
    [image] = json.loads(engine.call("image", "inspect", f"localhost/inkling/{name}:{VERSION}"))
    config = image["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Labels"]["org.opencontainers.image.title"] == f"inkling-{name}"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert "PIP_INDEX_URL" not in str(config["Env"])


@pytest.mark.parametrize(("name", "program"), IMAGES.items())
def test_an_image_holds_its_own_program_and_no_build_tools(engine, name, program):
    code = (
        "import importlib.util, shutil, sys; "
        "print([p for p in ('train', 'serving', 'client') if importlib.util.find_spec(f'inkling.{p}')], "
        "importlib.util.find_spec('pip'), [t for t in ('gcc', 'ld', 'strip') if shutil.which(t)], sys.prefix)"
    )
    image = f"localhost/inkling/{name}:{VERSION}"
    output = engine.call("run", "--rm", "--network=none", *engine.limits(), "--entrypoint=python", image, "-c", code)
    assert output.strip() == f"[{program!r}] None [] /opt/inkling"


@pytest.mark.parametrize(("name", "program"), IMAGES.items())
def test_an_image_comes_with_its_bill_of_materials(engine, name, program):
    bill = json.loads((manifests.ROOT / f"build/images/{name}-{VERSION}.cdx.json").read_text())
    found = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert {f"pkg:pypi/inkling-{program}", "pkg:pypi/numpy", "pkg:deb/debian/libc6"} <= found


def test_the_batch_image_has_all_that_a_job_on_ray_takes(engine):
    """With the head's dashboard, by which jobs are submitted; and the flags of KubeRay's own command."""
    code = "import cv2, pyarrow.fs, ray.data, ray.dashboard.modules.job.sdk, inkling.client.batch.pool; print('all')"
    image = f"localhost/inkling/batch:{VERSION}"
    options = ["--rm", "--network=none", "--read-only", "--tmpfs=/tmp", *engine.limits()]
    assert engine.call("run", *options, "--entrypoint=python", image, "-c", code).endswith("all\n")
    assert "--object-store-memory" in engine.call("run", *options, "--entrypoint=ray", image, "start", "--help")
    assert "PICTURES OUTPUT" in engine.call("run", *options, image, "--help")


def test_the_train_image_and_the_serving_image_share_tensorflow(engine):
    layers = [
        set(json.loads(engine.call("image", "inspect", f"localhost/inkling/{name}:{VERSION}"))[0]["RootFS"]["Layers"])
        for name in ("train", "serving")
    ]
    assert len(layers[0] & layers[1]) >= 3  # the base's, the account's and TensorFlow's


@pytest.fixture(scope="module")
def trained(engine, local, repository, some_of_mnist) -> Path:
    """The model that a RayJob's own commands have trained and published, in one container that is head and worker."""
    job = manifests.find(local, "RayJob", "train")["spec"]
    container, template = _template(local, "RayJob/train head")
    mounts = {"/models": repository / "models", "/runs": repository / "runs", "/data": some_of_mnist.parent}
    container["volumeMounts"].append({"name": "data", "mountPath": "/data", "readOnly": True})
    # As KubeRay puts them together, in pod.go and job.go. A network of its own, lest other Rays are in the way.
    start = (
        "ulimit -n 65536; ray start --head --block --dashboard-agent-listen-port=52365 --dashboard-host=0.0.0.0 "
        "--metrics-export-port=8080 --num-cpus=1 --object-store-memory=536870912"
    )
    entrypoint = job["entrypoint"] + " --epochs 1 --min-accuracy 0.9 --data /data/mnist.npz"
    address = "http://127.0.0.1:8265"
    submit = (
        f"ray job submit --address {address} --no-wait --submission-id $RAY_JOB_SUBMISSION_ID -- {entrypoint} ; "
        f"ray job logs --address {address} --follow $RAY_JOB_SUBMISSION_ID ; "
        f"ray job status --address {address} $RAY_JOB_SUBMISSION_ID"
    )
    # What the kubelet asks for KubeRay, which gives its pods a token besides.
    probe = "import urllib.request as r; print(r.urlopen('http://localhost:52365/api/healthz', timeout=5).status)"
    container["env"] = [{"name": "RAY_AUTH_MODE", "value": "token"}, {"name": "RAY_AUTH_TOKEN", "value": "secret"}]
    submitter = {e["name"]: e["value"] for e in job["submitterPodTemplate"]["spec"]["containers"][0]["env"]}

    def is_ready() -> bool:
        with contextlib.suppress(AssertionError):
            return engine.execute(head, ["python", "-c", probe]).strip() == "200"
        return False

    arguments = ["-c", "--", start]
    with engine.running(
        container, template, mounts=mounts, network="none", entrypoint="/bin/bash", arguments=arguments
    ) as head:
        wait_for(is_ready, "Ray's head is healthy")
        command = ["/bin/bash", "-c", "--", submit]
        output = engine.execute(head, command, timeout=3600, RAY_JOB_SUBMISSION_ID="train-abcde", **submitter)
        assert "succeeded" in output, output
    return repository / "models"


def test_a_rayjobs_commands_train_and_publish_in_the_train_image(trained, repository):
    assert (trained / "mnist" / "1" / "saved_model.pb").is_file()
    assert [path.name for path in (repository / "runs").iterdir()] == ["train"]  # named like the RayJob
    assert (trained / "mnist" / "1" / "saved_model.pb").stat().st_uid == UID


@pytest.fixture
def serving(engine, local, trained, tmp_path):
    """The embedded server's container with the local overlay's flags, files and limits; yields its id."""
    container, template = _template(local, "Deployment/serving")
    for name, config in (("models", "serving-models"), ("settings", "serving-settings")):
        [found] = [i for i in manifests.of_kind(local, "ConfigMap") if i["metadata"]["name"].startswith(config)]
        (tmp_path / name).mkdir()
        for file, text in found["data"].items():
            (tmp_path / name / file).write_text(text)
    for path in (tmp_path, *tmp_path.parents):
        if os.stat(path).st_uid == os.geteuid():
            path.chmod(os.stat(path).st_mode | 0o055)
    mounts = {
        "/models": trained,
        "/etc/serving/models": tmp_path / "models",
        "/etc/serving/settings": tmp_path / "settings",
    }
    # Ports of their own: the machine's 8500 may be somebody else's.
    container = json.loads(json.dumps(container).replace("=8500", "=18500").replace("=8501", "=18501"))
    with engine.running(container, template, mounts=mounts) as name:

        def is_ready() -> bool:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen("http://127.0.0.1:18501/v1/models/mnist/metadata", timeout=5)
                return True
            return False

        wait_for(is_ready, f"the server answers; its log:\n{engine.logs(name)}")
        yield name


def test_the_client_image_reads_a_picture_from_the_serving_image(engine, serving, repository):
    with np.load(Path(inkling.train.mnist.__file__).parent / "mnist.npz") as data:
        [images] = [data[name] for name in data.files if "test" in name and data[name].ndim == 3]
    page = np.full((60, 140), 255, np.uint8)
    for column, index in enumerate((0, 1, 2)):  # 7, 2, 1
        page[16:44, 15 + 40 * column : 43 + 40 * column] = 255 - images[index]
    Image.fromarray(page).save(repository / "page.png")
    output = engine.call(
        "run", "--rm", "--network=host", "--read-only", "--cap-drop=ALL", f"--volume={repository}:/pictures:ro",
        *engine.limits(), f"localhost/inkling/client:{VERSION}",
        "read", "--server=127.0.0.1:18500", "/pictures/page.png",
    )  # fmt: skip
    assert output.strip() == "721"


def test_the_client_image_serves_the_web_page(engine, local):
    """As the manifest runs it, asked as the kubelet asks: by the pod's address, which is no name that it knows."""
    container, template = _template(local, "Deployment/client-web")
    path = container["readinessProbe"]["httpGet"]["path"]
    ask = (
        "import urllib.request as r; "
        f"print(r.urlopen(r.Request('http://127.0.0.1:8000{path}', headers={{'Host': '10.0.0.7:8000'}})).status)"
    )

    def is_ready() -> bool:
        with contextlib.suppress(AssertionError):
            return engine.execute(web, ["python", "-c", ask]).strip() == "200"
        return False

    with engine.running(container, template, mounts={}, network="none") as web:
        wait_for(is_ready, "the web page answers")
        engine.call("kill", "--signal=TERM", web)
        assert engine.wait(web, timeout=PATIENCE_S) == 0


def test_the_serving_image_drains_on_sigterm(engine, serving):
    """As after preStop, no further calls come; those under way are answered, then the server ends by itself."""
    outcomes: list[str] = []
    stopping = threading.Event()

    def call(client: Client) -> None:
        while not stopping.is_set():
            try:
                client.predict(np.zeros((64, 28, 28), np.uint8), timeout_s=30)
                outcomes.append("answered")
            except Exception as error:  # told by the assertion
                outcomes.append(repr(error))

    with Client("127.0.0.1:18500") as client:
        threads = [threading.Thread(target=call, args=[client]) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(outcomes) >= 16, "calls are answered")
        stopping.set()
        engine.call("kill", "--signal=TERM", serving)
        for thread in threads:
            thread.join()
    assert set(outcomes) == {"answered"}
    assert engine.wait(serving, timeout=PATIENCE_S) == 0


def test_the_serving_container_can_write_nothing_but_tmp(engine, serving):
    for path in ("/opt/inkling/x", "/models/x", "/x"):
        with pytest.raises(AssertionError, match="Read-only file system|Permission denied"):
            engine.execute(serving, ["touch", path])
    engine.execute(serving, ["touch", "/tmp/x"])
