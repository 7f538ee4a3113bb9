"""The tls component's init container writes a file that the server reads, and clients trust what it holds."""

import datetime
import subprocess
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inkling.serving.config import files
from tests.k8s import manifests
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process


@pytest.fixture
def secret(tmp_path) -> Path:
    """tls.key and tls.crt, as cert-manager puts them into a Secret; the certificate is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "serving")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("serving")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path / "tls"
    folder.mkdir()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "tls.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
    return folder


@pytest.fixture
def ssl_config(secret, tmp_path) -> Path:
    """What the init container's command makes of the Secret."""
    (tmp_path / "overlay").mkdir()
    objects = manifests.with_components(tmp_path / "overlay", "local", "tls")
    template = manifests.find(objects, "Deployment", "serving")["spec"]["template"]
    [container] = [c for c in template["spec"]["initContainers"] if c["name"] == "ssl-config"]
    *shell, script = container["command"]
    script = script.replace("/etc/tls", str(secret)).replace("/etc/ssl-config", str(tmp_path))
    subprocess.run([*shell, script], check=True, timeout=PATIENCE_S)
    return tmp_path / "ssl.config"


def test_the_file_holds_key_and_certificate_to_the_letter(ssl_config, secret):
    tls = files.read_tls(str(ssl_config))
    assert tls.server_key == (secret / "tls.key").read_bytes()
    assert tls.server_cert == (secret / "tls.crt").read_bytes()
    assert not tls.client_verify


def test_a_server_with_the_file_is_trusted_by_its_authority(ssl_config, secret, tmp_path):
    module = tf.Module()
    module.same = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "same/1"), signatures=module.same)
    flags = ("--model_name=same", f"--model_base_path={tmp_path}/same", f"--ssl_config_file={ssl_config}")
    with ServerProcess(*flags, ready=False) as server:
        credentials = grpc.ssl_channel_credentials((secret / "tls.crt").read_bytes())
        options = [("grpc.ssl_target_name_override", "serving")]
        with grpc.secure_channel(server.address, credentials, options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S, wait_for_ready=True)
    assert answer.status in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
