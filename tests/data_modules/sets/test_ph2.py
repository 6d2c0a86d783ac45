from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.ph2 import write
from data_modules.sets.ph2 import PH2DataModule

CASES = "PH2Dataset/PH2 Dataset images"


def module(root: Path, **arguments: Any) -> PH2DataModule:
    settings: dict[str, Any] = {"image_size": 16, "num_workers": 0, "val_fraction": 0.0}
    return PH2DataModule(root=str(root), **(settings | arguments))


def images(root: Path, **arguments: Any) -> list[str]:
    data = module(root, **arguments)
    data.setup("fit")
    return data.split_table()["train"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, num=6, seed=0, size=(32, 24))
    return tmp_path


def test_the_official_layout(root: Path) -> None:
    assert images(root)[0] == f"{CASES}/IMD9001/IMD9001_Dermoscopic_Image/IMD9001.bmp"
    assert len(images(root)) == 6
    assert len(images(root / "PH2Dataset")) == 6
    assert PH2DataModule.present(root)
    assert not PH2DataModule.present(root / CASES)


def test_regions_and_tables_beside_the_images_are_no_images(root: Path) -> None:
    roi = root / CASES / "IMD9001" / "IMD9001_roi"
    roi.mkdir()
    Image.new("L", (32, 24)).save(roi / "IMD9001_R1_Label2.bmp")
    (root / "PH2Dataset" / "PH2_dataset.txt").write_text("|| Name ||")
    assert len(images(root)) == 6


def test_masks_in_colour_and_of_one_bit_are_the_same(root: Path) -> None:
    first, second = (
        root / CASES / case / f"{case}_lesion" / f"{case}_lesion.bmp"
        for case in ("IMD9001", "IMD9002")
    )
    lesion = Image.open(first).copy()  # before its file is written over
    lesion.convert("RGB").save(first)
    Image.open(first).convert("1").save(second)
    data = module(root)
    data.setup("fit")
    one, other, *_ = (item["mask"] for item in data.labelled_images())
    assert np.array_equal(one, other)
    expected = np.asarray(lesion.resize((16, 16), Image.Resampling.NEAREST)) > 0
    assert np.array_equal(one, expected)


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    case = root / CASES / "IMD9003"
    (case / "IMD9003_lesion" / "IMD9003_lesion.bmp").unlink()
    image = root / CASES / "IMD9004" / "IMD9004_Dermoscopic_Image" / "IMD9004.bmp"
    image.unlink()
    with pytest.raises(DataError, match="2 problems") as error:
        images(root)
    assert "without its mask PH2Dataset/PH2 Dataset images/IMD9003/IMD9003_les" in str(error.value)
    assert "IMD9004_lesion.bmp: a mask without an image" in str(error.value)
    listed = tmp_path / "exclude.txt"
    listed.write_text("IMD9003\nIMD9004\n")
    assert len(images(root, exclude_file=str(listed))) == 4


def test_two_images_of_one_case(root: Path) -> None:
    folder = root / CASES / "IMD9002" / "IMD9002_Dermoscopic_Image"
    Image.new("RGB", (32, 24)).save(folder / "copy.png")
    with pytest.raises(DataError, match=r"copy\.png: is in one folder with .*remove one of them"):
        images(root)


def test_another_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds images") as error:
        images(tmp_path)
    assert "PH2 needs PH2Dataset/PH2 Dataset images/" in str(error.value)
    assert "lightning phantom ph2 --root" in str(error.value)
