"""``genai_config.json``, as onnxruntime-genai's model builder writes it: what a folder's graph is called and takes."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from melt.errors import ModelError
from melt.models.gguf.layers import MAX_LAYERS
from melt.util.yaml import describe_problems

CONFIG = "genai_config.json"
REBUILD = "Build the folder again, with onnxruntime-genai's model builder or `melt models synth`."
DOWNLOAD = "Get the whole folder again, from a source you trust."
_MAX_CONFIG_BYTES = 2**20

_Count = Annotated[int, Field(ge=0, le=2**31)]
_Pattern = Annotated[str, Field(max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Inputs(_Part):
    """Names of the graph's inputs; a %d stands for the layer."""

    input_ids: _Pattern = ""
    attention_mask: _Pattern = ""
    position_ids: _Pattern = ""
    past_key_names: _Pattern = ""
    past_value_names: _Pattern = ""
    past_conv_names: _Pattern = ""
    past_recurrent_names: _Pattern = ""


class Outputs(_Part):
    """Names of its outputs."""

    logits: _Pattern = "logits"
    present_key_names: _Pattern = ""
    present_value_names: _Pattern = ""
    present_conv_names: _Pattern = ""
    present_recurrent_names: _Pattern = ""


_File = Annotated[str, Field(min_length=1, max_length=200)]


class Step(_Part):
    """A graph of several: whether it reads the prompt, and whether it makes tokens."""

    filename: _File
    run_on_prompt: bool = True
    run_on_token_gen: bool = True


class Decoder(_Part):
    """The graph and its shape."""

    filename: _File
    pipeline: Annotated[tuple[dict[str, Step], ...], Field(max_length=100)] = ()
    head_size: _Count = 0
    hidden_size: _Count = 0
    num_attention_heads: _Count = 0
    num_hidden_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    num_key_value_heads: _Count = 0
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()

    @property
    def prompt_graph(self) -> str:
        """The file of the graph that reads the prompt, where it is another than the one that makes tokens."""
        steps = [step for named in self.pipeline for step in named.values()]
        return next((s.filename for s in steps if not s.run_on_token_gen), "")

    @property
    def graphs(self) -> tuple[str, ...]:
        """The files of its graphs; the one that makes tokens is the first."""
        return (self.filename, self.prompt_graph) if self.prompt_graph else (self.filename,)


class Model(_Part):
    """The model as a whole."""

    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    context_length: _Count = 0
    vocab_size: Annotated[int, Field(ge=1, le=2**31)]
    decoder: Decoder


class Search(_Part):
    """How onnxruntime-genai would search."""

    past_present_share_buffer: bool = False


class FolderConfig(_Part):
    """``genai_config.json``, as far as melt reads it."""

    model: Model
    search: Search = Search()


def read_config(folder: Path) -> FolderConfig:
    """``genai_config.json``, checked.

    Raises:
        ModelError: naming the field that is wrong.
    """
    path = folder / CONFIG
    try:
        with path.open("rb") as f:
            raw = f.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as e:
        raise ModelError(f"{folder}: no {CONFIG} in it", f"An ONNX model is a folder with one. {REBUILD}") from e
    except OSError as e:
        raise ModelError(f"{path}: {e.strerror}", "Check the path.") from e
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ModelError(f"{path}: larger than {_MAX_CONFIG_BYTES} bytes", DOWNLOAD)
    try:
        config = FolderConfig.model_validate_json(raw)
    except ValidationError as e:
        raise ModelError(describe_problems(e, str(path), FolderConfig), REBUILD) from e
    except (ValueError, RecursionError) as e:
        raise ModelError(f"{path}: is not JSON ({e})", DOWNLOAD) from e
    for filename in config.model.decoder.graphs:
        if any(c in filename for c in "/\\\0") or filename in (".", ".."):
            raise ModelError(
                f"{path}: model.decoder.filename {filename!r} is not the name of a file beside it", REBUILD
            )
    return config
