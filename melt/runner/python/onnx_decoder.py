"""The configuration of an ONNX model folder: what its graph is called, takes and gives (``genai_config.json``)."""

import json
import os
from dataclasses import dataclass
from typing import Any

from channel import JobError

CONFIG = "genai_config.json"
PARTS = ("key", "value", "conv", "recurrent")
CACHES = ("key", "value")
_MAX_CONFIG_BYTES = 2**20
_NO_WEIGHTS = (".json", ".jinja", ".txt", ".md", ".model")  # what else lies in such folders: the tokenizer's files


@dataclass(frozen=True)
class Decoder:
    """The graph's file, its shape, and the names of what goes in and out. A %d stands for the layer."""

    folder: str
    graph: str
    prompt_graph: str  # reads the prompt; empty where ``graph`` does that too
    architecture: str
    context_length: int
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    n_vocab: int
    tokens: str
    mask: str
    positions: str
    logits: str
    past: dict[str, str]
    present: dict[str, str]
    shares_buffer: bool  # the cache goes in and out in one place

    def present_of(self, past_name: str) -> tuple[str, str] | None:
        """The part of the state that an input carries, and the output that carries it on; None where it is no state."""
        for part, pattern in self.past.items():
            for layer in range(self.n_layers) if pattern else ():
                if pattern.replace("%d", str(layer)) == past_name:
                    return part, self.present[part].replace("%d", str(layer))
        return None

    @property
    def graphs(self) -> tuple[str, ...]:
        """The files of its graphs."""
        return (self.graph, self.prompt_graph) if self.prompt_graph else (self.graph,)

    def weight_files(self) -> list[str]:
        """The files with its weights: what is in the folder beside graphs and configuration."""
        found = (e for e in os.scandir(self.folder) if e.is_file() and not e.name.endswith(_NO_WEIGHTS))
        return sorted(e.path for e in found if e.path not in self.graphs)

    def weights_bytes(self) -> int:
        """Bytes of the graph and of the files with its weights."""
        found = [e for e in os.scandir(self.folder) if e.is_file() and not e.name.endswith(_NO_WEIGHTS)]
        return sum(e.stat().st_size for e in found)


def read_decoder(model: str) -> Decoder:
    """The decoder that a folder, or the configuration in it, describes.

    Raises:
        JobError: it cannot be read, or lacks something.
    """
    path = os.path.join(model, CONFIG) if os.path.isdir(model) else model  # noqa: PTH118, PTH112 - few imports
    try:
        with open(path, "rb") as f:  # noqa: PTH123
            config = json.loads(f.read(_MAX_CONFIG_BYTES))
        return _decoder(os.path.dirname(path) or ".", config)  # noqa: PTH120
    except OSError as e:
        raise JobError("model_load", f"{path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise JobError("model_load", f"{path}: is not JSON") from e
    except (KeyError, TypeError, AttributeError) as e:
        raise JobError("model_load", f"{path}: lacks {e}") from e


def _decoder(folder: str, config: dict[str, Any]) -> Decoder:
    model = config["model"]
    decoder = model["decoder"]
    inputs, outputs = decoder["inputs"], decoder["outputs"]
    graph = str(decoder["filename"])
    steps = [step for named in decoder.get("pipeline", []) for step in named.values()]
    prompt = next((str(s["filename"]) for s in steps if not s.get("run_on_token_gen", True)), "")
    for name in (graph, prompt):
        if os.path.basename(name) != name:  # noqa: PTH119
            raise JobError("model_load", f"decoder.filename {name!r} is not the name of a file beside {CONFIG}")
    return Decoder(
        folder=folder,
        graph=os.path.join(folder, graph),  # noqa: PTH118
        prompt_graph=os.path.join(folder, prompt) if prompt else "",  # noqa: PTH118
        architecture=str(model["type"]),
        context_length=int(model.get("context_length", 0)),
        n_layers=int(decoder["num_hidden_layers"]),
        d_model=int(decoder.get("hidden_size", 0)),
        n_heads=int(decoder.get("num_attention_heads", 0)),
        n_kv_heads=int(decoder.get("num_key_value_heads", 0)),
        n_vocab=int(model["vocab_size"]),
        tokens=str(inputs["input_ids"]),
        mask=str(inputs.get("attention_mask", "")),
        positions=str(inputs.get("position_ids", "")),
        logits=str(outputs.get("logits", "logits")),
        past={part: str(inputs.get(f"past_{part}_names", "")) for part in PARTS},
        present={part: str(outputs.get(f"present_{part}_names", "")) for part in PARTS},
        shares_buffer=bool(config.get("search", {}).get("past_present_share_buffer", False)),
    )
