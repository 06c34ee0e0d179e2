"""Which type each tensor gets under a quantisation, as llama.cpp's own quantiser decides it."""

import re

from melt.errors import ModelError
from melt.models.gguf.blocks.tensor import TensorSpec
from melt.models.gguf.types import TENSOR_TYPES_BY_NAME, TensorType
from melt.models.shapes.zoo import suggest

QUANTS = ("F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K_M")
_BASE_TYPE = {"F16": "F16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q4_K_M": "Q4_K"}
# Rows that do not fill a 256-element block fall back to a type with 32-element blocks.
_NARROW_TYPE = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
_ALWAYS_F32 = re.compile(r"_norm\.weight$|ffn_gate_inp\.|ssm_conv1d|shortconv\.conv\.|time_mix_(w[12]|lerp_fused)\.")
# Attention's values, which llama.cpp gives more bits, by themselves or with the queries and keys.
_VALUES = re.compile(r"attn_v\.weight|attn_qkv\.weight")
# With eight experts the attention is so small beside them that llama.cpp keeps it in more bits.
_FEW_EXPERTS = 8
_SMALL_BESIDE_EXPERTS = re.compile(r"attn_(k|v|qkv)\.weight")
_NEVER_QUANTISED = re.compile(r"time_mix_[avg][12]\.")


def check_quant(quant: str) -> str:
    """``quant`` in its usual spelling, or a ModelError that names what there is."""
    for known in QUANTS:
        if quant.upper() == known:
            return known
    raise ModelError(f"cannot synthesise the quantisation {quant!r}", suggest(quant.upper(), list(QUANTS)))


def assign_types(tensors: list[TensorSpec], quant: str, layers: int, experts: int = 0) -> list[TensorType]:
    """The type of every tensor in ``tensors`` under ``quant``."""
    tied = not any(t.name == "output.weight" for t in tensors)
    value_total = sum(bool(_VALUES.search(t.name)) for t in tensors)
    value_index = down_index = 0
    types: list[TensorType] = []
    for tensor in tensors:
        more_bits = False
        if _VALUES.search(tensor.name):
            more_bits = _more_bits(value_index, value_total)
            value_index += 1
        elif "ffn_down" in tensor.name:
            # A model with experts has several in a layer, so llama.cpp goes by the layer's number there.
            more_bits = _more_bits(int(tensor.name.split(".")[1]) if experts > 1 else down_index, layers)
            down_index += 1
        name = _type_name(tensor, quant, tied, more_bits, experts)
        types.append(TENSOR_TYPES_BY_NAME[name])
    return types


def _type_name(tensor: TensorSpec, quant: str, tied: bool, more_bits: bool, experts: int) -> str:
    is_vector = all(dim == 1 for dim in tensor.dims[1:])
    if is_vector or not tensor.name.endswith(".weight") or _ALWAYS_F32.search(tensor.name):
        return "F32"
    if quant == "F16" or _NEVER_QUANTISED.search(tensor.name):
        return "F16"
    name = _BASE_TYPE[quant]
    if tensor.name == "output.weight" or (tied and tensor.name == "token_embd.weight"):
        name = _output_type(name, tensor.dims[0])
    elif experts == _FEW_EXPERTS and _SMALL_BESIDE_EXPERTS.search(tensor.name):
        name = "Q8_0"
    elif experts == _FEW_EXPERTS and quant == "Q4_K_M" and "attn_output.weight" in tensor.name:
        name = "Q5_K"
    elif quant == "Q4_K_M" and more_bits:
        name = "Q6_K"
    return _fitting(name, tensor.dims[0])


def _output_type(base: str, row: int) -> str:
    if base == "Q8_0" or row % TENSOR_TYPES_BY_NAME[base].block_elements:
        return "Q8_0"
    return "Q6_K"


def _fitting(name: str, row: int) -> str:
    if row % TENSOR_TYPES_BY_NAME[name].block_elements == 0:
        return name
    narrow = _NARROW_TYPE.get(name, name)
    return narrow if row % TENSOR_TYPES_BY_NAME[narrow].block_elements == 0 else "F16"


def _more_bits(index: int, total: int) -> bool:
    """The first and last eighth of the layers, and every third between, get six bits."""
    return index < total // 8 or index >= 7 * total // 8 or (index - total // 8) % 3 == 2
