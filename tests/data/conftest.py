import pytest

from cssegcore.data.image_store import ImageStore
from tests.helpers.greys import a_list, grey_dataset


@pytest.fixture
def greys(dataset_root):
    """The dataset of grey photographs; the label of each is the class of its name."""
    return grey_dataset(dataset_root)


@pytest.fixture
def images(greys):
    """Reads the first photographs of the dataset, as many as asked for."""
    return lambda count: ImageStore(greys, a_list(count))
