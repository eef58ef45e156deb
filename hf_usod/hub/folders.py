"""The exact folder of each kind of thing that can be published."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.repocard import RepoCard
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, AutoModel

from ..assets import CARDS, EXAMPLES, LICENSE, checkpoint_path
from ..data import by_stem, list_images
from ..data.folders import upright_size
from ..errors import DataError
from ..extras import require
from ..models.pipeline_usod import SalientObjectDetectionPipeline
from .cards import find_card, render_card, render_template
from .errors import PublishError

_IGNORED = ("__pycache__", "*.py[co]", ".*")
_BLANK = "[More Information Needed]"  # what PEFT and transformers leave in the cards that they write themselves
_SHARD_BYTES = 256 * 2**20


def find_source(source: str) -> Path:
    """The folder of an embedded model's or adapter's name, or a folder.

    Raises:
        PublishError: if it is neither.
    """
    try:
        return Path(checkpoint_path(source))
    except ValueError as error:
        if Path(source).is_dir():
            return Path(source)
        raise PublishError(f"{source}: is no folder. {error}") from error


def _card_source(source: Path, repo_id: str, card: Path | None) -> Path:
    chosen = card or find_card(source.name, repo_id.split("/")[1])
    if chosen is None and (readme := source / "README.md").is_file() and _BLANK not in readme.read_text():
        chosen = readme
    if chosen is None or not chosen.is_file():
        raise PublishError(
            f"{chosen or source}: no card. Write {source / 'README.md'}, or give a card's source by --card; "
            f"those of {CARDS} are examples."
        )
    return chosen


def _copy_license(folder: Path) -> None:
    if not (folder / "LICENSE").exists():
        shutil.copyfile(LICENSE, folder / "LICENSE")


def _write_card(source: Path, folder: Path, repo_id: str, card: Path | None, base: str | None = None) -> None:
    """Renders the card into the folder, with its pictures: `<cards>/pictures/<card>/{results.*,failures/*}`."""
    template = _card_source(source, repo_id, card)
    pictures = CARDS / "pictures" / template.stem
    if pictures.is_dir():
        shutil.copytree(pictures, folder / "pictures", ignore=shutil.ignore_patterns(*_IGNORED))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("pictures/**/*") if path.is_file())
    examples = sorted(path.relative_to(folder).as_posix() for path in folder.glob("examples/*.jpg"))
    try:
        text = render_card(
            template,
            repo_id=repo_id,
            base=base,
            examples=examples,
            picture=next((name for name in names if name.startswith("pictures/results.")), None),
            failures=[name for name in names if name.startswith("pictures/failures/")],
        )
    except ValueError as error:
        raise PublishError(str(error)) from error
    (folder / "README.md").write_text(text)


def build_model(source: Path, folder: Path, repo_id: str, card: Path | None = None) -> None:
    """Weights, configuration, image processor, the code of all of them and of the pipeline, card, example photos and
    license.

    The weights are the source's own bytes; everything else is what the pipeline's `save_pretrained` writes.

    Raises:
        PublishError: if the folder is no model of hf_usod, or its weights are not exactly those of its configuration.
    """
    if not (source / "config.json").is_file() or not (weights := sorted(source.glob("*.safetensors*"))):
        raise PublishError(f"{source}: is no model; it needs config.json and model.safetensors.")
    try:
        model, loading = AutoModel.from_pretrained(source, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise PublishError(f"{source}: cannot be loaded. {error}") from error
    if not type(model).__module__.startswith("hf_usod."):
        raise PublishError(f"{source}: is a {type(model).__name__}, not a model of hf_usod.")
    if problems := {kind: sorted(map(str, keys)) for kind, keys in loading.items() if keys}:
        raise PublishError(f"{source}: weights and configuration do not belong together: {problems}.")
    detect = SalientObjectDetectionPipeline(model=model, image_processor=processor, device="cpu")
    detect.save_pretrained(folder)
    for written in folder.glob("*.safetensors*"):
        written.unlink()
    for file in weights:
        shutil.copyfile(file, folder / file.name)
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns(*_IGNORED))
    _copy_license(folder)
    _write_card(source, folder, repo_id, card)


def build_adapter(
    source: Path, folder: Path, repo_id: str, base: str | None = None, card: Path | None = None
) -> str | None:
    """Adapter weights, their configuration, card and license.

    Args:
        base: Hub id of the model that the adapter sits on; what the adapter was saved with if None.

    Returns:
        The base's name in the published configuration.

    Raises:
        PublishError: if the folder is no adapter.
    """
    if not all((source / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors")):
        raise PublishError(f"{source}: is no adapter; it needs adapter_config.json and adapter_model.safetensors.")
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "adapter_config.json").read_text())
    base = base or config.get("base_model_name_or_path")
    config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    _copy_license(folder)
    _write_card(source, folder, repo_id, card, base)
    return base


def build_space(source: Path, folder: Path) -> None:
    """The folder as it is, without caches and hidden files, and the license.

    Raises:
        PublishError: if its README.md is not that of a Gradio Space.
    """
    readme = source / "README.md"
    data = RepoCard.load(readme).data.to_dict() if readme.is_file() else {}
    app = data.get("app_file", "app.py")
    if data.get("sdk") != "gradio" or not (source / app).is_file():
        raise PublishError(f"{source}: is no Space; it needs a README.md with `sdk: gradio` at its head, and {app}.")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*_IGNORED), dirs_exist_ok=True)
    _copy_license(folder)


def build_metric(source: Path, folder: Path, repo_id: str) -> None:
    """As a Space, which is what `evaluate.load(repo_id)` reads.

    Raises:
        PublishError: if the metric's module is not named as the repository.
    """
    module = f"{repo_id.split('/')[1]}.py"
    if not (source / module).is_file():
        found = ", ".join(sorted(path.stem for path in source.glob("*.py"))) or "none"
        raise PublishError(
            f"{source}: has no {module}. `evaluate.load` looks for the module that is named as the repository; "
            f"modules here: {found}."
        )
    build_space(source, folder)


def build_dataset(
    labels: Path,
    images: Path,
    folder: Path,
    repo_id: str,
    license: str,
    about: str | None = None,
    card: Path | None = None,
) -> None:
    """Pseudo-labels and their images as Parquet (`id`, `image`, `pseudo_label`), read by `load_dataset(repo_id)`.

    The files' own bytes are embedded. It is Parquet as training sets have ten thousand pairs and more: the Hub advises
    against so many files in a folder or a commit. It also streams, and its columns are typed.

    Args:
        labels: a tree of label images, by the same relative paths as the images, but for suffixes.
        images: the tree of their images; those without a label are left out.
        license: of the images and so of the whole, as the Hub calls it ("cc-by-4.0").
        about: for the card: where the images come from.

    Raises:
        PublishError: if a label has no image or not its size, or the images are ambiguous.
    """
    datasets = require("datasets", "hub", "Publishing a dataset")
    template = card or CARDS / "pseudo-labels.md"
    if not template.is_file():
        raise PublishError(f"--card {template}: no such file.")
    pairs = _pair(labels, images)
    data = folder / "data"
    data.mkdir(parents=True)
    features = datasets.Features(
        id=datasets.Value("string"), image=datasets.Image(), pseudo_label=datasets.Image(mode="L")
    )
    shards = list(_shards(pairs))
    for number, shard in enumerate(tqdm(shards, "packing", unit="shard", leave=False)):
        rows = {
            "id": [name for name, _, _ in shard],
            "image": [{"bytes": image.read_bytes(), "path": image.name} for _, image, _ in shard],
            "pseudo_label": [{"bytes": label.read_bytes(), "path": label.name} for _, _, label in shard],
        }
        dataset = datasets.Dataset.from_dict(rows, features=features)
        dataset.to_parquet(data / f"train-{number:05d}-of-{len(shards):05d}.parquet")
    try:
        readme = render_template(template, repo_id=repo_id, license=license, about=about, num_images=len(pairs))
    except ValueError as error:
        raise PublishError(str(error)) from error
    (folder / "README.md").write_text(str(readme))


def _pair(labels: Path, images: Path) -> list[tuple[str, Path, Path]]:
    try:
        by_name = by_stem(images)
        label_paths = {path.relative_to(labels).with_suffix("").as_posix(): path for path in list_images(labels)}
    except FileNotFoundError as error:
        raise PublishError(str(error)) from error
    except ValueError as error:
        raise PublishError(f"{error} By their paths labels cannot tell them apart.") from error
    if missing := sorted(label_paths.keys() - by_name.keys()):
        raise PublishError(f"{images}: no images for {len(missing)} labels: {', '.join(missing[:10])}.")
    pairs = [(name, by_name[name], label) for name, label in sorted(label_paths.items())]
    for _, image, label in tqdm(pairs, "checking", unit="pair", leave=False):
        try:
            expected, actual = upright_size(image), upright_size(label)
        except DataError as error:
            raise PublishError(str(error)) from error
        if expected != actual:
            raise PublishError(f"{label}: is {actual[0]}x{actual[1]}, but {image} is {expected[0]}x{expected[1]}.")
    return pairs


def _shards(pairs: list[tuple[str, Path, Path]]) -> Iterator[list[tuple[str, Path, Path]]]:
    shard, size = [], 0
    for pair in pairs:
        shard.append(pair)
        size += pair[1].stat().st_size + pair[2].stat().st_size
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
