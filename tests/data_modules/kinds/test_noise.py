import pytest

from data_modules.errors import DataError
from data_modules.kinds.noise import NoiseDataModule


def test_indices_alone_and_each_once() -> None:
    data = NoiseDataModule(num_samples=10, batch_size=4)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert [set(batch) for batch in batches] == [{"index"}] * 3
    assert [i for batch in batches for i in batch["index"].tolist()] == list(range(10))


def test_it_only_predicts() -> None:
    with pytest.raises(DataError, match="only serves `predict`, not 'fit'"):
        NoiseDataModule().setup("fit")
    with pytest.raises(DataError, match="num_samples: 0 given"):
        NoiseDataModule(num_samples=0)
