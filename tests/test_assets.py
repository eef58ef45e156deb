"""What travels with the package, and packages that do not."""

import pytest

from hf_usod import assets
from hf_usod.errors import AssetError, MissingPackageError, UsodError
from hf_usod.extras import require


def test_every_asset_is_there():
    assert assets.LICENSE.read_text().lstrip().startswith("Apache License")
    assert (
        list(assets.EXAMPLES.glob("*.jpg")) and list(assets.CARDS.glob("*.md")) and list(assets.RESULTS.glob("*.json"))
    )


def test_recipe_by_name_or_path(tmp_path):
    assert {"usod-rgb-lite", "usod-rgb", "tables/7"} <= set(assets.recipe_names())
    assert assets.recipe_path("tables/7") == assets.RECIPES / "tables" / "7.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("seed: 1\n")
    assert assets.recipe_path(str(own)) == own
    with pytest.raises(AssetError, match=r"^usod-rgb\.yml: .*usod-rgb-lite"):
        assets.recipe_path("usod-rgb.yml")


def test_a_missing_package_is_told_with_its_extra():
    with pytest.raises(MissingPackageError, match=r'^Flying needs the package wings: pip install "hf_usod\[air\]"\.$'):
        require("wings", "air", "Flying")
    assert issubclass(MissingPackageError, UsodError) and issubclass(MissingPackageError, ModuleNotFoundError)
    assert require("math", "air", "Flying").floor(1.5) == 1


def test_a_package_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "wings_broken.py").write_text("import feathers_that_are_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="feathers") as raised:
        require("wings_broken", "air", "Flying")
    assert not isinstance(raised.value, MissingPackageError)
