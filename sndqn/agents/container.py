r"""The bytes of an agent file: tensors as safetensors, and one string of JSON in its header.

The file knows its own digest: `content_sha256` in the JSON is the SHA-256 of the whole file with
those 64 digits as zeros. So damage is noticed wherever it falls. Someone who changes the file on
purpose can write the digest anew; against that only the SHA-256 of the file helps, from a source
one trusts.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sndqn.agents.description import AgentDescription
from sndqn.errors import AgentFileError, shortened
from sndqn.files import canonical_json, strict_json
from sndqn.files.fields import SHA256, Field, checked, one_of, wholes

MAX_BYTES = 512 * 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
MAX_DESCRIPTION_BYTES = 64 * 1024

_ZEROS = "0" * 64
# As the JSON stands within the header's JSON.
_BEFORE_DIGEST = rb"\"content_sha256\":\""

_LIST = Field("[...]", lambda value: type(value) is list)
_TENSOR = {"dtype": one_of("F32"), "shape": _LIST, "data_offsets": _LIST}
_SHAPE = wholes(8, 2**40)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """An agent file whose bytes are whole and whose description is sound; no tensor is read yet.

    Attributes:
        description: What the agent is.
        shapes: Shape of each tensor by name; all are float32.
        content: The bytes.
    """

    description: AgentDescription
    shapes: dict[str, Shape]
    content: bytes

    def tensors(self) -> dict[str, Tensor]:
        """Reads the tensors, as copies.

        Raises:
            AgentFileError: They overlap, leave gaps, or are not in the file.
        """
        try:
            return load_tensors(self.content)
        except (SafetensorError, ValueError) as error:
            reason = shortened(str(error))
            raise AgentFileError(f"expected tensors one after the other, found {reason}") from None


def pack(tensors: dict[str, Tensor], description: AgentDescription) -> bytes:
    """Writes an agent file; the same tensors and description give the same bytes.

    Raises:
        JsonError: The description holds what JSON cannot, such as NaN.
    """
    data = {**description.to_dict(), "content_sha256": _ZEROS}
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save_tensors(plain, {"sndqn": canonical_json(data).decode()})
    at = _digest_position(content)
    return content[:at] + _digest(content, at).encode() + content[at + len(_ZEROS) :]


def unpack(content: bytes) -> Contents:
    """Reads an agent file up to its tensors.

    Raises:
        SndqnError: It is damaged, of another schema, or its description is not sound.
    """
    header = _header(content)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != ["sndqn"]:
        raise AgentFileError("expected an agent's description in the header, found none")
    words = metadata["sndqn"]
    if not isinstance(words, str):
        raise AgentFileError("expected an agent's description as text, found something else")
    data = strict_json(words.encode("utf-8", "replace"), MAX_DESCRIPTION_BYTES)
    found = data.pop("content_sha256", None) if isinstance(data, dict) else None
    description = AgentDescription.from_dict(data)
    checked("the agent", {"content_sha256": found}, {"content_sha256": SHA256})
    at = _digest_position(content)
    if found != _digest(content, at):
        raise AgentFileError(
            "expected the bytes that were written, found others: the file was damaged or changed. "
            "Get the original"
        )
    return Contents(description, _shapes(header), content)


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise AgentFileError("expected a safetensors header, found something else")
    header = strict_json(content[8 : 8 + length], MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise AgentFileError("expected a safetensors header, found something else")
    return header


def _digest_position(content: bytes) -> int:
    """Finds the 64 digits; their name must stand in the header once."""
    end = 8 + int.from_bytes(content[:8], "little")
    at = content.find(_BEFORE_DIGEST, 8, end)
    if at < 0 or content.find(_BEFORE_DIGEST, at + 1, end) >= 0:
        raise AgentFileError("expected content_sha256 once in the header, found it elsewhere")
    return at + len(_BEFORE_DIGEST)


def _digest(content: bytes, at: int) -> str:
    whole = memoryview(content)
    digest = hashlib.sha256(whole[:at])
    digest.update(_ZEROS.encode())
    digest.update(whole[at + len(_ZEROS) :])
    return digest.hexdigest()


def _shapes(header: dict[str, Any]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for name, entry in header.items():
        where = f"the tensor {shortened(name)}"
        shape = checked(where, entry, _TENSOR)["shape"]
        checked(where, {"shape": shape}, {"shape": _SHAPE})
        shapes[name] = tuple(shape)
    return shapes
