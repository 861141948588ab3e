"""LocalStack whose SNS signs with a key of ours and serves a certificate of ours, at a path like Amazon's.

Environment: SNS_SIGN_KEY and SNS_SIGN_CERT, PEM files, and SNS_CERT_PATH. The files can be a folder's symbolic links that are
switched before a restart on the same port: that is how the tests rotate certificates.
"""
import os

from cryptography.hazmat.primitives import serialization
import localstack.services.sns.certificate as certificate
import localstack.services.sns.constants as constants

with open(os.environ["SNS_SIGN_KEY"], "rb") as key:
    certificate.SNS_SERVER_PRIVATE_KEY = serialization.load_pem_private_key(key.read(), None)
with open(os.environ["SNS_SIGN_CERT"]) as cert:
    certificate.SNS_SERVER_CERT = cert.read()
constants.SNS_CERT_ENDPOINT = os.environ["SNS_CERT_PATH"]

from localstack.runtime.main import main  # noqa: E402  (what is set above is read when this is imported)

main()
