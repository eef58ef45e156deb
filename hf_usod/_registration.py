"""Tells transformers and PEFT of the package's classes when they are first asked, so that `import hf_usod` is quick.

Both keep what is registered in dictionaries. As soon as the module that makes one has been executed, a `_Bell` takes
its place: a dictionary that has the package register its classes before it is first read. Nothing is imported inside
another import, so that neither their order nor threads matter.
"""

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

TASK = "salient-object-detection"
_AUTO = "transformers.models.auto"


def _register_models() -> None:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoVideoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from .assets import checkpoint_source
    from .constants import DEFAULT_MODEL
    from .models.configuration_usod import UsodConfig, UsodSceConfig, UsodSdConfig
    from .models.image_processing_usod import UsodImageProcessor
    from .models.modeling_usod import UsodPreTrainedModel
    from .models.modeling_usod_sce import UsodSceModel
    from .models.modeling_usod_sd import UsodSdModel
    from .models.pipeline_usod import SalientObjectDetectionPipeline

    processors = {"pil": UsodImageProcessor, "torchvision": UsodImageProcessor}
    for config, model in ((UsodSceConfig, UsodSceModel), (UsodSdConfig, UsodSdModel)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        # Not under AutoModelForSemanticSegmentation: one channel has no argmax over classes, and the stock
        # `image-segmentation` pipeline calls every model from outside of transformers unsupported.
        AutoModel.register(config, model, exist_ok=True)
        AutoImageProcessor.register(config, image_processor_classes=processors, exist_ok=True)
        # There is none; without saying so, stock pipelines guess one and ask to trust its code.
        AutoVideoProcessor.register(config, video_processor_classes={}, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.supported_tasks:  # it warns of a second time
        pipeline, default = SalientObjectDetectionPipeline, {"model": (checkpoint_source(DEFAULT_MODEL), None)}
        PIPELINE_REGISTRY.register_pipeline(TASK, pipeline, pt_model=AutoModel, default=default, type="image")
        # What is saved with a model tells of its pipeline, and not where this package lies
        told = {name: value for name, value in PIPELINE_REGISTRY.supported_tasks[TASK].items() if name != "default"}
        pipeline._registered_impl = {TASK: told}
    UsodConfig.has_registered_pipeline = True
    UsodPreTrainedModel.locate_base = staticmethod(checkpoint_source)


def _register_adapter() -> None:
    importlib.import_module(f"{__package__}.adapters")


class _Registration:
    """Runs once, in one thread; the others wait for it."""

    def __init__(self, register: Callable[[], None], module: str) -> None:
        """`module`: not before this one, if it is being imported, has been."""
        self._register = register
        self._module = module
        self._lock = threading.RLock()
        self.due = True

    def __call__(self) -> None:
        if not self.due or getattr(getattr(sys.modules.get(self._module), "__spec__", None), "_initializing", False):
            return
        with self._lock:
            if self.due and not getattr(self, "running", False):
                self.running = True  # its own reading rings in vain
                try:
                    self._register()
                    self.due = False
                finally:
                    self.running = False


register_models = _Registration(_register_models, f"{_AUTO}.configuration_auto")
register_adapter = _Registration(_register_adapter, "peft")


class _Bell(dict):
    """A dictionary that calls a registration before it is read."""

    def __init__(self, content: dict, registration: _Registration) -> None:
        super().__init__(content)
        self._registration = registration


def _ringing(name: str) -> Callable[..., Any]:
    read = getattr(dict, name)

    def method(self: _Bell, *args: Any) -> Any:
        self._registration()
        return read(self, *args)

    return method


for _name in ("__contains__", "__getitem__", "__iter__", "__len__", "get", "items", "keys", "values"):
    setattr(_Bell, _name, _ringing(_name))


def _hang(holder: Any, attribute: str, registration: _Registration) -> None:
    content = getattr(holder, attribute)
    if not isinstance(content, _Bell):
        setattr(holder, attribute, _Bell(content, registration))
        registration.due = True


def _name_embedded(auto: Any) -> None:
    """Has an Auto class find the embedded models by their names too, by which adapters on the Hub call their bases: the
    Auto classes look for those before they ask for any class of the package. A folder of that name comes first."""
    read = auto.from_pretrained.__func__
    if getattr(read, "_names_embedded", False):
        return

    @functools.wraps(read)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        from .assets import checkpoint_source

        source = pretrained_model_name_or_path
        if isinstance(source, str) and not os.path.exists(source):
            source = checkpoint_source(source)
        return read(cls, source, *args, **kwargs)

    from_pretrained._names_embedded = True  # type: ignore[attr-defined]
    auto.from_pretrained = classmethod(from_pretrained)


def _hang_bells(module: ModuleType) -> None:
    name = module.__name__
    for auto in ("AutoConfig", "AutoImageProcessor"):
        if getattr(getattr(module, auto, None), "__module__", None) == name:
            _name_embedded(getattr(module, auto))
    if name == "peft.mapping":
        _hang(module, "PEFT_TYPE_TO_CONFIG_MAPPING", register_adapter)
    elif name == "transformers.pipelines":
        _hang(module.PIPELINE_REGISTRY, "supported_tasks", register_models)
    else:
        for mapping in _MAPPINGS[name]:
            _hang(getattr(module, mapping), "_extra_content", register_models)


_MAPPINGS = {
    f"{_AUTO}.configuration_auto": ("CONFIG_MAPPING",),
    f"{_AUTO}.modeling_auto": ("MODEL_MAPPING",),
    f"{_AUTO}.image_processing_auto": ("IMAGE_PROCESSOR_MAPPING",),
    f"{_AUTO}.video_processing_auto": ("VIDEO_PROCESSOR_MAPPING",),
}
_WATCHED = (*_MAPPINGS, "transformers.pipelines", "peft.mapping")


class _Finder(MetaPathFinder):
    """Finds the watched modules as Python does, and hangs their bells once they have been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _WATCHED:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _hang_bells(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Hangs the bells, now or once there is something to hang them on. Twice is as good as once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in _WATCHED:
        if name in sys.modules:
            module = importlib.import_module(name)  # waits for a thread that is half-way through it
            if name == "peft.mapping":
                importlib.import_module("peft")
                register_adapter()  # a bell is too late: others hold the dictionary by now
            else:
                _hang_bells(module)
