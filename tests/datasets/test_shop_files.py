from pathlib import Path

from multimodal_recall.datasets.shop_files import PhotoLinks


def test_a_photo_that_has_gone_is_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    links = PhotoLinks(str(tmp_path / "photos"))
    links.save({1: tmp_path / "a.jpg", 2: tmp_path / "gone.HEIC"})
    assert {link.name: link.exists() for link in links.load().iterdir()} == {"1.jpg": True, "2.jpg": False}
