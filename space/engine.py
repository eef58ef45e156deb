"""The models of the app, loaded once for all users, and what runs them."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
from peft import PeftConfig
from transformers import AutoConfig

import hf_usod
from hf_usod.constants import DEFAULT_MODEL
from hf_usod.errors import LoadingError
from hf_usod.loading import FAILURES, load_pipeline

NO_ADAPTER = "none"


def _listed(variable: str) -> dict[str, str]:
    """Sources by name, of an environment variable such as `me/usod-rgb,steel=run/sd/model`."""
    listed = {}
    for item in filter(None, map(str.strip, os.environ.get(variable, "").split(","))):
        name, _, source = item.rpartition("=")
        listed[name or source.rstrip("/").split("/")[-1]] = source
    return listed


def _source(name: str) -> str:
    return str(hf_usod.checkpoint_path(name))


def _key(adapter: str) -> str:
    """What a model calls an adapter: PyTorch's names have no dots."""
    return adapter.replace(".", "_")


class Engine:
    """
    Models and adapters by name: those embedded in the package, and those that the environment names
    (`USOD_SPACE_MODELS`, `USOD_SPACE_ADAPTERS`: folders or Hub ids, separated by commas, each alone or as `name=…`).

    One thread owns all models: requests take turns, a model is in memory once whatever the number of users, and an
    adapter cannot change under a running request. It also keeps PyTorch from starting its threads anew for each of the
    server's.
    """

    def __init__(self, device: str | None = None):
        self._device = device
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._pipelines: dict[str, Any] = {}
        named = _listed("USOD_SPACE_MODELS")
        self._models = {name: _source(name) for name in hf_usod.checkpoint_names("model")} | named
        self._adapters = {name: _source(name) for name in hf_usod.checkpoint_names("adapter")}
        self._adapters |= _listed("USOD_SPACE_ADAPTERS")
        self._bases = {
            name: str(PeftConfig.from_pretrained(source).base_model_name_or_path).rstrip("/").split("/")[-1]
            for name, source in self._adapters.items()
        }
        first = next(iter(named), DEFAULT_MODEL)  # whoever names models wants to see them
        self.models = sorted(self._models, key=lambda name: (name != first, name))
        self._takes_aux = {name: AutoConfig.from_pretrained(source).takes_aux for name, source in self._models.items()}

    def adapters(self, model: str | None = None) -> list[str]:
        """`"none"` and the adapters of a model, or of any."""
        return [NO_ADAPTER, *(name for name in sorted(self._adapters) if model in (None, self._bases[name]))]

    def offer(self, name: str, source: str) -> None:
        """Has an adapter of the default model be one of those that can be chosen, in place of one of that name."""
        if self._adapters.get(name) != source:
            self._worker.submit(self._forget, name).result()
            self._adapters[name], self._bases[name] = source, DEFAULT_MODEL

    def _forget(self, name: str) -> None:
        pipeline, key = self._pipelines.get(DEFAULT_MODEL), _key(name)
        if pipeline is not None and key in getattr(pipeline.model, "peft_config", {}):
            pipeline.model.delete_adapter(key)

    def takes_aux(self, model: str) -> bool:
        """Whether a model looks at depth, thermal or flow maps."""
        return self._takes_aux[model]

    def load(self, model: str) -> None:
        self._worker.submit(self._pipeline, model).result()

    def detector(self, model: str, adapter: str = NO_ADAPTER) -> "Detector":
        """
        Raises:
            gr.Error: if there is no such model or adapter, or they do not belong together.
        """
        adapter = adapter or NO_ADAPTER
        if model not in self._models:
            raise gr.Error(f"There is no model {model}; there are: {', '.join(self.models)}.")
        if adapter not in (fitting := self.adapters(model)):
            raise gr.Error(f"{model} has no adapter {adapter}; it has: {', '.join(fitting)}.")
        return Detector(self, model, adapter)

    def _pipeline(self, model: str):
        if model not in self._pipelines:
            try:
                self._pipelines[model] = load_pipeline(self._models[model], device=self._device)
            except LoadingError as error:
                raise gr.Error(f"The model {model} cannot be loaded just now.") from error
        return self._pipelines[model]

    def _prepare(self, name: str, adapter: str):
        """The pipeline, with the adapter on, or none; in the models' own thread."""
        pipeline = self._pipeline(name)
        model = pipeline.model
        key = _key(adapter)
        loaded = getattr(model, "peft_config", {})
        if adapter == NO_ADAPTER:
            if loaded:
                model.disable_adapters()
            return pipeline
        if key not in loaded:
            try:
                model.load_adapter(self._adapters[adapter], adapter_name=key)
            except FAILURES as error:
                raise gr.Error(f"The adapter {adapter} cannot be loaded into {name}.") from error
            model.eval()
        model.enable_adapters()
        model.set_adapter(key)
        return pipeline

    def run(self, model: str, adapter: str, inputs, **kwargs):
        """What the pipeline returns for `inputs`, when it is their turn."""
        return self._worker.submit(lambda: self._prepare(model, adapter)(inputs, **kwargs)).result()

    def model(self, name: str):
        return self._worker.submit(self._pipeline, name).result().model


class Detector:
    """A model and an adapter of an `Engine`, called as the pipeline is; takes its turn at each call."""

    def __init__(self, engine: Engine, model: str, adapter: str):
        self._engine, self._model, self._adapter = engine, model, adapter

    @property
    def model(self):
        return self._engine.model(self._model)

    @property
    def takes_aux(self) -> bool:
        return self._engine.takes_aux(self._model)

    def __call__(self, inputs, **kwargs):
        return self._engine.run(self._model, self._adapter, inputs, **kwargs)
