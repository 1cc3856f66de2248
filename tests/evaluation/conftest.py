import pytest

from tests.helpers.blobs import made_batches


@pytest.fixture(scope="module")
def batches():
    return made_batches()
