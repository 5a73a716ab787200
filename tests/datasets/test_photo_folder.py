import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kedro.io import DatasetError
from PIL import Image

from multimodal_recall.datasets.atomic import DamagedError
from multimodal_recall.datasets.photo_folder import CELL, PhotoFolder


def png(colour: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 4), colour).save(written, "PNG")
    return written.getvalue()


PICTURES = [(7, png("red")), (9, png("blue"))]


@pytest.fixture
def photos(tmp_path: Path) -> PhotoFolder:
    dataset = PhotoFolder(str(tmp_path / "photos"))
    dataset.new_record = {"node": "shop.make_products"}
    dataset.save(iter(PICTURES))
    return dataset


def test_each_picture_is_a_file_of_the_folder(photos: PhotoFolder) -> None:
    folder = photos.load()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"7.png": png("red"), "9.png": png("blue")}


def test_an_interrupted_save_leaves_the_old_folder_or_none(photos: PhotoFolder, tmp_path: Path) -> None:
    def stopped() -> Iterator[tuple[int, bytes]]:
        yield 1, png("green")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos.save(stopped())
    assert sorted(path.name for path in photos.load().iterdir()) == ["7.png", "9.png"]
    first = PhotoFolder(str(tmp_path / "none"))
    with pytest.raises(KeyboardInterrupt):
        first.save(stopped())
    assert not first.exists()
    with pytest.raises(DatasetError, match="none does not exist"):
        first.load()
    assert not list(tmp_path.glob(".*unfinished"))


def test_another_content_is_another_state_and_a_copy_the_same(photos: PhotoFolder, tmp_path: Path) -> None:
    state = photos.state()
    assert photos.record()["output"] == state
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    assert PhotoFolder(str(tmp_path / "copy")).state() == state
    for change in (
        lambda folder: (folder / "7.png").write_bytes(png("pink")),
        lambda folder: (folder / "7.png").rename(folder / "8.png"),
        lambda folder: (folder / "9.png").unlink(),
    ):
        before = PhotoFolder(str(tmp_path / "copy")).state()
        change(tmp_path / "copy")
        assert PhotoFolder(str(tmp_path / "copy")).state() != before


def test_a_damaged_picture_is_named(photos: PhotoFolder, tmp_path: Path) -> None:
    photos.verify_whole(tmp_path / "photos")
    (tmp_path / "photos/9.png").write_bytes(b"?")
    with pytest.raises(DamagedError, match=r"photos/9.png is damaged.* kedro run --from-nodes=shop.make_products"):
        photos.verify_whole(tmp_path / "photos")


def test_the_preview_shows_the_first_pictures(photos: PhotoFolder) -> None:
    with Image.open(io.BytesIO(base64.b64decode(photos.preview()))) as sheet:
        assert [sheet.getpixel((x, 1)) for x in (1, CELL + 1, 2 * CELL + 1)] == [(255, 0, 0), (0, 0, 255), (255,) * 3]


def test_a_hidden_file_is_no_change(photos: PhotoFolder, tmp_path: Path) -> None:
    before = photos.state()
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"of a file browser")
    assert photos.state() == before
